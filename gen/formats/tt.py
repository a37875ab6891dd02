"""TT-matrix (Novikov et al. 2015): cores ``(r[k-1], m[k], n[k], r[k])``, a chain of bonds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from drawbar.gen.errors import NetworkError
from drawbar.gen.network import ContractionNetwork, Core


def tt_network(
    name: str,
    cores: Sequence[np.ndarray],
    *,
    bias: np.ndarray | None = None,
    activation: str = "none",
) -> ContractionNetwork:
    """A TT-matrix layer: input modes n[1..d], output modes m[1..d], boundary ranks 1.

    Raises
    ------
    NetworkError:
        a core is not 4-way, neighbouring ranks differ, or a boundary rank is not 1.
    """
    sizes: dict[str, int] = {}
    network_cores = []
    depth = len(cores)
    rank = 1
    for k, core in enumerate(cores):
        where = f"layer {name!r}, core {k}"
        if core.ndim != 4:
            raise NetworkError(
                where,
                "is 4-way: (rank, output mode, input mode, rank)",
                f"{core.ndim}-way",
                "reshape the core",
            )
        if core.shape[0] != rank:
            raise NetworkError(
                where, f"starts with rank {rank}", core.shape[0], "make neighbouring ranks agree"
            )
        rank = core.shape[3]
        sizes[f"m{k}"], sizes[f"n{k}"] = core.shape[1:3]
        indices = [f"m{k}", f"n{k}"]
        values = core
        if k > 0:
            indices.insert(0, f"r{k}")
        else:
            values = values[0]
        if k < depth - 1:
            sizes[f"r{k + 1}"] = rank
            indices.append(f"r{k + 1}")
        else:
            if rank != 1:
                raise NetworkError(
                    where, "ends with rank 1", rank, "close the train with a core of last rank 1"
                )
            values = values[..., 0]
        network_cores.append(Core(tuple(indices), np.asarray(values, np.float64)))
    return ContractionNetwork(
        name=name,
        format="tt",
        sizes=sizes,
        cores=tuple(network_cores),
        input=tuple(f"n{k}" for k in range(depth)),
        output=tuple(f"m{k}" for k in range(depth)),
        bias=None if bias is None else np.asarray(bias, np.float64),
        activation=activation,
        ranks=(1, *(c.shape[3] for c in cores)),
    )
