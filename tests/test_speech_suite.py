"""The benchmark of sequences: its rows are the engine's, trained or not."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import drawbar
from drawbar.gen.cli.main import app
from drawbar.gen.errors import InputError
from drawbar.speech_suite import DENSE, speech_rows
from drawbar.sw.compress.data import Dataset
from drawbar.sw.compress.sequences import spoken_digits
from drawbar.sw.compress.speech import FEATURES, STEPS


def test_rows_without_training() -> None:
    rng = np.random.default_rng(1)
    x = rng.uniform(size=(30, STEPS * FEATURES)).astype(np.float32)
    y = rng.integers(10, size=30)
    model = spoken_digits()
    rows = speech_rows(model, Dataset("noise", x, y, x, y, 10), 2, "golden", None)
    found = {row["name"]: row for row in rows}
    assert len(found) == len(rows)
    assert found[f"LSTM of tensor trains, weights of {DENSE:,}"]["value"] == 7_946
    assert DENSE == 33_930
    assert found["float, right"]["passed"] is False
    step = found["16 x 16, 16 bit, cycles of each step"]
    assert step["passed"] is True
    assert step["runs"] == 2 * STEPS
    assert step["value"] == step["cycles_predicted"] <= 1_500
    assert found["16 x 16, 16 bit, 2 recordings: differ"]["passed"] is True
    layers = [row for row in rows if "layer" in row]
    assert len(layers) == 9
    assert sum(row["cycles"] for row in layers) == step["value"]
    assert all(0 < row["value"] < 100 for row in layers)
    json.dumps(rows)


def test_without_recordings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DRAWBAR_DATA", raising=False)
    result = CliRunner().invoke(app, ["bench", "--suite", "fsdd-lstm"], env={"COLUMNS": "160"})
    assert result.exit_code == 1
    assert "--data DIR" in result.output
    with pytest.raises(InputError, match="leave engine out"):
        drawbar.bench("fsdd-lstm", engine="large")
