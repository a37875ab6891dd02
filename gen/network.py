"""Contraction networks: named indices, cores, input, output. No hardware in here.

A network stands for the linear map
``y[output] = sum over the rest of x[input] * product of cores``, then bias, then activation. The
feature vectors x and y are flat; ``input`` and ``output`` name how they factor, row-major (the
first index is the slowest). Any number of cores may share an index, inputs and outputs included.

An input index may be read through a *window*: at a position that is affine in other indices. So a
convolution is a network like any other, ``h = stride * oh + dilation * kh - padding``: its cores
have the tap kh and not h, and the output has oh, which no core has.

A model is a graph of networks. A network of more than one source has them as the values of its
first input index: an addition is a core of two numbers. One kind is no linear map: a *paired*
network multiplies its sources two and two, element by element, and adds the products. A *joined*
one puts its sources one behind the other: a concatenation.

A layer that reads the result of itself or of a layer after it gets that of the run before: a
*state*. So a model with states is one step of a sequence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

from drawbar.gen.errors import NetworkError

ACTIVATIONS = ("none", "relu")


@dataclass(frozen=True)
class Core:
    """A small dense tensor; ``values.shape`` follows ``indices``."""

    indices: tuple[str, ...]
    values: np.ndarray


@dataclass(frozen=True)
class Window:
    """Where an input index is read: at ``sum of stride * index`` over the terms, less ``before``.
    What lies outside the tensor is zero.

    A term is an index of the output, or a tap: an index of cores; or another windowed index.

    A window opens with the first core that has one of its taps. A ``late`` one opens with the last:
    before that, its taps are indices like all others.
    """

    terms: tuple[tuple[str, int], ...]
    before: int = 0
    late: bool = False

    def span(self, sizes: Mapping[str, int]) -> int:
        """Positions from the first to the last that is read."""
        return 1 + sum((sizes[index] - 1) * stride for index, stride in self.terms)

    def positions(self, sizes: Mapping[str, int]) -> np.ndarray:
        """Positions by the values of the terms' indices."""
        found = np.array(-self.before, np.int64)
        for index, stride in self.terms:
            found = found[..., None] + np.arange(sizes[index], dtype=np.int64) * stride
        return found


