"""Truncated singular value decompositions of the wide matrices that unfoldings are."""

from __future__ import annotations

from drawbar.sw.compress.backend import torch

#: With this many times as many columns as rows, a triangular factor of the rows is made first.
WIDE = 2


def left_vectors(matrix: torch.Tensor, rank: int | None = None) -> torch.Tensor:
    """The leading left singular vectors, ``(rows, rank)``, or as many as there are.

    Of a wide matrix the right ones are never made: its left singular vectors are those of L in
    A = L Q, a square matrix of its rows.
    """
    rows, columns = matrix.shape
    if columns >= WIDE * rows:
        matrix = torch.linalg.qr(matrix.t(), mode="r")[1].t()
    u, _, _ = torch.linalg.svd(matrix, full_matrices=False)
    return u[:, :rank]


def split(matrix: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The best approximation of a rank as ``(rows, rank)``, orthonormal, times ``(rank, columns)``.
    Both are narrower where the matrix has fewer singular values.
    """
    if matrix.shape[1] >= WIDE * matrix.shape[0]:
        u = left_vectors(matrix, rank)
        return u, u.t() @ matrix
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    return u[:, :rank], s[:rank, None] * v[:rank]
