"""TT-SVD against the dense matrix and against the theory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from drawbar.gen.errors import NetworkError, RankWarning
from drawbar.sw.compress import tt_reconstruct, tt_svd
from drawbar.sw.compress.tt import tt_round

OUT, IN = (2, 3, 4), (5, 2, 3)


def matrix(seed: int, rows: int = 24, columns: int = 30) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64)


def reference(cores: list[torch.Tensor]) -> np.ndarray:
    """W[m1 m2 m3, n1 n2 n3], written out for three cores, independent of the code under test."""
    a, b, c = (core.numpy() for core in cores)
    return np.einsum("xair,rbjs,sckx->abcijk", a, b, c).reshape(24, 30)


def test_full_ranks_are_exact() -> None:
    weight = matrix(1)
    cores = tt_svd(weight, OUT, IN)
    assert [tuple(c.shape) for c in cores] == [(1, 2, 5, 10), (10, 3, 2, 12), (12, 4, 3, 1)]
    np.testing.assert_allclose(reference(cores), weight.numpy(), rtol=0, atol=1e-12)
    torch.testing.assert_close(tt_reconstruct(cores), weight, rtol=0, atol=1e-12)


def test_exact_at_the_rank_of_the_matrix() -> None:
    generator = torch.Generator().manual_seed(2)
    shapes = [(1, 2, 5, 3), (3, 3, 2, 2), (2, 4, 3, 1)]
    weight = tt_reconstruct(
        [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
    )
    cores = tt_svd(weight, OUT, IN, ranks=(3, 2))
    assert [tuple(c.shape) for c in cores] == shapes
    torch.testing.assert_close(tt_reconstruct(cores), weight, rtol=0, atol=1e-11)
    worse = tt_reconstruct(tt_svd(weight, OUT, IN, ranks=(2, 2)))
    assert torch.linalg.norm(worse - weight) > 1e-2 * torch.linalg.norm(weight)


@pytest.mark.parametrize("rank", [1, 2, 5, 9])
def test_error_is_within_the_bound_of_the_discarded_singular_values(rank: int) -> None:
    weight = matrix(3)
    error = float(torch.linalg.norm(tt_reconstruct(tt_svd(weight, OUT, IN, rank)) - weight))
    tensor = weight.reshape(*OUT, *IN).permute(0, 3, 1, 4, 2, 5)
    tails = []
    for rows in (10, 60):
        s = torch.linalg.svdvals(tensor.reshape(rows, -1))
        tails.append(float((s[rank:] ** 2).sum()))
    # Oseledets 2011, theorem 2.2; and no approximation of these ranks beats the worst single cut.
    assert max(tails) ** 0.5 - 1e-12 <= error <= sum(tails) ** 0.5 + 1e-12


def test_cores_but_the_last_are_left_orthogonal() -> None:
    for core in tt_svd(matrix(4), OUT, IN, 6)[:-1]:
        u = core.reshape(-1, core.shape[3])
        torch.testing.assert_close(u.T @ u, torch.eye(u.shape[1], dtype=u.dtype))


def test_one_mode_is_the_matrix_itself() -> None:
    weight = matrix(5)
    (core,) = tt_svd(weight, (24,), (30,))
    assert torch.equal(core, weight.reshape(1, 24, 30, 1))


def test_type_is_kept() -> None:
    cores = tt_svd(matrix(6).float(), OUT, IN)
    assert {c.dtype for c in cores} == {torch.float32}
    torch.testing.assert_close(tt_reconstruct(cores), matrix(6).float(), rtol=1e-5, atol=1e-5)


def test_large_rank_is_clipped_with_a_warning_at_the_caller() -> None:
    with pytest.warns(RankWarning, match=r"layer 'fc6'.*bond 1: asked 99, used 10") as caught:
        cores = tt_svd(matrix(7), OUT, IN, 99, name="fc6")
    assert [c.shape[3] for c in cores] == [10, 12, 1]
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("weight", "match"),
    [
        (torch.zeros(24), "is a real matrix"),
        (torch.zeros(24, 30, dtype=torch.int64), "is a real matrix"),
        (torch.full((24, 30), float("nan")), "holds finite numbers"),
    ],
)
def test_bad_weights(weight: torch.Tensor, match: str) -> None:
    with pytest.raises(NetworkError, match=rf"layer 'fc6', weight: {match}"):
        tt_svd(weight, OUT, IN, 2, name="fc6")


def test_modes_of_another_size() -> None:
    with pytest.raises(NetworkError, match=r"layer 'fc6', modes_out: multiply to .* 24 outputs"):
        tt_svd(matrix(8), (2, 3, 5), IN, 2, name="fc6")


def test_rounding_is_the_tt_svd_to_the_same_ranks() -> None:
    weight = matrix(9)
    exact = tt_svd(weight, OUT, IN)
    for ranks in ((3, 4), (1, 1), (10, 2)):
        wanted = tt_reconstruct(tt_svd(weight, OUT, IN, ranks=ranks))
        rounded = tt_round(exact, ranks=ranks)
        assert [core.shape[3] for core in rounded[:-1]] == list(ranks)
        torch.testing.assert_close(tt_reconstruct(rounded), wanted, rtol=0, atol=1e-11)


def test_rounding_finds_the_ranks_of_a_sum() -> None:
    """Two trains side by side have the sum of their ranks; the same one twice has its own."""
    cores = tt_svd(matrix(10), OUT, IN, ranks=(3, 2))
    first, middle, last = cores
    zero = torch.zeros_like(middle)
    double = [
        torch.cat([first, first], 3),
        torch.cat([torch.cat([middle, zero], 3), torch.cat([zero, middle], 3)], 0),
        torch.cat([last, last], 0),
    ]
    rounded = tt_round(double)
    assert [tuple(core.shape) for core in rounded] == [tuple(core.shape) for core in cores]
    wanted = 2 * tt_reconstruct(cores)
    torch.testing.assert_close(tt_reconstruct(rounded), wanted, rtol=0, atol=1e-11)


@pytest.mark.parametrize("tolerance", [0.1, 0.4, 0.8])
def test_rounding_keeps_to_its_tolerance(tolerance: float) -> None:
    weight = matrix(11)
    rounded = tt_round(tt_svd(weight, OUT, IN), tolerance=tolerance)
    error = torch.linalg.norm(tt_reconstruct(rounded) - weight) / torch.linalg.norm(weight)
    assert float(error) <= tolerance
    assert sum(core.numel() for core in rounded) < 964 or tolerance < 0.4


def test_rounding_of_three_way_cores_and_of_zero() -> None:
    cores = [torch.randn(s, dtype=torch.float64) for s in ((1, 4, 5), (5, 3, 6), (6, 2, 1))]
    rounded = tt_round(cores, 2)
    assert [tuple(core.shape) for core in rounded] == [(1, 4, 2), (2, 3, 2), (2, 2, 1)]
    zero = tt_round([torch.zeros_like(core) for core in cores])
    assert [tuple(core.shape) for core in zero] == [(1, 4, 1), (1, 3, 1), (1, 2, 1)]


def test_rounding_of_what_is_no_train() -> None:
    cores = tt_svd(matrix(12), OUT, IN, 3)
    with pytest.raises(NetworkError, match=r"layer 'fc', core 2: starts with rank 1"):
        tt_round([cores[0], cores[2], cores[1]], name="fc")
    with pytest.raises(NetworkError, match="and the last core ends with rank 1"):
        tt_round(cores[:2])
    with pytest.warns(RankWarning, match=r"layer 'fc'.*bond 1: asked 7, used 3") as caught:
        tt_round(cores, 7, name="fc")
    assert caught[0].filename == __file__