@dataclass(frozen=True)
class ContractionNetwork:
    """One layer.

    Arguments
    ---------
    name, format:
        For people: "fc6", "tt".
    sizes:
        Size of every index.
    cores:
        The cores. Float64; integers come only with quantisation.
    input, output:
        Index names that factor the input and the output feature vector, row-major.
    bias:
        ``(outputs,)`` or None; of the indices ``bias_over`` alone where these are given.
    activation:
        One of ``ACTIVATIONS``.
    ranks:
        The format's ranks, for reports.
    windows:
        How input indices are read that are in no core. An index may also be of input and output:
        in no core, or such that each of its values has cores of its own.
    bias_over:
        Output indices that the bias has; None for all.
    keeps_scale:
        The result has the scale of the sources, so that integers are what they were: copies, and
        the differences and sums of a maximum.
    paired:
        The values of the first input index are factors, two and two: ``y = x[0] * x[1] + x[2] *
        x[3] + ...``, element by element. Without cores and bias.
    joined:
        What it reads is its sources, one behind the other along the first axis, each whole.
    """

    name: str
    format: str
    sizes: Mapping[str, int]
    cores: tuple[Core, ...]
    input: tuple[str, ...]
    output: tuple[str, ...]
    bias: np.ndarray | None = None
    activation: str = "none"
    ranks: tuple[int, ...] = field(default=())
    windows: Mapping[str, Window] = field(default_factory=dict)
    bias_over: tuple[str, ...] | None = None
    keeps_scale: bool = False
    paired: bool = False
    joined: bool = False

    def __post_init__(self) -> None:
        where = f"layer {self.name!r}"
        for number, core in enumerate(self.cores):
            shape = tuple(self.sizes[i] for i in core.indices)
            if core.values.shape != shape:
                raise NetworkError(
                    f"{where}, core {number}",
                    f"has the shape of its indices, {shape}",
                    core.values.shape,
                    "reshape the core or mend the modes",
                )
            if not np.isfinite(core.values).all():
                raise NetworkError(
                    f"{where}, core {number}",
                    "holds finite numbers",
                    "NaN or infinity",
                    "retrain or mend the weights",
                )
        through = {index for window in self.windows.values() for index, _ in window.terms}
        through |= {*self.windows, *(i for i in self.input if i in self.output)}
        if self.paired:
            through.add(self.input[0])
            if self.cores or self.bias is not None or self.sizes[self.input[0]] % 2:
                raise NetworkError(
                    where, "multiplies pairs, without cores or bias", self.input, "mend the network"
                )
        for index in (*self.input, *self.output):
            uses = sum(index in core.indices for core in self.cores)
            if uses == 0 and index not in through:
                raise NetworkError(
                    f"{where}, index {index!r}", "is in a core", "no core", "add it to a core"
                )
        borders = (*self.input, *(i for i in self.output if i not in self.input))
        for index in borders:
            if borders.count(index) > 1:
                raise NetworkError(
                    f"{where}, index {index!r}",
                    "factors the input or the output, once",
                    f"{borders.count(index)} times",
                    "give each mode an index of its own",
                )
        biases = prod(self.sizes[i] for i in self.bias_indices)
        if self.bias is not None and self.bias.shape != (biases,):
            raise NetworkError(
                f"{where}, bias",
                f"has shape ({biases},)",
                self.bias.shape,
                "give one bias for each output",
            )
        if self.bias is not None and not np.isfinite(self.bias).all():
            raise NetworkError(
                f"{where}, bias", "holds finite numbers", "NaN or infinity", "mend the bias"
            )
        if self.activation not in ACTIVATIONS:
            raise NetworkError(
                f"{where}, activation",
                f"is one of {', '.join(ACTIVATIONS)}",
                self.activation,
                "use one of these",
            )

    @property
    def inputs(self) -> int:
        return prod(self.sizes[i] for i in self.input)

    @property
    def outputs(self) -> int:
        return prod(self.sizes[i] for i in self.output)

    @property
    def bias_indices(self) -> tuple[str, ...]:
        """Output indices that the bias has."""
        return self.output if self.bias_over is None else self.bias_over

    @property
    def dense_weights(self) -> int:
        """Weights of the dense layer: of a convolution, its kernel."""
        if not self.cores:
            return 0
        kept = [i for i in self.output if any(i in core.indices for core in self.cores)]
        read = [i for i in self.input if any(i in core.indices for core in self.cores)]
        return prod(self.sizes[i] for i in {*kept, *read, *self.taps})

    @property
    def taps(self) -> tuple[str, ...]:
        """Indices of windows that are in cores and not in the output."""
        terms = (index for window in self.windows.values() for index, _ in window.terms)
        return tuple(index for index in terms if index not in self.output)

    @property
    def mixes(self) -> bool:
        """Whether cores have all indices of input and output, and no index is of both: the layer
        maps one feature vector to another.
        """
        inside = {i for core in self.cores for i in core.indices}
        ends = {*self.input, *self.output}
        return ends <= inside and len(ends) == len(self.input) + len(self.output)

    @property
    def core_weights(self) -> int:
        return sum(core.values.size for core in self.cores)

    @property
    def modes_in(self) -> tuple[int, ...]:
        return tuple(self.sizes[i] for i in self.input)

    @property
    def modes_out(self) -> tuple[int, ...]:
        return tuple(self.sizes[i] for i in self.output)

    def dense(self) -> np.ndarray:
        """The dense matrix that the network stands for, ``(outputs, inputs)``. For tests and small
        layers.
        """
        return self._contract(np.eye(self.inputs)).T

    def windowed(self, x: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
        """``(batch, inputs)`` with the terms of windows in place of what is read through them, and
        the indices of its axes after the first.
        """
        values = x.reshape(-1, *self.modes_in)
        indices: list[str] = []
        for index in self.input:
            axis = len(indices) + 1
            window = self.windows.get(index)
            if window is None:
                indices.append(index)
                continue
            places = window.positions(self.sizes)
            size = values.shape[axis]
            pad = [(0, 0)] * values.ndim
            # One zero at the end stands for all that lies outside.
            pad[axis] = (0, 1)
            places = np.where((places >= 0) & (places < size), places, size)
            values = np.take(np.pad(values, pad), places, axis=axis)
            indices += [term for term, _ in window.terms]
        return values, tuple(indices)

    def _contract(self, x: np.ndarray) -> np.ndarray:
        """The product alone: ``(batch, inputs)`` to ``(batch, outputs)``."""
        if self.paired:
            pairs = x.reshape(len(x), -1, 2, self.outputs)
            return pairs.prod(axis=2).sum(axis=1)
        letters = {index: number + 1 for number, index in enumerate(self.sizes)}
        values, indices = self.windowed(x)
        operands: list[object] = [values, [0, *(letters[i] for i in indices)]]
        for core in self.cores:
            operands += [core.values, [letters[i] for i in core.indices]]
        out = [0, *(letters[i] for i in self.output)]
        return np.einsum(*operands, out, optimize="greedy").reshape(-1, self.outputs)  # type: ignore[call-overload]

    def spread_bias(self) -> np.ndarray:
        """The bias of every output, ``(outputs,)``; zeros without one."""
        if self.bias is None:
            return np.zeros(self.outputs)
        return self.bias[self.bias_places()]

    def bias_places(self) -> np.ndarray:
        """For every output, the number of its bias, ``(outputs,)``."""
        own = self.bias_indices
        places = np.arange(prod(self.sizes[i] for i in own))
        order = [own.index(i) for i in self.output if i in own]
        places = places.reshape([self.sizes[i] for i in own]).transpose(order)
        shape = [self.sizes[i] if i in own else 1 for i in self.output]
        return np.broadcast_to(places.reshape(shape), self.modes_out).reshape(-1)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Float reference: ``(batch, inputs)`` to ``(batch, outputs)``, contracted without the
        dense matrix.
        """
        y = self._contract(x)
        if self.bias is not None:
            y = y + self.spread_bias()
        return np.maximum(y, 0) if self.activation == "relu" else y


@dataclass(frozen=True)
class Source:
    """What a layer reads: a tensor, 0 for the model's input and n + 1 for the result of layer n.

    Along each axis of the tensor's shape it may read every ``steps``-th element from ``starts`` on;
    empty for all of them.
    """

    tensor: int
    starts: tuple[int, ...] = ()
    steps: tuple[int, ...] = ()


@dataclass(frozen=True)
class Quantised:
    """How a model that is quantised already represents a tensor: the value times
    ``2**fraction_bits``, rounded half to even and clipped to ``low..high``.

    Members
    -------
    exact:
        The weights of the layer that makes it are integers, of any scale: none may be rounded.
    """

    fraction_bits: int
    low: int
    high: int
    exact: bool = False


@dataclass(frozen=True)
class Model:
    """A graph of layers, each of which reads the model's input or the results of layers; those of
    itself and of layers after it from the run before, at first 0. The result of the last one is the
    model's output.

    Arguments
    ---------
    layers:
        In an order of evaluation.
    sources:
        What each layer reads; without them each one's outputs are the next one's inputs. More than
        one source are the values of the layer's first input index.
    shapes:
        Shape of each tensor, one more than layers: ``(features,)``, or ``(channels, height,
        width)`` of an image. Without them all are feature vectors.
    quantised:
        For each tensor, how it is represented where the model says so; None for those whose scale
        calibration chooses.
    """

    name: str
    layers: tuple[ContractionNetwork, ...]
    sources: tuple[tuple[Source, ...], ...] = ()
    shapes: tuple[tuple[int, ...], ...] = ()
    quantised: tuple[Quantised | None, ...] = ()

    def __post_init__(self) -> None:
        if not self.layers:
            raise NetworkError(
                f"model {self.name!r}", "has at least one layer", "none", "add a layer"
            )
        if not self.sources:
            chain = tuple((Source(number),) for number in range(len(self.layers)))
            object.__setattr__(self, "sources", chain)
        if not self.shapes:
            first = self.sources[0][0].tensor
            assert first == 0
            sizes = (self.layers[0].inputs, *(layer.outputs for layer in self.layers))
            object.__setattr__(self, "shapes", tuple((size,) for size in sizes))
        if not self.quantised:
            object.__setattr__(self, "quantised", (None,) * len(self.shapes))
        if len(self.layers) in self.states:
            raise NetworkError(
                f"model {self.name!r}, layer {self.layers[-1].name!r}",
                "has a result that no layer reads, as it is the model's output",
                "a state",
                "put a layer behind it",
            )
        for number, (layer, sources) in enumerate(zip(self.layers, self.sources, strict=True)):
            if prod(self.shapes[number + 1]) != layer.outputs:
                raise NetworkError(
                    f"layer {layer.name!r}",
                    f"has {layer.outputs} outputs, as its cores say",
                    self.shapes[number + 1],
                    "make the sizes agree",
                )
            for source in sources:
                if not 0 <= source.tensor < len(self.shapes):
                    raise NetworkError(
                        f"layer {layer.name!r}",
                        "reads a tensor of the model",
                        source.tensor,
                        f"use 0 to {len(self.layers)}",
                    )
                given = prod(self.shapes[source.tensor])
                wanted = layer.inputs // len(sources)
                if layer.joined:
                    others = (prod(self.shapes[s.tensor]) for s in sources)
                    wanted = layer.inputs - sum(others) + given
                whole = not source.steps and not source.starts
                if given < wanted or (whole and given != wanted):
                    raise NetworkError(
                        f"layer {layer.name!r}",
                        f"takes the {given} outputs of {self._tensor_name(source.tensor)}",
                        f"{wanted} inputs",
                        "make the sizes agree",
                    )

    def _tensor_name(self, tensor: int) -> str:
        return f"layer {self.layers[tensor - 1].name!r}" if tensor else "the model's input"

    @property
    def chain(self) -> bool:
        """Whether the layers are a sequence of linear layers of feature vectors."""
        return all(
            sources == (Source(number),) and layer.mixes and not layer.windows
            for number, (layer, sources) in enumerate(zip(self.layers, self.sources, strict=True))
        ) and all(len(shape) == 1 for shape in self.shapes)

    @property
    def states(self) -> list[int]:
        """The tensors that are kept from one run to the next."""
        found = {
            s.tensor for n, sources in enumerate(self.sources) for s in sources if s.tensor > n
        }
        return sorted(found)

    def readers(self, tensor: int) -> list[int]:
        """The layers that read a tensor."""
        return [
            number
            for number, sources in enumerate(self.sources)
            if any(source.tensor == tensor for source in sources)
        ]

    @property
    def inputs(self) -> int:
        return prod(self.shapes[0])

    @property
    def outputs(self) -> int:
        return self.layers[-1].outputs

    def read(
        self, number: int, tensors: Sequence[np.ndarray] | Mapping[int, np.ndarray]
    ) -> np.ndarray:
        """What a layer reads, ``(batch, its inputs)``, of the tensors ``(batch, features)``."""
        layer, sources = self.layers[number], self.sources[number]
        found = []
        for source in sources:
            values = tensors[source.tensor]
            if source.steps or source.starts:
                shape = self.shapes[source.tensor]
                counts = layer.modes_in[1:] if len(sources) > 1 else layer.modes_in
                values = values.reshape(-1, *shape)
                cut = tuple(
                    slice(start, start + (count - 1) * step + 1, step)
                    for start, step, count in zip(source.starts, source.steps, counts, strict=True)
                )
                values = values[(slice(None), *cut)]
            found.append(values.reshape(len(values), -1))
        return np.concatenate(found, axis=1)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Float reference: ``(batch, inputs)`` to ``(batch, outputs)``; with states ``(batch,
        steps, inputs)``, to the outputs of the last step.
        """
        *_, last = self.steps(x.swapaxes(0, 1) if self.states else x[None])
        return last[-1]

    def before_steps(self, x: np.ndarray) -> dict[int, np.ndarray]:
        """What the steps of sequences ``(batch, steps, inputs)`` begin with: the input and each
        state, by tensor, ``(batch * steps, features)``.
        """
        states = {t: [np.zeros((len(x), prod(self.shapes[t])))] for t in self.states}
        for tensors in self.steps(x.swapaxes(0, 1)):
            for tensor, values in states.items():
                values.append(tensors[tensor])
        found = {0: x.reshape(-1, self.inputs)}
        for tensor, values in states.items():
            before = np.stack(values[:-1], axis=1)
            found[tensor] = before.reshape(-1, before.shape[2])
        return found

    def steps(self, steps: np.ndarray) -> Iterator[list[np.ndarray]]:
        """All tensors after each step, for inputs ``(steps, batch, inputs)``; the next step changes
        the same list.
        """
        tensors = [np.zeros((steps.shape[1], prod(shape))) for shape in self.shapes]
        for step in steps:
            tensors[0] = step
            for number, layer in enumerate(self.layers):
                tensors[number + 1] = layer.forward(self.read(number, tensors))
            yield tensors
