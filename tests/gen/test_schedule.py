"""The schedule against a walk through every step and every row, one after another."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest
from random_stages import random_config, random_stage

from drawbar.gen.config import EngineConfig
from drawbar.gen.cycles import program_cycles, stage_tiling
from drawbar.gen.pipeline import LATCH_TO_STEP, pipeline
from drawbar.gen.schedule import least_wait, schedule
from drawbar.gen.stage import Loop, Stage


def walk(stage: Stage, config: EngineConfig) -> tuple[dict[int, int], dict[int, int]]:
    """When each element is first read, counted from the first step, and last written, counted from
    the last step; issue and drain as ``gen.cycles`` states them.
    """
    first_read: dict[int, int] = {}
    written: dict[int, int] = {}
    now, free = -1 - config.tile_gap, 0
    for counters in itertools.product(*(range(loop.count) for loop in stage.column_loops)):
        x = stage.x_base + sum(
            at * loop.x for at, loop in zip(counters, stage.column_loops, strict=True)
        )
        y = stage.y_base + sum(
            at * loop.y for at, loop in zip(counters, stage.column_loops, strict=True)
        )
        part = config.lanes // stage.fold
        for lane_start in range(0, stage.lane_count, part):
            lanes = range(lane_start, min(lane_start + part, stage.lane_count))
            for row_start in range(0, stage.rows // stage.fold, config.rows):
                now += config.tile_gap
                ks = list(itertools.product(*(range(loop.count) for loop in stage.k_loops)))
                for number, k in enumerate(ks):
                    now += 1
                    if number == len(ks) - 1:
                        now = max(now, free)
                    offset = sum(at * loop.x for at, loop in zip(k, stage.k_loops, strict=True))
                    for lane in lanes:
                        first_read.setdefault(x + offset + lane * stage.lane_x, now)
                rows = list(itertools.product(*(range(loop.count) for loop in stage.row_loops)))
                tile = rows[row_start : row_start + config.rows]
                for number, row in enumerate(tile):
                    offset = sum(at * loop.y for at, loop in zip(row, stage.row_loops, strict=True))
                    for lane, group in itertools.product(lanes, range(stage.fold)):
                        place = offset + lane * stage.lane_y + group * stage.fold_y
                        written[y + place] = now + pipeline(config).issue_to_write + 1 + number
                free = now + len(tile)
    return first_read, {element: cycle - now for element, cycle in written.items()}


#: A seed whose engine overlaps its stages.
WAITS = 1


def program_distance(before: Stage, after: Stage, config: EngineConfig) -> int:
    """Cycles from the last step of a stage to the first one of the next, by the cycle model."""
    _, second = program_cycles([before, after], config)
    return second.stall_fetch + second.flush - stage_tiling(after, config).emptying + 1


def neighbours(rng: random.Random, config: EngineConfig) -> tuple[Stage, Stage]:
    """Two stages, the later one reading where the earlier one writes."""
    before, after = random_stage(rng, config), random_stage(rng, config)
    shift = before.y_base - after.x_base + rng.randint(-3, 3)
    return before, replace(
        after, x_base=max(0, after.x_base + shift), y_base=max(0, after.y_base + shift)
    )


@pytest.mark.parametrize("seed", range(40))
def test_waits_are_just_long_enough(seed: int) -> None:
    rng = random.Random(seed)
    config = random_config(rng)
    waited = 0
    for _ in range(6):
        before, after = neighbours(rng, config)
        wait = least_wait(before, after, config)
        _, written = walk(before, config)
        read, _ = walk(after, config)
        # The first step comes that many cycles after the last one of the stage before.
        pipe = pipeline(config)
        to_step = pipe.step_to_latch + LATCH_TO_STEP + wait
        if config.stages_held == 1:
            # Nothing to schedule: the descriptor comes late enough.
            assert wait == 0
            to_step = program_distance(before, after, config)
        slack = [
            to_step + read[element] + pipe.issue_to_read - written[element] - 1
            for element in read.keys() & written.keys()
        ]
        assert all(cycles >= 0 for cycles in slack)
        assert wait == 0 or min(slack) == 0
        waited += wait > 0
    if seed == WAITS:
        assert waited


def test_the_walk_is_the_cycle_model() -> None:
    rng = random.Random(1)
    config = random_config(rng)
    for _ in range(20):
        stage = random_stage(rng, config)
        read, written = walk(stage, config)
        tiles = stage_tiling(stage, config)
        assert max(read.values()) < tiles.issue
        assert max(written.values()) == tiles.emptying


def column_orders(stage: Stage) -> list[tuple[Loop, ...]]:
    """All orders of the column loops that keep the shared ones first and as they are."""
    shared = [loop for loop in stage.column_loops if loop.shared]
    return [
        order
        for order in itertools.permutations(stage.column_loops)
        if list(order[: len(shared)]) == shared
    ]


@pytest.mark.parametrize("seed", range(20))
def test_orders_of_columns_are_chosen_for_short_waits(seed: int) -> None:
    rng = random.Random(seed)
    config = random_config(rng).replace(column_loops=3)
    stages = [random_stage(rng, config) for _ in range(3)]
    for number in (1, 2):
        moved = stages[number - 1].y_base - stages[number].x_base
        stages[number] = replace(
            stages[number],
            x_base=stages[number].x_base + moved,
            y_base=max(0, stages[number].y_base + moved),
        )
    scheduled, orders = schedule(stages, config)
    plain = sum(least_wait(a, b, config) for a, b in itertools.pairwise(stages))
    assert sum(stage.wait for stage in scheduled) <= plain
    for stage, done, order in zip(stages, scheduled, orders, strict=True):
        assert sorted(order) == list(range(len(stage.column_loops)))
        assert done.column_loops == tuple(stage.column_loops[j] for j in order)
        assert replace(done, wait=0, column_loops=()) == replace(stage, column_loops=())
    for before, after in itertools.pairwise(scheduled):
        assert after.wait == least_wait(before, after, config)
    # No choice of orders for two of them does better.
    pairs = itertools.product(*(column_orders(stage) for stage in stages[:2]))
    best = min(
        least_wait(
            replace(stages[0], column_loops=first), replace(stages[1], column_loops=second), config
        )
        for first, second in pairs
    )
    two, _ = schedule(stages[:2], config)
    assert two[1].wait == best
    assert scheduled[0].wait == 0
    assert sum(c.total for c in program_cycles(scheduled, config)) <= (
        sum(c.total for c in program_cycles(stages, config)) + sum(s.wait for s in scheduled)
    )
