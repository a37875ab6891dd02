"""Tensor ring (Wang et al. 2018): a train whose ends are joined. Found by TR-SVD (Zhao et al. 2016)
and alternating least squares.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, ClassVar

from drawbar.gen.formats import tensor_ring_network
from drawbar.gen.network import ContractionNetwork
from drawbar.sw.compress.als import fit_weight
from drawbar.sw.compress.backend import torch
from drawbar.sw.compress.factorised import FactorisedLayer, layer_arrays
from drawbar.sw.compress.formats.base import Format
from drawbar.sw.compress.formats.settle import (
    KERNEL,
    Asked,
    kernel_sizes,
    side_sizes,
    weight_tensor,
)
from drawbar.sw.compress.modes import chain_bounds
from drawbar.sw.compress.spec import Spec
from drawbar.sw.compress.truncation import split

SEED = 0
#: What fills up cores whose rank is above what the TR-SVD uses, as a share of their deviation.
FILL = 0.1


class TensorRing(Format):
    """Cores ``(r[k], mode[k], r[k+1])``: the input modes, of a convolution the kernel, the output
    modes; the last core's right rank is the first one's left rank.

    Options
    -------
    clip:
        Whether ranks are lowered to the largest useful ones.
    """

    name = "tensor_ring"
    convolution = True
    defaults: ClassVar[dict[str, Any]] = {"clip": True}

    def settle(self, asked: Asked) -> Spec:
        """See ``Format.spec``; ``ranks`` has one for each core, to its left."""
        out, in_ = asked.modes()
        kernel = kernel_sizes(asked.shape)
        sizes = {**side_sizes("n", in_), **kernel, **side_sizes("m", out)}
        modes = list(sizes.values())
        wanted = asked.given_ranks(
            len(modes), "bond", f"{len(modes)} bonds of a ring of {len(modes)} cores"
        )
        if wanted is None:
            used = (1, *chain_bounds(modes, None))
        else:
            used = ring_bounds(modes, wanted) if asked.options["clip"] else wanted
        asked.note_clipped(wanted, used, "bond")
        own = [i for part in ("n", KERNEL, "m") for i in sizes if i[0] == part]
        cores = [(f"r{k}", mode, f"r{(k + 1) % len(own)}") for k, mode in enumerate(own)]
        return Spec(
            format=self.name,
            name=asked.name,
            shape=asked.shape,
            sizes={**sizes, **{f"r{k}": rank for k, rank in enumerate(used)}},
            cores=tuple(cores),
            input=tuple(side_sizes("n", in_)),
            output=tuple(side_sizes("m", out)),
            kernel=tuple(kernel),
            ranks=(*used, used[0]),
            options=asked.options,
        )

    def decompose(
        self, weight: torch.Tensor, spec: Spec, *, start: Sequence[torch.Tensor] | None = None
    ) -> list[torch.Tensor]:
        """A local optimum near the TR-SVD, or the TR-SVD where that is better."""
        if start is None:
            sites = [core[1:-1] for core in spec.cores]
            start = ring_svd(weight_tensor(weight, spec, sites), spec.ranks[:-1])
        return fit_weight(weight, spec, start)

    def network(self, layer: FactorisedLayer, name: str) -> ContractionNetwork:
        cores, bias = layer_arrays(layer, name)
        return tensor_ring_network(name, cores, inputs=len(layer.modes_in), bias=bias)


def ring_bounds(modes: Sequence[int], asked: Sequence[int]) -> tuple[int, ...]:
    """The ranks of a ring: none larger than in the train that the ring is when it is cut at another
    bond, and none larger than its neighbour times the mode between them.
    """
    count = len(modes)
    used = []
    for k, rank in enumerate(asked):
        runs = [prod(modes[(s + j) % count] for j in range((k - s) % count)) for s in range(count)]
        used.append(min(rank, max(min(run, prod(modes) // run) for run in runs)))
    while True:
        before = list(used)
        for k in range(count):
            right = used[(k + 1) % count] * modes[k]
            left = used[k - 1] * modes[k - 1]
            used[k] = min(used[k], left, right)
        if used == before:
            return tuple(used)


def ring_svd(tensor: torch.Tensor, ranks: Sequence[int]) -> list[torch.Tensor]:
    """TR-SVD: the first cut is shared by two bonds, the others are those of a train.

    Arguments
    ---------
    tensor:
        float64, one axis for each core.
    ranks:
        The rank to the left of each core. Where the tensor has no singular vectors for one, small
        random entries fill the cores up.
    """
    generator = torch.Generator().manual_seed(SEED)
    sizes, count = tensor.shape, len(ranks)
    first, second = ranks[0], ranks[1]
    both = first * second
    u, rest = split(tensor.reshape(sizes[0], -1), both)
    start, rest = _widen(u, 1, both, generator), _widen(rest, 0, both, generator)
    cores = [start.reshape(sizes[0], first, second).permute(1, 0, 2)]
    rest = rest.reshape(first, second, -1).permute(1, 2, 0)  # (second, modes to come, first)
    for k in range(1, count - 1):
        left, right = ranks[k], ranks[k + 1]
        u, rest = split(rest.reshape(left * sizes[k], -1), right)
        cores.append(_widen(u, 1, right, generator).reshape(left, sizes[k], right))
        rest = _widen(rest, 0, right, generator)
    cores.append(rest.reshape(ranks[-1], sizes[-1], first))
    return cores


def _widen(matrix: torch.Tensor, axis: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """The matrix with small random rows or columns up to a size."""
    missing = size - matrix.shape[axis]
    if missing <= 0:
        return matrix
    shape = list(matrix.shape)
    shape[axis] = missing
    noise = torch.randn(shape, generator=generator, dtype=matrix.dtype).to(matrix.device)
    scale = FILL * torch.linalg.norm(matrix) / matrix.numel() ** 0.5
    return torch.cat([matrix, scale * noise], axis)
