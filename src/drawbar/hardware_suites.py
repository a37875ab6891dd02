"""Benchmarks of the hardware itself: clock and area, from yosys and nextpnr for an ECP5."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drawbar.gen import synthesis, verilog
from drawbar.gen.config import EngineConfig, load_config
from drawbar.gen.fpga.boards import load_board
from drawbar.gen.fpga.fit import usage

Report = Callable[[str, int, int], None]
BuildProgress = Callable[[str, float | None], None]

#: What the clock is measured on: 4 x 4 multiply-accumulators of 16 bits, link and serial line
#: included.
TIMING_ENGINE = "tiny"
AREA_ENGINE = "large"
#: Family, part, package and speed grade of the clock's measurement, and the clock asked for.
TIMING_CHIP = ("ecp5", "LFE5U-25F", "CABGA256", "6")
TARGET_MHZ = 90.0
#: nextpnr's seeds, and its router. The estimate spreads by several MHz between seeds, and by more
#: between routers: this one gives the faster clocks.
SEEDS = (1, 2, 3)
ROUTER = "router1"


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
    tell("yosys", 1)
    netlist = synthesis.synthesise(text, "top", beat=_beat(build_progress, "yosys"))
    found = []
    for number, seed in enumerate(seeds):
        title = f"nextpnr, seed {seed}"
        tell(title, 2 + number)
        job = synthesis.RouteJob(
            *TIMING_CHIP, netlist.json, TARGET_MHZ, seed=seed, router=ROUTER, detailed=False
        )
        beat = _beat(build_progress, title)
        found.append((seed, synthesis.place_and_route(job, beat=beat).timing))
    tell("done", steps)
    if build_progress is not None:
        build_progress("done", 1.0)
    rows: list[dict[str, Any]] = [
        {
            "name": f"{board}, clock on ECP5-25F speed {TIMING_CHIP[3]}, seed {seed}",
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
    rows += _cells(board, netlist.area)
    for name, resource in (("logic cells", "TRELLIS_COMB"), ("FF", "TRELLIS_FF")):
        rows.append(
            {
                "name": f"{board}, {name} placed, of {first.available[resource]}",
                "value": first.used[resource],
                "unit": "cells",
            }
        )
    rows.append({"name": f"{board}, synthesis", "value": netlist.area.seconds, "unit": "s"})
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
    area = synthesis.synthesise(text, "top", beat=_beat(build_progress, "yosys")).area
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


def _cells_engines() -> list[EngineConfig]:
    """Shapes that tell the terms of ``gen.fpga.fit.features`` apart."""
    least = EngineConfig(
        name="least",
        rows=2,
        lanes=2,
        acc_width=36,
        core_depth=256,
        work_depth=256,
        bias_depth=64,
        program_depth=256,
        k_loops=2,
        row_loops=2,
        column_loops=2,
        link_window=2,
    )
    tiny = load_config("tiny")
    return [
        least,
        least.replace(name="least, 8 bit", data_width=8, acc_width=32),
        tiny,
        tiny.replace(name="tall", rows=8, lanes=2, work_depth=4096),
        tiny.replace(name="wide", rows=2, lanes=8, k_loops=2, column_loops=2, acc_width=36),
        load_config("ulx3s-25f"),
        load_config("ulx3s-85f"),
        load_config("small-8bit").replace(name="square, 8 bit", core_depth=1024),
        load_config("small"),
    ]


#: Boards that the netlists are packed for; they need not hold them.
CELLS_BOARDS = ("ulx3s-85f", "icebreaker", "tang-nano-20k")


def cells_suite(
    *, report: Report | None = None, build_progress: BuildProgress | None = None
) -> list[dict[str, Any]]:
    """What whole designs of several shapes take on each family, next to the model's estimate.

    Its JSON is the model's calibration: ``gen/fpga/cells.json``. It has the estimates of the
    calibration that is in use, so a second run shows those of its own.
    """
    from drawbar.hw.fpga_top import FpgaTop
    from drawbar.hw.pins import board_pins

    rows = []
    engines = _cells_engines()
    steps = len(CELLS_BOARDS) * len(engines)
    for name in CELLS_BOARDS:
        board = load_board(name)
        family, part = board.chip_family, board.chip
        pins = family.constraints(board_pins(board), board.oscillator_hz)
        for engine in engines:
            title = f"{family.name}, {engine.name}"
            if report is not None:
                report(title, len(rows), steps)
            preset = load_config(board.engine)
            config = engine.replace(clock_hz=preset.clock_hz, baud=preset.baud)
            netlist = synthesis.synthesise(
                verilog.to_verilog(FpgaTop(config=config, board=board), "top"),
                "top",
                family=family,
                part=part,
                beat=_beat(build_progress, title),
            )
            job = synthesis.RouteJob(
                family.name, part.name, board.package, board.speed, netlist.json, TARGET_MHZ, pins
            )
            used = synthesis.packed_resources(job, netlist.area)
            rows.append(
                {
                    "name": f"{title}, {config.rows} x {config.lanes}, LUTs",
                    "value": used["luts"],
                    "unit": "cells",
                    "family": family.name,
                    **used,
                    "engine": config.as_dict(),
                    "estimate": usage(config, family),
                }
            )
    if report is not None:
        report("done", steps, steps)
    if build_progress is not None:
        build_progress("done", 1.0)
    return rows
