"""Random quantised networks: the golden model gives the reference implementation's integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_files import expected, make, node, saved
from small_engines import ENGINES

import drawbar

CONFIG = ENGINES[1]
BLOCKS, EACH = 4, 8


class Network:
    """A file while it is drawn; ``at`` is the tensor so far, and ``relu`` says that it is not
    negative.
    """

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.shape = (2, int(self.rng.integers(5, 8)), int(self.rng.integers(5, 8)))
        self.input = self.shape
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {"z": np.int8(0), "one": np.float32(1)}
        self.at, self.relu = "x", False
        self.joined = 0

    def constant(self, value: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = value
        return name

    def add(self, kind: str, inputs: str, **attributes: object) -> None:
        made = f"t{len(self.nodes)}"
        self.nodes.append(node(kind, inputs, made, **attributes))
        self.at = made

    def weights(self, *shape: int) -> tuple[str, str, np.ndarray]:
        """Names of integers, and of a scale that keeps results within the range, mostly; scales of
        some layers differ by channel.
        """
        most = 30
        values = self.rng.integers(-most, most + 1, size=shape).astype(np.int8)
        sums = np.sqrt(np.prod(shape[1:])) * most * 40
        bits = -int(np.ceil(np.log2(sums / 90)))
        scale = np.full(shape[0], 2.0**bits, np.float32)
        if self.rng.random() < 0.5:
            scale *= 2.0 ** self.rng.integers(0, 2, size=shape[0])
        return self.constant(values), self.constant(scale), values

    def convolution(self) -> None:
        channels, height, width = self.shape
        rng = self.rng
        kernel = [int(rng.integers(1, 4)), int(rng.integers(1, 4))]
        stride = [int(n) for n in rng.integers(1, 3, size=2)]
        dilation = [int(n) for n in rng.integers(1, 3, size=2)]
        pads = [int(n) for n in rng.integers(0, 2, size=4)]
        made = [
            (n + pads[a] + pads[a + 2] - dilation[a] * (kernel[a] - 1) - 1) // stride[a] + 1
            for a, n in enumerate((height, width))
        ]
        if min(made) < 2:
            return
        outputs = int(rng.integers(2, 5))
        values, scale, _ = self.weights(outputs, channels, *kernel)
        zero = self.constant(np.int8(rng.integers(-9, 9))) if self.at == "x" else "z"
        bias = self.constant(rng.integers(-999, 999, size=outputs).astype(np.int32))
        self.add(
            "QLinearConv",
            f"{self.at} one {zero} {values} {scale} z one z {bias}",
            kernel_shape=kernel,
            strides=stride,
            dilations=dilation,
            pads=pads,
        )
        self.shape, self.relu = (outputs, *made), False

    def residual(self) -> None:
        """Through a convolution of one pixel, and past it."""
        before, shape = self.at, self.shape
        values, scale, _ = self.weights(shape[0], shape[0], 1, 1)
        self.add("QLinearConv", f"{before} one z {values} {scale} z one z")
        self.add("DequantizeLinear", f"{self.at} one z")
        side = self.at
        two = self.constant(np.float32(2))
        self.add("DequantizeLinear", f"{before} {two} z")
        self.add("Sub" if self.rng.random() < 0.3 else "Add", f"{side} {self.at}")
        self.add("QuantizeLinear", f"{self.at} {two} z")
        self.relu = False

    def concatenation(self) -> None:
        """A tensor beside what a convolution makes of it: integers as they are, or of two scales,
        rounded to one of them or to a third.
        """
        before, channels = self.at, self.shape[0]
        outputs = int(self.rng.integers(1, 4))
        values, scale, _ = self.weights(outputs, channels, 1, 1)
        own = self.constant(np.float32(self.rng.choice([0.5, 1, 2])))
        self.add("QLinearConv", f"{before} one z {values} {scale} z {own} z")
        parts = [before, self.at]
        plain = self.rng.random() < 0.3
        if not plain:
            for n, (part, unit) in enumerate(zip(list(parts), ("one", own), strict=True)):
                self.add("DequantizeLinear", f"{part} {unit} z")
                parts[n] = self.at
        if self.rng.random() < 0.5:
            parts.reverse()
        self.add("Concat", " ".join(parts), axis=1)
        if not plain:
            unit = self.constant(np.float32(self.rng.choice([0.5, 1, 2])))
            self.add("QuantizeLinear", f"{self.at} {unit} z")
        self.shape, self.relu = (channels + outputs, *self.shape[1:]), False
        self.joined += 1

    def step(self) -> None:
        kind = self.rng.choice(["convolution", "relu", "maximum", "residual", "concatenation"])
        if kind == "convolution":
            self.convolution()
        elif kind == "relu" and self.at != "x":
            self.add("Relu", self.at)
            self.relu = True
        elif kind == "maximum" and self.relu and min(self.shape[1:]) >= 2:
            self.add("MaxPool", self.at, kernel_shape=[2, 2], strides=[2, 1])
            channels, height, width = self.shape
            self.shape = (channels, (height - 2) // 2 + 1, width - 1)
        elif kind == "residual" and self.at != "x":
            self.residual()
        elif kind == "concatenation" and self.at != "x" and self.shape[0] <= 6:
            self.concatenation()

    def finish(self) -> onnx.ModelProto:
        if self.at == "x":
            self.convolution()
        self.add("Flatten", self.at)
        size = int(np.prod(self.shape))
        values, scale, array = self.weights(4, size)
        self.constants[values] = np.ascontiguousarray(array.T)
        self.add("QLinearMatMul", f"{self.at} one z {values} {scale} z one z")
        self.nodes[-1].output[0] = "y"
        return make(self.nodes, self.constants, input=(("n", *self.input), np.int8))


@pytest.mark.parametrize("block", range(BLOCKS))
def test_every_bit(block: int, tmp_path: Path) -> None:
    joined = 0
    for seed in range(block * EACH, (block + 1) * EACH):
        network = Network(seed)
        for _ in range(6):
            network.step()
        model = network.finish()
        x = network.rng.integers(-128, 128, size=(5, *network.input)).astype(np.int8)
        y = expected(model, x)
        rows = x.reshape(len(x), -1)
        artefact = drawbar.compile(saved(model, tmp_path), CONFIG, calibration=rows)
        found = drawbar.golden(artefact, rows)
        assert np.array_equal(found, y), seed
        joined += network.joined
    assert joined > 0
