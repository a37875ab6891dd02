"""Tucker: a core with a factor for each mode. Found by HOSVD and HOOI (Kim et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, ClassVar

from drawbar.gen.formats import tucker_network
from drawbar.gen.network import ContractionNetwork
from drawbar.sw.compress.backend import nn, torch
from drawbar.sw.compress.factorised import FactorisedLayer, layer_arrays
from drawbar.sw.compress.formats.base import Format
from drawbar.sw.compress.formats.settle import Asked, kernel_sizes, side_sizes, weight_tensor
from drawbar.sw.compress.hooi import tucker
from drawbar.sw.compress.spec import Spec


class Tucker(Format):
    """Core ``(q[1..p], s[1..d])``, output ranks and then input ranks, of a convolution with the
    kernel's positions last; factors ``(m[k], q[k])``, then ``(n[k], s[k])``.

    Without modes there is one on either side: Tucker-2. A convolution runs as a 1 x 1 convolution,
    the core's, and a 1 x 1 convolution.

    Options
    -------
    clip:
        Whether ranks are lowered to the largest useful ones.
    """

    name = "tucker"
    convolution = True
    defaults: ClassVar[dict[str, Any]] = {"clip": True}

    def modes(self, asked: Asked) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Those of the outputs and of the inputs."""
        return asked.modes(1)

    def settle(self, asked: Asked) -> Spec:
        """See ``Format.spec``; ``ranks`` has one for each output mode, then for each input mode."""
        out, in_ = self.modes(asked)
        modes = (*out, *in_)
        wanted = asked.given_ranks(
            len(modes), "mode", f"{len(out)} output modes, then of the {len(in_)} input modes"
        )
        used = core_bounds(modes, wanted, prod(asked.shape[2:]))
        if wanted is not None and not asked.options["clip"]:
            used = wanted
        asked.note_clipped(wanted, used, "mode")
        m, n = side_sizes("m", out), side_sizes("n", in_)
        q, s = side_sizes("q", used[: len(out)]), side_sizes("s", used[len(out) :])
        kernel = kernel_sizes(asked.shape)
        return Spec(
            format=self.name,
            name=asked.name,
            shape=asked.shape,
            sizes={**m, **n, **kernel, **q, **s},
            cores=((*q, *s, *kernel), *zip(m, q, strict=True), *zip(n, s, strict=True)),
            input=tuple(n),
            output=tuple(m),
            kernel=tuple(kernel),
            ranks=used,
            options=asked.options,
        )

    def decompose(
        self, weight: torch.Tensor, spec: Spec, *, start: Sequence[torch.Tensor] | None = None
    ) -> list[torch.Tensor]:
        """HOOI from the truncated HOSVD; the factors are orthonormal."""
        axes = [(i,) for i in (*spec.output, *spec.input, *spec.kernel)]
        tensor = weight_tensor(weight, spec, axes)
        core, factors = tucker(tensor, (*spec.ranks, *(None for _ in spec.kernel)))
        found = [core, *(factor for factor in factors if factor is not None)]
        return [
            _filled(part, shape).to(weight.dtype).contiguous()
            for part, shape in zip(found, spec.core_shapes, strict=True)
        ]

    def network(self, layer: FactorisedLayer, name: str) -> ContractionNetwork:
        (core, *factors), bias = layer_arrays(layer, name)
        count = len(layer.modes_out)
        return tucker_network(name, core, factors[:count], factors[count:], bias=bias)


def _filled(part: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """With zeros where ranks are asked that no tensor of these modes has."""
    missing = [wanted - size for wanted, size in zip(shape, part.shape, strict=True)]
    return nn.functional.pad(part, [n for size in reversed(missing) for n in (0, size)])


def core_bounds(
    modes: Sequence[int], asked: Sequence[int] | None, free: int = 1
) -> tuple[int, ...]:
    """Ranks of a Tucker core: at most the mode, and at most the product of the others.

    ``free`` is the size of what the core has besides its ranks.
    """
    used = [min(pair) for pair in zip(modes, asked or modes, strict=True)]
    while True:
        before = list(used)
        for k in range(len(used)):
            used[k] = min(used[k], prod(used[:k]) * prod(used[k + 1 :]) * free)
        if used == before:
            return tuple(used)
