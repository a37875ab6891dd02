"""From an engine to a bitstream that meets timing, with the report of how it was made."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from drawbar.build_page import page
from drawbar.gen import synthesis, verilog
from drawbar.gen.artefact import Artefact
from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import ArtefactError, ConfigError, TimingError, ToolError
from drawbar.gen.fpga.boards import BoardSpec, load_board
from drawbar.gen.fpga.family import RESOURCES
from drawbar.gen.fpga.fit import check_fit
from drawbar.gen.fpga.pll import find_pll
from drawbar.gen.presets import load_config
from drawbar.plots import check_plot
from drawbar.sweep import Attempt, sweep

#: Told (phase, fraction of the whole or None).
Progress = Callable[[str, float | None], None]

REPORT_NAME, PAGE_NAME, ENGINE_NAME = "report.json", "report.html", "engine.toml"
#: Of a build's time: where synthesis, place-and-route and packing begin.
_SYNTHESIS, _ROUTE, _PACK = 0.05, 0.25, 0.97


@dataclass(frozen=True)
class SeedResult:
    """One seed of a sweep; ``error`` is empty where it was routed."""

    seed: int
    mhz: float
    met: bool
    seconds: float
    error: str


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """A build. The first fourteen members are what scripts read; None: the generic board has none.

    Members
    -------
    toolchain:
        Program: version, and whether it is native or comes from a wheel.
    clock_mhz, fmax_mhz, timing_met:
        The clock that the PLL makes; nextpnr's estimate of the fastest; whether that is enough.
    seed:
        The best one: of those that meet timing, the fastest.
    bitstream:
        Path; None for a build that failed, and for the generic board.
    caveat:
        What the estimate of the clock leaves out.
    available, estimate:
        How much of each resource the chip has, and what ``gen.fpga.fit`` expected.
    path, through, logic_ns, routing_ns, slack_ns:
        The slowest path and the slack of each module: see ``gen.synthesis.Timing``.
    """

    board: str
    device: str
    toolchain: Mapping[str, str]
    clock_mhz: float
    fmax_mhz: float | None = None
    timing_met: bool | None = None
    luts: int | None = None
    ffs: int | None = None
    dsps: int | None = None
    brams: int | None = None
    seed: int | None = None
    wall_s: float
    config_hash: str
    bitstream: str | None = None
    engine: Mapping[str, int | str]
    caveat: str = ""
    available: Mapping[str, int] = field(default_factory=dict)
    estimate: Mapping[str, int] = field(default_factory=dict)
    cells: Mapping[str, int] = field(default_factory=dict)
    path: tuple[str, str] = ("", "")
    through: tuple[str, ...] = ()
    logic_ns: float = 0.0
    routing_ns: float = 0.0
    slack_ns: Mapping[str, float] = field(default_factory=dict)
    seeds: tuple[SeedResult, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    router: str = ""
    artefact: str | None = None
    verilog: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def engine_for(
    board: BoardSpec,
    *,
    engine: str | Path | EngineConfig | None = None,
    artefact: Artefact | None = None,
    fmax: float | None = None,
) -> EngineConfig:
    """The engine that a build for a board makes: the one asked for, that of the artefact, or the
    board's own, at ``fmax`` MHz if that is given; the board's adapter bounds the baud rate.

    Raises
    ------
    ArtefactError:
        the artefact is for another engine than this.
    """
    if engine is None:
        config = artefact.config if artefact else load_config(board.engine)
    else:
        config = load_config(engine)
    if artefact is None and config.baud > board.baud:
        config = config.replace(baud=board.baud)
    if fmax is not None:
        config = config.replace(clock_hz=round(fmax * 1e6))
    if artefact is not None and artefact.config.hash != config.hash:
        raise ArtefactError(
            f"artefact {artefact.name!r}",
            f"is for the engine that is built, {config.name!r} at {config.clock_hz / 1e6:g} MHz",
            f"one for {artefact.config.name!r} at {artefact.config.clock_hz / 1e6:g} MHz",
            f"build first, and compile the model with --engine of the build's {ENGINE_NAME}",
        )
    return config


def check_clock(board: BoardSpec, config: EngineConfig) -> None:
    """Raise a ConfigError where the datasheet does not allow the engine's clock, or the chip's PLL
    cannot make it.
    """
    limit = board.chip.max_mhz
    if limit is not None and config.clock_hz > limit * 1e6:
        raise ConfigError(
            f"clock of {config.clock_hz / 1e6:g} MHz on {board.part}",
            f"is at most the {limit:g} MHz of the datasheet",
            f"{config.clock_hz / 1e6:g} MHz",
            f"use --fmax {limit:g} or less",
        )
    find_pll(board.chip_family.pll_limits(board.chip), board.oscillator_hz, config.clock_hz)


def build(
    board: str | Path | BoardSpec,
    *,
    model: str | Path | Artefact | None = None,
    engine: str | Path | EngineConfig | None = None,
    fmax: float | None = None,
    seeds: int = 1,
    first_seed: int = 1,
    cap: float | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    router: str | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> BuildReport:
    """Build a bitstream that meets timing: Verilog, synthesis, place-and-route, packing.

    Arguments
    ---------
    board:
        A board's name, its file, or a ``BoardSpec``.
    model:
        An artefact that the bitstream shall run: its engine is built.
    engine:
        A preset's name, a TOML file, or a configuration; default: the artefact's, else the board's.
    fmax:
        Clock in MHz; default: the engine's.
    seeds, first_seed:
        So many seeds of place-and-route, counted from the first.
    cap, workers, scheduler:
        See ``drawbar.sweep.sweep``.
    router:
        nextpnr's: router1 or router2; default: the family's.
    out:
        Folder for bitstream, Verilog, pins, logs and reports; default: ``build/BOARD``.

    The same arguments and tools give the same bytes. What a former build left in the folder and
    could be flashed is removed first, and nothing flashable is left by a build that fails.

    Raises
    ------
    TimingError:
        no seed reaches the clock; the error names the slowest path, and ``report`` holds the rest.
    ConfigError, ArtefactError, ToolError:
        an unknown board, a clock out of reach, an artefact for another engine, a missing tool.
    """
    started = time.monotonic()
    board = board if isinstance(board, BoardSpec) else load_board(board)
    artefact = Artefact.load(model) if isinstance(model, (str, Path)) else model
    config = engine_for(board, engine=engine, artefact=artefact, fmax=fmax)
    folder = Path(out) if out is not None else Path("build") / board.name
    if board.generic:
        return _generic(board, config, folder, started)
    family, part = board.chip_family, board.chip
    estimate = check_fit(config, family, part)
    check_clock(board, config)
    check_plot(folder / "charts.svg")
    tools = synthesis.toolchain(family)

    def tell(phase: str, fraction: float | None) -> None:
        if progress is not None:
            progress(phase, fraction)

    tell("Verilog", 0.0)
    name = f"drawbar_{verilog.identifier(board.name)}"
    text, pins = design(board, config, name)
    bitstream = folder / (name + family.bitstream_suffix)
    _empty(folder, family.bitstream_suffix)
    (folder / f"{name}.v").write_text(text)
    (folder / f"{name}{family.constraints_suffix}").write_text(pins)
    (folder / ENGINE_NAME).write_text(config.as_toml())
    seconds = {"Verilog": time.monotonic() - started}

    netlist = synthesis.synthesise(
        text,
        name,
        family=family,
        part=part,
        beat=lambda spent: tell(f"yosys, {spent:.0f} s", _SYNTHESIS),
    )
    seconds["synthesis"] = netlist.area.seconds

    jobs = [
        synthesis.RouteJob(
            family=family.name,
            part=part.name,
            package=board.package,
            speed=board.speed,
            netlist=netlist.json,
            target_mhz=config.clock_hz / 1e6,
            constraints=pins,
            seed=seed,
            router=router or family.default_router,
        )
        for seed in range(first_seed, first_seed + seeds)
    ]

    def routing(done: int, spent: float) -> None:
        share = _ROUTE + (_PACK - _ROUTE) * done / len(jobs)
        tell(f"nextpnr, {done} of {len(jobs)} seeds, {spent:.0f} s", share)

    routing_from = time.monotonic()
    attempts = sweep(jobs, cap=cap, workers=workers, scheduler=scheduler, progress=routing)
    seconds["place and route"] = time.monotonic() - routing_from
    seed, best = best_attempt(attempts)
    timing = best.timing

    data = b""
    if timing.met:
        tell("packing", _PACK)
        packing_from = time.monotonic()
        data = synthesis.pack(best)
        seconds["packing"] = time.monotonic() - packing_from
    used = timing.resources(family, netlist.area)
    report = BuildReport(
        board=board.name,
        device=part.name,
        toolchain=tools,
        clock_mhz=config.clock_hz / 1e6,
        fmax_mhz=timing.mhz,
        timing_met=timing.met,
        luts=used["luts"],
        ffs=used["ffs"],
        dsps=used["dsps"],
        brams=used["brams"],
        seed=seed,
        wall_s=time.monotonic() - started,
        config_hash=config.hash.hex(),
        bitstream=str(bitstream) if timing.met else None,
        caveat=family.caveat,
        engine=config.as_dict(),
        available={kind: getattr(part, kind) for kind in RESOURCES},
        estimate=estimate,
        cells=netlist.area.cells,
        path=timing.path,
        through=timing.through,
        logic_ns=timing.logic_ns,
        routing_ns=timing.routing_ns,
        slack_ns=timing.slack_ns,
        seeds=tuple(_seed_result(attempt) for attempt in attempts),
        seconds=seconds,
        router=best.job.router,
        artefact=None if artefact is None else artefact.name,
    )
    _write_reports(report, folder)
    if not timing.met:
        raise missed(report)
    partial = bitstream.with_name(bitstream.name + ".part")
    partial.write_bytes(data)
    partial.replace(bitstream)
    tell("done", 1.0)
    return report


def _generic(board: BoardSpec, config: EngineConfig, folder: Path, started: float) -> BuildReport:
    """For any other flow: Verilog of the serial board, its manifest, a template of constraints."""
    verilog.need_amaranth()
    from drawbar.hw.board import SerialBoard

    path = verilog.emit_component(SerialBoard(config=config), config, folder)
    path.with_suffix(".sdc").write_text(
        "# The clock that comes in; add pins and I/O standards in your tool's own way.\n"
        f"create_clock -name clk -period {1e9 / config.clock_hz:.3f} [get_ports clk]\n"
        "set_false_path -from [get_ports {rst rx}]\n"
        "set_false_path -to [get_ports tx]\n"
    )
    (folder / ENGINE_NAME).write_text(config.as_toml())
    return BuildReport(
        board=board.name,
        device="any",
        toolchain=verilog.tool_versions(),
        clock_mhz=config.clock_hz / 1e6,
        wall_s=time.monotonic() - started,
        config_hash=config.hash.hex(),
        engine=config.as_dict(),
        verilog=str(path),
    )


def design(board: BoardSpec, config: EngineConfig, name: str) -> tuple[str, str]:
    """Verilog and file of pins of a board's whole design, of the primitives of its family."""
    verilog.need_amaranth()
    from drawbar.hw.fpga_top import FpgaTop
    from drawbar.hw.pins import board_pins
    from drawbar.hw.vendor.families import family_primitives

    blocks = family_primitives(board.family, board.chip, config)
    text = verilog.to_verilog(FpgaTop(config=config, board=board), name, blocks)
    return text, board.chip_family.constraints(board_pins(board), board.oscillator_hz)


