"""Tucker decomposition: truncated HOSVD, then higher-order orthogonal iteration (De Lathauwer et
al. 2000).
"""

from __future__ import annotations

from collections.abc import Sequence

from drawbar.sw.compress.backend import torch
from drawbar.sw.compress.truncation import left_vectors

ITERATIONS = 50
#: The iteration ends when the core's squared norm grows by less than this share.
TOLERANCE = 1e-10


def tucker(
    tensor: torch.Tensor, ranks: Sequence[int | None], *, iterations: int = ITERATIONS
) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
    """Core and orthonormal factors of a tensor.

    Arguments
    ---------
    tensor:
        float64.
    ranks:
        One for each axis, at most its size; None leaves the axis as it is.

    Returns
    -------
    The core, and for each axis a factor ``(size, rank)`` or None.
    """
    axes = [axis for axis, rank in enumerate(ranks) if rank is not None]
    factors: list[torch.Tensor | None] = [None] * tensor.ndim
    for axis in axes:  # HOSVD
        factors[axis] = _leading(tensor, axis, ranks[axis])
    core = _project(tensor, factors)
    before = float((core**2).sum())
    for _ in range(iterations if len(axes) > 1 else 0):
        for axis in axes:
            others = [None if k == axis else factor for k, factor in enumerate(factors)]
            factors[axis] = _leading(_project(tensor, others), axis, ranks[axis])
        core = _project(tensor, factors)
        now = float((core**2).sum())
        if now - before <= TOLERANCE * now:
            break
        before = now
    return core, factors


def _leading(tensor: torch.Tensor, axis: int, rank: int | None) -> torch.Tensor:
    """The leading left singular vectors of an unfolding."""
    return left_vectors(tensor.movedim(axis, 0).reshape(tensor.shape[axis], -1), rank)


def _project(tensor: torch.Tensor, factors: Sequence[torch.Tensor | None]) -> torch.Tensor:
    for axis, factor in enumerate(factors):
        if factor is not None:
            tensor = (tensor.movedim(axis, -1) @ factor).movedim(-1, axis)
    return tensor
