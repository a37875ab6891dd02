"""The exact cycle model: what the engine's counters will say of a program, to the cycle.

A stage issues one reduction step each cycle. A tile of ``rows_t`` result rows drains through the
requantisers one row each cycle while the next tile accumulates, and the drain registers must be
free when that next tile ends. So tile ``t + 1`` ends ``max(K, rows_t)`` cycles after tile ``t``. A
stage ends when its last result is in work memory; the next one starts then, or when its descriptor
has been fetched, whichever is later::

    latch  issue K steps .. issue of tile 2 ..     last tile   pipeline   drain of the last tile
      |   |----------------|------------------|...|-----------|----------|----------------------|
                                                                                    next latch -'
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drawbar.gen.config import EngineConfig
from drawbar.gen.program import descriptor_words
from drawbar.gen.stage import Stage

#: Cycles of a stage besides issue, stalls and the drain of its last tile: one to load the address
#: generators, and 13 from the issue of the last step to the write of the first row of its tile.
STAGE_LATENCY = 14
#: Cycles from the start of a program to the latch of its first descriptor, besides one for each
#: descriptor word.
FETCH_LATENCY = 3


@dataclass(frozen=True)
class Cycles:
    """Cycles by cause, as the engine counts them; ``total`` is their sum."""

    busy: int = 0
    stall_drain: int = 0
    stall_fetch: int = 0
    flush: int = 0

    @property
    def total(self) -> int:
        return self.busy + self.stall_drain + self.stall_fetch + self.flush

    def __add__(self, other: Cycles) -> Cycles:
        return Cycles(
            self.busy + other.busy,
            self.stall_drain + other.stall_drain,
            self.stall_fetch + other.stall_fetch,
            self.flush + other.flush,
        )


def fetch_cycles(config: EngineConfig) -> int:
    """Cycles from the order to fetch a descriptor to the cycle in which it can be latched."""
    return descriptor_words(config) + FETCH_LATENCY


def tile_cycles(rows: int, k: int, lane_tiles: int, config: EngineConfig) -> Cycles:
    """Cycles of a stage with these sizes, without waiting for its descriptor.

    ``rows`` result rows, reductions of ``k`` steps, ``lane_tiles`` tiles of columns.
    """
    row_tiles = -(-rows // config.rows)
    tiles = lane_tiles * row_tiles
    rows_last = rows - (row_tiles - 1) * config.rows
    # Of all tiles but the very last, whose drain no tile waits for: how many drain fewer rows?
    ragged = lane_tiles - 1
    full = tiles - 1 - ragged
    stall_drain = full * max(0, config.rows - k) + ragged * max(0, rows_last - k)
    return Cycles(busy=tiles * k, stall_drain=stall_drain, flush=STAGE_LATENCY + rows_last)


def stage_cycles(stage: Stage, config: EngineConfig) -> Cycles:
    """Cycles from the latch of a stage to its end, without waiting for its descriptor."""
    return tile_cycles(stage.rows, stage.k, stage.lane_tiles(config), config)


def program_cycles(stages: Sequence[Stage], config: EngineConfig) -> list[Cycles]:
    """Cycles of each stage of a program, waits for descriptors included; their sum is what the
    engine reports.
    """
    result = []
    fetch = fetch_cycles(config)
    ready_in = fetch
    for stage in stages:
        cycles = stage_cycles(stage, config)
        result.append(cycles + Cycles(stall_fetch=ready_in))
        ready_in = max(0, fetch - cycles.total)
    return result


def utilisation(multiplications: int, cycles: int, config: EngineConfig) -> float:
    """Useful multiplications over what the array could have done, 0..1."""
    return multiplications / (cycles * config.multipliers) if cycles else 0.0
