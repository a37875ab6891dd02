"""Contraction networks: float reference, sizes, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from drawbar.gen.errors import NetworkError
from drawbar.gen.formats import dense_network
from drawbar.gen.network import ContractionNetwork, Core, Model

RNG = np.random.default_rng(13)


def ring() -> ContractionNetwork:
    """A tensor ring: no format of its own in the package, so it shows that none is built in."""
    sizes = {"p": 2, "q": 3, "m0": 2, "m1": 4, "n0": 3, "n1": 5}
    cores = (
        Core(("p", "m0", "n0", "q"), RNG.normal(size=(2, 2, 3, 3))),
        Core(("q", "m1", "n1", "p"), RNG.normal(size=(3, 4, 5, 2))),
    )
    return ContractionNetwork("ring", "tr", sizes, cores, ("n0", "n1"), ("m0", "m1"))


def test_forward_and_dense_of_a_ring() -> None:
    layer = ring()
    a, b = (core.values for core in layer.cores)
    weight = np.zeros((2, 4, 3, 5))
    for p in range(2):
        for q in range(3):
            weight += a[p, :, None, :, None, q] * b[q, None, :, None, :, p]
    np.testing.assert_allclose(layer.dense(), weight.reshape(8, 15), rtol=0, atol=1e-12)
    x = RNG.normal(size=(6, 15))
    np.testing.assert_allclose(layer.forward(x), x @ layer.dense().T, rtol=0, atol=1e-12)
    assert (layer.inputs, layer.outputs) == (15, 8)
    assert (layer.modes_in, layer.modes_out) == ((3, 5), (2, 4))
    assert (layer.dense_weights, layer.core_weights) == (120, 36 + 120)


def test_order_of_input_and_output_indices_counts() -> None:
    layer = ring()
    turned = replace(layer, input=("n1", "n0"), output=("m1", "m0"))
    expected = layer.dense().reshape(2, 4, 3, 5).transpose(1, 0, 3, 2).reshape(8, 15)
    np.testing.assert_allclose(turned.dense(), expected, rtol=0, atol=1e-12)
    x = RNG.normal(size=(2, 15))
    np.testing.assert_allclose(turned.forward(x), x @ expected.T, rtol=0, atol=1e-12)


def test_model_chains_bias_and_relu() -> None:
    w1, w2 = RNG.normal(size=(4, 3)), RNG.normal(size=(2, 4))
    b1, b2 = RNG.normal(size=4), RNG.normal(size=2)
    model = Model(
        "net",
        (
            dense_network("a", w1, bias=b1, activation="relu"),
            dense_network("b", w2, bias=b2),
        ),
    )
    x = RNG.normal(size=(50, 3))
    expected = np.maximum(x @ w1.T + b1, 0) @ w2.T + b2
    assert (expected < 0).any()  # no activation on the last layer
    np.testing.assert_allclose(model.forward(x), expected, rtol=0, atol=1e-12)
    assert (model.inputs, model.outputs) == (3, 2)


def _core(values: np.ndarray) -> tuple[Core, ...]:
    return (Core(("m", "n"), values),)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"cores": _core(np.zeros((3, 2)))}, r"core 0: has the shape of its indices, \(2, 3\)"),
        ({"cores": _core(np.full((2, 3), np.inf))}, "core 0: holds finite numbers"),
        ({"input": ("k",), "sizes": {"m": 2, "n": 3, "k": 3}}, "index 'k': is in a core"),
        ({"bias": np.zeros(3)}, r"bias: has shape \(2,\); found \(3,\)"),
        ({"bias": np.array([0, np.nan])}, "bias: holds finite numbers"),
        ({"activation": "tanh"}, "activation: is one of none, relu; found tanh"),
    ],
)
def test_layer_rejects(change: dict, match: str) -> None:
    with pytest.raises(NetworkError, match=f"layer 'a', {match}"):
        replace(dense_network("a", np.ones((2, 3))), **change)


def test_model_rejects() -> None:
    with pytest.raises(NetworkError, match="model 'net': has at least one layer"):
        Model("net", ())
    layers = (dense_network("a", np.ones((2, 3))), dense_network("b", np.ones((2, 3))))
    with pytest.raises(NetworkError, match="layer 'b': takes the 2 outputs of layer 'a'; found 3"):
        Model("net", layers)
