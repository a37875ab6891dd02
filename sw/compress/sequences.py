"""Classifiers of sequences: recurrent cells and a linear layer on their last state."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from drawbar.gen.errors import InputError
from drawbar.sw.compress import speech
from drawbar.sw.compress.backend import nn, torch
from drawbar.sw.compress.checkpoint import load_checkpoint, save_checkpoint
from drawbar.sw.compress.data import Dataset
from drawbar.sw.compress.formats import get_format
from drawbar.sw.compress.recurrent import FactorisedRNN, recurrent_spec
from drawbar.sw.compress.train import Cosine, Progress, seeded, train_epoch


class SequenceClassifier(nn.Module):
    """Classes ``(batch, outputs)`` of sequences ``(batch, steps, inputs)``, which may be flat:
    ``(batch, steps * inputs)``.

    Arguments
    ---------
    cell:
        Recurrent cells of one layer, with ``batch_first``.
    head:
        From the last state to the outputs.
    """

    def __init__(self, cell: FactorisedRNN | nn.LSTM | nn.GRU, head: nn.Module) -> None:
        super().__init__()
        if not cell.batch_first:
            raise InputError(
                "cells of a sequence classifier", "have batch_first", False, "set batch_first=True"
            )
        self.cell, self.head = cell, head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states, _ = self.cell(x.reshape(len(x), -1, self.cell.input_size))
        return self.head(states[:, -1])


def spoken_digits(seed: int = 0) -> SequenceClassifier:
    """The LSTM of the benchmark: 64 units, with tensor trains from inputs to gates (rank 8) and
    from state to gates (rank 16); 9,642 weights, where a dense one has 33,674.
    """
    with seeded(seed):
        spec = recurrent_spec(
            "lstm", speech.FEATURES, 64, name="input", modes_in=(4, 4, 4), modes_out=(4, 4, 4),
            max_rank=8,
        )
        cell = FactorisedRNN.fresh("lstm", spec, batch_first=True)
        chosen = get_format("tt")
        state = recurrent_spec(
            "lstm", 64, 64, name="state", modes_in=(8, 8), modes_out=(8, 8), max_rank=16
        )
        cell = FactorisedRNN(
            "lstm", cell.input_map, chosen.layer(state, bias=True), batch_first=True
        )
        with torch.no_grad():
            # What is remembered at first stays for a while.
            cell.input_map.bias[64:128] = 1.0
        return SequenceClassifier(cell, nn.Linear(64, 10))


EPOCHS, BATCH, LEARNING_RATE, WEIGHT_DECAY, NOISE = 60, 64, 5e-3, 1e-3, 0.02
#: Steps by which a sequence is moved at most, and bands that are masked, in training.
SHIFT, MASKED = 4, 4
