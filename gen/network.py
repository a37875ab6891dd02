"""Contraction networks: named indices, cores, one input, one output. No hardware in here.

A network stands for the linear map
``y[output] = sum over the rest of x[input] * product of cores``, then bias, then activation. The
feature vectors x and y are flat; ``input`` and ``output`` name how they factor, row-major (the
first index is the slowest). Any number of cores may share an index, inputs and outputs included.
"""

from __future__ import annotations

from collections.abc import Mapping
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
        ``(outputs,)`` or None.
    activation:
        One of ``ACTIVATIONS``.
    ranks:
        The format's ranks, for reports.
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
        for index in (*self.input, *self.output):
            uses = sum(index in core.indices for core in self.cores)
            if uses == 0:
                raise NetworkError(
                    f"{where}, index {index!r}", "is in a core", "no core", "add it to a core"
                )
        borders = (*self.input, *self.output)
        for index in borders:
            if borders.count(index) > 1:
                raise NetworkError(
                    f"{where}, index {index!r}",
                    "factors the input or the output, once",
                    f"{borders.count(index)} times",
                    "give each mode an index of its own",
                )
        if self.bias is not None and self.bias.shape != (self.outputs,):
            raise NetworkError(
                f"{where}, bias",
                f"has shape ({self.outputs},)",
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
    def dense_weights(self) -> int:
        return self.inputs * self.outputs

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
        """The dense weight that the cores stand for, ``(outputs, inputs)``. For tests and small
        layers.
        """
        letters = {index: number for number, index in enumerate(self.sizes)}
        operands: list[object] = []
        for core in self.cores:
            operands += [core.values, [letters[i] for i in core.indices]]
        out = [letters[i] for i in (*self.output, *self.input)]
        return np.einsum(*operands, out, optimize="greedy").reshape(self.outputs, self.inputs)  # type: ignore[call-overload]

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Float reference: ``(batch, inputs)`` to ``(batch, outputs)``, contracted without the
        dense matrix.
        """
        letters = {index: number + 1 for number, index in enumerate(self.sizes)}
        operands: list[object] = [
            x.reshape(-1, *self.modes_in),
            [0, *(letters[i] for i in self.input)],
        ]
        for core in self.cores:
            operands += [core.values, [letters[i] for i in core.indices]]
        out = [0, *(letters[i] for i in self.output)]
        y = np.einsum(*operands, out, optimize="greedy").reshape(-1, self.outputs)  # type: ignore[call-overload]
        if self.bias is not None:
            y = y + self.bias
        return np.maximum(y, 0) if self.activation == "relu" else y


@dataclass(frozen=True)
class Model:
    """Layers in sequence: each one's outputs are the next one's inputs."""

    name: str
    layers: tuple[ContractionNetwork, ...]

    def __post_init__(self) -> None:
        if not self.layers:
            raise NetworkError(
                f"model {self.name!r}", "has at least one layer", "none", "add a layer"
            )
        for before, after in zip(self.layers, self.layers[1:], strict=False):
            if before.outputs != after.inputs:
                raise NetworkError(
                    f"layer {after.name!r}",
                    f"takes the {before.outputs} outputs of layer {before.name!r}",
                    f"{after.inputs} inputs",
                    "make the sizes agree",
                )

    @property
    def inputs(self) -> int:
        return self.layers[0].inputs

    @property
    def outputs(self) -> int:
        return self.layers[-1].outputs

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Float reference: ``(batch, inputs)`` to ``(batch, outputs)``."""
        for layer in self.layers:
            x = layer.forward(x)
        return x
