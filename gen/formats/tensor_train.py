"""Tensor train over single modes (as in ETTE): 3-way cores ``(r[k-1], mode[k], r[k])``, the input
modes first and then the output modes.

The weight is one long train of which each core carries an input or an output mode, and not both as
in a TT-matrix.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from drawbar.gen.formats.train import single_modes, train_network
from drawbar.gen.network import ContractionNetwork


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
    modes = single_modes(name, len(cores), inputs)
    return train_network(
        name, cores, modes, format="tensor-train", bias=bias, activation=activation
    )
