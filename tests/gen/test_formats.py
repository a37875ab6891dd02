"""Formats: the network of a layer stands for the layer's dense matrix."""

from __future__ import annotations

import numpy as np
import pytest

from drawbar.gen.errors import NetworkError
from drawbar.gen.formats import dense_network, tt_network

RNG = np.random.default_rng(7)


def tt_cores(*shapes: tuple[int, int, int, int]) -> list[np.ndarray]:
    return [RNG.normal(size=shape) for shape in shapes]


def test_dense() -> None:
    weight, bias, x = RNG.normal(size=(3, 5)), RNG.normal(size=3), RNG.normal(size=(4, 5))
    layer = dense_network("fc", weight, bias=bias)
    assert np.array_equal(layer.dense(), weight)
    np.testing.assert_allclose(layer.forward(x), x @ weight.T + bias, rtol=0, atol=1e-13)
    assert (layer.inputs, layer.outputs, layer.core_weights) == (5, 3, 15)


def test_tt_of_three_cores() -> None:
    a, b, c = cores = tt_cores((1, 2, 5, 3), (3, 3, 2, 4), (4, 4, 3, 1))
    layer = tt_network("fc", cores)
    weight = np.zeros((24, 30))
    for row in range(24):
        for column in range(30):
            m, n = np.unravel_index(row, (2, 3, 4)), np.unravel_index(column, (5, 2, 3))
            weight[row, column] = (a[:, m[0], n[0]] @ b[:, m[1], n[1]] @ c[:, m[2], n[2]]).item()
    np.testing.assert_allclose(layer.dense(), weight, rtol=0, atol=1e-12)
    assert layer.ranks == (1, 3, 4, 1)
    assert (layer.modes_out, layer.modes_in) == ((2, 3, 4), (5, 2, 3))
    assert layer.core_weights == 30 + 72 + 48
    assert layer.dense_weights == 720
    x, bias = RNG.normal(size=(6, 30)), RNG.normal(size=24)
    y = tt_network("fc", cores, bias=bias, activation="relu").forward(x)
    np.testing.assert_allclose(y, np.maximum(x @ weight.T + bias, 0), rtol=0, atol=1e-12)


def test_tt_of_one_core() -> None:
    (core,) = tt_cores((1, 3, 5, 1))
    assert np.array_equal(tt_network("fc", [core]).dense(), core[0, :, :, 0])


@pytest.mark.parametrize(
    ("shapes", "match"),
    [
        ([(1, 2, 5, 3), (2, 3, 2, 1)], r"layer 'fc', core 1: starts with rank 3; found 2"),
        ([(2, 2, 5, 1)], r"core 0: starts with rank 1; found 2"),
        ([(1, 2, 5, 3), (3, 3, 2, 2)], r"core 1: ends with rank 1; found 2"),
        ([(1, 2, 5)], r"core 0: is 4-way: .* found 3-way"),
    ],
)
def test_tt_rejects(shapes: list[tuple[int, int, int, int]], match: str) -> None:
    with pytest.raises(NetworkError, match=match):
        tt_network("fc", tt_cores(*shapes))
