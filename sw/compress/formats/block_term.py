"""Block-term decomposition (Ye et al. 2018): a sum of Tucker terms over pairs of modes. Found by
HOOI of one term after the other and alternating least squares of all together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from drawbar.gen.errors import NetworkError
from drawbar.gen.formats import block_term_network
from drawbar.gen.network import ContractionNetwork
from drawbar.sw.compress.als import fit_weight
from drawbar.sw.compress.backend import torch
from drawbar.sw.compress.factorised import FactorisedLayer, layer_arrays
from drawbar.sw.compress.formats.base import Format
from drawbar.sw.compress.formats.settle import Asked, side_sizes, weight_tensor
from drawbar.sw.compress.formats.tucker import core_bounds
from drawbar.sw.compress.hooi import tucker
from drawbar.sw.compress.spec import Spec

TERMS = 2


class BlockTerm(Format):
    """Factors ``(terms, m[k], n[k], r[k])``, then the core ``(terms, r[1..d])``.

    Options
    -------
    terms:
        How many Tucker terms are summed; 2 if not given.
    """

    name = "block_term"
    defaults: ClassVar[dict[str, Any]] = {"terms": TERMS}

    def settle(self, asked: Asked) -> Spec:
        """See ``Format.spec``; ``ranks`` has one for each pair of modes, the same in all terms."""
        terms = asked.options["terms"]
        if not isinstance(terms, int) or isinstance(terms, bool) or terms < 1:
            raise NetworkError(
                f"layer {asked.name!r}, terms", "is a positive integer", terms, "use 1 or more"
            )
        out, in_ = asked.paired_modes()
        wanted = asked.given_ranks(len(out), "pair of modes", f"{len(out)} pairs of modes")
        used = core_bounds([m * n for m, n in zip(out, in_, strict=True)], wanted)
        asked.note_clipped(wanted, used, "pair of modes")
        m, n, r = side_sizes("m", out), side_sizes("n", in_), side_sizes("r", used)
        return Spec(
            format=self.name,
            name=asked.name,
            shape=asked.shape,
            sizes={**m, **n, "terms": terms, **r},
            cores=(
                *(("terms", *indices) for indices in zip(m, n, r, strict=True)),
                ("terms", *r),
            ),
            input=tuple(n),
            output=tuple(m),
            ranks=used,
            options=asked.options,
        )

    def decompose(
        self, weight: torch.Tensor, spec: Spec, *, start: Sequence[torch.Tensor] | None = None
    ) -> list[torch.Tensor]:
        """A local optimum near the Tucker terms of the successive residuals."""
        if start is not None:
            return fit_weight(weight, spec, start)
        sites = [core[1:-1] for core in spec.cores[:-1]]
        rest = weight_tensor(weight, spec, sites)
        terms = []
        for _ in range(spec.sizes["terms"]):
            core, factors = tucker(rest, spec.ranks)
            found = core
            for factor in factors:  # the axes go round once
                assert factor is not None
                found = found.movedim(0, -1) @ factor.t()
            rest = rest - found
            terms.append([*factors, core])
        stacked = [torch.stack(parts) for parts in zip(*terms, strict=True)]
        cores = [part.reshape(shape) for part, shape in zip(stacked, spec.core_shapes, strict=True)]
        return fit_weight(weight, spec, cores)

    def network(self, layer: FactorisedLayer, name: str) -> ContractionNetwork:
        (*factors, core), bias = layer_arrays(layer, name)
        return block_term_network(name, factors, core, bias=bias)
