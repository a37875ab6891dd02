"""Rows of benchmarks about a whole network: on a device, and layer by layer.

Each row says what was measured, what is wanted, and whether that holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from drawbar import api
from drawbar.compress_checks import check_row
from drawbar.gen.artefact import Artefact
from drawbar.gen.limits import layer_limit
from drawbar.gen.plan import Plan
from drawbar.layer_suites import BuildProgress, Row, stream_facts
from drawbar.sw.driver import RunReport

__all__ = ["device_rows", "layer_rows"]


def device_rows(
    title: str,
    artefact: Artefact,
    integers: np.ndarray,
    golden: np.ndarray,
    device: str,
    build_progress: BuildProgress | None,
    *,
    samples: str = "images",
    run: str = "image",
    most: int | None = None,
) -> list[Row]:
    """A network on a device: the cycles of every run, bits, and how much of the array is used.

    Arguments
    ---------
    integers, golden:
        Inputs, and what the golden model makes of them.
    samples, run:
        What the inputs are, and what one run of the program takes; of sequences that is a step.
    most:
        Cycles that a run may take.
    """
    config = artefact.config
    with api.open(device, engine=config, progress=build_progress) as board:
        board.load(artefact)
        found = board.run_integers(integers)
        last = board.last_run
    assert last is not None
    # A WAIT for each pass.
    passes = len(artefact.buffers[0].passes)
    runs = [last.waits[n : n + passes] for n in range(0, len(last.waits), passes)]
    counted = {sum(counters.cycles for counters in own) for own in runs}
    wrong = int(np.count_nonzero(found != golden))
    where = f"{title}{config.rows} x {config.lanes}, {config.data_width} bit"
    wanted = f"as predicted, {artefact.cycles:,}"
    exact = counted == {artefact.cycles}
    if most is not None:
        wanted += f"; at most {most:,}"
        exact = exact and artefact.cycles <= most
    worst = max(counted, key=lambda cycles: abs(cycles - artefact.cycles))
    used = 100 * sum(layer.multiplications for layer in artefact.layers) / worst
    count = f"{len(integers)} {samples}"
    rows: list[Row] = [
        {
            **check_row(f"{where}, cycles of each {run}", worst, "cycles", wanted, exact),
            "cycles_predicted": artefact.cycles,
            "cycles_measured": worst,
            "runs": len(runs),
        },
        check_row(f"{where}, {count}: differ", wrong, "outputs", "0", wrong == 0),
        check_row(f"{where}, used", used / config.multipliers, "%"),
    ]
    if artefact.streams:
        rows += _stream_rows(where, artefact, last, device)
    if artefact.steps:
        # Between two sequences the host has its turn.
        between = [own[0].idle for own in runs]
        idle = [cycles for cycles in between if cycles < artefact.cycles]
        median = float(np.median(idle))
        rows.append(check_row(f"{where}, cycles between two of them", median, "cycles"))
    return rows


def _stream_rows(where: str, artefact: Artefact, run: RunReport, device: str) -> list[Row]:
    """What streams in, and on a simulated board how long a run takes with it at a byte a cycle,
    from the first start to the end.
    """
    facts = stream_facts(artefact, run, timed=device == "sim")
    rows: list[Row] = [
        check_row(f"{where}, cores that stream in", facts["bytes_loaded"], "bytes"),
        check_row(f"{where}, passes", facts["passes"], "passes"),
    ]
    if "latency_measured" in facts:
        predicted, measured = facts["latency_predicted"], facts["latency_measured"]
        wanted = f"as predicted, {predicted:,}"
        title = f"{where}, first start to end, a byte a cycle"
        rows.append(
            {
                **check_row(title, measured, "cycles", wanted, predicted == measured),
                "latency_predicted": predicted,
                "latency_measured": measured,
            }
        )
    return rows


def layer_rows(title: str, plan: Plan) -> list[Row]:
    """Each layer: how much of the array it uses, and which stage limits it."""
    rows = []
    for number, network in enumerate(plan.networks):
        limit = layer_limit(plan, number)
        cycles = plan.layer_cycles(number)
        facts: Mapping[str, Any] = {
            "layer": network.name,
            "cycles": cycles,
            "plan": plan.layer_text(number),
            "limit": limit.text,
            "limit_stage": limit.stage,
            "lost": limit.lost,
        }
        stage = f"stage {limit.stage}: " if limit.stage else ""
        name = f"{title}{network.name}, {cycles:,} cycles; {stage}{limit.text}"
        used = 100 * plan.layer_utilisation(number)
        rows.append({**check_row(name, used, "%"), **facts})
    return rows
