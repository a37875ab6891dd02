"""drawbar estimate --board and drawbar explore: what fits, how fast, which engines are worth it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import drawbar
from drawbar.gen.artefact import Artefact, Load, Pass
from drawbar.gen.cli.main import app
from drawbar.gen.errors import ConfigError, FitError
from drawbar.gen.fpga.boards import load_board
from drawbar.gen.fpga.fit import excess
from drawbar.gen.model_file import save_model
from drawbar.gen.presets import load_config
from drawbar.gen.protocol import MAX_PAYLOAD, Space
from drawbar.layer_suites import Layer
from drawbar.sizing import candidates, estimate, explore, link_bytes

RUNNER = CliRunner()
TINY = load_config("tiny")
ONE = (Pass(0, 0, 100),)
SMALL = Layer("small", (4, 5, 4), (2, 3, 4), (1, 3, 2, 1))
BOARD = "ulx3s-25f"


@pytest.fixture(scope="module")
def artefact() -> Artefact:
    model = SMALL.model()
    x = np.random.default_rng(1).standard_normal((16, model.inputs))
    return drawbar.compile(model, load_board(BOARD).engine, calibration=x)


def test_an_artefact_on_its_board(artefact: Artefact) -> None:
    started = time.perf_counter()
    facts = estimate(BOARD, artefact)
    assert time.perf_counter() - started < 1
    assert facts["cycles"] == artefact.cycles
    assert facts["config_hash"] == artefact.config.hash.hex()
    assert facts["dsps"] == artefact.config.multipliers
    assert facts["compute_s"] == artefact.cycles / artefact.config.clock_hz
    assert facts["inferences_per_s"] == pytest.approx(1 / facts["compute_s"])
    # Ten bits a byte, and at least the tensors themselves.
    assert facts["link_s"] == facts["link_bytes"] * 10 / artefact.config.baud
    assert facts["link_bytes"] > 2 * (80 + 24)
    both = facts["compute_s"] + facts["link_s"]
    assert facts["inferences_per_s_with_link"] == pytest.approx(1 / both)


def test_a_model_is_planned(artefact: Artefact) -> None:
    assert estimate(BOARD, SMALL.model())["cycles"] == artefact.cycles
    slow = estimate(BOARD, SMALL.model(), fmax=50)
    assert slow["clock_mhz"] == 50
    assert slow["cycles"] == artefact.cycles


def test_frames_on_the_line() -> None:
    """A payload of more than one frame pays the header and the check for each."""
    one = link_bytes(MAX_PAYLOAD, 0, ONE, TINY) - link_bytes(0, 0, ONE, TINY)
    assert link_bytes(3 * MAX_PAYLOAD, 0, ONE, TINY) - link_bytes(0, 0, ONE, TINY) == 3 * one
    assert one == MAX_PAYLOAD + 20
    assert link_bytes(1, 0, ONE, TINY) - link_bytes(0, 0, ONE, TINY) == 21
    # What streams in: 100 vectors of four elements of two bytes, in two frames, and its start.
    two = (*ONE, Pass(9, 9, 100, (Load(Space.CORE, 0, 0, 100),)))
    start = link_bytes(0, 0, ONE, TINY) - link_bytes(0, 0, (), TINY)
    assert link_bytes(0, 0, two, TINY) - link_bytes(0, 0, ONE, TINY) == start + 800 + 2 * 20


def test_what_does_not_fit() -> None:
    with pytest.raises(FitError, match=r"256 multipliers, 228 more"):
        estimate(BOARD, engine="large")
    big = Layer("big", (16, 16, 16, 16), (4, 4, 4, 4), (1, 4, 4, 4, 1)).model()
    with pytest.raises(FitError, match="work memory"):
        estimate(BOARD, big)
    with pytest.raises(ConfigError, match="has a chip"):
        estimate("generic")


@pytest.mark.parametrize(("name", "shapes"), [(BOARD, 20), ("icebreaker", 8)])
def test_every_candidate_fits_and_shapes_differ(name: str, shapes: int) -> None:
    board = load_board(name)
    found = candidates(board, load_config(board.engine))
    assert len({(c.rows, c.lanes, c.data_width) for c in found}) >= shapes
    assert len({c.hash for c in found}) == len(found)
    for config in found:
        used = drawbar.estimate(board, engine=config)
        assert not excess({k: used[k] for k in ("luts", "ffs", "dsps", "brams")}, board.chip)


def test_the_front(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("drawbar.sizing._ROWS", (1, 4, 7))
    monkeypatch.setattr("drawbar.sizing._LANES", (1, 4))
    seen: list[int] = []
    rows = explore(BOARD, SMALL.model(), report=lambda title, done, total: seen.append(done))
    assert seen == sorted(seen)
    assert [row["cycles"] for row in rows] == sorted(row["cycles"] for row in rows)
    front = [row for row in rows if row["pareto"]]
    assert 0 < len(front) < len(rows)
    costs = ("cycles", "luts", "brams")
    for row in rows:
        better = [
            other
            for other in rows
            if other["data_width"] == row["data_width"]
            and all(other[c] <= row[c] for c in costs)
            and any(other[c] < row[c] for c in costs)
        ]
        assert row["pareto"] == (not better)
    fastest = load_config("tiny").replace(**rows[0]["config"])
    assert drawbar.plan(SMALL.model(), fastest).total.total == rows[0]["cycles"]

    path = tmp_path / "model.safetensors"
    save_model(SMALL.model(), path)
    plot = tmp_path / "front.svg"
    arguments = ["explore", "--board", BOARD, "--model", str(path), "--plot", str(plot)]
    shown = RUNNER.invoke(app, arguments, env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    assert front[0]["engine"] in shown.stdout
    assert "<svg" in plot.read_text()


def test_the_command_line(artefact: Artefact, tmp_path: Path) -> None:
    path = tmp_path / "small.drawbar"
    artefact.save(path)
    arguments = ["estimate", "--board", BOARD, "--model", str(path)]
    found = RUNNER.invoke(app, [*arguments, "--json"])
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["cycles"] == artefact.cycles
    shown = RUNNER.invoke(app, arguments, env={"COLUMNS": "200"})
    assert f"{artefact.cycles:,}" in shown.stdout
    assert RUNNER.invoke(app, ["estimate"]).exit_code == 1


def test_a_model_that_fits_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drawbar.sizing._ROWS", (4,))
    monkeypatch.setattr("drawbar.sizing._LANES", (4,))
    big = Layer("big", (16, 16, 16, 16), (4, 4, 4, 4), (1, 4, 4, 4, 1)).model()
    with pytest.raises(FitError, match="fits one of the"):
        explore(BOARD, big)
