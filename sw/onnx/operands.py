"""Tensors of an ONNX graph while it becomes a graph of layers, and what a node is given of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import frexp
from typing import Any

import numpy as np

from drawbar.gen.formats.convolution import sum_network
from drawbar.gen.network import Quantised
from drawbar.sw.compress.lowered import Graph, Value
from drawbar.sw.compress.lowered_parts import Node
from drawbar.sw.onnx.reading import OnnxModel, OnnxNode


@dataclass(frozen=True)
class Operand:
    """A tensor of the ONNX graph, as a tensor of the graph of layers: ``unit * (value - zero)``.

    Members
    -------
    dtype:
        Its type in ONNX.
    """

    value: Value
    dtype: np.dtype
    unit: float = 1.0
    zero: int = 0


@dataclass(frozen=True)
class Constant:
    """A tensor that no input changes; ``exact`` where it is integers, of any scale."""

    values: np.ndarray
    exact: bool


class Import:
    """A file and what has become of it so far.

    Members
    -------
    constants, operands:
        The tensors of the file so far, by name.
    exact:
        Layers whose weights are integers, of any scale.
    uses, names:
        How often each tensor is read, and each name given to a node.
    """

    def __init__(self, file: OnnxModel) -> None:
        self.file = file
        self.graph = Graph(file.name, file.input.shape)
        self.constants = {
            name: Constant(values, values.dtype.kind in "iu")
            for name, values in file.constants.items()
        }
        self.operands = {file.input.name: Operand(self.graph.input(), file.input.dtype)}
        self.exact: set[int] = set()
        # Who asks for a shape alone does not read.
        reading = (node for node in file.nodes if node.kind != "Shape")
        self.uses = Counter(name for node in reading for name in node.inputs)
        self.uses[file.output.name] += 1
        self.names = Counter(node.name for node in file.nodes)
        self.graph.users(self.graph.input(), self.uses[file.input.name])
        if file.input.dtype.kind in "iu":
            low, high = limits(file.input.dtype)
            self.graph.quantised[0] = Quantised(0, low, high)

    @property
    def reads_input_once(self) -> bool:
        """Whether one node reads the model's input."""
        return self.uses[self.file.input.name] == 1


@dataclass(frozen=True)
class OnnxCall(Node):
    """A node with what it is given."""

    node: OnnxNode
    importing: Import

    def operand(self, position: int) -> Operand:
        """An input that depends on the model's."""
        name = self.node.inputs[position]
        found = self.importing.operands.get(name)
        if found is None:
            raise self.refuse(
                f"has an input {position} that depends on the model's input",
                f"{name!r}, a constant",
                "exchange the inputs, or compute it beforehand",
            )
        return found

    def plain(self, position: int) -> Operand:
        """An input whose zero point is 0."""
        found = self.operand(position)
        if found.zero:
            raise self.refuse(
                "has inputs whose zero point is 0 (others are for products and convolutions)",
                found.zero,
                "use a symmetric quantisation",
            )
        return found

    def given(self, position: int) -> bool:
        return position < len(self.node.inputs) and bool(self.node.inputs[position])

    def constant(self, position: int, what: str) -> Constant:
        """A constant input."""
        name = self.node.inputs[position]
        found = self.importing.constants.get(name)
        if found is None:
            raise self.refuse(
                f"has a constant {what}",
                f"{name!r}, which depends on the model's input",
                "store it as an initialiser",
            )
        return found

    def numbers(self, position: int, what: str) -> np.ndarray:
        """A constant input in float64: finite."""
        values = np.asarray(self.constant(position, what).values, np.float64)
        if not np.isfinite(values).all():
            raise self.refuse(
                f"has a {what} of finite numbers ({self.node.inputs[position]!r})",
                "NaN or infinity",
                "retrain or mend the weights",
            )
        return values

    def attribute(self, name: str, default: Any = None) -> Any:
        return self.node.attributes.get(name, default)

    def parameter(self, name: str, position: int, default: Any = None) -> Any:
        """What is an attribute in older versions of an operator, and an input in newer ones."""
        if name in self.node.attributes:
            return self.node.attributes[name]
        if not self.given(position):
            return default
        return self.constant(position, name).values.tolist()


#: What an operator becomes.
Handler = Callable[[OnnxCall], Operand]


def is_power(values: Any) -> np.ndarray:
    """Which of some numbers are powers of two."""
    found = np.asarray(values, np.float64)
    return np.array([v > 0 and np.isfinite(v) and frexp(v)[0] == 0.5 for v in found.reshape(-1)])


