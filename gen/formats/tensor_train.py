"""Tensor train over single modes (as in ETTE): 3-way cores ``(r[k-1], mode[k], r[k])``, the input
modes first and then the output modes.

The weight is one long train of which each core carries an input or an output mode, and not both as
in a TT-matrix.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from drawbar.gen.errors import NetworkError
from drawbar.gen.network import ContractionNetwork, Core


def tensor_train_network(
    name: str,
    cores: Sequence[np.ndarray],
    *,
    inputs: int,
    bias: np.ndarray | None = None,
    activation: str = "none",
) -> ContractionNetwork:
    """A tensor-train layer.

    Arguments
    ---------
    cores:
        ``(r[k-1], mode[k], r[k])``, boundary ranks 1.
    inputs:
        How many of them, counted from the first, carry input modes; the rest carry output modes.

    Raises
    ------
    NetworkError:
        a core is not 3-way, neighbouring ranks differ, a boundary rank is not 1, or there is no
        input mode or no output mode.
    """
    if not 0 < inputs < len(cores):
        raise NetworkError(
            f"layer {name!r}",
            "has at least one core with an input mode and one with an output mode",
            f"{len(cores)} cores, {inputs} of them with input modes",
            f"give inputs between 1 and {max(1, len(cores) - 1)}",
        )
    sizes: dict[str, int] = {}
    network_cores = []
    rank = 1
    for k, core in enumerate(cores):
        where = f"layer {name!r}, core {k}"
        if core.ndim != 3:
            raise NetworkError(
                where, "is 3-way: (rank, mode, rank)", f"{core.ndim}-way", "reshape the core"
            )
        if core.shape[0] != rank:
            raise NetworkError(
                where, f"starts with rank {rank}", core.shape[0], "make neighbouring ranks agree"
            )
        rank = core.shape[2]
        mode = f"n{k}" if k < inputs else f"m{k - inputs}"
        sizes[mode] = core.shape[1]
        indices = [mode]
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
    return ContractionNetwork(
        name=name,
        format="tensor-train",
        sizes=sizes,
        cores=tuple(network_cores),
        input=tuple(f"n{k}" for k in range(inputs)),
        output=tuple(f"m{k}" for k in range(len(cores) - inputs)),
        bias=None if bias is None else np.asarray(bias, np.float64),
        activation=activation,
        ranks=(1, *(core.shape[2] for core in cores)),
    )
