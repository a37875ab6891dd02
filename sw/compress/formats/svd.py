"""Matrix SVD: two thin layers in the place of one."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from drawbar.sw.compress.backend import torch
from drawbar.sw.compress.formats.base import Format
from drawbar.sw.compress.formats.settle import (
    check_growth,
    check_shape,
    kernel_sizes,
    settle_modes,
    take_options,
    weight_tensor,
)
from drawbar.sw.compress.modes import check_ranks, warn_clipped
from drawbar.sw.compress.spec import Spec


class MatrixSVD(Format):
    """``(outputs, r)`` and ``(r, inputs)``, the singular values shared equally by both. A
    convolution has the kernel in the second, which runs first.
    """

    name = "svd"
    convolution = True

    def spec(
        self,
        shape: Sequence[int],
        *,
        name: str = "",
        modes_out: Sequence[int] | None = None,
        modes_in: Sequence[int] | None = None,
        max_rank: int | None = None,
        ranks: Sequence[int] | None = None,
        grow: bool = False,
        stacklevel: int = 1,
        **options: Any,
    ) -> Spec:
        """See ``Format.spec``; ``ranks`` is the one rank, and there are no modes to choose."""
        shape = check_shape(shape, name, self.name, self.convolution)
        take_options(options, {}, name, self.name)
        settle_modes(shape, modes_out, modes_in, name, count=1)
        asked = check_ranks(
            1,
            max_rank=max_rank,
            ranks=ranks,
            name=name,
            one="bond",
            all_of_them="bonds between 2 cores",
        )
        bound = min(shape[0], prod(shape[1:]))
        used = (min(asked[0], bound) if asked else bound,)
        warn_clipped(name, asked, used, "bond", stacklevel + 1)
        kernel = kernel_sizes(shape)
        return check_growth(
            Spec(
                format=self.name,
                name=name,
                shape=shape,
                sizes={"m0": shape[0], "n0": shape[1], **kernel, "r1": used[0]},
                cores=(("m0", "r1"), ("r1", "n0", *kernel)),
                input=("n0",),
                output=("m0",),
                kernel=tuple(kernel),
                ranks=used,
            ),
            grow,
        )

    def decompose(
        self, weight: torch.Tensor, spec: Spec, *, start: Sequence[torch.Tensor] | None = None
    ) -> list[torch.Tensor]:
        """The best approximation of this rank (Eckart and Young 1936)."""
        matrix = weight_tensor(weight, spec, [("m0",), ("n0", *spec.kernel)])
        u, s, v = torch.linalg.svd(matrix, full_matrices=False)
        rank = spec.ranks[0]
        root = s[:rank].sqrt()
        found = [u[:, :rank] * root, root[:, None] * v[:rank]]
        return [
            core.reshape(shape).to(weight.dtype).contiguous()
            for core, shape in zip(found, spec.core_shapes, strict=True)
        ]
