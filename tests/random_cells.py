"""Recurrent classifiers with random weights, for tests that run them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from drawbar.sw.compress.formats import get_format
from drawbar.sw.compress.recurrent import FactorisedRNN, recurrent_spec
from drawbar.sw.compress.sequences import SequenceClassifier

INPUTS, UNITS, CLASSES = 12, 16, 5
FORMATS: dict[str, dict[str, Any]] = {
    "dense": {},
    "tt": {"max_rank": 3},
    "tensor_ring": {"max_rank": 2},
    "block_term": {"max_rank": 2},
    "cp": {"max_rank": 3},
}


def random_cells(kind: str, format: str, *, bias: bool = True, seed: int = 1) -> SequenceClassifier:
    """12 inputs, 16 units, 5 classes; both maps in the format."""
    torch.manual_seed(seed)
    cell: Any
    if format == "dense":
        made = {"lstm": nn.LSTM, "gru": nn.GRU}[kind]
        cell = made(INPUTS, UNITS, batch_first=True, bias=bias)
    else:
        maps = []
        for name, inputs, modes in (("input", INPUTS, (3, 4)), ("state", UNITS, (4, 4))):
            spec = recurrent_spec(
                kind,
                inputs,
                UNITS,
                format=format,
                name=name,
                modes_in=modes,
                modes_out=(4, 4),
                **FORMATS[format],
            )
            maps.append(get_format(format).layer(spec, bias=bias))
        cell = FactorisedRNN(kind, *maps, batch_first=True)
    model = SequenceClassifier(cell, nn.Linear(UNITS, CLASSES))
    with torch.no_grad():
        # Gates that open and close.
        for parameter in model.parameters():
            parameter.mul_(1.5)
    return model.eval()
