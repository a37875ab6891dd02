"""Tensor trains: TT-SVD (Oseledets 2011) of a tensor and of a matrix with interleaved modes
(Novikov et al. 2015), and rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from drawbar.gen.errors import NetworkError
from drawbar.sw.compress.backend import torch
from drawbar.sw.compress.modes import (
    chain_bounds,
    check_modes,
    check_ranks,
    useful_ranks,
    warn_clipped,
)
from drawbar.sw.compress.truncation import split


def train_svd(tensor: torch.Tensor, ranks: Sequence[int]) -> list[torch.Tensor]:
    """The train of a tensor, by successive truncated singular value decompositions.

    Arguments
    ---------
    tensor:
        float64, one axis for each core.
    ranks:
        One for each inner bond. Beyond what is of use (``modes.chain_bounds``) there are zeros.

    Returns
    -------
    Cores ``(r[k-1], size[k], r[k])``; all but the last are left-orthogonal.
    """
    cores = []
    left, rest = 1, tensor
    for size, rank in zip(tensor.shape, ranks, strict=False):
        u, rest = split(rest.reshape(left * size, -1), rank)
        missing = rank - u.shape[1]
        if missing > 0:
            u = torch.nn.functional.pad(u, (0, missing))
            rest = torch.nn.functional.pad(rest, (0, 0, 0, missing))
        cores.append(u.reshape(left, size, rank))
        left = rank
    cores.append(rest.reshape(left, tensor.shape[-1], 1))
    return cores


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
    tensor = weight.detach().double().reshape(*out, *in_).permute(interleaved)
    sites = [m * n for m, n in zip(out, in_, strict=True)]
    return [
        core.reshape(core.shape[0], m, n, core.shape[2]).to(weight.dtype).contiguous()
        for core, m, n in zip(train_svd(tensor.reshape(sites), bonds), out, in_, strict=True)
    ]


def tt_reconstruct(cores: Sequence[torch.Tensor]) -> torch.Tensor:
    """The dense weight ``(outputs, inputs)`` that TT-matrix cores stand for."""
    outputs, inputs = prod(c.shape[1] for c in cores), prod(c.shape[2] for c in cores)
    dense = cores[0].new_ones(1, 1, 1)  # (outputs so far, inputs so far, rank)
    for core in cores:
        m, n = dense.shape[0] * core.shape[1], dense.shape[1] * core.shape[2]
        dense = torch.einsum("abr,rmns->ambns", dense, core).reshape(m, n, core.shape[3])
    return dense.reshape(outputs, inputs)


def tt_round(
    cores: Sequence[torch.Tensor],
    max_rank: int | None = None,
    *,
    ranks: Sequence[int] | None = None,
    tolerance: float = 0.0,
    name: str = "",
    stacklevel: int = 1,
) -> list[torch.Tensor]:
    """A train of lower ranks near a given one (TT-rounding, Oseledets 2011), without forming what
    it stands for.

    Computed in float64. As good as the TT-SVD of the full tensor to the same ranks.

    Arguments
    ---------
    cores:
        Of any train with boundary ranks 1: ``(r[k-1], modes of core k, r[k])``.
    max_rank, ranks:
        As in ``tt_svd``; what is beyond the cores' own ranks is clipped with a ``RankWarning``.
    tolerance:
        Error that rounding may make, as a share of the tensor's norm; 0 keeps every rank that is
        not zero to rounding.

    Raises
    ------
    NetworkError:
        neighbouring ranks differ, a boundary rank is not 1, or ranks that do not fit.
    """
    bounds = [core.shape[-1] for core in cores[:-1]]
    for k, (core, left) in enumerate(zip(cores, [1, *bounds], strict=True)):
        if core.shape[0] != left or (k == len(cores) - 1 and core.shape[-1] != 1):
            raise NetworkError(
                f"layer {name!r}, core {k}",
                f"starts with rank {left}, and the last core ends with rank 1",
                tuple(core.shape),
                "give the cores of one train, in order",
            )
    count = len(cores) - 1
    asked = check_ranks(
        count,
        max_rank=max_rank,
        ranks=ranks,
        name=name,
        one="bond",
        all_of_them=f"{count} bonds between {count + 1} cores",
    )
    sizes = [prod(core.shape[1:-1]) for core in cores]
    wanted = bounds if asked is None else asked
    most = chain_bounds(sizes, [min(r, b) for r, b in zip(wanted, bounds, strict=True)])
    if asked is not None:
        warn_clipped(name, asked, most, "bond", stacklevel + 1)
    # From the last core to the first, all but the first become right-orthogonal; then each bond's
    # singular values are those of the whole tensor.
    work = [
        core.detach().double().reshape(core.shape[0], size, core.shape[-1])
        for core, size in zip(cores, sizes, strict=True)
    ]
    for k in range(count, 0, -1):
        left, size, right = work[k].shape
        q, r = torch.linalg.qr(work[k].reshape(left, size * right).t())
        work[k] = q.t().reshape(-1, size, right)
        work[k - 1] = torch.einsum("asr,br->asb", work[k - 1], r)
    norm = float(torch.linalg.norm(work[0]))
    allowed = (tolerance * norm) ** 2 / max(count, 1)
    for k in range(count):
        left, size, right = work[k].shape
        u, s, v = torch.linalg.svd(work[k].reshape(left * size, right), full_matrices=False)
        tails = torch.flip(torch.cumsum(torch.flip(s**2, (0,)), 0), (0,))
        floor = max(allowed, (torch.finfo(s.dtype).eps * norm) ** 2)
        rank = max(1, min(most[k], int((tails > floor).sum())))
        work[k] = u[:, :rank].reshape(left, size, rank)
        work[k + 1] = torch.einsum("ab,bsr->asr", s[:rank, None] * v[:rank], work[k + 1])
    return [
        new.reshape(new.shape[0], *old.shape[1:-1], new.shape[2]).to(old.dtype).contiguous()
        for new, old in zip(work, cores, strict=True)
    ]
