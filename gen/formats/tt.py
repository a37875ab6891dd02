"""TT-matrix (Novikov et al. 2015): cores ``(r[k-1], m[k], n[k], r[k])``, a chain of bonds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from drawbar.gen.formats.train import train_network
from drawbar.gen.network import ContractionNetwork


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
    modes = [{f"m{k}": "output mode", f"n{k}": "input mode"} for k in range(len(cores))]
    return train_network(name, cores, modes, format="tt", bias=bias, activation=activation)
