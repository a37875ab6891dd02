"""What all trains share: cores ``(r[k-1], modes of core k, r[k])`` in a chain, open with boundary
ranks 1, or closed to a ring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from drawbar.gen.errors import NetworkError
from drawbar.gen.network import ContractionNetwork, Core


def train_network(
    name: str,
    cores: Sequence[np.ndarray],
    modes: Sequence[Mapping[str, str]],
    *,
    format: str,
    bias: np.ndarray | None,
    activation: str,
    ring: bool = False,
) -> ContractionNetwork:
    """A train as a network, with bonds ``r1``, ``r2`` and so on.

    Arguments
    ---------
    modes:
        For each core, its modes in order: index name to what the mode is. Names in ``n`` are of the
        input, names in ``m`` of the output, both row-major.
    ring:
        The last core's last rank is the first one's first, bond ``r0``; otherwise both are 1.

    Raises
    ------
    NetworkError:
        a core has other than these ways, neighbouring ranks differ, or the ends do not close.
    """
    sizes: dict[str, int] = {}
    network_cores = []
    ranks: list[int] = []
    for k, (core, own) in enumerate(zip(cores, modes, strict=True)):
        where = f"layer {name!r}, core {k}"
        if core.ndim != len(own) + 2:
            ways = ", ".join(("rank", *own.values(), "rank"))
            raise NetworkError(
                where, f"is {len(own) + 2}-way: ({ways})", f"{core.ndim}-way", "reshape the core"
            )
        if not ranks:
            ranks.append(core.shape[0] if ring else 1)
        if core.shape[0] != ranks[-1]:
            raise NetworkError(
                where,
                f"starts with rank {ranks[-1]}",
                core.shape[0],
                "make neighbouring ranks agree",
            )
        ranks.append(core.shape[-1])
        indices = [*own]
        values = core
        if k > 0 or ring:
            sizes[f"r{k}"] = core.shape[0]
            indices.insert(0, f"r{k}")
        else:
            values = values[0]
        sizes |= zip(own, core.shape[1:-1], strict=True)
        if k < len(cores) - 1:
            indices.append(f"r{k + 1}")
        elif ranks[-1] != ranks[0]:
            fix = "close the train with a core of last rank"
            raise NetworkError(where, f"ends with rank {ranks[0]}", ranks[-1], f"{fix} {ranks[0]}")
        elif ring:
            indices.append("r0")
        else:
            values = values[..., 0]
        network_cores.append(Core(tuple(indices), np.asarray(values, np.float64)))
    names = [index for own in modes for index in own]
    return ContractionNetwork(
        name=name,
        format=format,
        sizes=sizes,
        cores=tuple(network_cores),
        input=tuple(index for index in names if index[0] == "n"),
        output=tuple(index for index in names if index[0] == "m"),
        bias=None if bias is None else np.asarray(bias, np.float64),
        activation=activation,
        ranks=tuple(ranks),
    )


def single_modes(name: str, count: int, inputs: int) -> list[dict[str, str]]:
    """Modes of ``count`` 3-way cores, the first ``inputs`` of them of the input, the rest of the
    output.

    Raises
    ------
    NetworkError:
        there is no input mode or no output mode.
    """
    if not 0 < inputs < count:
        raise NetworkError(
            f"layer {name!r}",
            "has at least one core with an input mode and one with an output mode",
            f"{count} cores, {inputs} of them with input modes",
            f"give inputs between 1 and {max(1, count - 1)}",
        )
    return [{f"n{k}" if k < inputs else f"m{k - inputs}": "mode"} for k in range(count)]
