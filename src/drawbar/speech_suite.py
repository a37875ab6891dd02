"""Benchmark of sequences: an LSTM for spoken digits, from training to the simulated board.

Each row says what was measured, what is wanted, and whether that holds.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from drawbar import api
from drawbar.compress_checks import check_row
from drawbar.device_rows import device_rows, layer_rows
from drawbar.gen.presets import load_config
from drawbar.layer_suites import BuildProgress, Report, Row
from drawbar.sim.golden import run_artefact
from drawbar.sw.compress.data import Dataset
from drawbar.sw.compress.quantise import quantise
from drawbar.sw.compress.speech import FEATURES, STEPS, load_speech

#: 16 x 16 multipliers, which also multiply live tensors.
ENGINE = "large"
RECORDINGS, CALIBRATION = 20, 64
#: What is wanted: accuracy in float, and points that 16 bits may lose.
RIGHT, LOSS = 95.0, 1.0
#: Weights of the same LSTM with dense maps.
DENSE = 4 * 64 * (FEATURES + 64) + 2 * 4 * 64 + 10 * 64 + 10


def fsdd_lstm_suite(
    *,
    data: str | Path | None = None,
    folder: str | Path | None = None,
    recordings: int = RECORDINGS,
    device: str = "sim",
    report: Report | None = None,
    build_progress: BuildProgress | None = None,
) -> list[Row]:
    """An LSTM of tensor trains: trained, quantised, and whole on a 16 x 16 engine.

    Arguments
    ---------
    data:
        Folder of the data sets.
    folder:
        Keeps checkpoints, so that a run that was killed goes on.
    recordings:
        Of the test split, on the board.
    device:
        Where they run: "sim", or "golden" without a simulator.

    Raises
    ------
    InputError:
        no recordings in the folder.
    """
    dataset = load_speech(data)
    sequences = import_module("drawbar.sw.compress.sequences")

    def progress(done: int, total: int, text: str) -> None:
        if report is not None:
            report(text, done, total)

    model = sequences.train_spoken_digits(dataset, folder=folder, progress=progress)
    return speech_rows(model, dataset, recordings, device, build_progress)


def speech_rows(
    model: Any,
    dataset: Dataset,
    recordings: int,
    device: str,
    build_progress: BuildProgress | None,
) -> list[Row]:
    """The trained classifier in float, in the golden model, and on the board."""
    train = import_module("drawbar.sw.compress.train")
    weights = sum(p.numel() for p in model.parameters())
    right = train.accuracy(model, dataset.test_x, dataset.test_y)
    rows = [
        check_row(f"LSTM of tensor trains, weights of {DENSE:,}", weights, "weights"),
        check_row("float, right", right, "%", f"at least {RIGHT:g}", right >= RIGHT),
    ]
    config = load_config(ENGINE)
    config = config.replace(name=f"{config.name}-products", products=1)
    calibration = _sequences(dataset.train_x)
    calibration = calibration[:: max(1, len(calibration) // CALIBRATION)]
    plan = api.plan(model, config, name="spoken digits")
    artefact = quantise(plan, calibration)
    test = _sequences(dataset.test_x)
    outputs = api.golden(artefact, test)
    less = right - 100.0 * float(np.mean(outputs.argmax(axis=1) == dataset.test_y))
    rows.append(
        check_row(
            f"16 bit, all {len(test)} recordings, below float",
            less,
            "points",
            f"at most {LOSS:g}",
            less <= LOSS,
        )
    )
    # Of all digits and speakers.
    chosen = np.linspace(0, len(test) - 1, min(recordings, len(test))).astype(int)
    integers = artefact.quantise_input(test[chosen])
    golden = run_artefact(artefact, integers)
    rows += device_rows(
        "", artefact, integers, golden, device, build_progress, samples="recordings", run="step"
    )
    return rows + layer_rows("", plan)


def _sequences(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), STEPS, FEATURES).astype(np.float64)
