"""Slots: the cycles of a program in which it leaves work memory to the host."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from drawbar.gen.config import EngineConfig
from drawbar.gen.cycles import program_cycles, stage_tiling
from drawbar.gen.pipeline import ISSUE_TO_ADDRESS, pipeline
from drawbar.gen.stage import Stage


class Slots:
    """Cycles of a run in which it takes the read and the write address of work memory."""

    def __init__(self, stages: Sequence[Stage], config: EngineConfig) -> None:
        spent = program_cycles(stages, config)
        pipe = pipeline(config)
        self.cycles = sum(cycles.total for cycles in spent)
        reading = np.zeros(self.cycles + 1, bool)
        writing = np.zeros(self.cycles + 1, bool)
        start = 0
        for stage, cycles in zip(stages, spent, strict=True):
            tiles = stage_tiling(stage, config)
            first_step = start + cycles.stall_fetch + cycles.flush
            issue = cycles.busy + cycles.stall_drain
            start += cycles.total
            if start == self.cycles:  # the last stage: its flush comes after its steps, too
                first_step -= tiles.emptying
            # A tile ends once the one before has drained; only its last step waits for that.
            rows = np.full(tiles.row_tiles, tiles.rows)
            rows[-1] = tiles.rows_last
            rows = np.tile(rows, tiles.lane_tiles)
            between = np.maximum(tiles.k + tiles.gap, rows[:-1])
            ends = first_step + issue - 1 - np.append(np.cumsum(between[::-1])[::-1], 0)
            steps = np.append(first_step, ends[:-1] + 1 + tiles.gap)[:, None] + np.arange(
                tiles.k - 1
            )
            # A write takes the memory's address when its way there begins.
            to_write = pipe.issue_to_write + 1 - pipe.work_access
            reading[np.append(steps.reshape(-1), ends) + ISSUE_TO_ADDRESS] = True
            for row in range(tiles.rows):
                writing[ends[rows > row] + to_write + row] = True
        if config.work_blocks:
            # A block has a single port: the host has the cycles in which neither is taken.
            reading = writing = reading | writing
        self.reading = Free(reading)
        self.writing = Free(writing)


class Free:
    """The next cycle of a run in which a slot is free."""

    def __init__(self, busy: np.ndarray) -> None:
        after = np.append(np.where(busy, len(busy), np.arange(len(busy))), len(busy))
        self._next = np.minimum.accumulate(after[::-1])[::-1].tolist()

    def __len__(self) -> int:
        return len(self._next)

    def after(self, cycle: int) -> int:
        """``cycle``, or the first one after it that the run does not take."""
        return cycle if cycle >= len(self._next) else self._next[cycle]


class Runs:
    """Which of the slots of all runs are free, on one side of work memory.

    Arguments
    ---------
    kinds:
        The slots of each program, which take turns.
    starts:
        First cycle of each run so far.
    """

    def __init__(self, kinds: Sequence[Free], starts: Sequence[int]) -> None:
        self._kinds = kinds
        self._starts = starts

    def clear(self, first: int, last: int) -> bool:
        """Whether no run takes any of these cycles."""
        run = bisect_right(self._starts, last) - 1
        return run < 0 or first - self._starts[run] >= self._length(run)

    def after(self, cycle: int) -> int:
        """``cycle``, or the first one after it that no run takes."""
        starts = self._starts
        while True:
            run = bisect_right(starts, cycle) - 1
            if run < 0 or cycle - starts[run] >= self._length(run):
                return cycle
            free = starts[run] + self._kinds[run % len(self._kinds)].after(cycle - starts[run])
            if run + 1 == len(starts) or free < starts[run + 1]:
                return free
            cycle = starts[run + 1]

    def _length(self, run: int) -> int:
        return len(self._kinds[run % len(self._kinds)])
