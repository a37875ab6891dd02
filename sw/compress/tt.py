"""TT-SVD (Oseledets 2011) of a matrix with interleaved modes (Novikov et al. 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from drawbar.gen.errors import NetworkError
from drawbar.sw.compress.backend import torch
from drawbar.sw.compress.modes import check_modes, useful_ranks


def tt_svd(
    weight: torch.Tensor,
    modes_out: Sequence[int],
    modes_in: Sequence[int],
    max_rank: int | None = None,
    *,
    ranks: Sequence[int] | None = None,
    name: str = "",
    stacklevel: int = 1,
) -> list[torch.Tensor]:
    """The TT-matrix cores of a dense weight, by successive truncated singular value decompositions.

    Computed in float64. All cores but the last are left-orthogonal; without a rank limit the cores
    are exact, with one the error is at most the root of (modes - 1) times the best possible.

    Arguments
    ---------
    weight:
        ``(outputs, inputs)``.
    modes_out, modes_in:
        Modes m[1..d] and n[1..d] that multiply to outputs and inputs; row-major.
    max_rank, ranks:
        One rank for every inner bond, or one for each (d - 1); neither for an exact decomposition.
        Ranks beyond the largest useful one are clipped with a ``RankWarning``.

    Returns
    -------
    d cores ``(r[k-1], m[k], n[k], r[k])`` of the weight's type, with r[0] = r[d] = 1.

    Raises
    ------
    NetworkError:
        the weight is not a finite real matrix; modes or ranks do not fit it.
    """
    where = f"layer {name!r}, weight"
    if weight.ndim != 2 or not weight.is_floating_point():
        raise NetworkError(
            where,
            "is a real matrix (outputs, inputs)",
            f"{tuple(weight.shape)} of {weight.dtype}",
            "give a floating-point matrix",
        )
    if not torch.isfinite(weight).all():
        raise NetworkError(where, "holds finite numbers", "NaN or infinity", "mend the weights")
    outputs, inputs = weight.shape
    out, in_ = check_modes(modes_out, modes_in, outputs, inputs, name)
    bonds = useful_ranks(
        out, in_, max_rank=max_rank, ranks=ranks, name=name, stacklevel=stacklevel + 1
    )
    depth = len(out)
    interleaved = [axis for k in range(depth) for axis in (k, depth + k)]
    rest = weight.detach().double().reshape(*out, *in_).permute(interleaved)
    cores = []
    left = 1
    for m, n, rank in zip(out, in_, bonds, strict=False):
        u, s, v = torch.linalg.svd(rest.reshape(left * m * n, -1), full_matrices=False)
        cores.append(u[:, :rank].reshape(left, m, n, rank))
        rest = s[:rank, None] * v[:rank]
        left = rank
    cores.append(rest.reshape(left, out[-1], in_[-1], 1))
    return [core.to(weight.dtype).contiguous() for core in cores]


def tt_reconstruct(cores: Sequence[torch.Tensor]) -> torch.Tensor:
    """The dense weight ``(outputs, inputs)`` that TT-matrix cores stand for."""
    outputs, inputs = prod(c.shape[1] for c in cores), prod(c.shape[2] for c in cores)
    dense = cores[0].new_ones(1, 1, 1)  # (outputs so far, inputs so far, rank)
    for core in cores:
        m, n = dense.shape[0] * core.shape[1], dense.shape[1] * core.shape[2]
        dense = torch.einsum("abr,rmns->ambns", dense, core).reshape(m, n, core.shape[3])
    return dense.reshape(outputs, inputs)
