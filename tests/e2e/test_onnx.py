"""ONNX files on the command line."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from onnx_files import expected, make, node, saved

import drawbar

RNG = np.random.default_rng(3)


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """A folder with ``model.onnx`` and ``x.npy``; what the file says of these."""
    monkeypatch.chdir(tmp_path)
    model = make(
        [
            node("Conv", "x w b", "a", pads=[1, 1, 1, 1]),
            node("Relu", "a", "r"),
            node("MaxPool", "r", "p", kernel_shape=[2, 2], strides=[2, 2]),
            node("Flatten", "p", "f"),
            node("Gemm", "f v", "y"),
        ],
        {
            "w": RNG.normal(size=(4, 2, 3, 3)).astype(np.float32),
            "b": RNG.normal(size=4).astype(np.float32),
            "v": RNG.normal(size=(36, 5)).astype(np.float32),
        },
        input=(("n", 2, 6, 6), np.float32),
    )
    saved(model, tmp_path)
    x = RNG.normal(size=(9, 2, 6, 6)).astype(np.float32)
    np.save("images.npy", x)
    np.save("x.npy", x.reshape(9, -1))
    return expected(model, x)


def test_from_the_file_to_outputs(network: np.ndarray, command) -> None:
    compiled = command("compile", "model.onnx", "--calibration", "images.npy", "--json").json
    assert compiled["name"] == "model"
    assert [layer["name"] for layer in compiled["layers"]][-1] == "node_y"
    ran = command(
        "run", "model.drawbar", "--input", "x.npy", "-o", "y.npy", "--device", "golden", "--json"
    ).json
    assert ran["cycles"] == compiled["cycles"]
    y = np.load("y.npy")
    np.testing.assert_allclose(y, network, rtol=0, atol=2e-3 * np.abs(network).max())
    assert np.array_equal(y.argmax(axis=1), network.argmax(axis=1))
    assert (
        drawbar.compile("model.onnx", calibration=np.load("images.npy")).cycles
        == compiled["cycles"]
    )
    estimated = command("estimate", "model.onnx", "--json").json
    assert estimated["cycles"] == compiled["cycles"]
    explained = command("explain", "model.onnx", "--json").json
    assert explained["cycles"]["total"] == compiled["cycles"]
    traced = command("trace", "model.onnx", "--data", "images.npy", "--json").json
    assert min(layer["sqnr"] for layer in traced["layers"]) > 50


@pytest.mark.parametrize("name", ["compile", "estimate", "explain"])
def test_an_operator_that_is_not_supported(name: str, workshop) -> None:
    model = make([node("Softmax", "x", "y")], {}, input=(("n", 8), np.float32))
    saved(model, workshop.folder)
    arguments = [name, "model.onnx"]
    if name == "compile":
        arguments += ["--calibration", "calibration.npy"]
    start = time.monotonic()
    error = workshop.refused(*arguments)
    assert time.monotonic() - start < 4  # twice
    assert error["subject"] == "node 'node_y' (Softmax), output 'y'"
    assert "Conv" in error["rule"]
