"""Benchmark of many runs, one after the other, with one buffer and with two, on the simulated
board.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from drawbar import api
from drawbar.gen.artefact import Artefact
from drawbar.gen.config import EngineConfig
from drawbar.gen.formats import dense_network, tt_network
from drawbar.gen.network import Model
from drawbar.gen.pipeline import RUN_GAP
from drawbar.gen.presets import load_config
from drawbar.gen.timeline import AVERAGED, artefact_streaming
from drawbar.gen.transfers import LinkRate
from drawbar.layer_suites import CALIBRATION, TIE_LAYERS, BuildProgress, Report, Row
from drawbar.sim.golden import run_artefact
from drawbar.sw.driver import Device

if TYPE_CHECKING:
    from drawbar.sim.board import SimBoard

#: Runs of each measurement: so many that the last ones repeat.
RUNS = 12
#: The demo's model for MNIST, and the engine that it is compiled for.
DEMO_MODES = ((4, 7, 7, 4), (4, 8, 8, 4), (4, 4, 4, 4))
DEMO_RANKS = (1, 8, 8, 8, 1)
DEMO_CLASSES = 10
DEMO_ENGINE = "ulx3s-85f"
#: Cycles of a byte on the slower lines: 30 Mbaud at 48 MHz.
SLOW = 16


def demo_like_model() -> Model:
    """A model of the shape of the MNIST demo's, with random weights."""
    rng = np.random.default_rng(1)
    layers = []
    for number, (n, m) in enumerate(pairwise(DEMO_MODES)):
        ranks = zip(DEMO_RANKS, DEMO_RANKS[1:], m, n, strict=False)
        cores = [
            rng.standard_normal((left, out, into, right)) / np.sqrt(into * right)
            for left, right, out, into in ranks
        ]
        bias = rng.standard_normal(int(np.prod(m))) / 4
        layers.append(tt_network(f"fc{number + 1}", cores, bias=bias, activation="relu"))
    inputs = layers[-1].outputs
    weight = rng.standard_normal((DEMO_CLASSES, inputs)) / np.sqrt(inputs)
    last = dense_network(f"fc{len(layers) + 1}", weight, bias=rng.standard_normal(DEMO_CLASSES))
    return Model("MNIST-like", (*layers, last))


def host_gap(pace: int) -> int:
    """The ``gap`` of a simulated board's host, as ``gen.timeline`` has it."""
    from drawbar.sim.board import GAP_CYCLES

    return GAP_CYCLES + pace - 1


def _measured(device: Device) -> tuple[float, float]:
    """Cycles of the last runs but one from one to the next, and those between them."""
    run = device.last_run
    assert run is not None
    waits = run.waits[-1 - AVERAGED : -1]
    idle = sum(counters.idle for counters in waits) / AVERAGED
    return idle + sum(counters.cycles for counters in waits) / AVERAGED, idle


def stream_row(board: SimBoard, artefact: Artefact, x: np.ndarray, pace: int) -> Row:
    """One artefact's runs on a simulated board, a byte in ``pace`` cycles each way."""
    device = Device(board)
    device.load(artefact)
    board.pace(pace)
    found = device.run_integers(x)
    board.pace(1)
    period, idle = _measured(device)
    predicted = artefact_streaming(artefact, LinkRate(Fraction(pace), pace), host_gap(pace))
    run = device.last_run
    assert run is not None
    assert run.counters is not None
    return {
        "model": artefact.name,
        "engine": artefact.config.name,
        "batch": artefact.batch,
        "buffers": len(artefact.buffers),
        "runs": run.runs,
        "byte_cycles": pace,
        "cycles_predicted": artefact.cycles,
        "cycles_measured": run.counters.cycles,
        "cycles_in": predicted.cycles_in,
        "cycles_out": predicted.cycles_out,
        "cycles_link": predicted.cycles_link,
        "limit": predicted.limit,
        "period_predicted": predicted.period,
        "period_measured": period,
        "idle": idle,
        "gap_least": RUN_GAP,
        "work_bytes_double": artefact.meta["work_bytes_double"],
        "mismatches": int(np.count_nonzero(found != run_artefact(artefact, x))),
    }


def stream_rows(
    models: Sequence[tuple[Model, EngineConfig, int]],
    *,
    batch: int = 1,
    runs: int = RUNS,
    report: Report | None = None,
    build_progress: BuildProgress | None = None,
) -> list[Row]:
    """Each model on its engine, at its cycles a byte, with one buffer and with two."""
    # Only here: the simulated board needs amaranth.
    from drawbar.sim.board import SimBoard

    rows: list[Row] = []
    for number, (model, config, pace) in enumerate(models):
        if report is not None:
            report(f"{model.name}, a byte in {pace}", number, len(models))
        rng = np.random.default_rng(2)
        calibration = rng.standard_normal((CALIBRATION, model.inputs))
        both = []
        for buffers in (1, 2):
            artefact = api.compile(
                model, config, calibration=calibration, batch=batch, buffers=buffers
            )
            x = artefact.quantise_input(rng.standard_normal((runs * batch, model.inputs)))
            with SimBoard(config, progress=build_progress) as board:
                both.append(stream_row(board, artefact, x, pace))
        for row in both:
            row["speed_up"] = both[0]["period_measured"] / row["period_measured"]
        rows += both
    if report is not None:
        report("done", len(models), len(models))
    return rows


def streaming_suite(
    *,
    batch: int = 1,
    report: Report | None = None,
    build_progress: BuildProgress | None = None,
) -> list[Row]:
    """A model of the MNIST demo's shape, which computes longer than it transfers; and VGG-FC7,
    which transfers longer, over streams and over slower lines.
    """
    demo, large = load_config(DEMO_ENGINE), load_config("large")
    models = [
        (demo_like_model(), demo, 1),
        *((TIE_LAYERS[1].model(), large, pace) for pace in (1, SLOW)),
    ]
    return stream_rows(models, batch=batch, report=report, build_progress=build_progress)
