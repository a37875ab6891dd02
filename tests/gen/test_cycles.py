"""The cycle model against a simulation, cycle by cycle, of the rules that it states."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_stages import random_config, random_stage

from drawbar.gen.config import EngineConfig
from drawbar.gen.cycles import (
    Cycles,
    program_cycles,
    stage_tiling,
    tile_cycles,
    tiling,
    utilisation,
)
from drawbar.gen.pipeline import HANDOVER, LATCH_TO_STEP, pipeline
from drawbar.gen.program import descriptor_words
from drawbar.gen.stage import Stage


def tile_rows(rows: int, lane_tiles: int, array_rows: int) -> list[int]:
    """Rows of each tile in issue order."""
    group = [array_rows] * (rows // array_rows) + [rows % array_rows] * (rows % array_rows > 0)
    return group * lane_tiles


def simulate(rows: int, k: int, lane_tiles: int, array_rows: int, gap: int = 0) -> tuple[int, int]:
    """Issue a step in each cycle; hold a tile's last step while the drain registers are in use, and
    the first one of each further tile for a gap.

    Returns the cycles with and without a step.
    """
    busy = stall = draining = 0
    for number, size in enumerate(tile_rows(rows, lane_tiles, array_rows)):
        step = 0
        if number:
            stall += gap
            draining = max(0, draining - gap)
        while step < k:
            # The drain's last row leaves in the cycle in which the next tile may take its place.
            if step == k - 1 and draining > 1:
                stall += 1
            else:
                step += 1
                busy += 1
            draining = max(0, draining - 1)
        draining = size
    return busy, stall


def simulate_program(stages: list[Stage], config: EngineConfig) -> list[Counter[str]]:
    """The sequencer, one cycle after another: what each cycle is spent on, for each stage."""
    fetch = descriptor_words(config) // config.fetch_words + pipeline(config).fetch_latency
    fetched_at = fetch
    pipe = pipeline(config)
    spent: list[Counter[str]] = [Counter() for _ in stages]
    now = rows_left = 0
    # Of each stage: the cycle of its last step, and that at whose end its last row is written.
    ended: list[int] = []
    writes: list[int] = []
    for number, stage in enumerate(stages):
        tiles = tile_rows(stage.row_vectors, stage.lane_tiles(config), config.rows)
        cycle = now
        if number:
            cycle += pipe.step_to_latch
            spent[number]["flush"] += pipe.step_to_latch
        # Latch: the descriptor is here, and the stage two before will be written in time.
        while cycle < fetched_at or (
            number >= 2 and cycle < writes[number - 2] - pipe.latch_before_write
        ):
            cycle += 1
            spent[number]["fetch"] += 1
        latched = cycle
        cycle += stage.wait + LATCH_TO_STEP - 1
        spent[number]["flush"] += stage.wait + LATCH_TO_STEP - 1
        draining = 0
        for tile, size in enumerate(tiles):
            step = 0
            if tile:
                cycle += config.tile_gap
                spent[number]["drain"] += config.tile_gap
                draining = max(0, draining - config.tile_gap)
            while step < stage.k:
                cycle += 1
                # The drain side is still in use, or changes stages.
                changing = number and cycle < ended[-1] + rows_left + HANDOVER
                if step == stage.k - 1 and (draining > 1 or changing):
                    spent[number]["drain"] += 1
                else:
                    spent[number]["busy"] += 1
                    step += 1
                draining = max(0, draining - 1)
            draining = size
        rows_left = tiles[-1]
        ended.append(cycle)
        writes.append(cycle + pipe.issue_to_write + rows_left)
        now = cycle
        # The next descriptor is asked for when this one is taken; or, where it is the only one that
        # is held, when the last row has left the drain's loops.
        fetched_at = fetch + (
            latched if config.stages_held > 1 else cycle + pipe.step_to_free + rows_left
        )
    spent[-1]["flush"] += writes[-1] - now
    return spent


@given(
    rows=st.integers(1, 40),
    k=st.integers(1, 20),
    lane_tiles=st.integers(1, 12),
    array_rows=st.integers(1, 16),
    gap=st.integers(0, 1),
    short=st.integers(0, 1),
)
def test_a_stage(rows: int, k: int, lane_tiles: int, array_rows: int, gap: int, short: int) -> None:
    config = EngineConfig(rows=array_rows, tile_gap=gap, short_pipeline=short)
    tiles = tiling(rows, k, lane_tiles, config)
    busy, stall = simulate(rows, k, lane_tiles, array_rows, gap)
    assert (tiles.busy, tiles.issue) == (busy, busy + stall)
    change = 2 if short else 3
    assert tile_cycles(rows, k, lane_tiles, config) == busy + stall + change


def test_by_hand() -> None:
    config = EngineConfig(rows=4)
    # One tile: 3 steps, and then the pipeline of 24 (8 lanes are two groups) and 2 rows.
    one = tiling(2, 3, 1, config)
    assert (one.issue, one.emptying) == (3, 26)
    # Tiles of 4, 1, 4, 1 rows with one step each: the second and the fourth wait 3 cycles.
    two = tiling(5, 1, 2, config)
    assert (two.busy, two.issue, two.emptying) == (4, 10, 25)
    # A short pipeline is one of 13, or of 14 where tiles have a gap.
    short = config.replace(short_pipeline=1)
    assert tiling(2, 3, 1, short).emptying == 15
    assert tiling(2, 3, 1, short.replace(tile_gap=1)).emptying == 16


@pytest.mark.parametrize("seed", range(60))
def test_a_program(seed: int) -> None:
    rng = random.Random(seed)
    config = random_config(rng)
    stages = [
        replace(random_stage(rng, config), wait=rng.choice((0, 0, 1, 5, 30)))
        for _ in range(rng.randint(1, 6))
    ]
    expected = [
        Cycles(spent["busy"], spent["drain"], spent["fetch"], spent["flush"])
        for spent in simulate_program(stages, config)
    ]
    assert program_cycles(stages, config) == expected


def test_sums() -> None:
    one, two = Cycles(1, 2, 3, 4), Cycles(10, 20, 30, 40)
    assert one + two == Cycles(11, 22, 33, 44)
    assert two - one == Cycles(9, 18, 27, 36)
    assert two.total == 100


def test_a_stage_alone() -> None:
    rng = random.Random(1)
    config = random_config(rng)
    stage = random_stage(rng, config)
    tiles = stage_tiling(stage, config)
    (cycles,) = program_cycles([stage], config)
    fetch = descriptor_words(config) // config.fetch_words + pipeline(config).fetch_latency
    assert cycles.total == fetch + LATCH_TO_STEP - 1 + stage.wait + tiles.issue + tiles.emptying


def test_utilisation() -> None:
    config = EngineConfig(rows=4, lanes=4)
    assert utilisation(160, 20, config) == 0.5
    assert utilisation(0, 0, config) == 0.0
