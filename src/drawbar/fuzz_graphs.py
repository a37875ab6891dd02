"""Random graphs of image layers, for the fuzzer: convolutions, sums, concatenations, averages,
maxima.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np

from drawbar.gen.formats.convolution import (
    TAPS,
    average_network,
    convolution_network,
    dense_convolution,
    global_average,
    joined_network,
    output_size,
    sum_network,
)
from drawbar.gen.network import ContractionNetwork, Core, Model, Source


def _pair(rng: random.Random, choices: Sequence[int]) -> tuple[int, int]:
    return rng.choice(choices), rng.choice(choices)


def random_convolution(
    rng: random.Random, name: str, channels: int, shape: tuple[int, int]
) -> ContractionNetwork:
    """Kernels of 1 to 5, strides of 1 to 3, padding, dilation; dense, in three cores, or with the
    kernel's rows and columns in cores of their own.
    """
    values = np.random.default_rng(rng.getrandbits(32))
    while True:
        kernel, stride = _pair(rng, (1, 2, 3, 3, 4, 5)), _pair(rng, (1, 1, 1, 2, 3))
        padding, dilation = _pair(rng, (0, 1, 1, 2)), _pair(rng, (1, 1, 2))
        if min(output_size(shape, kernel, stride, padding, dilation)) >= 1:
            break
    outputs = rng.randint(1, 9)
    geometry = {"shape": shape, "stride": stride, "padding": padding, "dilation": dilation}
    bias = values.standard_normal(outputs) * 0.3 if rng.random() < 0.6 else None
    activation = rng.choice(("none", "relu"))
    fan = np.sqrt(channels * kernel[0] * kernel[1])
    form = rng.choice(("dense", "three", "separable"))
    if form == "dense":
        weight = values.standard_normal((outputs, channels, *kernel)) / fan
        return dense_convolution(name, weight, bias=bias, activation=activation, **geometry)
    rank = rng.randint(1, 4)
    sizes = {"m": outputs, "n": channels, "r": rank, "s": rank}
    sizes |= dict(zip(TAPS, kernel, strict=True))
    shapes: list[tuple[str, ...]] = [("m", "r"), ("r", *TAPS, "s"), ("s", "n")]
    if form == "separable":
        del sizes["s"]
        shapes = [("m", "r"), ("r", TAPS[0]), ("r", TAPS[1]), ("r", "n")]
    cores = [
        Core(indices, values.standard_normal([sizes[i] for i in indices]) / fan ** (1 / 3))
        for indices in shapes
    ]
    return convolution_network(
        name,
        form,
        sizes=sizes,
        cores=cores,
        input=("n",),
        output=("m",),
        bias=bias,
        activation=activation,
        **geometry,
    )


def made_shape(layer: ContractionNetwork) -> tuple[int, int, int]:
    """Channels, height and width of what a convolution makes."""
    channels = layer.outputs
    height, width = (layer.sizes[i] for i in layer.output[-2:])
    return channels // (height * width), height, width


def _concatenation(
    rng: random.Random, add: Callable[..., int], shapes: Sequence[tuple[int, ...]], before: int
) -> int:
    """An image joined with what layers make of it, and now and then with another one of its size,
    or with itself; at times twice, as in DenseNet.
    """
    found = before
    for number in range(rng.choice((1, 1, 2))):
        channels, height, width = shapes[found]
        values = np.random.default_rng(rng.getrandbits(32))
        parts = [found]
        for branch in range(rng.choice((1, 1, 2))):
            name, outputs = f"branch{number}.{branch}", rng.randint(1, 5)
            kernel = rng.choice((1, 3, 3))
            weight = values.standard_normal((outputs, channels, kernel, kernel))
            layer = dense_convolution(
                name,
                # Parts of other sizes of values: they have one scale all the same.
                weight * rng.choice((0.1, 1.0, 1.0)) / np.sqrt(channels * kernel**2),
                shape=(height, width),
                padding=(kernel // 2, kernel // 2),
                activation=rng.choice(("none", "relu")),
            )
            parts.append(add(layer, made_shape(layer), found))
        others = [t for t, shape in enumerate(shapes) if shape[-2:] == (height, width)]
        if rng.random() < 0.3:
            parts.append(rng.choice(others))
        rng.shuffle(parts)
        made = (sum(shapes[t][0] for t in parts), height, width)
        found = add(joined_network(f"joined{number}", made), made, *parts)
    return found


def random_graph(rng: random.Random, *, most: int = 10, joined: float = 0.3) -> Model:
    """One or two convolutions, now and then with a skip, a concatenation, an average or a flat
    layer behind.

    Arguments
    ---------
    most:
        Rows and columns of the input at most.
    joined:
        How often there is a concatenation.
    """
    shape = (rng.randint(1, 5), rng.randint(5, most), rng.randint(5, most))
    shapes: list[tuple[int, ...]] = [shape]
    layers: list[ContractionNetwork] = []
    sources: list[tuple[Source, ...]] = []

    def add(layer: ContractionNetwork, made: tuple[int, ...], *tensors: int) -> int:
        layers.append(layer)
        sources.append(tuple(Source(t) for t in tensors))
        shapes.append(made)
        return len(layers)

    at = 0
    for number in range(rng.choice((1, 1, 2))):
        channels, *size = shapes[at]
        layer = random_convolution(rng, f"conv{number}", channels, (size[0], size[1]))
        at = add(layer, made_shape(layer), at)
    if len(shapes[at]) == 3 and rng.random() < 0.4:
        # A skip around a 3 x 3 convolution.
        channels, *size = shapes[at]
        values = np.random.default_rng(rng.getrandbits(32))
        weight = values.standard_normal((channels, channels, 3, 3)) / np.sqrt(9 * channels)
        inside = dense_convolution("inside", weight, shape=(size[0], size[1]), padding=(1, 1))
        before = at
        at = add(inside, shapes[before], before)
        weights = (1.0, rng.choice((1.0, 1.0, 0.5)))
        total = sum_network("sum", shapes[at], weights, activation=rng.choice(("none", "relu")))
        at = add(total, shapes[at], *rng.choice(((at, before), (before, at))))
    if rng.random() < joined:
        at = _concatenation(rng, add, shapes, at)
    channels, *size = shapes[at]
    ending = rng.choice(("none", "average", "windows", "maximum", "flat"))
    if ending == "average" and size != [1, 1]:
        at = add(global_average("average", channels, (size[0], size[1])), (channels,), at)
    elif ending == "windows" and min(size) >= 2:
        layer = average_network(
            "windows", channels, shape=(size[0], size[1]), kernel=(2, 2), stride=(2, 2)
        )
        at = add(layer, made_shape(layer), at)
    elif ending == "maximum" and size[1] >= 2:
        # Of pairs along a row: relu(a - b) + b.
        made = (channels, size[0], size[1] // 2)
        pair = [Source(at, (0, 0, n), (1, 1, 2)) for n in (0, 1)]
        for name, weights, own in (
            ("excess", (1.0, -1.0), pair),
            ("maximum", (1.0, 1.0), [Source(len(layers) + 1), pair[1]]),
        ):
            activation = "relu" if name == "excess" else "none"
            layers.append(sum_network(name, made, weights, activation=activation, keeps_scale=True))
            sources.append(tuple(own))
            shapes.append(made)
    elif ending == "flat":
        values = np.random.default_rng(rng.getrandbits(32))
        weight = values.standard_normal((7, int(np.prod(shapes[at])))) / np.sqrt(layers[-1].outputs)
        flat = ContractionNetwork(
            "flat",
            "dense",
            {"m": 7, "n": weight.shape[1]},
            (Core(("m", "n"), weight),),
            ("n",),
            ("m",),
            bias=values.standard_normal(7),
        )
        at = add(flat, (7,), at)
    return Model("graph", tuple(layers), tuple(sources), tuple(shapes))