def _empty(folder: Path, bitstream_suffix: str) -> None:
    """Make the folder, without anything in it that could be flashed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for suffix in (bitstream_suffix, ".part"):
            for stale in folder.glob(f"*{suffix}"):
                stale.unlink()
    except OSError as error:
        raise ToolError(
            f"folder {folder}", "can be written", error, "give a folder that can be written"
        ) from None


def best_attempt(attempts: Sequence[Attempt]) -> tuple[int, synthesis.Routed]:
    """The seed and design that is fastest of those that meet timing, else fastest of all; of
    equals, the least seed.

    Raises
    ------
    ToolError:
        none was routed: the first one's error.
    """
    routed = [(a.seed, a.routed) for a in attempts if a.routed is not None]
    if not routed:
        raise next(a.error for a in attempts if a.error is not None)
    return max(routed, key=lambda found: (found[1].timing.met, found[1].timing.mhz, -found[0]))


def _seed_result(attempt: Attempt) -> SeedResult:
    if attempt.routed is None:
        return SeedResult(attempt.seed, 0.0, False, 0.0, str(attempt.error))
    timing = attempt.routed.timing
    return SeedResult(attempt.seed, timing.mhz, timing.met, timing.seconds, "")


def missed(report: BuildReport) -> TimingError:
    """The error of a build whose best seed is too slow."""
    start, end = report.path
    fastest = report.fmax_mhz or 0.0
    through = [name for name in report.through if name not in report.path]
    way = f" through {', '.join(through)}" if through else ""
    return TimingError(
        f"build for {report.board}",
        f"meets its clock of {report.clock_mhz:g} MHz",
        f"{fastest:.2f} MHz with the best of {len(report.seeds)} seeds; the slowest path "
        f"goes from {start} to {end}{way}: {report.logic_ns:.1f} ns in logic, "
        f"{report.routing_ns:.1f} ns in routing",
        f"try more seeds, or --fmax {int(fastest)} or less",
        report,
    )


def _write_reports(report: BuildReport, folder: Path) -> None:
    (folder / REPORT_NAME).write_text(json.dumps(report.as_dict(), indent=2) + "\n")
    (folder / PAGE_NAME).write_text(page(report))
