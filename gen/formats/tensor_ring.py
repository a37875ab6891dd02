"""Tensor ring (Wang et al. 2018): 3-way cores ``(r[k-1], mode[k], r[k])``, the input modes first
and then the output modes, and the last rank is the first: the train's ends are one bond.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from drawbar.gen.formats.train import single_modes, train_network
from drawbar.gen.network import ContractionNetwork


def tensor_ring_network(
    name: str,
    cores: Sequence[np.ndarray],
    *,
    inputs: int,
    bias: np.ndarray | None = None,
    activation: str = "none",
) -> ContractionNetwork:
    """A tensor-ring layer; ``ranks`` begin and end with the bond that closes the ring.

    Arguments
    ---------
    cores:
        ``(r[k-1], mode[k], r[k])``.
    inputs:
        How many of them, counted from the first, carry input modes; the rest carry output modes.

    Raises
    ------
    NetworkError:
        a core is not 3-way, neighbouring ranks differ, the ring does not close, or there is no
        input mode or no output mode.
    """
    modes = single_modes(name, len(cores), inputs)
    return train_network(
        name, cores, modes, format="tensor-ring", bias=bias, activation=activation, ring=True
    )
