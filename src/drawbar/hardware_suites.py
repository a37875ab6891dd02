"""Benchmarks of the hardware itself: clock and area, from yosys and nextpnr for an ECP5."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

from drawbar.gen import synthesis, verilog
from drawbar.gen.config import EngineConfig, load_config

Report = Callable[[str, int, int], None]
BuildProgress = Callable[[str, float | None], None]

#: What the clock is measured on: 4 x 4 multiply-accumulators of 16 bits, link and serial line
#: included.
TIMING_ENGINE = "tiny"
AREA_ENGINE = "large"
#: nextpnr's seeds; the estimate spreads by several MHz between them.
SEEDS = (1, 2, 3)


def _beat(build_progress: BuildProgress | None, what: str) -> synthesis.Beat | None:
    if build_progress is None:
        return None
    return lambda seconds: build_progress(f"{what}, {seconds:.0f} s", None)


def timing_suite(
    *,
    seeds: tuple[int, ...] = SEEDS,
    report: Report | None = None,
    build_progress: BuildProgress | None = None,
) -> list[dict[str, Any]]:
    """The whole serial board of ``TIMING_ENGINE``, placed and routed on an ECP5-25F."""
    from drawbar.hw.board import SerialBoard

    config = load_config(TIMING_ENGINE)
    steps = 2 + len(seeds)

    def tell(title: str, done: int) -> None:
        if report is not None:
            report(title, done, steps)

    tell("Verilog", 0)
    text = verilog.to_verilog(SerialBoard(config=config), "top")
    board = f"serial board {config.rows} x {config.lanes}, {config.data_width} bit"
    with tempfile.TemporaryDirectory(prefix="drawbar-timing-") as folder:
        tell("yosys", 1)
        area = synthesis.synthesise(text, "top", folder, beat=_beat(build_progress, "yosys"))
        found = []
        for number, seed in enumerate(seeds):
            title = f"nextpnr, seed {seed}"
            tell(title, 2 + number)
            beat = _beat(build_progress, title)
            found.append((seed, synthesis.place_and_route(folder, seed=seed, beat=beat)))
    tell("done", steps)
    if build_progress is not None:
        build_progress("done", 1.0)
    rows: list[dict[str, Any]] = [
        {
            "name": f"{board}, clock on ECP5-25F speed {synthesis.SPEED}, seed {seed}",
            "value": timing.mhz,
            "unit": "MHz",
            "slowest_path": list(timing.path),
            "logic_ns": timing.logic_ns,
            "routing_ns": timing.routing_ns,
            "seconds": timing.seconds,
        }
        for seed, timing in found
    ]
    first = found[0][1]
    rows += _cells(board, area)
    for name, resource in (("logic cells", "TRELLIS_COMB"), ("FF", "TRELLIS_FF")):
        rows.append(
            {
                "name": f"{board}, {name} placed, of {first.available[resource]}",
                "value": first.used[resource],
                "unit": "cells",
            }
        )
    rows.append({"name": f"{board}, synthesis", "value": area.seconds, "unit": "s"})
    return rows


def _cells(what: str, area: synthesis.Area) -> list[dict[str, Any]]:
    return [
        {"name": f"{what}, {kind}", "value": count, "unit": "cells"}
        for kind, count in area.cells.items()
    ]


def memory_bits(config: EngineConfig) -> int:
    """Bits of the engine's core, work, bias and program memories."""
    return (
        8 * (config.core_bytes + config.work_bytes)
        + config.bias_depth * config.lanes * config.acc_width
        + config.program_depth * 32
    )


def area_suite(
    *,
    engine: str = AREA_ENGINE,
    report: Report | None = None,
    build_progress: BuildProgress | None = None,
) -> list[dict[str, Any]]:
    """Cells of an engine, link not included, after ``synth_ecp5``; generic multipliers."""
    from drawbar.hw.engine import Engine

    config = load_config(engine)

    def tell(title: str, done: int) -> None:
        if report is not None:
            report(title, done, 2)

    tell("Verilog", 0)
    text = verilog.to_verilog(Engine(config=config), "top")
    tell("yosys", 1)
    with tempfile.TemporaryDirectory(prefix="drawbar-area-") as folder:
        area = synthesis.synthesise(text, "top", folder, beat=_beat(build_progress, "yosys"))
    tell("done", 2)
    if build_progress is not None:
        build_progress("done", 1.0)
    what = f"engine {config.name}, {config.rows} x {config.lanes}, {config.data_width} bit"
    return [
        {"name": f"{what}, multipliers", "value": config.multipliers, "unit": "multipliers"},
        {"name": f"{what}, memories", "value": memory_bits(config), "unit": "bits"},
        *_cells(what, area),
        {"name": f"{what}, synthesis", "value": area.seconds, "unit": "s"},
    ]
