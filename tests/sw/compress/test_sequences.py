"""Training of the spoken digits' LSTM: resumable to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from drawbar.gen.errors import ArtefactError
from drawbar.sw.compress.data import Dataset
from drawbar.sw.compress.sequences import (
    SequenceClassifier,
    Training,
    spoken_digits,
    train_spoken_digits,
)
from drawbar.sw.compress.speech import FEATURES, STEPS
from drawbar.sw.compress.train import accuracy

QUICK = Training(epochs=3, batch_size=16, lr=1e-2)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Two classes that differ in their bands."""
    rng = np.random.default_rng(1)
    x = rng.uniform(size=(64, STEPS, FEATURES)).astype(np.float32) / 2
    y = np.arange(64) % 2
    x[y == 1, :, : FEATURES // 2] += 0.5
    x = x.reshape(64, -1)
    return Dataset("bands", x, y, x, y, 10)


def weights(model: SequenceClassifier) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def test_a_killed_run_ends_with_the_same_bits(dataset: Dataset, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(done: int, total: int, text: str) -> None:
        assert total == QUICK.epochs
        assert "loss" in text
        if done == 2:
            raise Killed

    whole = train_spoken_digits(dataset, QUICK)
    with pytest.raises(Killed):
        train_spoken_digits(dataset, QUICK, folder=tmp_path, progress=kill)
    epochs: list[int] = []
    resumed = train_spoken_digits(
        dataset, QUICK, folder=tmp_path, progress=lambda done, *_: epochs.append(done)
    )
    assert epochs == [3]
    assert torch.equal(weights(resumed), weights(whole))
    assert not torch.equal(weights(whole), weights(spoken_digits()))
    assert accuracy(whole, dataset.test_x, dataset.test_y) > 90
    with pytest.raises(ArtefactError, match=r"lr: 0\.01, now 0\.02"):
        train_spoken_digits(dataset, Training(epochs=3, batch_size=16, lr=2e-2), folder=tmp_path)


def test_the_model_of_the_benchmark() -> None:
    model = spoken_digits()
    assert sum(p.numel() for p in model.parameters()) == 7_946
    assert model(torch.zeros(2, STEPS * FEATURES)).shape == (2, 10)
    assert torch.equal(weights(model), weights(spoken_digits()))
    assert not torch.equal(weights(model), weights(spoken_digits(1)))
