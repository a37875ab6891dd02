"""Before anything is built: what an engine takes of a board's chip, what a model takes of the
engine, and which engines are worth building for a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drawbar.api import as_model
from drawbar.bitstream import check_clock, engine_for
from drawbar.gen.artefact import Artefact, Pass, TensorLayout
from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import ConfigError, FitError
from drawbar.gen.fpga.boards import BoardSpec, load_board
from drawbar.gen.fpga.family import RESOURCES
from drawbar.gen.fpga.fit import check_fit, excess, model_errors, usage
from drawbar.gen.network import Model
from drawbar.gen.plan import plan_model
from drawbar.gen.protocol import CRC_BYTES, HEADER_BYTES, MAX_PAYLOAD
from drawbar.gen.transfers import load_transfers

#: Bits on the line for a byte.
_BITS_PER_BYTE = 10
#: Shapes that ``explore`` tries.
_LANES = (1, 2, 4, 8, 16)
_ROWS = (1, 2, 3, 4, 6, 7, 8, 12, 16)
_WIDTHS = (16, 8)
#: Shares of the block RAM that is left for core memory; the rest is work memory.
_CORE_SHARES = (0.25, 0.5, 0.75)

#: Told (title, engines done, engines to do).
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class _Cost:
    """What a model takes of an engine, planned here or read from its artefact."""

    name: str
    cycles: int
    batch: int
    input: TensorLayout
    output: TensorLayout
    passes: tuple[Pass, ...]


def _with_chip(board: str | Path | BoardSpec) -> BoardSpec:
    found = board if isinstance(board, BoardSpec) else load_board(board)
    if found.generic:
        raise ConfigError(
            f"board {found.name!r}",
            "has a chip that can be filled",
            "none: it is for other flows",
            "name another board (drawbar boards lists them)",
        )
    return found


def _payload_bytes(layout: TensorLayout, config: EngineConfig, batch: int) -> int:
    """Bytes from the first to the last element of a tensor, as the driver moves them."""
    addresses = layout.addresses(batch)
    return int(addresses.max() - addresses.min() + 1) * config.element_bytes


def link_bytes(
    cost_input: int, cost_output: int, passes: Sequence[Pass], config: EngineConfig
) -> int:
    """Bytes on the line for one run that come after each other: the frames that write the inputs
    and whatever streams in, the starts, and the answers that carry the outputs and the counters.
    The other direction is idle or in their shade.
    """

    def framed(payload: int) -> int:
        return payload + -(-payload // MAX_PAYLOAD) * (HEADER_BYTES + CRC_BYTES)

    loads = (t for one in passes for load in one.loads for t in load_transfers(load, config))
    starts = len(passes) * (HEADER_BYTES + MAX_PAYLOAD // 8)
    return framed(cost_input) + starts + framed(cost_output) + sum(t.bytes_in for t in loads)


def _cost(model: Artefact | Model, config: EngineConfig, batch: int, minimise: str) -> _Cost:
    if isinstance(model, Artefact):
        passes = model.buffers[0].passes
        return _Cost(model.name, model.cycles, model.batch, model.input, model.output, passes)
    plan = plan_model(model, config, batch=batch, minimise=minimise, stream=True)
    passes = plan.buffers[0].passes
    return _Cost(model.name, plan.total.total, batch, plan.input, plan.output, passes)


def _load(model: str | Path | Artefact | Model) -> Artefact | Model:
    if isinstance(model, (Artefact, Model)):
        return model
    return Artefact.load(model) if str(model).endswith(".drawbar") else as_model(model, None)


def estimate(
    board: str | Path | BoardSpec,
    model: str | Path | Artefact | Model | None = None,
    *,
    engine: str | Path | EngineConfig | None = None,
    fmax: float | None = None,
    batch: int = 1,
    minimise: str = "cycles",
) -> dict[str, Any]:
    """What an engine takes of a board's chip, and how fast it runs a model; nothing is built.

    Multipliers, block RAM and cycles are exact; look-up tables and flip-flops come from a model
    whose greatest error over its own calibration is in the result. The link's time is that of the
    bytes on the line, without the pauses of host and adapter.

    Arguments
    ---------
    board, engine, fmax:
        As for ``drawbar.build``.
    model:
        An artefact, a model, or a file of either; None: only the engine.

    Raises
    ------
    FitError:
        the engine does not fit the chip, or the model the engine: by how much, and what would.
    """
    spec = _with_chip(board)
    loaded = None if model is None else _load(model)
    artefact = loaded if isinstance(loaded, Artefact) else None
    config = engine_for(spec, engine=engine, artefact=artefact, fmax=fmax)
    family, chip = spec.chip_family, spec.chip
    used = check_fit(config, family, chip)
    check_clock(spec, config)
    facts: dict[str, Any] = {
        "board": spec.name,
        "device": chip.name,
        "engine": config.name,
        "rows": config.rows,
        "lanes": config.lanes,
        "data_width": config.data_width,
        "config_hash": config.hash.hex(),
        "clock_mhz": config.clock_hz / 1e6,
        "baud": config.baud,
        **used,
        "available": {
            kind: getattr(chip, kind) for kind in (*RESOURCES, *(["spram"] if chip.spram else []))
        },
        "model_error": model_errors(family.name),
        "core_bytes": config.core_bytes,
        "work_bytes": config.work_bytes,
    }
    if loaded is None:
        return facts
    cost = _cost(loaded, config, batch, minimise)
    line = link_bytes(
        _payload_bytes(cost.input, config, cost.batch),
        _payload_bytes(cost.output, config, cost.batch),
        cost.passes,
        config,
    )
    compute = cost.cycles / config.clock_hz
    link = line * _BITS_PER_BYTE / config.baud
    return {
        **facts,
        "model": cost.name,
        "batch": cost.batch,
        "cycles": cost.cycles,
        "compute_s": compute,
        "inferences_per_s": cost.batch / compute,
        "link_bytes": line,
        "link_s": link,
        "inferences_per_s_with_link": cost.batch / (compute + link),
    }


def _memories(config: EngineConfig, brams: int, spec: BoardSpec) -> Iterator[EngineConfig]:
    """The engine with core and work memories that fill what block RAM is left, in several ways.
    Work memory of single-port blocks stays as it is.
    """
    family = spec.chip_family
    seen = set()
    for share in (1.0,) if config.work_blocks else _CORE_SHARES:
        filled = [("core_depth", config.rows, share)]
        if not config.work_blocks:
            filled.append(("work_depth", config.lanes, 1 - share))
        depths = {name: 256 for name, _, _ in filled}
        for name, copies, part in filled:
            while copies * family.brams_of(config.data_width, 2 * depths[name]) <= brams * part:
                depths[name] *= 2
                if depths[name] >= 1 << 16:
                    break
        key = tuple(depths.values())
        if key not in seen:
            seen.add(key)
            yield config.replace(**depths)


def candidates(board: BoardSpec, base: EngineConfig) -> list[EngineConfig]:
    """Engines of many shapes, widths and memories that fit the board's chip."""
    family, chip = board.chip_family, board.chip
    found = []
    for width in _WIDTHS:
        for lanes in _LANES:
            # Single-port blocks serve one lane.
            blocks = base.work_blocks if lanes == 1 else 0
            for rows in _ROWS:
                shape = base.replace(
                    rows=rows,
                    lanes=lanes,
                    data_width=width,
                    acc_width=base.acc_width if width == base.data_width else 2 * width + 16,
                    core_depth=2,
                    work_depth=base.work_depth if blocks else 2,
                    work_blocks=blocks,
                )
                left = chip.brams - usage(shape, family)["brams"]
                for engine in _memories(shape, left, board):
                    if not excess(usage(engine, family), chip):
                        name = (
                            f"{rows} x {lanes}, {width} bit, core {engine.core_bytes // 1024} K, "
                            f"work {engine.work_bytes // 1024} K"
                        )
                        found.append(engine.replace(name=name))
    return found


