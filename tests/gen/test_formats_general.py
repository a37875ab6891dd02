"""Ring, Tucker, CP and block-term: the network of a layer stands for the layer's dense matrix, by
its definition, element by element.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import product
from math import prod

import numpy as np
import pytest
from random_networks import GENERAL, small_layer

from drawbar.gen.errors import NetworkError
from drawbar.gen.formats import (
    block_term_network,
    cp_network,
    tensor_ring_network,
    tucker_network,
)
from drawbar.gen.network import ContractionNetwork

RNG = np.random.default_rng(11)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape)


def check(layer: ContractionNetwork, element: Callable[..., float]) -> None:
    """``element(m, n)`` is the weight from input ``n`` to output ``m``, both as mode indices."""
    weight = np.array(
        [
            [element(m, n) for n in product(*map(range, layer.modes_in))]
            for m in product(*map(range, layer.modes_out))
        ]
    )
    np.testing.assert_allclose(layer.dense(), weight, rtol=0, atol=1e-12)
    x = normal(5, layer.inputs)
    np.testing.assert_allclose(layer.forward(x), x @ weight.T, rtol=0, atol=1e-11)
    assert layer.core_weights == sum(core.values.size for core in layer.cores)


def test_tensor_ring() -> None:
    cores = [normal(3, 2, 4), normal(4, 5, 2), normal(2, 3, 2), normal(2, 2, 3)]
    layer = tensor_ring_network("ring", cores, inputs=2)
    a, b, c, d = cores

    def element(m: tuple[int, ...], n: tuple[int, ...]) -> float:
        return np.trace(a[:, n[0]] @ b[:, n[1]] @ c[:, m[0]] @ d[:, m[1]])

    check(layer, element)
    assert (layer.modes_in, layer.modes_out) == ((2, 5), (3, 2))
    assert layer.ranks == (3, 4, 2, 2, 3)


def test_a_ring_of_two() -> None:
    a, b = normal(3, 4, 2), normal(2, 5, 3)
    layer = tensor_ring_network("ring", [a, b], inputs=1)
    check(layer, lambda m, n: np.trace(a[:, n[0]] @ b[:, m[0]]))


def test_tucker() -> None:
    core = normal(2, 3, 4, 2)
    out, into = [normal(3, 2), normal(2, 3)], [normal(5, 4), normal(2, 2)]
    layer = tucker_network("tucker", core, out, into)

    def element(m: tuple[int, ...], n: tuple[int, ...]) -> float:
        return sum(
            core[q0, q1, s0, s1]
            * out[0][m[0], q0]
            * out[1][m[1], q1]
            * into[0][n[0], s0]
            * into[1][n[1], s1]
            for q0, q1, s0, s1 in product(*map(range, core.shape))
        )

    check(layer, element)
    assert layer.ranks == core.shape


def test_tucker_2_of_a_matrix() -> None:
    core, out, into = normal(2, 3), normal(6, 2), normal(7, 3)
    layer = tucker_network("tucker", core, [out], [into])
    np.testing.assert_allclose(layer.dense(), out @ core @ into.T, rtol=0, atol=1e-12)


def test_cp() -> None:
    out, into = [normal(3, 4), normal(2, 4)], [normal(2, 4), normal(3, 4), normal(2, 4)]
    layer = cp_network("cp", out, into)

    def element(m: tuple[int, ...], n: tuple[int, ...]) -> float:
        return sum(
            prod(f[at, r] for f, at in zip((*out, *into), (*m, *n), strict=True)) for r in range(4)
        )

    check(layer, element)
    assert layer.ranks == (4,)


def test_block_term() -> None:
    factors = [normal(2, 3, 2, 2), normal(2, 2, 3, 3)]
    core = normal(2, 2, 3)
    layer = block_term_network("bt", factors, core)

    def element(m: tuple[int, ...], n: tuple[int, ...]) -> float:
        return sum(
            core[t, r, s] * factors[0][t, m[0], n[0], r] * factors[1][t, m[1], n[1], s]
            for t, r, s in product(*map(range, core.shape))
        )

    check(layer, element)
    assert layer.ranks == (2, 2, 3)


def test_the_lstm_of_ucf11() -> None:
    """The block-term layer of Ye et al. for all four gates has 3,392 weights."""
    modes = zip((16, 4, 4, 4), (8, 20, 20, 18), strict=True)
    factors = [np.ones((2, m, n, 4)) for m, n in modes]
    layer = block_term_network("ucf11", factors, np.ones((2, 4, 4, 4, 4)))
    assert (layer.inputs, layer.outputs, layer.core_weights) == (57600, 1024, 3392)


@pytest.mark.parametrize("form", GENERAL)
def test_bias_and_activation(form: str) -> None:
    rng = random.Random(form)
    for _ in range(10):
        layer = small_layer(rng, form)
        x = normal(3, layer.inputs)
        y = x @ layer.dense().T + (0 if layer.bias is None else layer.bias)
        y = np.maximum(y, 0) if layer.activation == "relu" else y
        np.testing.assert_allclose(layer.forward(x), y, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (
            lambda: tensor_ring_network("l", [normal(2, 3, 4), normal(4, 3, 3)], inputs=1),
            r"layer 'l', core 1: ends with rank 2; found 3\. Fix: close the train",
        ),
        (
            lambda: tensor_ring_network("l", [normal(2, 3, 4), normal(3, 3, 2)], inputs=1),
            r"core 1: starts with rank 4; found 3",
        ),
        (
            lambda: tensor_ring_network("l", [normal(2, 3, 2)], inputs=1),
            r"one with an output mode; found 1 cores, 1 of them",
        ),
        (
            lambda: tensor_ring_network("l", [normal(2, 3, 4, 2)] * 2, inputs=1),
            r"core 0: is 3-way: \(rank, mode, rank\); found 4-way",
        ),
        (
            lambda: tucker_network("l", normal(2, 3), [normal(5, 3)], [normal(4, 3)]),
            r"output factor 0: has size 2 of q0, as the others have; found 3",
        ),
        (
            lambda: tucker_network("l", normal(2), [normal(5, 2)], []),
            r"layer 'l': has at least one input factor; found none",
        ),
        (
            lambda: tucker_network("l", normal(2, 3, 4), [normal(5, 2)], [normal(4, 3)]),
            r"core: is 2-way: \(q0, s0\); found 3-way",
        ),
        (
            lambda: cp_network("l", [normal(5, 2)], [normal(4, 3)]),
            r"output factor 0: has size 3 of r, as the others have; found 2",
        ),
        (lambda: cp_network("l", [], [normal(4, 3)]), r"one output factor; found none"),
        (lambda: cp_network("l", [normal(4)], [normal(4, 3)]), r"2-way: \(m0, r\); found 1-way"),
        (
            lambda: block_term_network("l", [normal(2, 3, 3, 2)], normal(3, 2)),
            r"core: has size 2 of terms, as the others have; found 3",
        ),
        (lambda: block_term_network("l", [], normal(3)), r"at least one factor; found none"),
    ],
)
def test_rejects(make: Callable[[], ContractionNetwork], match: str) -> None:
    with pytest.raises(NetworkError, match=match):
        make()
