"""The exact cycle model: what the engine's counters will say of a program, to the cycle.

A stage issues one reduction step each cycle. A tile of ``n`` result rows drains through the
requantisers one row each cycle while the next tile accumulates, and the drain registers must be
free when that next tile ends: so it ends ``max(K, n)`` cycles after its predecessor.

Stages overlap. When the last step of a stage is issued, the next one is latched if its descriptor
is here; it waits for as long as its program says (``gen.schedule`` sees to it that every word is
written before it is read), loads its address generators, and issues, while the stage before still
drains. Its first tile leaves the drain side the time to change stages. (An engine that holds one
stage overlaps nothing: it fetches a descriptor when the last row of the stage before is on its way
to the requantisers.) ::

    stage s    ... steps of the last tile | drain of the last tile | ............ written
    stage s+1                     turn|latch| wait | load | step step ...... first tile ends

How long all of that takes is the engine's pipeline: ``gen.pipeline``.

Transfers cost no cycles: the host's reads and writes take only what the program leaves free. A
program that is pending starts ``RUN_GAP`` cycles after the end of the one before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drawbar.gen.config import EngineConfig
from drawbar.gen.pipeline import HANDOVER, LATCH_TO_STEP, pipeline
from drawbar.gen.program import descriptor_words
from drawbar.gen.stage import Stage


@dataclass(frozen=True)
class Cycles:
    """Cycles by cause, as the engine counts them; ``total`` is their sum.

    Members
    -------
    busy:
        A reduction step is issued.
    stall_drain:
        The drain registers, or the drain side as a whole, are still in use.
    stall_fetch:
        The descriptor is not here yet.
    flush:
        The pipeline fills or empties: loading address generators, waiting for words of the stage
        before, and writing the last results of the program.
    """

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

    def __sub__(self, other: Cycles) -> Cycles:
        return Cycles(
            self.busy - other.busy,
            self.stall_drain - other.stall_drain,
            self.stall_fetch - other.stall_fetch,
            self.flush - other.flush,
        )


@dataclass(frozen=True)
class Tiling:
    """The tiles of a stage: ``lane_tiles`` groups of row tiles, each but the last of all rows. Rows
    are row vectors here, as it is these that take turns.

    Members
    -------
    emptying:
        Cycles from the last step to the write of the last row.
    gap:
        Cycles without a step behind each tile.
    group:
        Cycles from one group to the next.
    """

    k: int
    row_tiles: int
    rows_last: int
    lane_tiles: int
    rows: int
    emptying: int
    gap: int = 0

    @property
    def group(self) -> int:
        return (self.row_tiles - 1) * self.apart(self.rows) + self.apart(self.rows_last)

    def apart(self, rows: int) -> int:
        """Cycles from the last step of a tile of so many rows to that of the next tile."""
        return max(self.k + self.gap, rows)

    @property
    def busy(self) -> int:
        return self.lane_tiles * self.row_tiles * self.k

    @property
    def issue(self) -> int:
        """Cycles from the first step to the last one, both included, if nothing else waits."""
        return self.k + self.lane_tiles * self.group - self.apart(self.rows_last)


def tiling(rows: int, k: int, lane_tiles: int, config: EngineConfig) -> Tiling:
    """Tiles of a stage of ``rows`` row vectors and reductions of ``k`` steps."""
    row_tiles = -(-rows // config.rows)
    rows_last = rows - (row_tiles - 1) * config.rows
    emptying = pipeline(config).issue_to_write + rows_last
    return Tiling(k, row_tiles, rows_last, lane_tiles, config.rows, emptying, config.tile_gap)


def stage_tiling(stage: Stage, config: EngineConfig) -> Tiling:
    return tiling(stage.row_vectors, stage.k, stage.lane_tiles(config), config)


def folded_sizes(rows: int, columns: int, config: EngineConfig) -> list[tuple[int, int]]:
    """Row vectors and lane tiles of so many rows and columns side by side, for each fold."""
    return [(-(-rows // f), -(-columns * f // config.lanes)) for f in config.folds]


def tile_cycles(rows: int, k: int, lane_tiles: int, config: EngineConfig) -> int:
    """The least that a stage of these sizes adds to a program: issue, drain stalls, a load."""
    change = pipeline(config).step_to_latch + LATCH_TO_STEP - 1
    return tiling(rows, k, lane_tiles, config).issue + change


def least_cycles(rows: int, k: int, lane_tiles: int, final: bool, config: EngineConfig) -> int:
    """The same, where the stage may be the last of the program (``final``) or is not: then the next
    descriptor has to be here as well.
    """
    return max(tile_cycles(rows, k, lane_tiles, config), 0 if final else fetch_cycles(config))


def stage_least(stage: Stage, final: bool, config: EngineConfig) -> int:
    """``least_cycles`` of a stage."""
    return least_cycles(stage.row_vectors, stage.k, stage.lane_tiles(config), final, config)


def fetch_cycles(config: EngineConfig) -> int:
    """Cycles from the order to fetch a descriptor to the cycle in which it can be latched."""
    return descriptor_words(config) // config.fetch_words + pipeline(config).fetch_latency


def program_bound(stages: int, config: EngineConfig) -> int:
    """The least that a program takes whose stages take ``stages`` cycles by ``tile_cycles``."""
    pipe = pipeline(config)
    return fetch_cycles(config) - pipe.step_to_latch + stages + pipe.issue_to_write + 1


def program_cycles(stages: Sequence[Stage], config: EngineConfig) -> list[Cycles]:
    """Cycles of each stage of a program, from the last step of the stage before to its own last
    step; the last stage's also until its last result is written. Their sum is what the engine
    reports.
    """
    result = []
    pipe = pipeline(config)
    last_step = turn = 0
    fetched = fetch_cycles(config)
    earliest_end = 0
    written = written_before = 0
    for number, stage in enumerate(stages):
        tiles = stage_tiling(stage, config)
        latch = max(turn, fetched, written_before - pipe.latch_before_write)
        first_step = latch + LATCH_TO_STEP + stage.wait
        held = max(0, earliest_end - (first_step + tiles.k - 1))
        end = first_step + tiles.issue - 1 + held
        cycles = Cycles(
            busy=tiles.busy,
            stall_drain=tiles.issue - tiles.busy + held,
            stall_fetch=latch - turn,
            flush=turn - last_step + LATCH_TO_STEP - 1 + stage.wait,
        )
        if number == len(stages) - 1:
            cycles += Cycles(flush=tiles.emptying)
        result.append(cycles)
        last_step, turn = end, end + pipe.step_to_latch
        follow = latch if config.stages_held > 1 else end + pipe.step_to_free + tiles.rows_last
        fetched = follow + fetch_cycles(config)
        earliest_end = end + tiles.rows_last + HANDOVER
        written_before, written = written, end + tiles.emptying
    return result


def utilisation(multiplications: int, cycles: int, config: EngineConfig) -> float:
    """Useful multiplications over what the array could have done, 0..1."""
    return multiplications / (cycles * config.multipliers) if cycles else 0.0