def explore(
    board: str | Path | BoardSpec,
    model: str | Path | Model,
    *,
    batch: int = 1,
    report: Report | None = None,
) -> list[dict[str, Any]]:
    """Plan a model on many engines that fit a board; one row for each that holds it.

    ``pareto`` marks those of which no other takes fewer cycles without taking more look-up tables
    or block RAM, for the same data width. Fastest first.

    Raises
    ------
    FitError:
        the model fits no engine on this chip.
    """
    spec = _with_chip(board)
    loaded = as_model(model, None)
    base = engine_for(spec)
    engines = candidates(spec, base)
    rows: list[dict[str, Any]] = []
    shortest = ""
    for number, config in enumerate(engines):
        if report is not None:
            report(config.name, number, len(engines))
        try:
            cycles = plan_model(loaded, config, batch=batch).total.total
        except FitError as error:
            shortest = str(error.value)
            continue
        rows.append(
            {
                "engine": config.name,
                "config": config.as_dict(),
                "rows": config.rows,
                "lanes": config.lanes,
                "data_width": config.data_width,
                "core_bytes": config.core_bytes,
                "work_bytes": config.work_bytes,
                "cycles": cycles,
                "inferences_per_s": batch * config.clock_hz / cycles,
                **usage(config, spec.chip_family),
            }
        )
    if report is not None:
        report("done", len(engines), len(engines))
    if not rows:
        raise FitError(
            f"model {loaded.name!r} on {spec.chip.name}",
            f"fits one of the {len(engines)} engines that the chip holds",
            f"none; on the last one: {shortest or 'no engine fits the chip'}",
            "use a larger chip, smaller ranks, or 8-bit data",
        )
    costs = ("cycles", "luts", "brams")
    for row in rows:
        row["pareto"] = not any(
            other["data_width"] == row["data_width"]
            and all(other[cost] <= row[cost] for cost in costs)
            and any(other[cost] < row[cost] for cost in costs)
            for other in rows
        )
    return sorted(rows, key=lambda row: (row["cycles"], row["luts"]))
