"""The exact cycle model: what the engine's counters will say of a program, to the cycle.

A stage issues one reduction step each cycle. A tile of ``n`` result rows drains through the
requantisers one row each cycle while the next tile accumulates, and the drain registers must be
free when that next tile ends: so it ends ``max(K, n)`` cycles after its predecessor.

Stages overlap. When the last step of a stage is issued, the next one is latched if its descriptor
is here; it waits for as long as its program says (``gen.schedule`` sees to it that every word is
written before it is read), loads its address generators, and issues, while the stage before still
drains. Its first tile may not end before the drain side has changed stages::

    stage s    ... steps of the last tile | drain of the last tile ............ written
    stage s+1                        latch| wait | load | step step ...... first tile ends

Transfers cost no cycles: the host's reads and writes take only what the program leaves free. A
program that is pending starts ``RUN_GAP`` cycles after the end of the one before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drawbar.gen.config import EngineConfig
from drawbar.gen.program import descriptor_words
from drawbar.gen.stage import Stage

#: Cycles from the issue of a tile's last step to the cycle at whose end its last row is written,
#: besides one for each row.
ISSUE_TO_WRITE = 13
#: Cycles from the latch of a stage to its first step, besides its wait.
LATCH_TO_STEP = 2
#: The first tile of a stage may end this many cycles before the last row of the stage before is
#: written.
HANDOVER = 5
#: Cycles from the start of a program to the latch of its first descriptor, besides one for each
#: descriptor word.
FETCH_LATENCY = 3
#: Cycles without a program between the end of a run and the start of the one that was pending.
RUN_GAP = 1


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
    """The tiles of a stage: ``lane_tiles`` groups of row tiles, each but the last of all rows.

    Members
    -------
    group:
        Cycles from one group to the next.
    """

    k: int
    row_tiles: int
    rows_last: int
    lane_tiles: int
    rows: int

    @property
    def group(self) -> int:
        return (self.row_tiles - 1) * max(self.k, self.rows) + max(self.k, self.rows_last)

    @property
    def busy(self) -> int:
        return self.lane_tiles * self.row_tiles * self.k

    @property
    def issue(self) -> int:
        """Cycles from the first step to the last one, both included, if nothing else waits."""
        return self.k + self.lane_tiles * self.group - max(self.k, self.rows_last)

    @property
    def emptying(self) -> int:
        """Cycles from the last step to the write of the last row."""
        return ISSUE_TO_WRITE + self.rows_last


def tiling(rows: int, k: int, lane_tiles: int, config: EngineConfig) -> Tiling:
    """Tiles of a stage of ``rows`` result rows and reductions of ``k`` steps."""
    row_tiles = -(-rows // config.rows)
    rows_last = rows - (row_tiles - 1) * config.rows
    return Tiling(k, row_tiles, rows_last, lane_tiles, config.rows)


def stage_tiling(stage: Stage, config: EngineConfig) -> Tiling:
    return tiling(stage.rows, stage.k, stage.lane_tiles(config), config)


def tile_cycles(rows: int, k: int, lane_tiles: int, config: EngineConfig) -> int:
    """The least that a stage of these sizes adds to a program: issue, drain stalls, a load."""
    return tiling(rows, k, lane_tiles, config).issue + LATCH_TO_STEP - 1


def least_cycles(rows: int, k: int, lane_tiles: int, final: bool, config: EngineConfig) -> int:
    """The same, where the stage may be the last of the program (``final``) or is not: then the next
    descriptor has to be here as well.
    """
    return max(tile_cycles(rows, k, lane_tiles, config), 0 if final else fetch_cycles(config))


def fetch_cycles(config: EngineConfig) -> int:
    """Cycles from the order to fetch a descriptor to the cycle in which it can be latched."""
    return descriptor_words(config) + FETCH_LATENCY


def program_cycles(stages: Sequence[Stage], config: EngineConfig) -> list[Cycles]:
    """Cycles of each stage of a program, from the last step of the stage before to its own last
    step; the last stage's also until its last result is written. Their sum is what the engine
    reports.
    """
    result = []
    last_step = 0
    fetched = fetch_cycles(config)
    earliest_end = 0
    handed = written = 0
    for number, stage in enumerate(stages):
        tiles = stage_tiling(stage, config)
        # A stage stays with the issue side until the drain side takes it.
        latch = max(last_step, fetched, handed + 1)
        first_step = latch + LATCH_TO_STEP + stage.wait
        held = max(0, earliest_end - (first_step + tiles.k - 1))
        end = first_step + tiles.issue - 1 + held
        cycles = Cycles(
            busy=tiles.busy,
            stall_drain=tiles.issue - tiles.busy + held,
            stall_fetch=latch - last_step,
            flush=LATCH_TO_STEP - 1 + stage.wait,
        )
        if number == len(stages) - 1:
            cycles += Cycles(flush=tiles.emptying)
        result.append(cycles)
        last_step = end
        fetched = latch + fetch_cycles(config)
        handed = max(latch + 1, written - HANDOVER + 3)
        written = end + tiles.emptying
        earliest_end = written - HANDOVER
    return result


def utilisation(multiplications: int, cycles: int, config: EngineConfig) -> float:
    """Useful multiplications over what the array could have done, 0..1."""
    return multiplications / (cycles * config.multipliers) if cycles else 0.0
