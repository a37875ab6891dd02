"""Settings of a compression's training: what is refused, and how."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drawbar.gen.errors import InputError
from drawbar.sw.compress.settings import PHASES, Settings, make_settings


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"method": "magic"}, "method: is one of admm, direct; found magic"),
        ({"optimiser": "lion"}, "optimiser: is one of adam, sgd; found lion"),
        ({"precision": "half"}, "precision: is one of float32, bfloat16; found half"),
        ({"admm_epochs": 0}, "admm_epochs: is at least 1"),
        ({"tuning_epochs": -1}, "tuning_epochs: is at least 0"),
        ({"cycles": 0}, "cycles: is at least 1"),
        ({"warmup": -1}, "warmup: is at least 0"),
        ({"batch_size": 0}, "batch_size: is at least 1"),
        ({"rho_first": 0.0}, "rho_first: is more than 0"),
        ({"label_smoothing": 1.0}, "label_smoothing: is at least 0 and less than 1"),
        ({"distillation": 1.5}, "distillation: is 0 to 1"),
        ({"temperature": 0.0}, "temperature: is more than 0"),
        ({"storage_lr": 0.0}, "storage_lr: is more than 0"),
        ({"shift": -1}, "shift: is at least 0"),
        ({"mirror": 1.1}, "mirror: is 0 to 1"),
        ({"augment_from": "later"}, "augment_from: is one of dense, admm, tuning"),
    ],
)
def test_bad_settings(change: dict, match: str) -> None:
    with pytest.raises(InputError, match=match):
        replace(Settings(), **change)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (
            {"epochs": 3},
            r"epochs: is a setting; found epochs=3\. Fix: use one of method",
        ),
        ({"lr": "fast"}, "lr: is of type float; found 'fast'"),
        ({"batch_size": 1.5}, "batch_size: is of type int"),
        ({"seed": True}, "seed: is of type int"),
        ({"cuda_graph": 1}, "cuda_graph: is of type bool"),
    ],
)
def test_bad_settings_by_name(values: dict, match: str) -> None:
    with pytest.raises(InputError, match=match):
        make_settings(values)


def test_settings_by_name() -> None:
    asked = {"lr": 1, "threads": 2, "cuda_graph": True}
    assert make_settings(asked) == Settings(lr=1, threads=2, cuda_graph=True)


def test_only_phases_that_start_from_trained_weights_warm_up() -> None:
    settings = Settings(warmup=2)
    assert [settings.warmup_epochs(phase) for phase in PHASES] == [0, 2, 2, 2]
