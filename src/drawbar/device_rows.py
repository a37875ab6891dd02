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
from drawbar.layer_suites import BuildProgress, Row

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
    counted = {counters.cycles for counters in last.waits}
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
            "runs": len(last.waits),
        },
        check_row(f"{where}, {count}: differ", wrong, "outputs", "0", wrong == 0),
        check_row(f"{where}, used", used / config.multipliers, "%"),
    ]
    if artefact.steps:
        # Between two sequences the host has its turn.
        idle = [counters.idle for counters in last.waits if counters.idle < artefact.cycles]
        median = float(np.median(idle))
        rows.append(check_row(f"{where}, cycles between two of them", median, "cycles"))
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
