"""The cycle model against a simulation, cycle by cycle, of the rule that it states."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_stages import random_config, random_stage

from drawbar.gen.config import EngineConfig
from drawbar.gen.cycles import (
    FETCH_LATENCY,
    STAGE_LATENCY,
    Cycles,
    program_cycles,
    stage_cycles,
    tile_cycles,
    utilisation,
)
from drawbar.gen.program import descriptor_words


def simulate(rows: int, k: int, lane_tiles: int, array_rows: int) -> Cycles:
    """Issue a step in each cycle; hold a tile's last step while the drain is still busy."""
    sizes = []
    for _ in range(lane_tiles):
        left = rows
        while left > 0:
            sizes.append(min(left, array_rows))
            left -= array_rows
    busy = stall = draining = 0
    for size in sizes:
        step = 0
        while step < k:
            # The drain's last row leaves in the cycle in which the next tile may take its place.
            if step == k - 1 and draining > 1:
                stall += 1
            else:
                step += 1
                busy += 1
            draining = max(0, draining - 1)
        draining = size
    return Cycles(busy, stall, 0, STAGE_LATENCY + draining)


@given(
    rows=st.integers(1, 40),
    k=st.integers(1, 20),
    lane_tiles=st.integers(1, 12),
    array_rows=st.integers(1, 16),
)
def test_a_stage(rows: int, k: int, lane_tiles: int, array_rows: int) -> None:
    config = EngineConfig(rows=array_rows)
    assert tile_cycles(rows, k, lane_tiles, config) == simulate(rows, k, lane_tiles, array_rows)


def test_by_hand() -> None:
    config = EngineConfig(rows=4)
    # One tile: 3 steps, the load, the pipeline of 13, 2 rows.
    assert tile_cycles(2, 3, 1, config) == Cycles(busy=3, flush=16)
    # Tiles of 4, 1, 4, 1 rows with one step each: the second and the fourth wait 3 cycles.
    assert tile_cycles(5, 1, 2, config) == Cycles(busy=4, stall_drain=6, flush=15)


@pytest.mark.parametrize("seed", range(20))
def test_a_program(seed: int) -> None:
    rng = random.Random(seed)
    config = random_config(rng)
    stages = [random_stage(rng, config) for _ in range(rng.randint(1, 6))]
    found = program_cycles(stages, config)
    fetch = descriptor_words(config) + FETCH_LATENCY
    now, fetched = 0, fetch
    for stage, cycles in zip(stages, found, strict=True):
        own = stage_cycles(stage, config)
        latch = max(now, fetched)
        assert cycles == own + Cycles(stall_fetch=latch - now)
        now, fetched = latch + own.total, latch + fetch
    total = sum(found, start=Cycles())
    assert total.total == now == total.busy + total.stall_drain + total.stall_fetch + total.flush


def test_utilisation() -> None:
    config = EngineConfig(rows=4, lanes=4)
    assert utilisation(160, 20, config) == 0.5
    assert utilisation(0, 0, config) == 0.0
