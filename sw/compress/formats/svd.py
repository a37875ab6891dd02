"""Matrix SVD: two thin layers in the place of one."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from drawbar.sw.compress.backend import torch
from drawbar.sw.compress.formats.base import Format
from drawbar.sw.compress.formats.settle import Asked, kernel_sizes, weight_tensor
from drawbar.sw.compress.spec import Spec


class MatrixSVD(Format):
    """``(outputs, r)`` and ``(r, inputs)``, the singular values shared equally by both. A
    convolution has the kernel in the second, which runs first.
    """

    name = "svd"
    convolution = True

    def settle(self, asked: Asked) -> Spec:
        """See ``Format.spec``; ``ranks`` is the one rank, and there are no modes to choose."""
        (outputs,), (inputs,) = asked.modes(1)
        kernel = kernel_sizes(asked.shape)
        wanted = asked.given_ranks(1, "bond", "bonds between 2 cores")
        bound = min(outputs, inputs * prod(kernel.values()))
        used = (min(wanted[0], bound) if wanted else bound,)
        asked.note_clipped(wanted, used, "bond")
        return Spec(
            format=self.name,
            name=asked.name,
            shape=asked.shape,
            sizes={"m0": outputs, "n0": inputs, **kernel, "r1": used[0]},
            cores=(("m0", "r1"), ("r1", "n0", *kernel)),
            input=("n0",),
            output=("m0",),
            kernel=tuple(kernel),
            ranks=used,
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
