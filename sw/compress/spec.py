"""The structure of a layer's weight as cores, before there are values.

A spec names indices as ``gen.network`` does. Names in ``n`` factor the inputs, names in ``m`` the
outputs, names in ``k`` the positions of a convolution's kernel; all others are bonds. So
reconstruction, counting, layers and lowering are written once for all formats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any


@dataclass(frozen=True)
class Spec:
    """The structure of one layer's weight, before there are values.

    Arguments
    ---------
    format:
        Name of the format in the registry.
    name:
        The layer, for messages.
    shape:
        Of the dense weight: ``(outputs, inputs)``, or ``(outputs, inputs, height, width)`` of a
        convolution.
    sizes:
        Size of every index.
    cores:
        The indices of each core; a core's shape follows from them.
    input, output, kernel:
        Indices that factor the inputs, the outputs and the kernel's positions, row-major. The modes
        of inputs and outputs may multiply to more than the layer has: the rest is zero padding.
    ranks:
        As the format counts them.
    options:
        What else the format was asked; JSON values.
    """

    format: str
    name: str
    shape: tuple[int, ...]
    sizes: Mapping[str, int]
    cores: tuple[tuple[str, ...], ...]
    input: tuple[str, ...]
    output: tuple[str, ...]
    kernel: tuple[str, ...] = ()
    ranks: tuple[int, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def outputs(self) -> int:
        return self.shape[0]

    @property
    def inputs(self) -> int:
        return self.shape[1]

    @property
    def kernel_size(self) -> tuple[int, ...]:
        """``(height, width)`` of a convolution, ``()`` of a linear layer."""
        return self.shape[2:]

    @property
    def modes_out(self) -> tuple[int, ...]:
        return self.modes(self.output)

    @property
    def modes_in(self) -> tuple[int, ...]:
        return self.modes(self.input)

    @property
    def core_shapes(self) -> tuple[tuple[int, ...], ...]:
        return tuple(self.modes(indices) for indices in self.cores)

    @property
    def parameters(self) -> int:
        """Weights in the cores, bias aside."""
        return sum(prod(shape) for shape in self.core_shapes)

    @property
    def dense_weights(self) -> int:
        """Weights of the dense layer, bias aside."""
        return prod(self.shape)

    @property
    def bonds(self) -> tuple[str, ...]:
        """The indices that are summed over."""
        outside = {*self.input, *self.output, *self.kernel}
        return tuple(index for index in self.sizes if index not in outside)

    def modes(self, indices: Sequence[str]) -> tuple[int, ...]:
        return tuple(self.sizes[index] for index in indices)

    def as_dict(self) -> dict[str, Any]:
        """JSON values; ``Spec.from_dict`` reads them."""
        return {
            "format": self.format,
            "name": self.name,
            "shape": list(self.shape),
            # Pairs, because the order of the indices is part of the structure.
            "sizes": [list(pair) for pair in self.sizes.items()],
            "cores": [list(core) for core in self.cores],
            "input": list(self.input),
            "output": list(self.output),
            "kernel": list(self.kernel),
            "ranks": list(self.ranks),
            "options": dict(self.options),
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Spec:
        """The spec that ``as_dict`` described; KeyError, TypeError or ValueError if none."""
        return cls(
            format=fields["format"],
            name=fields["name"],
            shape=tuple(fields["shape"]),
            sizes={index: size for index, size in fields["sizes"]},
            cores=tuple(tuple(core) for core in fields["cores"]),
            input=tuple(fields["input"]),
            output=tuple(fields["output"]),
            kernel=tuple(fields["kernel"]),
            ranks=tuple(fields["ranks"]),
            options=dict(fields["options"]),
        )
