"""What is not supported is refused at once, with the node and what would do."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_files import make, node, port, saved

import drawbar
from drawbar.gen.errors import DrawbarError, InputError, NetworkError
from drawbar.sw.onnx import load_onnx

IMAGE = (("n", 2, 5, 5), np.float32)
VECTOR = (("n", 4), np.float32)
W = np.ones((3, 2, 2, 2), np.float32)
M = np.ones((4, 3), np.float32)
ONE, ZERO = np.float32(1), np.int8(0)

#: Input, nodes, constants; words of the error's rule, and of what was found.
CASES: dict[str, tuple[Any, list[onnx.NodeProto], dict[str, Any], str, str]] = {
    "operator": (VECTOR, [node("Sigmoid", "x", "y")], {}, "Relu", "Sigmoid"),
    "groups": (IMAGE, [node("Conv", "x w", "y", group=2)], {"w": W[:2, :1]}, "group=1", "group=2"),
    "padded maximum": (
        IMAGE,
        [node("MaxPool", "x", "y", kernel_shape=[2, 2], pads=[1, 1, 1, 1])],
        {},
        "no value of it is below 0",
        "(1, 1)",
    ),
    "weights that are no constants": (
        VECTOR,
        [node("Identity", "x", "a"), node("MatMul", "x a", "y")],
        {},
        "constant",
        "'a'",
    ),
    "a constant times the input": (
        VECTOR,
        [node("MatMul", "m x", "y")],
        {"m": M},
        "constant",
        "'x'",
    ),
    "sizes": (VECTOR, [node("MatMul", "x m", "y")], {"m": M.T}, "vectors of 3", "4"),
    "NaN": (VECTOR, [node("MatMul", "x m", "y")], {"m": M * np.nan}, "'m'", "NaN"),
    "infinity": (
        IMAGE,
        [node("Conv", "x w b", "y")],
        {"w": W, "b": np.array([1, np.inf, 0], np.float32)},
        "finite numbers ('b')",
        "infinity",
    ),
    "transpose": (IMAGE, [node("Transpose", "x", "y", perm=[0, 2, 3, 1])], {}, "Conv", "Transpose"),
    "reshape": (
        IMAGE,
        [node("Identity", "x", "a"), node("Reshape", "a s", "y")],
        {"s": np.array([0, 5, 10])},
        "flattens",
        "(0, 5, 10)",
    ),
    "batch joined": (
        VECTOR,
        [node("Reshape", "x s", "y")],
        {"s": np.array([2, 2, -1])},
        "flattens",
        "(2, 2, -1)",
    ),
    "clip": (VECTOR, [node("Clip", "x a b", "y")], {"a": ONE * 0, "b": ONE * 6}, "ReLU", "6"),
    "scale": (
        VECTOR,
        [node("QuantizeLinear", "x s z", "y")],
        {"s": np.float32(0.3), "z": ZERO},
        "power of two",
        "0.3",
    ),
    "zero point": (
        VECTOR,
        [node("QuantizeLinear", "x s z", "y")],
        {"s": ONE, "z": np.uint8(128)},
        "zero point of 0",
        "128",
    ),
    "zero point of a result": (
        (("n", 4), np.int8),
        [node("QLinearMatMul", "x s z m s z s o", "y")],
        {"s": ONE, "z": ZERO, "m": M.astype(np.int8), "o": np.int8(3)},
        "zero point of the result of 0",
        "3",
    ),
    "four sides": (
        IMAGE,
        [node("Conv", "x w", "y", pads=[1, 1])],
        {"w": W},
        "four sides",
        "(1, 1)",
    ),
    "negative padding": (
        IMAGE,
        [node("Conv", "x w", "y", pads=[0, 0, -1, 0])],
        {"w": W},
        "0 or more",
        "-1",
    ),
    "no stride": (IMAGE, [node("Conv", "x w", "y", strides=[0, 1])], {"w": W}, "one", "(0, 1)"),
    "no outputs": (VECTOR, [node("MatMul", "x m", "y")], {"m": M[:, :0]}, "matrix", "(0, 4)"),
    "an axis that is not there": (
        IMAGE,
        [node("Slice", "x a b c", "y")],
        {"a": np.array([0]), "b": np.array([1]), "c": np.array([7])},
        "attributes that its operator takes",
        "range",
    ),
    "fewer channels": (
        IMAGE,
        [node("Pad", "x p", "y")],
        {"p": np.array([0, -1, 0, 0, 0, 0, 0, 0])},
        "channels of zeros",
        "-1",
    ),
    "a type that is no integer": (
        VECTOR,
        [node("QuantizeLinear", "x s", "y", output_dtype=17)],
        {"s": ONE},
        "int8 or int16",
        "17",
    ),
    "dynamic quantisation": (
        VECTOR,
        [node("DynamicQuantizeLinear", "x", "y s z")],
        {},
        "QuantizeLinear",
        "DynamicQuantizeLinear",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_node_that_is_not_supported(name: str, tmp_path: Path) -> None:
    given, nodes, constants, rule, found = CASES[name]
    path = saved(make(nodes, constants, input=given), tmp_path)
    start = time.monotonic()
    with pytest.raises(NetworkError) as caught:
        drawbar.compile(path, calibration=np.zeros((2, 4)))
    assert time.monotonic() - start < 2
    error = caught.value
    last = nodes[-1]
    assert error.subject == f"node {last.name!r} ({last.op_type}), output {last.output[0]!r}"
    assert rule in error.rule
    assert found in str(error.value)
    assert error.fix


@pytest.mark.parametrize("shape", [("n", "features"), ("n", 2, "h", 5), ("n",), (1, 0)])
def test_a_size_that_is_not_known(shape: Sequence[Any], tmp_path: Path) -> None:
    path = saved(make([node("Relu", "x", "y")], {}, input=(shape, np.float32)), tmp_path)
    with pytest.raises(NetworkError, match=r"input 'x'.*sizes that are known") as caught:
        load_onnx(path)
    assert all(str(n) in str(caught.value.value) for n in shape)


def test_an_old_and_a_new_opset(tmp_path: Path) -> None:
    nodes = [node("MatMul", "x m", "y")]
    old = make(nodes, {"m": M}, input=VECTOR, opset=6)
    with pytest.raises(NetworkError, match="version 6"):
        load_onnx(saved(old, tmp_path))
    new = make(nodes, {"m": M}, input=VECTOR, opset=999)
    with pytest.raises((NetworkError, InputError), match="999"):
        load_onnx(saved(new, tmp_path))


def test_a_domain_of_its_own(tmp_path: Path) -> None:
    model = make([node("QLinearAdd", "x x", "y", domain="com.example")], {}, input=VECTOR)
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    with pytest.raises(NetworkError, match=r"found com\.example\.QLinearAdd"):
        load_onnx(saved(model, tmp_path))


def test_two_inputs(tmp_path: Path) -> None:
    model = make([node("Add", "x z", "y")], {}, input=VECTOR)
    model.graph.input.append(port("z", np.float32, ("n", 4)))
    with pytest.raises(NetworkError, match=r"one input; found 2: 'x', 'z'"):
        load_onnx(saved(model, tmp_path))


def test_a_file_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    with pytest.raises(InputError, match="no such file"):
        load_onnx(path)
    path.write_bytes(np.random.default_rng(0).bytes(1000))
    with pytest.raises(InputError, match="well-formed ONNX model"):
        load_onnx(path)
    whole = saved(make([node("MatMul", "x m", "y")], {"m": M}, input=VECTOR), tmp_path)
    path.write_bytes(whole.read_bytes()[:-40])
    with pytest.raises(DrawbarError, match="well-formed ONNX model"):
        load_onnx(path)


def test_without_the_package(tmp_path: Path) -> None:
    path = saved(make([node("MatMul", "x m", "y")], {"m": M}, input=VECTOR), tmp_path)
    code = f"""
import sys
sys.modules["onnx"] = None
import drawbar
try:
    drawbar.plan({str(path)!r})
except drawbar.DrawbarError as error:
    print(error)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert "pip install 'drawbar[onnx]'" in result.stdout
