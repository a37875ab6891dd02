"""Benchmarks of the hardware itself: clock and area, from yosys and nextpnr."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drawbar.bitstream import design, engine_for
from drawbar.gen import synthesis, verilog
from drawbar.gen.config import EngineConfig
from drawbar.gen.fpga.boards import BoardSpec, load_board
from drawbar.gen.fpga.families import FAMILIES
from drawbar.gen.fpga.fit import TITLES, usage
from drawbar.gen.presets import load_config

Report = Callable[[str, int, int], None]
BuildProgress = Callable[[str, float | None], None]

#: What the clock is measured on: 4 x 4 multiply-accumulators of 16 bits, link and serial line
#: included.
TIMING_ENGINE = "tiny"
#: As many multipliers and as large memories, 16 x 16 and folding.
AREA_ENGINES = ("large", "wide")
#: Family, part, package and speed grade of the clock's measurement, and the clock asked for.
TIMING_CHIP = ("ecp5", "LFE5U-25F", "CABGA256", "6")
TARGET_MHZ = 150.0
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
    """The whole serial board of ``TIMING_ENGINE``, placed and routed on an ECP5-25F; and the same
    with a short pipeline.
    """
    rows: list[dict[str, Any]] = []
    engine = load_config(TIMING_ENGINE)
    configs = (engine, engine.replace(short_pipeline=1))
    steps = len(configs) * (2 + len(seeds))
    for number, config in enumerate(configs):

        def tell(title: str, done: int, before: int = number * steps // len(configs)) -> None:
            if report is not None:
                report(title, before + done, steps)

        rows += _timing(config, seeds, tell, build_progress)
    _done(steps, report, build_progress)
    return rows


def _timing(
    config: EngineConfig,
    seeds: tuple[int, ...],
    tell: Callable[[str, int], None],
    build_progress: BuildProgress | None,
) -> list[dict[str, Any]]:
    """Clock and cells of one engine's serial board."""
    from drawbar.hw.board import SerialBoard
    from drawbar.hw.vendor.families import family_primitives

    family = FAMILIES[TIMING_CHIP[0]]
    blocks = family_primitives(family.name, family.parts[TIMING_CHIP[1]], config)
    board = f"serial board {config.rows} x {config.lanes}, {config.data_width} bit"
    if config.short_pipeline:
        board += ", short pipeline"
    tell(f"{board}, Verilog", 0)
    text = verilog.to_verilog(SerialBoard(config=config), "top", blocks)
    tell(f"{board}, yosys", 1)
    netlist = synthesis.synthesise(text, "top", beat=_beat(build_progress, "yosys"))
    found = []
    for number, seed in enumerate(seeds):
        title = f"nextpnr, seed {seed}"
        tell(f"{board}, {title}", 2 + number)
        job = synthesis.RouteJob(
            *TIMING_CHIP, netlist.json, TARGET_MHZ, seed=seed, router=ROUTER, detailed=False
        )
        beat = _beat(build_progress, title)
        found.append((seed, synthesis.place_and_route(job, beat=beat).timing))
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
    engine: str | None = None,
    report: Report | None = None,
    build_progress: BuildProgress | None = None,
) -> list[dict[str, Any]]:
    """Cells of engines, link not included, after ``synth_ecp5``; generic multipliers."""
    from drawbar.hw.engine import Engine

    configs = [load_config(name) for name in ((engine,) if engine else AREA_ENGINES)]

    def tell(title: str, done: int) -> None:
        if report is not None:
            report(title, done, 2 * len(configs))

    rows: list[dict[str, Any]] = []
    for number, config in enumerate(configs):
        tell(f"{config.name}, Verilog", 2 * number)
        text = verilog.to_verilog(Engine(config=config), "top")
        tell(f"{config.name}, yosys", 2 * number + 1)
        area = synthesis.synthesise(text, "top", beat=_beat(build_progress, "yosys")).area
        what = f"engine {config.name}, {config.rows} x {config.lanes}, {config.data_width} bit"
        rows += [
            {"name": f"{what}, multipliers", "value": config.multipliers, "unit": "multipliers"},
            {"name": f"{what}, memories", "value": memory_bits(config), "unit": "bits"},
            *_cells(what, area),
            {"name": f"{what}, synthesis", "value": area.seconds, "unit": "s"},
        ]
    tell("done", 2 * len(configs))
    if build_progress is not None:
        build_progress("done", 1.0)
    return rows


