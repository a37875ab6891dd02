"""The compression benchmark: rows say truly what holds, and the board's rows are the engine's."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_recipes import noise_images, tiny
from typer.testing import CliRunner

import drawbar
from drawbar import compress_suite
from drawbar.compress_checks import count_rows, left_out, speed_rows, svd_rows
from drawbar.compress_suite import (
    RECIPE,
    RESNET_PUBLISHED,
    STORED,
    board_rows,
    compress_resnet_suite,
    near_rows,
    resnet_full_rows,
    resnet_rows,
    stored_rows,
    training_rows,
)
from drawbar.gen.cli.main import app
from drawbar.gen.errors import InputError
from drawbar.sw.compress.compression import layer_specs
from drawbar.sw.compress.data import Dataset
from drawbar.sw.compress.layers import decompose
from drawbar.sw.compress.recipes import RECIPES, lenet_5, reference_model
from drawbar.sw.compress.storage import LowBitModel, bits_of

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
        assert (cycles["value"], cycles["passed"]) == (2_304, True)
        differ = found[f"8 x 8, {what}, 500 images: differ"]
        assert (differ["value"], differ["passed"]) == (0, True)
    json.dumps(rows)


def arm(direct: float, decomposed: float, tuned: float) -> SimpleNamespace:
    model = torch.nn.Linear(5_969, 1, bias=True)
    marks = {"direct": direct, "decomposed": decomposed, "tuned": tuned}
    return SimpleNamespace(
        dense=SimpleNamespace(accuracy={"tuned": 98.5}, model=torch.nn.Linear(29_999, 5)),
        compressed=SimpleNamespace(accuracy=marks, model=model),
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


def test_other_rows_hold_only_where_they_do(monkeypatch: pytest.MonkeyPatch) -> None:
    near = {row["name"].split(":")[0]: row for row in near_rows(arm(20, 96, 98.4))}  # type: ignore[arg-type]
    assert near["LeNet-5, TT, weights of 150,000"]["passed"]  # 25.1x
    assert near["LeNet-5, TT, ADMM, after"]["passed"]
    assert near["LeNet-5, TT, ADMM, after"]["value"] == pytest.approx(0.1)
    far = near_rows(arm(20, 96, 98.39))  # type: ignore[arg-type]
    assert [row["passed"] for row in far] == [True, None, None, False, None]
    ahead = resnet_rows((0, 1), [arm(10, 50, 97.5), arm(10, 50, 96.7)])  # type: ignore[list-item]
    assert (ahead[-1]["value"], ahead[-1]["passed"]) == (pytest.approx(0.1), True)
    assert not resnet_rows((0,), [arm(10, 50, 97.0)])[-1]["passed"]  # type: ignore[list-item]
    for ratio, after, passed in ((6.8, 90.53, True), (6.8, 90.52, False), (4.5, 90.97, True)):
        weights, *_, row = resnet_full_rows(ratio, (0,), [arm(10, 50, after)])  # type: ignore[list-item]
        assert weights["passed"]  # 25.1x
        assert row["name"] == f"{ratio}x: ADMM, after, mean of seeds"
        least = {6.8: "at least 90.53", 4.5: "at least 90.97"}[ratio]
        assert (row["value"], row["wanted"], row["passed"]) == (after, least, passed)
    monkeypatch.setitem(compress_suite.RESNET_PUBLISHED, 25.2, 91.0)
    assert not resnet_full_rows(25.2, (0,), [arm(10, 50, 98)])[0]["passed"]  # type: ignore[list-item]


def test_the_long_schedules_share_their_dense_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Tiny runs of both recipes, on noise: ranks are chosen for the compression."""
    monkeypatch.setattr(compress_suite, "load_dataset", lambda *_: noise_images())
    for ratio in RESNET_PUBLISHED:
        name = f"resnet-20-tt-{ratio}x"
        monkeypatch.setitem(RECIPES, name, tiny(RECIPES[name]))
    seen: list[tuple[str, int, int]] = []
    rows = compress_resnet_suite(full=True, folder=tmp_path, report=lambda *what: seen.append(what))
    assert [text.split(", loss")[0] for text, _, _ in seen] == [
        "resnet-20-tt-6.8x, seed 0, dense: dense 1",
        "resnet-20-tt-6.8x, seed 0, admm: admm 1",
        "resnet-20-tt-6.8x, seed 0, admm: tuning 1",
        "resnet-20-tt-4.5x, seed 0, admm: admm 1",
        "resnet-20-tt-4.5x, seed 0, admm: tuning 1",
    ]
    sizes = {row["name"]: row for row in rows if row["unit"] == "weights"}
    for ratio, most in ((6.8, 39_665), (4.5, 59_938)):
        row = sizes[f"{ratio}x: ResNet-20, weights of 269,722"]
        assert (row["wanted"], row["passed"]) == (f"at most {most:,}", True)
        assert most * 0.98 < row["value"] <= most
    assert [row["passed"] for row in rows if row["wanted"].startswith("at least")] == [False] * 2


