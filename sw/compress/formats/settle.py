"""What the formats share when they settle a spec: modes, options, and the weight as a tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from drawbar.gen.errors import NetworkError
from drawbar.sw.compress.backend import nn, torch
from drawbar.sw.compress.modes import (
    check_modes,
    check_ranks,
    check_side,
    default_count,
    factorise,
)
from drawbar.sw.compress.spec import Spec

#: The index of a convolution's kernel positions, rows first.
KERNEL = "k"
#: What every format can be asked, besides its own options.
KEYS = ("format", "modes_out", "modes_in", "max_rank", "ranks", "grow")


@dataclass(frozen=True)
class Asked:
    """What is asked of a layer, as in ``Format.spec``; the shape and the options are checked."""

    shape: tuple[int, ...]
    name: str
    modes_out: Sequence[int] | None
    modes_in: Sequence[int] | None
    max_rank: int | None
    ranks: Sequence[int] | None
    options: dict[str, Any]
    clipped: list[tuple[Sequence[int] | None, Sequence[int], str]] = field(default_factory=list)

    def modes(self, count: int | None = None) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Checked modes of both sides; those that are not given are balanced, as many as the other
        side has, or ``count``.
        """
        outputs, inputs = self.shape[:2]
        given = self.modes_out if self.modes_out is not None else self.modes_in
        many = count or default_count(outputs, inputs)
        if given is not None:
            many = max(1, len(given))
        out = factorise(outputs, many) if self.modes_out is None else self.modes_out
        in_ = factorise(inputs, many) if self.modes_in is None else self.modes_in
        return (
            check_side(out, outputs, "modes_out", self.name),
            check_side(in_, inputs, "modes_in", self.name),
        )

    def paired_modes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """``modes``, equally many on both sides."""
        out, in_ = self.modes()
        return check_modes(out, in_, self.shape[0], self.shape[1], self.name)

    def given_ranks(self, count: int, one: str, all_of_them: str) -> tuple[int, ...] | None:
        """``modes.check_ranks`` of what is asked."""
        return check_ranks(
            count,
            max_rank=self.max_rank,
            ranks=self.ranks,
            name=self.name,
            one=one,
            all_of_them=all_of_them,
        )

    def note_clipped(self, wanted: Sequence[int] | None, used: Sequence[int], what: str) -> None:
        """Ranks that were asked for and those that are used; ``Format.spec`` warns of them."""
        self.clipped.append((wanted, used, what))


def check_shape(shape: Sequence[int], name: str, format: str, convolution: bool) -> tuple[int, ...]:
    """The shape as a tuple of int.

    Raises
    ------
    NetworkError:
        it is neither a linear layer's nor a convolution's, or the format has no convolutions.
    """
    found = tuple(int(size) for size in shape)
    where = f"layer {name!r}, weight"
    if len(found) not in (2, 4) or min(found) < 1:
        raise NetworkError(
            where,
            "has shape (outputs, inputs) or (outputs, inputs, height, width)",
            found,
            "give the weight of a linear layer or of a convolution without groups",
        )
    if len(found) == 4 and not convolution:
        raise NetworkError(
            where,
            f"is a linear layer's, as format {format!r} is not defined for convolutions",
            found,
            "choose another format for this layer",
        )
    return found


def take_options(
    options: Mapping[str, Any], defaults: Mapping[str, Any], name: str, format: str
) -> dict[str, Any]:
    """The options, with defaults for those that are not given.

    Raises
    ------
    NetworkError:
        an option that the format does not have.
    """
    unknown = sorted(set(options) - set(defaults))
    if unknown:
        raise NetworkError(
            f"layer {name!r}, specification",
            f"has only the keys of format {format!r}: {', '.join((*KEYS, *defaults))}",
            ", ".join(unknown),
            "remove or rename the key",
        )
    return {**defaults, **options}


def side_sizes(letter: str, modes: Sequence[int]) -> dict[str, int]:
    """Index names and sizes of one side: m0, m1, or n0, n1."""
    return {f"{letter}{k}": size for k, size in enumerate(modes)}


def kernel_sizes(shape: Sequence[int]) -> dict[str, int]:
    """The kernel's index and its size, or nothing for a linear layer."""
    return {KERNEL: prod(shape[2:])} if len(shape) == 4 else {}


def weight_tensor(weight: torch.Tensor, spec: Spec, axes: Sequence[Sequence[str]]) -> torch.Tensor:
    """A checked weight in float64 with one axis for each group of indices; zero padded where the
    modes multiply to more than the layer has.
    """
    dense = check_weight(weight, spec)
    dense = dense.reshape(spec.outputs, spec.inputs, -1)
    rows, columns = prod(spec.modes_out), prod(spec.modes_in)
    if (rows, columns) != (spec.outputs, spec.inputs):
        dense = nn.functional.pad(dense, (0, 0, 0, columns - spec.inputs, 0, rows - spec.outputs))
    own = (*spec.output, *spec.input, *spec.kernel)
    flat = [index for axis in axes for index in axis]
    dense = dense.reshape(spec.modes(own)).permute([own.index(index) for index in flat])
    return dense.reshape([prod(spec.modes(axis)) for axis in axes])


def as_cores(parts: Sequence[torch.Tensor], weight: torch.Tensor, spec: Spec) -> list[torch.Tensor]:
    """What was found for a weight, as cores of the spec's shapes and the weight's type."""
    return [
        part.reshape(shape).to(weight.dtype).contiguous()
        for part, shape in zip(parts, spec.core_shapes, strict=True)
    ]


def check_weight(weight: torch.Tensor, spec: Spec) -> torch.Tensor:
    """The weight as float64, detached.

    Raises
    ------
    NetworkError:
        the weight is not a finite real tensor of the spec's shape.
    """
    where = f"layer {spec.name!r}, weight"
    if tuple(weight.shape) != spec.shape or not weight.is_floating_point():
        raise NetworkError(
            where,
            f"is a real tensor of shape {spec.shape}",
            f"{tuple(weight.shape)} of {weight.dtype}",
            "give the weight of the layer that the spec was made for",
        )
    if not torch.isfinite(weight).all():
        raise NetworkError(where, "holds finite numbers", "NaN or infinity", "mend the weights")
    return weight.detach().double()


def check_growth(spec: Spec, grow: bool) -> Spec:
    """The spec itself, if its cores have no more weights than the dense layer, or if that is what
    was asked for.

    Raises
    ------
    NetworkError:
        the layer would grow.
    """
    if spec.parameters > spec.dense_weights and not grow:
        raise NetworkError(
            f"layer {spec.name!r}, format {spec.format!r}",
            f"has at most the {spec.dense_weights} weights of the dense layer",
            f"{spec.parameters} weights in the cores, ranks {spec.ranks}",
            "lower the ranks, leave the layer dense, or ask for it with grow=True",
        )
    return spec
