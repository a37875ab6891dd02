"""The compression benchmark: rows say truly what holds, and the board's rows are the engine's."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import drawbar
from drawbar.compress_suite import RECIPE, board_rows, speed_row, training_rows
from drawbar.gen.cli.main import app
from drawbar.gen.errors import InputError
from drawbar.sw.compress.compression import layer_specs
from drawbar.sw.compress.data import Dataset
from drawbar.sw.compress.layers import decompose
from drawbar.sw.compress.recipes import RECIPES, lenet_5, reference_model

RECIPE_ = RECIPES[RECIPE]


@pytest.fixture(scope="module")
def lenet() -> torch.nn.Module:
    """LeNet-300 with untrained cores: cycles and bits do not depend on training."""
    dense = reference_model(RECIPE_.model)
    return decompose(dense, layer_specs(dense, RECIPE_.layers))


def test_reference_models_have_the_published_weights(lenet: torch.nn.Module) -> None:
    assert sum(p.numel() for p in reference_model("lenet-300").parameters()) == 266_610
    assert sum(p.numel() for p in lenet_5().parameters()) == 431_080
    assert sum(p.numel() for p in lenet.parameters()) == 5_970
    assert {rank for name in ("fc1", "fc2") for rank in lenet.get_submodule(name).ranks} == {1, 6}  # type: ignore[union-attr]
    assert lenet_5()(torch.zeros(2, 784)).shape == (2, 10)
    recipe = RECIPES["lenet-5-tt"]
    small = decompose(reference_model(recipe.model), recipe.layers)
    assert sum(p.numel() for p in small.parameters()) == 16_960 <= 431_080 / 25
    assert small(torch.zeros(2, 784)).shape == (2, 10)
    with pytest.raises(InputError, match="is one of lenet-300, lenet-5"):
        reference_model("lenet-6")


def test_board_rows(lenet: torch.nn.Module) -> None:
    rng = np.random.default_rng(1)
    x = rng.uniform(size=(600, 784)).astype(np.float32)
    y = rng.integers(10, size=600)
    rows = board_rows(lenet, Dataset("noise", x[:256], y[:256], x, y, 10), "golden", None)
    found = {row["name"]: row for row in rows}
    assert len(found) == len(rows) == 12
    for what in ("16 bit", "8 bit", "8 bit, bases and tuning"):
        cycles = found[f"8 x 8, {what}, cycles"]
        assert (cycles["value"], cycles["passed"]) == (2_302, True)
        differ = found[f"8 x 8, {what}, 500 images: differ"]
        assert (differ["value"], differ["passed"]) == (0, True)
    json.dumps(rows)


def arm(direct: float, decomposed: float, tuned: float) -> SimpleNamespace:
    model = torch.nn.Linear(5_969, 1, bias=True)
    marks = {"direct": direct, "decomposed": decomposed, "tuned": tuned}
    return SimpleNamespace(
        dense=SimpleNamespace(accuracy={"tuned": 98.5}),
        admm=SimpleNamespace(accuracy=marks, model=model),
        control=SimpleNamespace(accuracy={"tuned": 97.0}),
    )


def test_training_rows_hold_only_where_the_mean_does() -> None:
    rows = training_rows((0, 4), [arm(20, 96, 98.5), arm(30, 97, 97.5)])  # type: ignore[list-item]
    held = {row["name"].removesuffix(", mean of seeds"): row for row in rows}
    assert held["LeNet-300, TT rank 6, weights of 266,610"]["passed"]
    assert held["direct, before fine-tuning"]["passed"]
    assert held["ADMM, before fine-tuning"]["value"] == 96.5
    assert held["ADMM, after"]["passed"]
    assert held["ADMM, after"]["seeds"] == "0: 98.50, 4: 97.50"
    assert held["control, after"]["passed"] is None
    rows = training_rows((0,), [arm(41, 95.9, 97.9)])  # type: ignore[list-item]
    assert [row["passed"] for row in rows] == [True, None, False, False, False, None]


def test_a_training_step_is_timed() -> None:
    row = speed_row(RECIPE_, steps=2)
    assert 0.05 < row["value"] < 50
    assert row["passed"] == (row["value"] <= 1.5)


def test_the_command_shows_what_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = training_rows((0,), [arm(20, 96, 97.9)])  # type: ignore[list-item]
    monkeypatch.setattr(drawbar, "bench", lambda *_, **__: rows, raising=False)
    result = CliRunner().invoke(app, ["bench", "--suite", "compress-quick"], env={"COLUMNS": "160"})
    assert result.exit_code == 3
    lines = result.stdout.splitlines()
    line = next(text for text in lines if text.strip().startswith("ADMM, after, mean"))
    assert line.split()[-1] == "NO"
    assert "at least 98" in line


def test_options_of_other_suites_are_refused() -> None:
    with pytest.raises(InputError, match="leave seeds out"):
        drawbar.bench("tie", seeds=(0,))
    with pytest.raises(InputError, match="leave engine out"):
        drawbar.bench("compress-quick", engine="large")
