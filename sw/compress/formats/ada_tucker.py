"""ADA-Tucker (Zhong et al. 2019, arXiv 1906.07671): a Tucker decomposition of the weight in
balanced modes, trained end to end; and SCADA-Tucker, one core shared by all layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from math import ceil, prod
from typing import Any, ClassVar

import numpy as np

from drawbar.gen.errors import NetworkError
from drawbar.gen.network import ContractionNetwork, Core
from drawbar.sw.compress.backend import nn, torch
from drawbar.sw.compress.factorised import FactorisedLayer, layer_arrays
from drawbar.sw.compress.formats.settle import Asked
from drawbar.sw.compress.formats.tucker import Tucker
from drawbar.sw.compress.spec import Spec

ORDER = 4


class ADATucker(Tucker):
    """Tucker over modes that are as equal as can be: of all ways to give the outputs and the inputs
    ``order`` modes together, the one whose largest mode is the least multiple of its smallest, and
    of those the one with the least padding. Modes may multiply to more than the layer has; the
    weight is then padded with zeros.

    Options
    -------
    order:
        How many modes the weight has, the kernel of a convolution aside; 4 if not given, and 2 at
        least.
    clip:
        As in ``Tucker``.
    """

    name = "ada_tucker"
    defaults: ClassVar[dict[str, Any]] = {"order": ORDER, "clip": True}

    def settle(self, asked: Asked) -> Spec:
        spec = super().settle(asked)
        order = len(spec.output) + len(spec.input)
        return replace(spec, options={**spec.options, "order": order})

    def modes(self, asked: Asked) -> tuple[tuple[int, ...], tuple[int, ...]]:
        name, order = asked.name, asked.options["order"]
        if not isinstance(order, int) or isinstance(order, bool) or not 2 <= order <= 8:
            raise NetworkError(f"layer {name!r}, order", "is 2 to 8", order, "use one of these")
        outputs, inputs = asked.shape[:2]
        out, in_ = balanced_modes(outputs, inputs, order)
        out = out if asked.modes_out is None else tuple(asked.modes_out)
        in_ = in_ if asked.modes_in is None else tuple(asked.modes_in)
        for side, modes, size in (("modes_out", out, outputs), ("modes_in", in_, inputs)):
            good = modes and all(isinstance(mode, int) and mode >= 1 for mode in modes)
            if not good or prod(modes) < size:
                raise NetworkError(
                    f"layer {name!r}, {side}",
                    f"are positive integers that multiply to {size} at least",
                    modes,
                    "use larger modes, or give none",
                )
        return out, in_

    def network(self, layer: FactorisedLayer, name: str) -> ContractionNetwork:
        """Where a side is padded, its factors are merged into one and cut to the layer's size; the
        Tucker core stays as it is.
        """
        spec = layer.spec
        (core, *factors), bias = layer_arrays(layer, name)
        count = len(spec.output)
        sizes: dict[str, int] = {}
        cores = [Core(spec.cores[0], core)]
        sides = []
        for letter, indices, own, size in (
            ("m", spec.output, factors[:count], spec.outputs),
            ("n", spec.input, factors[count:], spec.inputs),
        ):
            bonds = [axes[1] for axes in spec.cores[1:] if axes[0] in indices]
            sizes |= {bond: spec.sizes[bond] for bond in bonds}
            if prod(spec.modes(indices)) == size:
                cores += [
                    Core((i, bond), factor)
                    for i, bond, factor in zip(indices, bonds, own, strict=True)
                ]
                sizes |= {i: spec.sizes[i] for i in indices}
                sides.append(tuple(indices))
                continue
            merged = np.ones((1,))
            for factor in own:  # (modes so far, ranks so far) to one mode more
                rows = merged.reshape(merged.shape[0], 1, -1, 1) * factor[:, None, :]
                merged = rows.reshape(merged.shape[0] * len(factor), -1)
            merged = merged[:size].reshape(size, *(sizes[bond] for bond in bonds))
            cores.append(Core((letter, *bonds), merged))
            sizes[letter] = size
            sides.append((letter,))
        return ContractionNetwork(
            name=name,
            format=spec.format,
            sizes=sizes,
            cores=tuple(cores),
            input=sides[1],
            output=sides[0],
            bias=bias,
            ranks=spec.ranks,
        )


@lru_cache
def balanced_modes(
    outputs: int, inputs: int, order: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The modes of both sides, ``order`` in all, with the least ratio of largest to smallest, then
    the least padding; at least one on each side.
    """
    pairs = (
        (out, in_)
        for count in range(1, order)
        for out in _modes(outputs, count)
        for in_ in _modes(inputs, order - count)
    )

    def rank(pair: tuple[tuple[int, ...], tuple[int, ...]]) -> tuple[float, int]:
        modes = (*pair[0], *pair[1])
        return max(modes) / min(modes), prod(modes)

    return min(pairs, key=rank)


def _modes(size: int, count: int) -> Iterator[tuple[int, ...]]:
    """Modes in ascending order that multiply to the size at least, each no larger than needed."""
    if count == 1:
        yield (size,)
        return
    root = size ** (1 / count)
    for first in range(max(1, int(root / 2)), ceil(root) + 1):
        for rest in _modes(ceil(size / first), count - 1):
            if rest[0] >= first:
                yield (first, *rest)


def share_core(layers: Mapping[str, nn.Module]) -> nn.Parameter:
    """SCADA-Tucker: one core for all these layers, from now on the same parameter; the mean of
    theirs to begin with.

    Raises
    ------
    NetworkError:
        no layers, a layer that has no Tucker core, or cores of different shapes.
    """
    cores = {}
    for name, layer in layers.items():
        cored = isinstance(layer, FactorisedLayer)
        found = layer.spec.format if cored else type(layer).__name__
        if not cored or found not in ("ada_tucker", "tucker"):
            raise NetworkError(
                f"layer {name!r}", "has a Tucker core to share", found, "use ada_tucker"
            )
        cores[name] = layer.cores[0]
    shapes = {name: tuple(core.shape) for name, core in cores.items()}
    if len(set(shapes.values())) != 1:
        raise NetworkError(
            "shared core", "has one shape in all layers", shapes, "give all layers the same ranks"
        )
    with torch.no_grad():
        mean = torch.stack([core.detach() for core in cores.values()]).mean(0)
    shared = nn.Parameter(mean)
    for layer in layers.values():
        assert isinstance(layer, FactorisedLayer)
        layer.cores[0] = shared
    return shared
