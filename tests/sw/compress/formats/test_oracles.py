"""Errors and times against tensorly, where it has the algorithm."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from drawbar.sw.compress import tt_reconstruct, tt_svd
from drawbar.sw.compress.formats import get_format

tensorly = pytest.importorskip("tensorly")


@pytest.fixture(autouse=True)
def _backend() -> Iterator[None]:
    torch.manual_seed(21)
    before = tensorly.get_backend()
    tensorly.set_backend("pytorch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own
        yield
    tensorly.set_backend(before)


def decaying(*shape: int) -> torch.Tensor:
    """A tensor that low ranks fit to some degree, as trained weights are."""
    tensor = torch.randn(shape, dtype=torch.float64)
    for axis, size in enumerate(shape):
        q, _ = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64))
        scale = 0.6 ** torch.arange(size, dtype=torch.float64)
        tensor = torch.tensordot(tensor, q * scale, ([axis], [1])).movedim(-1, axis)
    return tensor


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float(torch.linalg.norm(found - wanted) / torch.linalg.norm(wanted))


def of_format(name: str, weight: torch.Tensor, **asked: Any) -> float:
    chosen = get_format(name)
    return error(chosen.project(weight, chosen.spec(tuple(weight.shape), **asked)), weight)


def test_tt_svd_of_a_matrix() -> None:
    from tensorly.decomposition import tensor_train_matrix

    tensor = decaying(4, 5, 3, 5, 4, 4)
    weight = tensor.reshape(60, 80)
    theirs = tensor_train_matrix(tensor, [1, 5, 6, 1]).to_matrix()
    ours = of_format("tt", weight, modes_out=(4, 5, 3), modes_in=(5, 4, 4), ranks=(5, 6))
    assert ours == pytest.approx(error(theirs, weight), rel=1e-10)


def test_tt_svd_of_a_tensor() -> None:
    from tensorly.decomposition import tensor_train

    tensor = decaying(5, 4, 4, 4, 5, 3)  # inputs, then outputs
    theirs = tensor_train(tensor, [1, 3, 5, 6, 5, 3, 1]).to_tensor()
    ours = of_format(
        "tensor_train",
        tensor.reshape(80, 60).t().contiguous(),
        modes_out=(4, 5, 3),
        modes_in=(5, 4, 4),
        ranks=(3, 5, 6, 5, 3),
    )
    assert ours == pytest.approx(error(theirs, tensor), rel=1e-10)


def test_tr_svd_and_better() -> None:
    from tensorly.decomposition import tensor_ring

    tensor = decaying(5, 4, 4, 5)
    theirs = tensor_ring(tensor, [1, 3, 4, 3, 1]).to_tensor()
    ours = of_format(
        "tensor_ring",
        tensor.reshape(20, 20).t().contiguous(),
        modes_out=(4, 5),
        modes_in=(5, 4),
        ranks=(1, 3, 4, 3),
    )
    assert ours <= error(theirs, tensor) * (1 + 1e-10)


@pytest.mark.parametrize("ranks", [(3, 4, 3, 3), (2, 2, 2, 2)])
def test_hooi(ranks: tuple[int, ...]) -> None:
    from tensorly.decomposition import tucker

    tensor = decaying(4, 6, 5, 5)
    theirs = tucker(tensor, list(ranks), init="svd", tol=1e-12, n_iter_max=200).to_tensor()
    weight = tensor.reshape(24, 25)
    ours = of_format("tucker", weight, modes_out=(4, 6), modes_in=(5, 5), ranks=ranks)
    assert ours == pytest.approx(error(theirs, tensor), rel=1e-6)


def test_tucker_2_of_a_convolution() -> None:
    from tensorly.decomposition import partial_tucker

    weight = decaying(12, 10, 3, 3)
    (core, factors), _ = partial_tucker(weight, [4, 5], modes=[0, 1], init="svd", tol=1e-12)
    theirs = tensorly.tenalg.multi_mode_dot(core, factors, modes=[0, 1])
    ours = of_format("tucker", weight, ranks=(4, 5))
    assert ours == pytest.approx(error(theirs, weight), rel=1e-6)


@pytest.mark.parametrize("rank", [2, 4])
def test_cp_als(rank: int) -> None:
    from tensorly.decomposition import parafac

    tensor = decaying(4, 6, 5, 5)
    theirs = parafac(tensor, rank, init="svd", tol=1e-10, n_iter_max=500).to_tensor()
    weight = tensor.reshape(24, 25)
    ours = of_format("cp", weight, modes_out=(4, 6), modes_in=(5, 5), max_rank=rank)
    assert ours == pytest.approx(error(theirs, tensor), rel=1e-3)


def test_tt_svd_takes_no_longer() -> None:
    """A matrix of 1024 x 1024: within 10 percent of tensorly's time, and the same error."""
    from tensorly.decomposition import tensor_train_matrix

    weight = torch.randn(1024, 1024, dtype=torch.float64)
    modes, ranks = (4,) * 5, (8, 8, 8, 8)
    ours, theirs = [], []
    for _ in range(3):
        start = time.process_time()
        cores = tt_svd(weight, modes, modes, ranks=ranks)
        ours.append(time.process_time() - start)
        start = time.process_time()
        found = tensor_train_matrix(weight.reshape(*modes, *modes), [1, *ranks, 1])
        theirs.append(time.process_time() - start)
    assert min(ours) <= 1.1 * min(theirs)
    assert error(tt_reconstruct(cores), weight) == pytest.approx(
        error(found.to_matrix(), weight), rel=1e-10
    )
