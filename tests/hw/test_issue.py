from __future__ import annotations

import random

import pytest
from amaranth.lib.wiring import Component
from hardware_units import SideBySide, run_units
from stage_model import CONFIGS, drain_tiles, issue_steps, stages

from drawbar.gen.cycles import stage_tiling
from drawbar.hw.issue import Issue
from drawbar.sim.cocotb_runner import simulators


def units() -> Component:
    return SideBySide({f"issue_{name}": Issue(config=config) for name, config in CONFIGS.items()})


@pytest.mark.parametrize("simulator", simulators)
def test_issue(simulator: str) -> None:
    run_units(units, "cocotb_issue", simulator=simulator)


@pytest.mark.parametrize("name", list(CONFIGS))
def test_the_cycle_model_counts_the_same_stalls(name: str) -> None:
    """The formula of ``gen.cycles`` against a walk through the tiles."""
    config = CONFIGS[name]
    stalled = 0
    for stage in stages(config, random.Random(name), 100):
        steps = issue_steps(stage, config)
        tiles = stage_tiling(stage, config)
        assert tiles.busy == len(steps) == sum(s.last for s in steps) * stage.k
        assert tiles.issue == steps[-1].cycle - steps[0].cycle + 1
        assert sum(s.last for s in steps) == len(drain_tiles(stage, config))
        stalled += tiles.issue > tiles.busy
    assert stalled > 5 or config.rows == 1
