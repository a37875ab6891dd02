"""A plain linear layer: a network of one core."""

from __future__ import annotations

import numpy as np

from drawbar.gen.network import ContractionNetwork, Core


def dense_network(
    name: str, weight: np.ndarray, *, bias: np.ndarray | None = None, activation: str = "none"
) -> ContractionNetwork:
    """``weight`` is ``(outputs, inputs)``."""
    outputs, inputs = weight.shape
    return ContractionNetwork(
        name=name,
        format="dense",
        sizes={"m": outputs, "n": inputs},
        cores=(Core(("m", "n"), np.asarray(weight, np.float64)),),
        input=("n",),
        output=("m",),
        bias=None if bias is None else np.asarray(bias, np.float64),
        activation=activation,
    )
