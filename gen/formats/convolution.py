"""Layers of images: convolutions of any cores, pooling, sums, slices. All are networks of small
cores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from drawbar.gen.network import ContractionNetwork, Core, Window

Pair = tuple[int, int]

#: Names of the indices of an image's rows and columns, as a layer reads and writes them, and taps.
ROWS, COLUMNS = "h", "w"
OUT_ROWS, OUT_COLUMNS = "oh", "ow"
TAPS = ("kh", "kw")


def output_size(
    shape: Pair,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    after: Pair | None = None,
) -> Pair:
    """Height and width of what a window makes of an image; ``after`` is the padding below and to
    the right, where it is not that above and to the left.
    """
    sides = zip(padding, after or padding, strict=True)
    height, width = (
        (n + p + q - d * (k - 1) - 1) // s + 1
        for n, k, s, (p, q), d in zip(shape, kernel, stride, sides, dilation, strict=True)
    )
    return height, width


def convolution_network(
    name: str,
    format: str,
    *,
    sizes: Mapping[str, int],
    cores: Sequence[Core],
    input: Sequence[str],
    output: Sequence[str],
    shape: Pair,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    after: Pair | None = None,
    dilation: Pair = (1, 1),
    bias: np.ndarray | None = None,
    activation: str = "none",
    ranks: tuple[int, ...] = (),
) -> ContractionNetwork:
    """A convolution whose kernel is given by cores.

    Arguments
    ---------
    sizes, cores:
        Of channels, bonds, and the taps ``TAPS``.
    input, output:
        Indices that factor the input and the output channels.
    shape:
        Height and width of the image.
    padding, after:
        Zeros in front of the image along each axis, and behind it: without ``after`` as many.
    bias:
        One for each output channel.
    """
    kernel = (sizes[TAPS[0]], sizes[TAPS[1]])
    made = output_size(shape, kernel, stride, padding, dilation, after)
    windows = {}
    for index, out, tap, s, p, d in zip(
        (ROWS, COLUMNS), (OUT_ROWS, OUT_COLUMNS), TAPS, stride, padding, dilation, strict=True
    ):
        windows[index] = Window(((out, s), (tap, d)), p)
    grown = {ROWS: shape[0], COLUMNS: shape[1], OUT_ROWS: made[0], OUT_COLUMNS: made[1]}
    return ContractionNetwork(
        name=name,
        format=format,
        sizes={**sizes, **grown},
        cores=tuple(cores),
        input=(*input, ROWS, COLUMNS),
        output=(*output, OUT_ROWS, OUT_COLUMNS),
        bias=bias,
        activation=activation,
        ranks=ranks,
        windows=windows,
        bias_over=tuple(output),
    )


def dense_convolution(
    name: str,
    weight: np.ndarray,
    *,
    shape: Pair,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    after: Pair | None = None,
    dilation: Pair = (1, 1),
    bias: np.ndarray | None = None,
    activation: str = "none",
) -> ContractionNetwork:
    """``weight`` is ``(outputs, inputs, height, width)``."""
    outputs, inputs, height, width = weight.shape
    return convolution_network(
        name,
        "dense",
        sizes={"m": outputs, "n": inputs, TAPS[0]: height, TAPS[1]: width},
        cores=(Core(("m", "n", *TAPS), np.asarray(weight, np.float64)),),
        input=("n",),
        output=("m",),
        shape=shape,
        stride=stride,
        padding=padding,
        after=after,
        dilation=dilation,
        bias=bias,
        activation=activation,
    )


def average_network(
    name: str,
    channels: int,
    *,
    shape: Pair,
    kernel: Pair,
    stride: Pair,
    padding: Pair = (0, 0),
) -> ContractionNetwork:
    """The average over windows of each channel; zeros around the image count."""
    made = output_size(shape, kernel, stride, padding, (1, 1))
    windows = {}
    for index, out, tap, s, p in zip(
        (ROWS, COLUMNS), (OUT_ROWS, OUT_COLUMNS), TAPS, stride, padding, strict=True
    ):
        windows[index] = Window(((out, s), (tap, 1)), p)
    return ContractionNetwork(
        name=name,
        format="average",
        sizes={
            "c": channels,
            ROWS: shape[0],
            COLUMNS: shape[1],
            OUT_ROWS: made[0],
            OUT_COLUMNS: made[1],
            TAPS[0]: kernel[0],
            TAPS[1]: kernel[1],
        },
        cores=(Core(TAPS, np.full(kernel, 1 / prod(kernel))),),
        input=("c", ROWS, COLUMNS),
        output=("c", OUT_ROWS, OUT_COLUMNS),
        windows=windows,
    )


def global_average(name: str, channels: int, shape: Pair) -> ContractionNetwork:
    """The average of each channel: an image to a feature vector."""
    return ContractionNetwork(
        name=name,
        format="average",
        sizes={"c": channels, ROWS: shape[0], COLUMNS: shape[1]},
        cores=(Core((ROWS, COLUMNS), np.full(shape, 1 / prod(shape))),),
        input=("c", ROWS, COLUMNS),
        output=("c",),
    )


def sum_network(
    name: str,
    shape: Sequence[int],
    weights: Sequence[float] = (1.0, 1.0),
    *,
    activation: str = "none",
    keeps_scale: bool = False,
    format: str = "sum",
) -> ContractionNetwork:
    """The weighted sum of as many tensors of a shape as there are weights."""
    axes = tuple(f"a{n}" for n in range(len(shape)))
    branch = () if len(weights) == 1 else ("branch",)
    branches = {"branch": len(weights)} if branch else {}
    values = np.array(weights if branch else weights[0], np.float64)
    return ContractionNetwork(
        name=name,
        format=format,
        sizes={
            **branches,
            **dict(zip(axes, shape, strict=True)),
        },
        cores=(Core(branch, values),),
        input=(*branch, *axes),
        output=axes,
        activation=activation,
        keeps_scale=keeps_scale,
    )


def padded_network(
    name: str, shape: tuple[int, int, int], before: Pair, after: Pair
) -> ContractionNetwork:
    """An image with zeros above and to the left, and below and to the right."""
    channels, *size = shape
    windows = {}
    made = []
    for index, out, n, p, q in zip(
        (ROWS, COLUMNS), (OUT_ROWS, OUT_COLUMNS), size, before, after, strict=True
    ):
        windows[index] = Window(((out, 1),), p)
        made.append(n + p + q)
    sizes = {"c": channels, ROWS: size[0], COLUMNS: size[1]}
    return ContractionNetwork(
        name=name,
        format="pad",
        sizes={**sizes, OUT_ROWS: made[0], OUT_COLUMNS: made[1]},
        cores=(Core((), np.array(1.0)),),
        input=("c", ROWS, COLUMNS),
        output=("c", OUT_ROWS, OUT_COLUMNS),
        windows=windows,
        keeps_scale=True,
    )


def joined_network(name: str, shape: Sequence[int]) -> ContractionNetwork:
    """Tensors one behind the other along their first axis; ``shape`` is that of the whole."""
    whole = sum_network(name, shape, (1.0,), keeps_scale=True, format="concatenation")
    return replace(whole, joined=True)


def channels_network(
    name: str, inputs: int, outputs: int, before: int, shape: Pair
) -> ContractionNetwork:
    """Channels with ``before`` zero channels in front and more behind, ``outputs`` in all."""
    chosen = np.zeros((outputs, inputs))
    chosen[before + np.arange(inputs), np.arange(inputs)] = 1
    return ContractionNetwork(
        name=name,
        format="pad",
        sizes={"m": outputs, "n": inputs, ROWS: shape[0], COLUMNS: shape[1]},
        cores=(Core(("m", "n"), chosen),),
        input=("n", ROWS, COLUMNS),
        output=("m", ROWS, COLUMNS),
        keeps_scale=True,
    )
