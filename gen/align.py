"""One set of index names for a whole model, so that layers can hand tensors on without a reformat.

Two layers meet in a feature vector that each factors in its own way: (4, 8, 8) output modes,
(16, 16) input modes. Where the two factorisations have a common refinement, here (4, 4, 2, 8), both
layers are rewritten in its indices, and the tensor between them may then have any layout. Where
they have none, it stays row-major.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod

from drawbar.gen.network import ContractionNetwork, Core, Model


@dataclass(frozen=True)
class Boundary:
    """The feature vector between two layers (or before the first, or after the last).

    ``shared`` tells whether both sides use the same indices. If not, its layout is row-major.
    """

    shared: bool


def refine(first: Sequence[int], second: Sequence[int]) -> tuple[int, ...] | None:
    """The coarsest factorisation that refines two row-major factorisations of one number, or None.

    Modes of 1 vanish: ``refine((4, 8, 1), (16, 2))`` is ``(4, 4, 2)``.
    """
    cuts = sorted({prod(modes[k:]) for modes in (first, second) for k in range(len(modes) + 1)})
    factors = []
    for inner, outer in pairwise(cuts):
        if outer % inner:
            return None
        factors.append(outer // inner)
    return tuple(reversed(factors))


def _split(modes: Sequence[int], factors: Sequence[int]) -> list[list[int]]:
    """Positions of the factors that make up each mode."""
    groups: list[list[int]] = []
    position = 0
    for mode in modes:
        group = []
        size = 1
        while size < mode:
            group.append(position)
            size *= factors[position]
            position += 1
        groups.append(group)
    return groups


def rename(
    network: ContractionNetwork, names: Mapping[str, Sequence[tuple[str, int]]]
) -> ContractionNetwork:
    """The same network with each index replaced by a row-major group of (name, size). Windows and
    their terms are one index each, or none.
    """

    def expand(indices: Sequence[str]) -> tuple[str, ...]:
        return tuple(name for index in indices for name, _ in names[index])

    sizes = {name: size for group in names.values() for name, size in group}
    cores = []
    for core in network.cores:
        indices = expand(core.indices)
        cores.append(Core(indices, core.values.reshape([sizes[i] for i in indices])))
    windows = {
        name: replace(
            window,
            terms=tuple((t, stride) for term, stride in window.terms for t, _ in names[term]),
        )
        for index, window in network.windows.items()
        for name, _ in names[index]
    }
    return replace(
        network,
        sizes=sizes,
        cores=tuple(cores),
        input=expand(network.input),
        output=expand(network.output),
        windows=windows,
        bias_over=None if network.bias_over is None else expand(network.bias_over),
    )


def refined(network: ContractionNetwork, factors: Sequence[int]) -> ContractionNetwork:
    """The network with its input in these factors, which refine its modes."""
    names: dict[str, list[tuple[str, int]]] = {
        index: [(index, size)] for index, size in network.sizes.items()
    }
    for index, group in zip(network.input, _split(network.modes_in, factors), strict=True):
        if len(group) != 1:
            names[index] = [(f"{index}.{j}", factors[j]) for j in group]
    return rename(network, names)


def align(model: Model) -> tuple[tuple[ContractionNetwork, ...], tuple[Boundary, ...]]:
    """The model's layers in model-wide index names, and its boundaries, one more than layers.

    Bonds are named ``{layer}.{index}``, features ``t{boundary}.{factor}``. Indices of size 1 are
    gone.
    """
    layers = model.layers
    before: list[tuple[int, ...]] = []
    after: list[tuple[int, ...]] = []
    boundaries = []
    for t in range(len(layers) + 1):
        left = layers[t - 1].modes_out if t else layers[0].modes_in
        right = layers[t].modes_in if t < len(layers) else left
        factors = refine(left, right)
        boundaries.append(Boundary(shared=factors is not None))
        before.append(factors if factors is not None else tuple(m for m in left if m > 1))
        after.append(factors if factors is not None else tuple(m for m in right if m > 1))

    result = []
    for number, layer in enumerate(layers):
        names: dict[str, list[tuple[str, int]]] = {
            index: [(f"{number}.{index}", size)] if size > 1 else []
            for index, size in layer.sizes.items()
        }
        for t, indices, factors, side in (
            (number, layer.input, after[number], "in"),
            (number + 1, layer.output, before[number + 1], "out"),
        ):
            prefix = f"t{t}" if boundaries[t].shared else f"t{t}{side}"
            modes = [layer.sizes[i] for i in indices]
            for index, group in zip(indices, _split(modes, factors), strict=True):
                names[index] = [(f"{prefix}.{j}", factors[j]) for j in group]
        result.append(rename(layer, names))
    return tuple(result), tuple(boundaries)
