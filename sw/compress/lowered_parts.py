"""What nodes of a model become in a graph of layers, whatever file or framework they come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from drawbar.gen.errors import NetworkError
from drawbar.gen.formats.convolution import (
    average_network,
    channels_network,
    dense_convolution,
    global_average,
    padded_network,
    sum_network,
)
from drawbar.gen.network import ContractionNetwork
from drawbar.sw.compress.lowered import Graph, Value

Pair = tuple[int, int]


@dataclass(frozen=True)
class Node:
    """A node of a model.

    Members
    -------
    graph:
        What it becomes a part of.
    where, name:
        Where it is, for errors; what its layer is called.
    """

    graph: Graph
    where: str
    name: str

    def refuse(self, rule: str, found: object, fix: str) -> NetworkError:
        return NetworkError(self.where, rule, found, fix)

    def image(self, value: Value) -> tuple[Value, tuple[int, int, int]]:
        """An image that it is given, whole, and its shape."""
        if value.shape is None or len(value.shape) != 3:
            raise self.refuse(
                "reads an image of a known shape (channels, height, width)",
                "no shape" if value.shape is None else value.shape,
                "say the shape: begin a PyTorch model with nn.Unflatten, or give input_shape",
            )
        value = self.graph.whole(value, f"{self.name}.source")
        assert value.shape is not None
        channels, height, width = value.shape
        return value, (channels, height, width)


def _shape_of(network: ContractionNetwork) -> tuple[int, int, int]:
    height, width = (network.sizes[i] for i in network.output[-2:])
    return prod(network.modes_out[:-2]), height, width


def linear(node: Node, value: Value, network: ContractionNetwork) -> Value:
    """A layer of feature vectors."""
    value = node.graph.whole(value, f"{node.name}.source")
    if value.shape is not None and len(value.shape) == 3 and value.shape[1:] != (1, 1):
        raise node.refuse("reads a feature vector", value.shape, "flatten the image before it")
    return node.graph.add(network, [value], (network.outputs,))


def convolution(
    node: Node, value: Value, channels: int, make: Callable[[Pair], ContractionNetwork]
) -> Value:
    """A convolution of ``channels`` channels; ``make`` gives its network for a height and width."""
    value, (found, height, width) = node.image(value)
    if found != channels:
        raise node.refuse(f"reads {channels} channels", f"{found} channels", "make the sizes agree")
    network = make((height, width))
    made = _shape_of(network)
    if min(made) < 1:
        raise node.refuse("makes an image", made, "use a smaller kernel, or more padding")
    return node.graph.add(network, [value], made)


def add(
    node: Node,
    values: Sequence[Value],
    weights: Sequence[float] = (1.0, 1.0),
    *,
    activation: str = "none",
) -> Value:
    """The weighted sum of two tensors of one shape."""
    first, second = values
    if first.shape != second.shape or first.shape is None:
        raise node.refuse(
            "adds tensors of one shape", f"{first.shape} and {second.shape}", "make them equal"
        )
    graph = node.graph
    whole = [graph.whole(v, f"{node.name}.source{n}") for n, v in enumerate(values)]
    if whole[0] == whole[1]:
        whole, weights = whole[:1], [sum(weights)]
    network = sum_network(node.name, first.shape, weights, activation=activation)
    return graph.add(network, whole, first.shape)


def affine(node: Node, value: Value, factor: np.ndarray, offset: np.ndarray) -> Value:
    """Each channel times a factor and plus an offset: into the layer before where that can take it,
    else a layer of its own.
    """
    graph = node.graph
    if graph.takes_scale(value, len(factor)):
        return graph.scale(value, factor, offset, node.where)
    value, (channels, height, width) = node.image(value)
    if len(factor) != channels:
        raise node.refuse(f"has {channels} numbers", len(factor), "give one for each channel")
    network = dense_convolution(
        node.name, np.diag(factor)[:, :, None, None], shape=(height, width), bias=offset
    )
    return graph.add(replace(network, format="scale"), [value], (channels, height, width))


def max_pool(
    node: Node,
    value: Value,
    kernel: Pair,
    stride: Pair,
    before: Pair = (0, 0),
    after: Pair | None = None,
) -> Value:
    """The maximum over windows: along rows, then along columns. Where they reach beyond the image,
    ``before`` and ``after`` it, there is nothing that could be the greatest: zeros, where no value
    is below 0.
    """
    value, shape = node.image(value)
    below, after = value.tensor, before if after is None else after
    if before != (0, 0) or after != (0, 0):
        if not node.graph.positive(value.tensor):
            raise node.refuse(
                "reaches beyond an image only where no value of it is below 0",
                f"padding {before} and {after} of what no ReLU has made",
                "put the ReLU before the maximum, which commutes with it, or use padding=0",
            )
        padded = padded_network(f"{node.name}.pad", shape, before, after)
        made = (shape[0], *(n + p + q for n, p, q in zip(shape[1:], before, after, strict=True)))
        value = node.graph.add(padded, [value], made)
    for axis in (2, 1):
        value = _max_along(node, value, axis, kernel[axis - 1], stride[axis - 1])
    if value.tensor != below:
        node.graph.maxima[value.tensor] = below
    return value


def _max_along(node: Node, value: Value, axis: int, kernel: int, stride: int) -> Value:
    """The maximum over windows of one axis, tap by tap: ``max(a, b) = relu(a - b) + b``."""
    assert value.shape is not None
    shape = list(value.shape)
    shape[axis] = (shape[axis] - kernel) // stride + 1
    if shape[axis] < 1:
        raise node.refuse("has windows within the image", value.shape, "use a smaller kernel")
    steps = tuple(stride if n == axis else 1 for n in range(3))

    def tap(number: int) -> Value:
        starts = tuple(number if n == axis else 0 for n in range(3))
        return Value(value.tensor, tuple(shape), starts, steps)

    found = tap(0)
    name = f"{node.name}.{'chw'[axis]}"
    for number in range(1, kernel):
        other = tap(number)
        part = sum_network(
            f"{name}{number}.excess", shape, (1.0, -1.0), activation="relu", keeps_scale=True
        )
        excess = node.graph.add(part, [found, other], shape)
        whole = sum_network(f"{name}{number}", shape, (1.0, 1.0), keeps_scale=True)
        found = node.graph.add(whole, [excess, other], shape)
    return value if kernel == 1 and stride == 1 else node.graph.whole(found, name)


def average_pool(node: Node, value: Value, kernel: Pair, stride: Pair, padding: Pair) -> Value:
    """The average over windows; zeros around the image count."""
    value, (channels, height, width) = node.image(value)
    if kernel == (height, width) and padding == (0, 0):
        return average_image(node, value)
    network = average_network(
        node.name, channels, shape=(height, width), kernel=kernel, stride=stride, padding=padding
    )
    made = _shape_of(network)
    if min(made) < 1:
        raise node.refuse("has windows within the image", value.shape, "use a smaller kernel")
    return node.graph.add(network, [value], made)


def average_image(node: Node, value: Value) -> Value:
    """The average of each channel."""
    value, (channels, height, width) = node.image(value)
    network = global_average(node.name, channels, (height, width))
    return node.graph.add(network, [value], (channels,))


def concatenate(node: Node, values: Sequence[Value], axis: int) -> Value:
    """Tensors one behind the other: images along their channels, or feature vectors. ``axis``
    counts the batch.
    """
    graph = node.graph
    if not values:
        raise node.refuse("joins some tensors", "none", "give it some")
    shapes = [_known_shape(graph, value) for value in values]
    text = ", ".join(map(str, shapes))
    if None in shapes:
        raise node.refuse(
            "joins tensors of known shapes", text, "give input_shape, or begin with nn.Unflatten"
        )
    own = [shape for shape in shapes if shape is not None]
    images = all(len(s) == 3 and s[1:] == own[0][1:] for s in own)
    vectors = all(len(s) == 1 for s in own)
    # Where pooling has left a vector of an image's channels, these may be counted from the end.
    axes = (1, -3) if images else (1, -1, -3)
    if axis not in axes or not (images or vectors):
        raise node.refuse(
            "joins the channels of images of one height and width, or feature vectors (axis 1)",
            f"axis {axis}, shapes {text} without the batch",
            "join along axis 1, or flatten the images before it",
        )
    tensors = []
    for number, (value, shape) in enumerate(zip(values, own, strict=True)):
        if graph.shapes[value.tensor] is None:
            graph.shapes[value.tensor] = shape
        value = graph.whole(replace(value, shape=shape), f"{node.name}.source{number}")
        if graph.shapes[value.tensor] != shape:
            # An image as a vector; the model's input in the scale of the others.
            below = graph.shapes[value.tensor]
            assert below is not None
            own_scale = value.tensor > 0
            copy = sum_network(
                f"{node.name}.flat{number}", below, (1.0,), keeps_scale=own_scale, format="copy"
            )
            value = graph.add(copy, [Value(value.tensor, below)], shape)
        tensors.append(value.tensor)
    return graph.join(tensors, node.name) if len(tensors) > 1 else Value(tensors[0], own[0])


def _known_shape(graph: Graph, value: Value) -> tuple[int, ...] | None:
    """A value's shape; that of the model's input may follow from a linear layer that reads it."""
    if value.shape is not None or value.tensor:
        return value.shape
    readers = (y for y, s in zip(graph.layers, graph.sources, strict=True) if s[0] == value.source)
    return next(((layer.inputs,) for layer in readers), None)


def pad_channels(node: Node, value: Value, before: int, after: int) -> Value:
    """Channels of zeros in front and behind."""
    value, (channels, height, width) = node.image(value)
    made = channels + before + after
    network = channels_network(node.name, channels, made, before, (height, width))
    return node.graph.add(network, [value], (made, height, width))


def flattened(node: Node, value: Value) -> Value:
    """Each sample as a feature vector."""
    if value.shape is None:
        return value
    value = node.graph.whole(value, f"{node.name}.source")
    assert value.shape is not None
    return Value(value.tensor, (prod(value.shape),))
