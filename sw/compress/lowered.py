"""A graph of layers while it is made of a model, node by node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from drawbar.gen.errors import NetworkError
from drawbar.gen.formats.convolution import joined_network, sum_network
from drawbar.gen.network import ContractionNetwork, Core, Model, Quantised, Source

SUPPORTED = "Linear, Conv2d and layers of cores (TTLinear and all other formats), BatchNorm, ReLU, "
SUPPORTED += "Tanh and Sigmoid of feature vectors, LSTM and GRU in a SequenceClassifier, "
SUPPORTED += "max, average and global average pooling, addition, concatenation, flatten and "
SUPPORTED += "unflatten, strided slices, zero channels, Dropout, Identity"


@dataclass(frozen=True)
class Value:
    """A tensor of the model, or a part of it.

    Members
    -------
    tensor:
        As in ``gen.network.Source``.
    shape:
        Of one sample; None for an input of unknown shape.
    starts, steps:
        Where it is a part.
    """

    tensor: int
    shape: tuple[int, ...] | None
    starts: tuple[int, ...] = ()
    steps: tuple[int, ...] = ()

    @property
    def source(self) -> Source:
        return Source(self.tensor, self.starts, self.steps)


class Graph:
    """Layers, their sources and the shapes of their tensors so far."""

    def __init__(self, name: str, input_shape: Sequence[int] | None) -> None:
        self.name = name
        self.layers: list[ContractionNetwork] = []
        self.sources: list[tuple[Source, ...]] = []
        self.shapes: list[tuple[int, ...] | None] = [
            None if input_shape is None else tuple(int(n) for n in input_shape)
        ]
        #: Uses of each tensor by nodes that are no layer's own.
        self.used: dict[int, int] = {}
        #: For the result of a maximum over windows, the tensor that it is of.
        self.maxima: dict[int, int] = {}
        #: The tensor of each concatenation, by what is joined.
        self.joined: dict[tuple[int, ...], int] = {}
        #: How tensors are represented, where the model says so.
        self.quantised: dict[int, Quantised] = {}
        self.result: Value | None = None

    def input(self) -> Value:
        return Value(0, self.shapes[0])

    def users(self, value: Value, count: int) -> None:
        """Note that ``count`` nodes read a value, one of which may be the view that it is of."""
        self.used[value.tensor] = max(self.used.get(value.tensor, 0), count)

    def add(
        self, layer: ContractionNetwork, values: Sequence[Value], shape: Sequence[int]
    ) -> Value:
        """Append a layer."""
        self.layers.append(layer)
        self.sources.append(tuple(value.source for value in values))
        self.shapes.append(tuple(shape))
        return Value(len(self.layers), tuple(shape))

    def whole(self, value: Value, name: str) -> Value:
        """The value as a tensor of its own."""
        if not value.steps:
            return value
        assert value.shape is not None
        copy = sum_network(name, value.shape, (1.0,), keeps_scale=True, format="copy")
        return self.add(copy, [value], value.shape)

    def join(self, tensors: Sequence[int], name: str) -> Value:
        """Tensors one behind the other along their first axis. Where an earlier concatenation is
        the beginning of this one, it goes into it as it is.
        """
        key, parts = tuple(tensors), tuple(tensors)
        for count in range(len(key), 1, -1):
            known = self.joined.get(key[:count])
            if known is not None and known not in self.quantised:
                parts = (known, *key[count:])
                self.used[known] = self.used.get(known, 1) + 1
                break
        shapes = [self.shapes[tensor] or () for tensor in parts]
        shape = (sum(next(iter(shape), 0) for shape in shapes), *shapes[0][1:])
        if len(parts) == 1:
            return Value(parts[0], shape)
        values = [Value(tensor, own) for tensor, own in zip(parts, shapes, strict=True)]
        made = self.add(joined_network(name, shape), values, shape)
        self.joined[key] = made.tensor
        return made

    def producer(self, value: Value) -> int | None:
        """The layer whose result a value is and that nobody else reads; None where there is none.

        What follows it may then go into it.
        """
        if value.tensor == 0 or value.steps or self.used.get(value.tensor, 1) > 1:
            return None
        return value.tensor - 1

    def positive(self, tensor: int) -> bool:
        """Whether no value of a tensor is below 0, as a ReLU has made it, or all that it is of."""
        if tensor in self.maxima:
            return self.positive(self.maxima[tensor])
        if tensor == 0:
            return False
        layer, sources = self.layers[tensor - 1], self.sources[tensor - 1]
        copied = layer.keeps_scale and (layer.joined or len(sources) == 1)
        return layer.activation == "relu" or (
            copied and all(self.positive(source.tensor) for source in sources)
        )

    def activate(self, value: Value, where: str, name: str) -> Value:
        """ReLU: of the layer before, or of a copy."""
        if not self.layers:
            raise NetworkError(
                where, "follows a layer", "nothing before it", "put a layer before this ReLU"
            )
        # The maximum of what is positive needs no room for a difference.
        tensor = value.tensor
        while tensor in self.maxima and self.used.get(tensor, 1) == 1:
            below = self.maxima[tensor]
            if below == 0 or self.used.get(below, 1) > 1:
                break
            tensor = below
        number = self.producer(replace(value, tensor=tensor))
        if number is not None and self.layers[number].joined:
            if number == len(self.layers) - 1 and tensor == value.tensor:
                return self._activate_parts(value, where)
            number = None
        if number is not None:
            self.layers[number] = replace(self.layers[number], activation="relu")
            return value
        assert value.shape is not None
        copy = sum_network(
            name, value.shape, (1.0,), activation="relu", keeps_scale=True, format="copy"
        )
        return self.add(copy, [value], value.shape)

    def _activate_parts(self, value: Value, where: str) -> Value:
        """ReLU of the concatenation that is the latest layer: of each of its parts."""
        layer, sources = self.layers.pop(), self.sources.pop()
        self.shapes.pop()
        self.used.pop(value.tensor, None)
        known = self.quantised.pop(value.tensor, None)
        self.joined = {key: t for key, t in self.joined.items() if t != value.tensor}
        parts = [
            self.activate(Value(s.tensor, self.shapes[s.tensor]), where, f"{layer.name}.relu{n}")
            for n, s in enumerate(sources)
        ]
        made = self.join([part.tensor for part in parts], layer.name)
        if known is not None:
            self.quantised[made.tensor] = known
        return made

    def takes_scale(self, value: Value, channels: int) -> bool:
        """Whether the layer that makes a value can take a factor and an offset for each channel."""
        number = self.producer(value)
        if number is None or value.tensor in self.quantised:
            return False
        layer = self.layers[number]
        outputs = layer.bias_indices
        return (
            layer.activation == "none"
            and bool(outputs)
            and prod(layer.sizes[i] for i in outputs) == channels
            and all(any(i in core.indices for core in layer.cores) for i in outputs)
        )

    def scale(self, value: Value, factor: np.ndarray, offset: np.ndarray, where: str) -> Value:
        """Multiply and shift each output channel of the layer before: a batch norm."""
        if not self.takes_scale(value, len(factor)):
            raise NetworkError(
                where,
                "follows a convolution or a linear layer that nothing else reads",
                "something else",
                "put it behind one, or fold it into the weights",
            )
        number = value.tensor - 1
        layer = self.layers[number]
        outputs, cores = layer.bias_indices, layer.cores
        shaped = factor.reshape([layer.sizes[i] for i in outputs])
        found = next((n for n, c in enumerate(cores) if {*outputs} <= {*c.indices}), None)
        if found is None:
            # Spread over several cores: one more, which shares their indices.
            cores = (*cores, Core(outputs, shaped))
        else:
            core = cores[found]
            order = [outputs.index(i) for i in core.indices if i in outputs]
            own = [layer.sizes[i] if i in outputs else 1 for i in core.indices]
            scaled = core.values * shaped.transpose(order).reshape(own)
            cores = (*cores[:found], Core(core.indices, scaled), *cores[found + 1 :])
        bias = np.zeros(len(factor)) if layer.bias is None else layer.bias
        self.layers[number] = replace(layer, cores=cores, bias=bias * factor + offset)
        return value

    def finish(self, value: Value) -> None:
        self.result = value

    def model(self) -> Model:
        """The model, without layers that nothing needs."""
        value = self.result
        assert value is not None
        if value.steps or (self.layers and value.tensor != len(self.layers)):
            assert value.shape is not None
            copy = sum_network("output", value.shape, (1.0,), keeps_scale=True, format="copy")
            value = self.add(copy, [value], value.shape)
        given = tuple(self.quantised.get(tensor) for tensor in range(len(self.shapes)))
        straight = all(s == (Source(n),) for n, s in enumerate(self.sources))
        vectors = all(shape is not None and len(shape) == 1 for shape in self.shapes[1:])
        linear = all(layer.mixes for layer in self.layers)
        if straight and vectors and linear:
            # Linear layers alone: whatever shape the input has, it is a feature vector to them.
            return Model(self.name, tuple(self.layers), quantised=given)
        shapes = [(self.layers[0].inputs,) if s is None else s for s in self.shapes]
        return Model(self.name, tuple(self.layers), tuple(self.sources), tuple(shapes), given)