def stored(size: int, accuracy: float) -> list[dict]:  # type: ignore[type-arg]
    made = arm(20, 96, 98)
    made.compressed.packed = bytes(size)
    made.compressed.bits = {"a": 3, "b": 4, "c": 4}
    made.compressed.accuracy["stored"] = accuracy
    return stored_rows("lenet-300-ada", made)  # type: ignore[arg-type]


def test_bytes_and_points_of_what_is_stored() -> None:
    rows = stored(4_577, 98.3)
    assert [row["passed"] for row in rows] == [True, True]
    assert rows[0]["name"] == "lenet-300-ada, file, 131x less"
    assert rows[1]["name"].startswith("lenet-300-ada (1 tensors of 3 bits, 2 tensors of 4 bits)")
    assert [row["passed"] for row in stored(4_578, 98.29)] == [False, False]


@pytest.mark.parametrize("name", STORED)
def test_the_files_of_few_bits_are_small_enough(name: str) -> None:
    """Bytes do not depend on training."""
    recipe = RECIPES[name]
    model = decompose(reference_model(recipe.model), recipe.layers)
    _, data = LowBitModel(model, bits_of(model, recipe.bits)).baked()
    assert len(data) <= STORED[name]


def test_counts_are_the_published_ones() -> None:
    rows = count_rows()
    assert len(rows) == 9
    assert all(row["passed"] for row in rows)


def test_steps_and_decompositions_are_timed() -> None:
    for row in speed_rows(RECIPE_, steps=2):
        assert 0.05 < row["value"] < 50
        assert row["passed"] == (row["value"] <= 1.5)
    time, error = svd_rows(size=64, rounds=1)
    assert time["passed"] == (time["value"] <= 1.1)
    assert error["passed"]


def test_a_row_without_an_oracle_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drawbar.compress_checks.find_spec", lambda _name: None)
    (row,) = svd_rows()
    assert (row["value"], row["passed"], row["wanted"]) == (None, None, "pip install tensorly")


def test_the_command_shows_what_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = training_rows((0,), [arm(20, 96, 97.9)])  # type: ignore[list-item]
    rows.append(left_out("another network", "drawbar bench --suite other"))
    monkeypatch.setattr(drawbar, "bench", lambda *_, **__: rows, raising=False)
    result = CliRunner().invoke(app, ["bench", "--suite", "compress-quick"], env={"COLUMNS": "160"})
    assert result.exit_code == 3
    lines = result.stdout.splitlines()
    line = next(text for text in lines if text.strip().startswith("ADMM, after, mean"))
    assert line.split()[-1] == "NO"
    assert "at least 98" in line
    line = next(text for text in lines if "another network: left out" in text)
    assert line.split()[-4:] == ["drawbar", "bench", "--suite", "other"]


def test_options_of_other_suites_are_refused() -> None:
    with pytest.raises(InputError, match="leave seeds out"):
        drawbar.bench("tie", seeds=(0,))
    with pytest.raises(InputError, match="leave engine out"):
        drawbar.bench("compress-quick", engine="large")
    with pytest.raises(InputError, match="leave batch out"):
        drawbar.bench("compress-resnet", batch=2)
