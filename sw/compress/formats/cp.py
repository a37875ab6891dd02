"""CP, the canonical polyadic decomposition (Lebedev et al. 2015). Found by alternating least
squares.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, ClassVar

from drawbar.gen.formats import cp_network
from drawbar.gen.network import ContractionNetwork
from drawbar.sw.compress.als import fit_weight
from drawbar.sw.compress.backend import torch
from drawbar.sw.compress.factorised import FactorisedLayer, layer_arrays
from drawbar.sw.compress.formats.base import Format
from drawbar.sw.compress.formats.settle import Asked, side_sizes, weight_tensor
from drawbar.sw.compress.spec import Spec
from drawbar.sw.compress.truncation import left_vectors

SEED = 0
#: Products that nearly cancel make the fit slow.
SWEEPS = 500


class CP(Format):
    """Factors ``(m[k], R)``, then ``(n[k], R)``: a sum of R products of vectors. Of a convolution
    ``(height, R)`` and ``(width, R)`` too.

    A convolution runs as a 1 x 1 convolution to R channels, one along columns and one along rows in
    each channel, and a 1 x 1 convolution.

    Options
    -------
    clip:
        Whether the rank is lowered to the largest useful one.
    """

    name = "cp"
    convolution = True
    defaults: ClassVar[dict[str, Any]] = {"clip": True}

    def settle(self, asked: Asked) -> Spec:
        """See ``Format.spec``; ``ranks`` is the one rank. The largest useful one is that at which
        every tensor is exact: the product of all modes but the largest.
        """
        out, in_ = asked.modes(1 if len(asked.shape) == 4 else None)
        m, n = side_sizes("m", out), side_sizes("n", in_)
        kernel = dict(zip(("ky", "kx"), asked.shape[2:], strict=False))
        modes = {**m, **n, **kernel}
        wanted = asked.given_ranks(1, "rank", "bonds that all cores share")
        bound = prod(modes.values()) // max(modes.values())
        rank = bound if wanted is None else wanted[0]
        used = (min(rank, bound) if asked.options["clip"] else rank,)
        asked.note_clipped(wanted, used, "rank")
        return Spec(
            format=self.name,
            name=asked.name,
            shape=asked.shape,
            sizes={**modes, "R": used[0]},
            cores=tuple((mode, "R") for mode in modes),
            input=tuple(n),
            output=tuple(m),
            kernel=tuple(kernel),
            ranks=used,
            options=asked.options,
        )

    def decompose(
        self, weight: torch.Tensor, spec: Spec, *, start: Sequence[torch.Tensor] | None = None
    ) -> list[torch.Tensor]:
        """ALS from the leading singular vectors of each unfolding; a local optimum."""
        if start is None:
            start = self._leading(weight, spec)
        factors = fit_weight(weight, spec, start, sweeps=SWEEPS)
        # Each product's norm is shared equally by its vectors, so that all of them train alike.
        norms = torch.stack([torch.linalg.norm(factor, dim=0) for factor in factors])
        tiny = torch.finfo(norms.dtype).tiny
        mean = torch.exp(torch.log(norms.clamp_min(tiny)).mean(0))
        return [
            torch.where(norm > 0, factor * (mean / norm.clamp_min(tiny)), factor).contiguous()
            for factor, norm in zip(factors, norms, strict=True)
        ]

    def network(self, layer: FactorisedLayer, name: str) -> ContractionNetwork:
        factors, bias = layer_arrays(layer, name)
        count = len(layer.modes_out)
        return cp_network(name, factors[:count], factors[count:], bias=bias)

    def _leading(self, weight: torch.Tensor, spec: Spec) -> list[torch.Tensor]:
        """The leading singular vectors of each unfolding, random ones where there are no more."""
        axes = [(i,) for i in (*spec.output, *spec.input, *spec.kernel)]
        tensor = weight_tensor(weight, spec, axes)
        generator = torch.Generator().manual_seed(SEED)
        found = []
        for axis, size in enumerate(tensor.shape):
            vectors = left_vectors(tensor.movedim(axis, 0).reshape(size, -1), spec.ranks[0])
            missing = spec.ranks[0] - vectors.shape[1]
            noise = torch.randn(size, missing, generator=generator, dtype=tensor.dtype)
            found.append(torch.cat([vectors, noise.to(tensor.device)], 1))
        return found