def limits(dtype: np.dtype) -> tuple[int, int]:
    """Least and greatest integer of a type."""
    found = np.iinfo(dtype)
    return int(found.min), int(found.max)


def bits_of(node: Node, factor: float, what: str) -> int:
    """The exponent of a power of two."""
    if not is_power(factor).all():
        raise node.refuse(
            f"has {what} that is a power of two",
            f"{factor:.9g}",
            "quantise with scales that are powers of two, or compile the float model",
        )
    return frexp(factor)[1] - 1


def pin(importing: Import, node: Node, operand: Operand, scale: float, dtype: np.dtype) -> Operand:
    """An operand as integers ``operand / scale``, of a type; rounded and clipped by the layer that
    makes it, or by a copy.
    """
    graph, value = importing.graph, operand.value
    low, high = limits(dtype)
    bits = bits_of(node, operand.unit / scale, "a scale")
    made = Operand(value, dtype, operand.unit / scale)
    known = graph.quantised.get(value.tensor)
    if known is not None and (known.fraction_bits, known.low, known.high) == (bits, low, high):
        return made
    own = graph.producer(value) is not None
    if value.tensor == 0:
        own = graph.used.get(0, 1) == 1 and not value.steps
    kept = value.tensor > 0 and graph.layers[value.tensor - 1].keeps_scale
    # A maximum, or a part, is as fine as what it is of.
    if kept and own and _held(graph, value.tensor) == {(bits, low, high)}:
        return made
    joined = value.tensor > 0 and graph.layers[value.tensor - 1].joined
    if joined and known is None and own:
        for source in graph.sources[value.tensor - 1]:
            part = replace(operand, value=Value(source.tensor, graph.shapes[source.tensor]))
            _pin_part(importing, node, part, scale, dtype)
    elif known is not None or kept or not own:
        value = copied(node, value, 1.0)
        importing.exact.add(value.tensor - 1)
    # Integers of integers; other sources may have any scale.
    layer = value.tensor - 1
    sources = graph.sources[layer] if layer >= 0 else ()
    exact = layer in importing.exact and all(None not in _held(graph, s.tensor) for s in sources)
    graph.quantised[value.tensor] = Quantised(bits, low, high, exact)
    return replace(made, value=value)


def _pin_part(importing: Import, node: Node, part: Operand, scale: float, dtype: np.dtype) -> None:
    """Round a part of a concatenation where it is made, if nobody else reads it; else it will be
    where it is copied.
    """
    graph, tensor = importing.graph, part.value.tensor
    number = graph.producer(part.value)
    if (
        number is not None
        and tensor not in graph.quantised
        and not graph.layers[number].keeps_scale
    ):
        pin(importing, node, part, scale, dtype)


def _held(graph: Graph, tensor: int) -> set[tuple[int, int, int] | None]:
    """How the tensors are represented whose scale a tensor keeps."""
    known = graph.quantised.get(tensor)
    if known is None and tensor and graph.layers[tensor - 1].keeps_scale:
        sources = {source.tensor for source in graph.sources[tensor - 1]}
        return {held for source in sources for held in _held(graph, source)}
    return {None if known is None else (known.fraction_bits, known.low, known.high)}


def rescaled(importing: Import, node: Node, operand: Operand) -> Value:
    """An operand as a tensor of its own values."""
    graph, value, unit = importing.graph, operand.value, operand.unit
    if unit == 1.0:
        return value
    known = graph.quantised.get(value.tensor)
    number = graph.producer(value)
    moved = None
    if known is not None:
        moved = replace(known, fraction_bits=known.fraction_bits - bits_of(node, unit, "a scale"))
    if number is not None and not graph.layers[number].keeps_scale:
        layer = graph.layers[number]
        first, *others = layer.cores
        bias = None if layer.bias is None else layer.bias * unit
        cores = (replace(first, values=first.values * unit), *others)
        graph.layers[number] = replace(layer, cores=cores, bias=bias)
    else:
        value = copied(node, value, unit)
    if moved is not None:
        graph.quantised[value.tensor] = moved
    return value


def copied(node: Node, value: Value, factor: float) -> Value:
    """A layer that gives a value times a factor."""
    assert value.shape is not None
    copy = sum_network(f"{node.name}.copy", value.shape, (factor,), format="copy")
    return node.graph.add(copy, [value], value.shape)
