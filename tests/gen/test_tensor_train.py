"""Tensor train over single modes: the network stands for the layer's dense matrix."""

from __future__ import annotations

import numpy as np
import pytest

from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import NetworkError
from drawbar.gen.formats import tensor_train_network
from drawbar.gen.network import Model
from drawbar.gen.plan import plan_model

RNG = np.random.default_rng(11)


def train(*shapes: tuple[int, int, int]) -> list[np.ndarray]:
    return [RNG.normal(size=shape) for shape in shapes]


def test_dense_matrix_entry_by_entry() -> None:
    a, b, c, d = cores = train((1, 2, 3), (3, 5, 4), (4, 3, 2), (2, 4, 1))
    layer = tensor_train_network("fc", cores, inputs=2, bias=RNG.normal(size=12))
    weight = np.zeros((12, 10))
    for row in range(12):
        for column in range(10):
            product = a[:, column // 5] @ b[:, column % 5] @ c[:, row // 4] @ d[:, row % 4]
            weight[row, column] = product[0, 0]
    np.testing.assert_allclose(layer.dense(), weight, rtol=1e-12, atol=0)
    x = RNG.normal(size=(3, 10))
    assert layer.bias is not None
    np.testing.assert_allclose(layer.forward(x), x @ weight.T + layer.bias, rtol=0, atol=1e-12)
    assert layer.format == "tensor-train"
    assert (layer.modes_in, layer.modes_out, layer.ranks) == ((2, 5), (3, 4), (1, 3, 4, 2, 1))
    assert layer.core_weights == 6 + 60 + 24 + 8


def test_it_is_planned_like_any_other_format() -> None:
    cores = train((1, 4, 2), (2, 4, 3), (3, 4, 2), (2, 4, 1))
    model = Model("m", (tensor_train_network("fc", cores, inputs=2),))
    plan = plan_model(model, EngineConfig(rows=4, lanes=4))
    assert {n for stage in plan.stages for n in stage.step.group} == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("shapes", "inputs", "rule"),
    [
        (((1, 2, 2), (3, 2, 1)), 1, "starts with rank 2"),
        (((1, 2, 2), (2, 2, 2)), 1, "ends with rank 1"),
        (((2, 2, 2), (2, 2, 1)), 1, "starts with rank 1"),
        (((1, 2, 2), (2, 2, 1)), 0, "input mode"),
        (((1, 2, 2), (2, 2, 1)), 2, "output mode"),
    ],
)
def test_bad_trains_are_refused(
    shapes: tuple[tuple[int, int, int], ...], inputs: int, rule: str
) -> None:
    with pytest.raises(NetworkError, match=rule):
        tensor_train_network("fc", train(*shapes), inputs=inputs)


def test_a_core_must_be_3_way() -> None:
    with pytest.raises(NetworkError, match="3-way"):
        tensor_train_network("fc", [*train((1, 2, 2)), RNG.normal(size=(2, 2))], inputs=1)
