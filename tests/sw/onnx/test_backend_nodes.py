"""The node tests that the onnx package ships, of the operators on integers: those within what the
engine computes run, to the last bit; of each other one the error is asserted, which says why not.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx_files import expected, make, node, saved
from small_engines import ENGINES

import drawbar
from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import DrawbarError, FitError
from drawbar.gen.model_file import save_model
from drawbar.sw.onnx import load_onnx

OPERATORS = ("QLinearMatMul", "MatMulInteger", "QLinearConv", "ConvInteger")
WIDE, NARROW = ENGINES[:2]

#: Shipped tests that run: name, and whether also on the simulated board.
INSIDE = {
    "test_matmulinteger": True,
    "test_convinteger_without_padding": False,
    "test_convinteger_with_padding": True,
}
#: Shipped tests that do not, and the rule that says why: their scales are no powers of two.
SCALES = "scales whose product over the result's scale is a power of two"
OUTSIDE = {
    "test_qlinearconv": SCALES,
    **{
        f"test_qlinearmatmul_{rank}_{dtype}_{scale}": SCALES
        for rank in ("2D", "3D")
        for dtype in ("uint8", "int8")
        for scale in ("float32", "float16")
    },
}


@pytest.fixture(scope="module")
def shipped() -> dict[str, Any]:
    from onnx.backend.test.case import node as cases

    for kind in OPERATORS:
        import_module(f"{cases.__name__}.{kind.lower()}")
    # Its public function makes the tests of all operators, which takes ten seconds.
    return {case.name: case for case in cases._NodeTestCases}


def with_constants(case: Any) -> tuple[onnx.ModelProto, np.ndarray, np.ndarray]:
    """A shipped test with all inputs but the first one as constants, as they are in a network; its
    input and its expected output.
    """
    (inputs, (y,)) = case.data_sets[0]
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    for entry, values in zip(list(model.graph.input)[1:], inputs[1:], strict=True):
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), entry.name))
        model.graph.input.remove(entry)
    return model, np.asarray(inputs[0]), np.asarray(y)


def check(path: Path, x: np.ndarray, y: np.ndarray, config: EngineConfig, board: bool) -> None:
    """An artefact of this file gives these integers in the golden model, and on the board."""
    rows = x.reshape(len(x), -1)
    artefact = drawbar.compile(path, config, calibration=rows)
    assert artefact.output.fraction_bits == 0
    wanted = y.reshape(len(y), -1)
    assert np.array_equal(drawbar.golden(artefact, rows), wanted)
    if board:
        with drawbar.open("sim") as device:
            device.load(artefact)
            assert np.array_equal(device.run(rows), wanted)
            assert np.array_equal(device.run(rows[::-1].copy()), wanted[::-1])
            assert device.last_run is not None
            assert device.last_run.cycles == artefact.cycles


def test_every_shipped_test_is_listed(shipped: dict[str, Any]) -> None:
    assert {*shipped} == {*INSIDE, *OUTSIDE}


@pytest.mark.parametrize("name", INSIDE)
def test_inside(shipped: dict[str, Any], tmp_path: Path, name: str) -> None:
    model, x, y = with_constants(shipped[name])
    check(saved(model, tmp_path), x, y, WIDE, INSIDE[name])


@pytest.mark.parametrize("name", OUTSIDE)
def test_outside(shipped: dict[str, Any], tmp_path: Path, name: str) -> None:
    model, _, _ = with_constants(shipped[name])
    with pytest.raises(DrawbarError, match=r"node.*QLinear") as error:
        load_onnx(saved(model, tmp_path))
    assert OUTSIDE[name] in error.value.rule


# -- the same operators within what the engine computes --------------------------------------------


def qlinear_matmul(rng: np.random.Generator) -> tuple[onnx.ModelProto, np.ndarray]:
    constants = {
        "s": np.float32(0.5),
        "z": np.int8(0),
        "w": rng.integers(-128, 128, size=(20, 9)).astype(np.int8),
        "ws": np.float32(2**-6),
        "t": np.float32(4),
    }
    nodes = [node("QLinearMatMul", "x s z w ws z t z", "y")]
    model = make(nodes, constants, input=(("n", 20), np.int8))
    return model, rng.integers(-128, 128, size=(40, 20)).astype(np.int8)


def qlinear_matmul_by_column(rng: np.random.Generator) -> tuple[onnx.ModelProto, np.ndarray]:
    """A zero point of the input, and scales and zero points of each column."""
    constants = {
        "s": np.float32(0.5),
        "xz": np.int8(-3),
        "z": np.int8(0),
        "w": rng.integers(-15, 15, size=(11, 6)).astype(np.int8),
        "ws": (2.0 ** rng.integers(-6, -3, size=6)).astype(np.float32),
        "wz": rng.integers(-5, 5, size=6).astype(np.int8),
        "t": np.float32(1),
    }
    nodes = [node("QLinearMatMul", "x s xz w ws wz t z", "y")]
    model = make(nodes, constants, input=(("n", 11), np.int8))
    return model, rng.integers(-128, 128, size=(40, 11)).astype(np.int8)


def qlinear_conv(rng: np.random.Generator) -> tuple[onnx.ModelProto, np.ndarray]:
    constants = {
        "s": np.float32(0.125),
        "z": np.int8(0),
        "w": rng.integers(-128, 128, size=(4, 3, 3, 3)).astype(np.int8),
        "ws": np.float32(2**-7),
        "t": np.float32(0.25),
        "b": rng.integers(-9000, 9000, size=4).astype(np.int32),
    }
    nodes = [node("QLinearConv", "x s z w ws z t z b", "y", pads=[1, 0, 0, 1], strides=[1, 2])]
    model = make(nodes, constants, input=(("n", 3, 6, 7), np.int8))
    return model, rng.integers(-128, 128, size=(6, 3, 6, 7)).astype(np.int8)


def qlinear_conv_by_channel(rng: np.random.Generator) -> tuple[onnx.ModelProto, np.ndarray]:
    """Padding with a zero point other than 0, and a scale of each channel."""
    constants = {
        "s": np.float32(0.5),
        "xz": np.int8(7),
        "z": np.int8(0),
        "w": rng.integers(-30, 30, size=(5, 2, 3, 2)).astype(np.int8),
        "ws": (2.0 ** rng.integers(-6, -3, size=5)).astype(np.float32),
        "t": np.float32(1),
    }
    nodes = [node("QLinearConv", "x s xz w ws z t z", "y", pads=[1, 1, 1, 1], dilations=[2, 1])]
    model = make(nodes, constants, input=(("n", 2, 6, 5), np.int8))
    return model, rng.integers(-128, 128, size=(6, 2, 6, 5)).astype(np.int8)


def two_layers(rng: np.random.Generator) -> tuple[onnx.ModelProto, np.ndarray]:
    """Convolution, ReLU, maximum and product, all on integers."""
    constants = {
        "s": np.float32(0.25),
        "z": np.int8(0),
        "w": rng.integers(-100, 100, size=(4, 2, 3, 3)).astype(np.int8),
        "ws": np.float32(2**-8),
        "v": rng.integers(-100, 100, size=(16, 5)).astype(np.int8),
        "vs": np.float32(2**-8),
        "shape": np.array([0, -1]),
    }
    nodes = [
        node("QLinearConv", "x s z w ws z s z", "a"),
        node("Relu", "a", "r"),
        node("MaxPool", "r", "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("Reshape", "p shape", "f"),
        node("QLinearMatMul", "f s z v vs z s z", "y"),
    ]
    model = make(nodes, constants, input=(("n", 2, 6, 6), np.int8))
    return model, rng.integers(-128, 128, size=(5, 2, 6, 6)).astype(np.int8)


def dequantised(rng: np.random.Generator) -> tuple[onnx.ModelProto, np.ndarray]:
    """A float model between QuantizeLinear and DequantizeLinear, with a residual sum of two scales;
    real inputs and outputs.
    """
    eight, four = np.float32(2**-3), np.float32(2**-2)
    constants = {
        "z": np.int8(0),
        "s": eight,
        "t": four,
        "k": np.float32(2**-7),
        "i": rng.integers(-100, 100, size=(3, 2, 3, 3)).astype(np.int8),
        "b": rng.integers(-200, 200, size=3).astype(np.int32),
        "bs": np.float32(2**-10),
        "j": rng.integers(-100, 100, size=(3, 3, 1, 1)).astype(np.int8),
        "v": rng.integers(-100, 100, size=(12, 4)).astype(np.int8),
    }
    nodes = [
        node("QuantizeLinear", "x s z", "x8"),
        node("DequantizeLinear", "x8 s z", "xr"),
        node("DequantizeLinear", "i k", "ir"),
        node("DequantizeLinear", "b bs", "br"),
        node("Conv", "xr ir br", "a", pads=[1, 1, 1, 1]),
        node("Relu", "a", "ar"),
        node("QuantizeLinear", "ar s z", "a8"),
        node("DequantizeLinear", "a8 s z", "c"),
        node("DequantizeLinear", "j k", "jr"),
        node("Conv", "c jr", "d"),
        node("QuantizeLinear", "d t z", "d8"),
        node("DequantizeLinear", "d8 t z", "e"),
        node("Add", "e c", "f"),
        node("Relu", "f", "g"),
        node("QuantizeLinear", "g t z", "g8"),
        node("DequantizeLinear", "g8 t z", "h"),
        node("AveragePool", "h", "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("QuantizeLinear", "p s z", "p8"),
        node("DequantizeLinear", "p8 s z", "q"),
        node("Flatten", "q", "r"),
        node("DequantizeLinear", "v k", "vr"),
        node("MatMul", "r vr", "l"),
        node("QuantizeLinear", "l t z", "l8"),
        node("DequantizeLinear", "l8 t z", "y"),
    ]
    model = make(nodes, constants, input=(("n", 2, 4, 4), np.float32))
    return model, (6 * rng.normal(size=(12, 2, 4, 4))).astype(np.float32)


@pytest.mark.parametrize("board", [False, True])
def test_quantised_and_dequantised(board: bool, tmp_path: Path) -> None:
    model, x = dequantised(np.random.default_rng(4))
    y = expected(model, x)
    assert len(np.unique(y)) > 20
    path, rows = saved(model, tmp_path), x.reshape(len(x), -1)
    # The scales are the file's, whatever the calibration.
    artefact = drawbar.compile(path, NARROW, calibration=rows / 100)
    assert (artefact.input.fraction_bits, artefact.output.fraction_bits) == (3, 2)
    assert np.array_equal(drawbar.golden(artefact, rows), y)
    if board:
        with drawbar.open("sim") as device:
            device.load(artefact)
            assert np.array_equal(device.run(rows), y)
    # Each of its layers is what the file says, so none adds noise, but for its rounding.
    assert all(known is not None for known in load_onnx(path).quantised)


CASES = [
    (qlinear_matmul, True),
    (qlinear_matmul_by_column, False),
    (qlinear_conv, True),
    (qlinear_conv_by_channel, False),
    (two_layers, False),
]


@pytest.mark.parametrize(("case", "board"), CASES, ids=lambda v: getattr(v, "__name__", ""))
def test_powers_of_two(case: Any, board: bool, tmp_path: Path) -> None:
    model, x = case(np.random.default_rng(4))
    y = expected(model, x)
    # Some results are clipped, and not all.
    clipped = (np.abs(y.astype(int)) >= 127).mean()
    assert 0.001 < clipped < 0.6
    check(saved(model, tmp_path), x, y, NARROW, board)


def test_a_model_file_keeps_what_is_quantised(tmp_path: Path) -> None:
    model, x = two_layers(np.random.default_rng(4))
    path, copy = saved(model, tmp_path), tmp_path / "copy.safetensors"
    save_model(load_onnx(path), copy)
    x = x.reshape(len(x), -1)
    found, wanted = (drawbar.compile(p, NARROW, calibration=x) for p in (copy, path))
    assert np.array_equal(found.program, wanted.program)
    assert np.array_equal(found.cores, wanted.cores)
    assert found.buffers == wanted.buffers


def test_another_width_than_the_engines(tmp_path: Path) -> None:
    """A 16-bit engine does not clip to int8."""
    model, x = qlinear_matmul(np.random.default_rng(4))
    with pytest.raises(FitError, match=r"layer 'node_y'.*-128\.\.127"):
        drawbar.compile(saved(model, tmp_path), WIDE, calibration=x)


def test_unsigned_input_of_an_8_bit_engine(shipped: dict[str, Any], tmp_path: Path) -> None:
    model, x, _ = with_constants(shipped["test_matmulinteger"])
    with pytest.raises(FitError, match=r"input.*0\.\.255"):
        drawbar.compile(saved(model, tmp_path), NARROW, calibration=x)


def test_sums_that_do_not_fit(tmp_path: Path) -> None:
    """An int32 result that may exceed the engine's integers."""
    rng = np.random.default_rng(0)
    constants = {"w": rng.integers(100, 128, size=(20, 3)).astype(np.int8)}
    model = make(
        [node("MatMulInteger", "x w", "y")],
        constants,
        input=(("n", 20), np.int8),
        output=(("n", 3), np.int32),
    )
    x = np.zeros((3, 20), np.int8)
    with pytest.raises(FitError, match=r"layer 'node_y'.*-2147483648"):
        drawbar.compile(saved(model, tmp_path), WIDE, calibration=x)


def test_weights_that_a_core_does_not_hold(tmp_path: Path) -> None:
    """Unsigned weights above 127 on an 8-bit engine."""
    constants = {
        "s": np.float32(1),
        "z": np.int8(0),
        "w": np.full((4, 2), 201, np.uint8),
        "u": np.uint8(0),
        "t": np.float32(8),
    }
    model = make(
        [node("QLinearMatMul", "x s z w s u t z", "y")], constants, input=(("n", 4), np.int8)
    )
    with pytest.raises(FitError, match="integer weights that a core holds"):
        drawbar.compile(saved(model, tmp_path), NARROW, calibration=np.ones((2, 4)))
