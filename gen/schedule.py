"""The schedule: how long each stage waits for the results of the stage before.

The engine takes no notice of what its stages read and write; its cycles are known, so the program
can. Here the times of every read and every write of two neighbouring stages are laid beside each
other, and the later stage waits just until no word is read before it is written. In which order a
stage goes through its columns within one core matrix is free, and decides how soon its successor
finds its words: the orders with the shortest waits are chosen.

On an engine that holds one stage none waits: the fetch of the next one takes longer than the way of
the last result to memory.

Only neighbours need this: a stage is not latched before all results of the stage before the last
are written (``gen.cycles``), and results are written long after the operands of the same region
have been read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations, product
from math import factorial

import numpy as np

from drawbar.gen.config import EngineConfig
from drawbar.gen.cycles import stage_tiling
from drawbar.gen.pipeline import LATCH_TO_STEP, Pipeline, pipeline
from drawbar.gen.stage import Loop, Stage

#: Stages of more columns x k, or columns x rows, keep the order of their loops: trying costs time.
LARGE = 1 << 17
#: Column orders tried for each stage.
ORDERS = 24


def _spread(loops: Sequence[Loop], stride: str) -> np.ndarray:
    """Addresses of nested loops, outermost first, from 0 on."""
    addresses = np.zeros(1, np.int64)
    for loop in loops:
        steps = np.arange(loop.count, dtype=np.int64) * getattr(loop, stride)
        addresses = (addresses[:, None] + steps).reshape(-1)
    return addresses


def _groups(stage: Stage, config: EngineConfig) -> np.ndarray:
    """Number of the lane tile, over all columns, of every column in issue order."""
    tiles = stage.run_tiles(config)
    columns = stage.columns // stage.lane_count
    lane_tile = np.arange(stage.lane_count) // stage.lanes(config)
    return (np.arange(columns)[:, None] * tiles + lane_tile).reshape(-1)


def _columns(stage: Stage, stride: str) -> np.ndarray:
    """Addresses of every column in issue order."""
    lane = Loop(stage.lane_count, x=stage.lane_x, y=stage.lane_y)
    return _spread((*stage.column_loops, lane), stride)


def read_times(stage: Stage, config: EngineConfig) -> tuple[np.ndarray, np.ndarray]:
    """Element addresses that a stage reads, and when it first does: cycles after its first step."""
    tiles = stage_tiling(stage, config)
    group = _groups(stage, config)[:, None]
    step = np.arange(stage.k)[None, :]
    # A group's first tile starts after the last tile of the group before, and its last step waits
    # for that tile's drain.
    first = tiles.k + tiles.gap - tiles.apart(tiles.rows_last)
    start = np.where(group > 0, group * tiles.group + first, 0)
    times = np.where(step < tiles.k - 1, start + step, tiles.k - 1 + group * tiles.group)
    addresses = stage.x_base + _columns(stage, "x")[:, None] + _spread(stage.k_loops, "x")[None, :]
    return addresses.reshape(-1), np.broadcast_to(times, addresses.shape).reshape(-1)


def write_times(stage: Stage, config: EngineConfig) -> tuple[np.ndarray, np.ndarray]:
    """Element addresses that a stage writes, and when: cycles after its last step."""
    tiles = stage_tiling(stage, config)
    group = _groups(stage, config)[:, None]
    vectors = np.arange(stage.rows) // stage.fold
    row_tile, row = np.divmod(vectors, config.rows)
    ends = tiles.k - 1 + group * tiles.group + row_tile[None, :] * tiles.apart(tiles.rows)
    times = ends - (tiles.issue - 1) + pipeline(config).issue_to_write + 1 + row[None, :]
    addresses = (
        stage.y_base + _columns(stage, "y")[:, None] + _spread(stage.result_loops, "y")[None, :]
    )
    return addresses.reshape(-1), times.reshape(-1)


def least_wait(before: Stage, after: Stage, config: EngineConfig) -> int:
    """Cycles that ``after`` must wait so that it reads no word before ``before`` has written it."""
    if config.stages_held == 1:
        return 0
    (first_written, last_written), (first_read, last_read) = before.span("y"), after.span("x")
    if last_written < first_read or last_read < first_written:
        # Plain without a look at each word.
        return 0
    return _least_wait(write_times(before, config), read_times(after, config), pipeline(config))


def _least_wait(
    written: tuple[np.ndarray, np.ndarray], read: tuple[np.ndarray, np.ndarray], pipe: Pipeline
) -> int:
    base = min(int(written[0].min()), int(read[0].min()))
    span = max(int(written[0].max()), int(read[0].max())) - base + 1
    never = np.iinfo(np.int64).min // 2
    ready = np.full(span, never)
    np.maximum.at(ready, written[0] - base, written[1])
    # A word is there for reads from the cycle after its write on.
    first_step = ready[read[0] - base] + 1 - pipe.issue_to_read - read[1]
    return max(0, int(first_step.max()) - pipe.step_to_latch - LATCH_TO_STEP)


def _orders(stage: Stage) -> list[tuple[int, ...]]:
    """Orders of the column loops; the given one first. The shared ones stay where they are."""
    n = len(stage.column_loops)
    shared = tuple(j for j, loop in enumerate(stage.column_loops) if loop.shared)
    free = tuple(j for j, loop in enumerate(stage.column_loops) if not loop.shared)
    if stage.columns * max(stage.k, stage.rows) > LARGE or factorial(len(free)) > ORDERS:
        return [tuple(range(n))]
    return [(*shared, *order) for order in permutations(free)]


def _reordered(stage: Stage, order: Sequence[int]) -> Stage:
    return replace(stage, column_loops=tuple(stage.column_loops[j] for j in order))


def schedule(
    stages: Sequence[Stage], config: EngineConfig
) -> tuple[list[Stage], list[tuple[int, ...]]]:
    """Choose column orders and waits, the sum of the waits as small as possible.

    Returns
    -------
    The stages with their waits, and for each the order of its column loops (positions in what was
    given).
    """
    if config.stages_held == 1:
        return list(stages), [tuple(range(len(stage.column_loops))) for stage in stages]
    pipe = pipeline(config)
    orders = [_orders(stage) for stage in stages]
    # Shortest path over the orders of one stage after another: (sum of waits, orders, waits).
    best: list[tuple[int, tuple[int, ...], tuple[int, ...]]] = [
        (0, (choice,), (0,)) for choice in range(len(orders[0]))
    ]
    for number in range(1, len(stages)):
        written = [
            write_times(_reordered(stages[number - 1], order), config)
            for order in orders[number - 1]
        ]
        read = [read_times(_reordered(stages[number], order), config) for order in orders[number]]
        waits = {
            (i, j): _least_wait(written[i], read[j], pipe)
            for i, j in product(range(len(written)), range(len(read)))
        }
        best = [
            min(
                (total + waits[path[-1], j], (*path, j), (*so_far, waits[path[-1], j]))
                for total, path, so_far in best
            )
            for j in range(len(read))
        ]
    _, path, waits_chosen = min(best)
    chosen = [orders[number][choice] for number, choice in enumerate(path)]
    result = [
        replace(_reordered(stage, order), wait=wait)
        for stage, order, wait in zip(stages, chosen, waits_chosen, strict=True)
    ]
    return result, chosen
