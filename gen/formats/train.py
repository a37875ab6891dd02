"""What all trains share: a chain of cores ``(r[k-1], modes of core k, r[k])`` with boundary ranks
1."""

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
) -> ContractionNetwork:
    """A train as a network, with bonds ``r1``, ``r2`` and so on.

    Arguments
    ---------
    modes:
        For each core, its modes in order: index name to what the mode is. Names in ``n`` are of the
        input, names in ``m`` of the output, both row-major.

    Raises
    ------
    NetworkError:
        a core has other than these ways, neighbouring ranks differ, or a boundary rank is not 1.
    """
    sizes: dict[str, int] = {}
    network_cores = []
    rank = 1
    for k, (core, own) in enumerate(zip(cores, modes, strict=True)):
        where = f"layer {name!r}, core {k}"
        if core.ndim != len(own) + 2:
            ways = ", ".join(("rank", *own.values(), "rank"))
            raise NetworkError(
                where, f"is {len(own) + 2}-way: ({ways})", f"{core.ndim}-way", "reshape the core"
            )
        if core.shape[0] != rank:
            raise NetworkError(
                where, f"starts with rank {rank}", core.shape[0], "make neighbouring ranks agree"
            )
        rank = core.shape[-1]
        sizes |= zip(own, core.shape[1:-1], strict=True)
        indices = [*own]
        values = core
        if k > 0:
            indices.insert(0, f"r{k}")
        else:
            values = values[0]
        if k < len(cores) - 1:
            sizes[f"r{k + 1}"] = rank
            indices.append(f"r{k + 1}")
        else:
            if rank != 1:
                raise NetworkError(
                    where, "ends with rank 1", rank, "close the train with a core of last rank 1"
                )
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
        ranks=(1, *(core.shape[-1] for core in cores)),
    )
