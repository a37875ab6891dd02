"""Imported models compute what the reference implementation of the onnx package computes, and what
PyTorch exports becomes what PyTorch's own modules become.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_files import expected, make, node, saved

import drawbar
from drawbar.gen.network import Model
from drawbar.sw.onnx import load_onnx

RNG = np.random.default_rng(11)


def values(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


IMAGE = ("n", 3, 7, 6)
#: What it shows: shape of the input, nodes, constants.
CASES: dict[str, tuple[Sequence[int | str], list[onnx.NodeProto], dict[str, Any]]] = {
    "Gemm": (
        ("n", 5),
        [node("Gemm", "x w c", "y", alpha=0.5, beta=2.0)],
        {"w": values(5, 4), "c": values(4)},
    ),
    "Gemm, turned, one bias": (
        ("n", 5),
        [node("Gemm", "x w c", "y", transB=1)],
        {"w": values(4, 5), "c": values(1)},
    ),
    "MatMul, Add, Sub, Mul, Div": (
        ("n", 5),
        [
            node("MatMul", "x w", "a"),
            node("Add", "c a", "b"),
            node("Sub", "b d", "s"),
            node("Sub", "d s", "t"),
            node("Mul", "t m", "u"),
            node("Div", "u m2", "y"),
        ],
        {"w": values(5, 4), "c": values(1, 4), "d": values(4), "m": values(), "m2": values(4)},
    ),
    "weights that are computed": (
        ("n", 5),
        [
            node("Transpose", "w", "wt", perm=[1, 0]),
            node("Cast", "half", "b", to=1),
            node("MatMul", "x wt", "a"),
            node("Add", "a b", "y"),
        ],
        {"w": values(4, 5), "half": values(4).astype(np.float16)},
    ),
    "Conv": (
        IMAGE,
        [node("Conv", "x w b", "y", pads=[1, 2, 1, 2], strides=[2, 1], dilations=[1, 2])],
        {"w": values(4, 3, 3, 2), "b": values(4)},
    ),
    "Conv, more zeros on one side": (
        IMAGE,
        [node("Conv", "x w", "y", pads=[0, 1, 2, 0])],
        {"w": values(4, 3, 3, 3)},
    ),
    "Conv, SAME_UPPER": (
        IMAGE,
        [node("Conv", "x w", "y", auto_pad="SAME_UPPER", strides=[2, 2])],
        {"w": values(4, 3, 4, 3)},
    ),
    "Conv, SAME_LOWER": (
        IMAGE,
        [node("Conv", "x w", "y", auto_pad="SAME_LOWER")],
        {"w": values(2, 3, 2, 2)},
    ),
    "Conv, Mul, Add, Clip": (
        IMAGE,
        [
            node("Conv", "x w", "a", auto_pad="VALID"),
            node("Mul", "a m", "b"),
            node("Add", "b c", "d"),
            node("Clip", "d zero", "y"),
        ],
        {"w": values(4, 3, 3, 3), "m": values(4, 1, 1), "c": values(1, 4, 1, 1), "zero": 0.0},
    ),
    "BatchNormalization": (
        IMAGE,
        [
            node("Conv", "x w", "a"),
            node("BatchNormalization", "a s b m v", "c", epsilon=0.1),
            node("Relu", "c", "y"),
        ],
        {
            "w": values(4, 3, 3, 3),
            "s": values(4),
            "b": values(4),
            "m": values(4),
            "v": np.abs(values(4)),
        },
    ),
    "normalised input, norm of a sum": (
        IMAGE,
        [
            node("Sub", "x m", "a"),
            node("Div", "a d", "b"),
            node("Conv", "b w", "c"),
            node("Relu", "c", "e"),
            node("Conv", "b v", "f"),
            node("Add", "e f", "g"),
            node("BatchNormalization", "g s t u q", "h"),
            node("Relu", "h", "y"),
        ],
        {
            "m": values(3, 1, 1),
            "d": np.float32(2.5),
            "w": values(4, 3, 3, 3),
            "v": values(4, 3, 3, 3),
            "s": values(4),
            "t": values(4),
            "u": values(4),
            "q": np.abs(values(4)),
        },
    ),
    "residual": (
        IMAGE,
        [
            node("Conv", "x w", "a", pads=[1, 1, 1, 1]),
            node("Relu", "a", "r"),
            node("Conv", "r v", "b", pads=[1, 1, 1, 1]),
            node("Sub", "b r", "s"),
            node("Add", "s s", "t"),
            node("Relu", "t", "y"),
        ],
        {"w": values(4, 3, 3, 3), "v": values(4, 4, 3, 3)},
    ),
    "MaxPool": (
        IMAGE,
        [node("MaxPool", "x", "y", kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1)],
        {},
    ),
    "AveragePool": (
        IMAGE,
        [
            node(
                "AveragePool",
                "x",
                "y",
                kernel_shape=[3, 2],
                pads=[1, 1, 1, 1],
                count_include_pad=1,
            )
        ],
        {},
    ),
    "GlobalAveragePool, Conv of one pixel, Squeeze": (
        IMAGE,
        [
            node("GlobalAveragePool", "x", "a"),
            node("Conv", "a w b", "c"),
            node("Squeeze", "c axes", "y"),
        ],
        {"w": values(5, 3, 1, 1), "b": values(5), "axes": np.array([2, 3])},
    ),
    "ReduceMean, Gemm": (
        IMAGE,
        [node("ReduceMean", "x axes", "a", keepdims=0), node("Gemm", "a w", "y")],
        {"w": values(3, 2), "axes": np.array([-2, -1])},
    ),
    "Flatten, Dropout, Identity": (
        IMAGE,
        [
            node("Flatten", "x", "a"),
            node("Dropout", "a", "b"),
            node("Identity", "b", "c"),
            node("MatMul", "c w", "y"),
        ],
        {"w": values(126, 3)},
    ),
    "Reshape to a shape that is computed": (
        IMAGE,
        [
            node("Conv", "x v", "i"),
            node("Shape", "i", "s"),
            node("Gather", "s zero", "n"),
            node("Unsqueeze", "n zero1", "n1"),
            node("Concat", "n1 rest", "shape", axis=0),
            node("Reshape", "i shape", "f"),
            node("MatMul", "f w", "y"),
        ],
        {
            "v": values(2, 3, 1, 1),
            "w": values(84, 3),
            "zero": np.array(0),
            "zero1": np.array([0]),
            "rest": np.array([-1]),
        },
    ),
    "Reshape of the input to an image": (
        ("n", 24),
        [node("Reshape", "x shape", "i"), node("Conv", "i w", "y")],
        {"shape": np.array([0, 2, 4, -1]), "w": values(3, 2, 2, 2)},
    ),
    "Concat": (
        IMAGE,
        [
            node("Conv", "x w", "a"),
            node("Conv", "x v", "b"),
            node("Concat", "a b a", "c", axis=1),
            node("Conv", "c u", "y"),
        ],
        {"w": values(2, 3, 2, 2), "v": values(3, 3, 2, 2), "u": values(2, 7, 1, 1)},
    ),
    "MaxPool with more zeros on one side": (
        IMAGE,
        [
            node("Conv", "x w", "a"),
            node("Relu", "a", "b"),
            node("MaxPool", "b", "y", kernel_shape=[3, 2], pads=[1, 0, 0, 1], strides=[1, 2]),
        ],
        {"w": values(2, 3, 2, 2)},
    ),
    "Concat of vectors": (
        ("n", 5),
        [
            node("MatMul", "x w", "a"),
            node("Relu", "a", "r"),
            node("Concat", "r x", "b", axis=-1),
            node("MatMul", "b v", "c"),
            node("Concat", "c b", "y", axis=1),
        ],
        {"w": values(5, 4), "v": values(9, 2)},
    ),
    "Slice, Pad": (
        IMAGE,
        [
            node("Slice", "x starts ends axes steps", "s"),
            node("Slice", "s one two three", "a"),
            node("Pad", "a pads", "b"),
            node("Conv", "b w", "y"),
        ],
        {
            "starts": np.array([0, 1]),
            "ends": np.array([9, 6]),
            "axes": np.array([2, 3]),
            "steps": np.array([2, 2]),
            "one": np.array([1]),
            "two": np.array([-1]),
            "three": np.array([2]),
            "pads": np.array([0, 1, 0, 0, 0, 2, 0, 0]),
            "w": values(2, 6, 2, 2),
        },
    ),
    "Constant": (
        ("n", 5),
        [
            node("Constant", "", "w", value=onnx.numpy_helper.from_array(values(5, 2))),
            node("MatMul", "x w", "y"),
        ],
        {},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_computes_what_the_reference_computes(name: str, tmp_path: Path) -> None:
    shape, nodes, constants = CASES[name]
    made = make(nodes, constants, input=(shape, np.float32))
    x = values(3, *(int(n) for n in shape[1:]))
    y = expected(made, x)
    model = load_onnx(saved(made, tmp_path))
    found = model.forward(x.reshape(3, -1).astype(np.float64))
    np.testing.assert_allclose(found, y, rtol=0, atol=1e-5 * np.abs(y).max())


NORMS = "normalised input, norm of a sum"
#: Cases that are also run on the golden model, as quantised programs.
GOLDEN = (
    "Conv, more zeros on one side",
    "Conv, SAME_UPPER",
    "Concat",
    "Concat of vectors",
    "MaxPool with more zeros on one side",
    "residual",
    "Slice, Pad",
    NORMS,
)


@pytest.mark.parametrize("name", GOLDEN)
def test_programs_are_close(name: str, tmp_path: Path) -> None:
    shape, nodes, constants = CASES[name]
    made = make(nodes, constants, input=(shape, np.float32))
    x = values(16, *(int(n) for n in shape[1:]))
    y = expected(made, x)
    artefact = drawbar.compile(saved(made, tmp_path), "small", calibration=x)
    found = drawbar.golden(artefact, x.reshape(16, -1))
    np.testing.assert_allclose(found, y, rtol=0, atol=1e-3 * np.abs(y).max())


# -- the same graphs as PyTorch's own modules ------------------------------------------------------


def torch_models() -> dict[str, Any]:
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 4, 3, padding=1, stride=2)
            self.norm = nn.BatchNorm2d(4)
            self.second = nn.Conv2d(4, 4, 3, padding=1, bias=False)
            self.fc = nn.Linear(4, 5)

        def forward(self, x: Any) -> Any:
            x = torch.relu(self.norm(self.first(x)))
            y = torch.relu(self.second(x) + x)
            y = nn.functional.adaptive_avg_pool2d(y, 1)
            return self.fc(torch.flatten(y, 1))

    lenet = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(36, 6),
        nn.ReLU(),
        nn.Linear(6, 4),
    )
    return {"lenet": lenet, "block": Block()}


def structure(model: Model) -> Any:
    """All but names and numbers."""
    layers = [
        (
            layer.format,
            dict(layer.sizes),
            [core.indices for core in layer.cores],
            layer.input,
            layer.output,
            layer.bias is None,
            layer.activation,
            dict(layer.windows),
            layer.bias_over,
            layer.keeps_scale,
        )
        for layer in model.layers
    ]
    return layers, model.sources, model.shapes


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["lenet", "block"])
def test_the_same_graph_as_from_pytorch(name: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from drawbar.sw.compress import lower

    torch.manual_seed(3)
    module = torch_models()[name].eval()
    path = tmp_path / "exported.onnx"
    torch.onnx.export(
        module,
        (torch.zeros(1, 3, 8, 8),),
        str(path),
        dynamo=False,
        input_names=["x"],
        dynamic_axes={"x": {0: "n"}},
    )
    wanted, found = lower(module, input_shape=(3, 8, 8)), load_onnx(path)
    assert structure(found) == structure(wanted)
    x = np.random.default_rng(1).normal(size=(4, 192))
    y = wanted.forward(x)
    np.testing.assert_allclose(found.forward(x), y, rtol=0, atol=1e-6 * np.abs(y).max())