#: As little as the tools can be given.
LEAST = EngineConfig(
    name="least",
    rows=2,
    lanes=1,
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


def _cells_engines(most: int) -> list[EngineConfig]:
    """Shapes that tell the terms of ``gen.fpga.fit.features`` apart, without those of more
    multipliers: small ones, as each is a synthesis of its own.
    """
    tiny = load_config("tiny")
    engines = [
        LEAST,
        LEAST.replace(
            name="one stage", rows=4, stages_held=1, count_bits=12, counter_bits=24, work_depth=1024
        ),
        LEAST.replace(name="two lanes, 8 bit", lanes=2, data_width=8, acc_width=32),
        LEAST.replace(name="tall", rows=8, k_loops=3, work_depth=4096, acc_width=40),
        tiny.replace(name="wide", rows=2, lanes=8, k_loops=2, column_loops=2, acc_width=36),
        load_config("small"),
    ]
    return [engine for engine in engines if engine.multipliers <= most]


#: Boards that the netlists of ``cells`` are packed for, which need not hold them, and the most
#: multipliers of their engines. Each board's own engine is among them, and half of it.
CELLS_BOARDS = {"ulx3s-25f": 64, "icebreaker": 8, "tang-nano-20k": 16}
#: The builds of ``estimates``: each board with an engine of its own.
ESTIMATE_BOARDS = (
    "ulx3s-25f",
    "ulx3s-45f",
    "ulx3s-85f",
    "icebreaker",
    "tang-nano-9k",
    "tang-nano-20k",
)
#: How far the model may be from a build.
ESTIMATE_WITHIN = 0.10


def packed_design(
    board: BoardSpec, config: EngineConfig, beat: synthesis.Beat | None = None
) -> dict[str, int]:
    """What a board's whole design takes, by ``RESOURCES``: synthesised as a build does it, and
    packed by nextpnr. Nothing is placed, and it need not fit.
    """
    family, part = board.chip_family, board.chip
    text, pins = design(board, config, "top")
    netlist = synthesis.synthesise(text, "top", family=family, part=part, beat=beat)
    job = synthesis.RouteJob(
        family.name, part.name, board.package, board.speed, netlist.json, TARGET_MHZ, pins
    )
    return synthesis.packed_resources(job, netlist.area)


def cells_suite(
    *, report: Report | None = None, build_progress: BuildProgress | None = None
) -> list[dict[str, Any]]:
    """What whole designs of several shapes take on each family, next to the model's estimate.

    Its JSON is the model's calibration: ``gen/fpga/cells.json``. It has the estimates of the
    calibration that is in use, so a second run shows those of its own.
    """
    jobs = []
    for name, most in CELLS_BOARDS.items():
        board = load_board(name)
        own = load_config(board.engine)
        half = own.replace(name=f"half of {own.name}", rows=max(1, own.rows // 2))
        jobs += [
            (board, engine.replace(clock_hz=own.clock_hz, baud=own.baud))
            for engine in (own, half, *_cells_engines(most))
        ]
    rows = []
    for board, config in jobs:
        family = board.chip_family
        title = f"{family.name}, {config.name}"
        if report is not None:
            report(title, len(rows), len(jobs))
        used = packed_design(board, config, _beat(build_progress, title))
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
    _done(len(jobs), report, build_progress)
    return rows


def estimates_suite(
    *, report: Report | None = None, build_progress: BuildProgress | None = None
) -> list[dict[str, Any]]:
    """``drawbar estimate`` against what six boards' own engines take: multipliers and block RAM
    exactly, look-up tables and flip-flops to within ``ESTIMATE_WITHIN``.
    """
    rows = []
    for number, name in enumerate(ESTIMATE_BOARDS):
        board = load_board(name)
        config = engine_for(board)
        if report is not None:
            report(name, number, len(ESTIMATE_BOARDS))
        expected = usage(config, board.chip_family)
        used = packed_design(board, config, _beat(build_progress, name))
        for kind, actual in used.items():
            exact = kind in ("dsps", "brams")
            error = expected[kind] / actual - 1
            rows.append(
                {
                    "name": f"{name}, {config.rows} x {config.lanes}, {TITLES[kind]}: estimated "
                    f"{expected[kind]:,}, built {actual:,}",
                    "value": 100 * error,
                    "unit": "%",
                    "wanted": "exact" if exact else f"within {ESTIMATE_WITHIN:.0%}",
                    "passed": abs(error) <= (0 if exact else ESTIMATE_WITHIN),
                    "board": name,
                    "resource": kind,
                    "estimated": expected[kind],
                    "actual": actual,
                }
            )
    _done(len(ESTIMATE_BOARDS), report, build_progress)
    return rows


def _done(steps: int, report: Report | None, build_progress: BuildProgress | None) -> None:
    if report is not None:
        report("done", steps, steps)
    if build_progress is not None:
        build_progress("done", 1.0)
