"""cocotb tests of Issue; run by test_issue.py."""

from __future__ import annotations

import random

from cocotb_bench import for_each, unit
from stage_model import CONFIGS, descriptor_bits, issue_steps, stages

from drawbar.gen.config import EngineConfig
from drawbar.gen.pipeline import HANDOVER, pipeline


def to_core(config: EngineConfig) -> int:
    """Cycles from a step to its core address."""
    return pipeline(config).issue_to_array - pipeline(config).core_read


@for_each(name=list(CONFIGS), apart=[False, True])
async def every_step_in_its_cycle(dut, name: str, apart: bool) -> None:
    """All outputs in all cycles of a stage; stages follow each other as closely as they may, or so
    far apart that one's last tile does not hold up the next one's first.
    """
    config = CONFIGS[name]
    issue = await unit(dut, f"issue_{name}")
    rng = random.Random(name)
    stalls = 0
    free = 0
    for stage in stages(config, rng, 15):
        steps = issue_steps(stage, config, free)
        in_cycle = {step.cycle: step for step in steps}
        end = steps[-1].cycle
        issue.set(load=1, descriptor=descriptor_bits(stage, config))
        await issue.tick()
        issue.set(load=0)
        last_rows = stage.row_vectors - (stage.row_tiles(config) - 1) * config.rows
        load = end + (last_rows + HANDOVER if apart else 1 + pipeline(config).step_to_latch)
        free = end + last_rows + HANDOVER - load
        for now in range(1, load + 1):
            step = in_cycle.get(now)
            assert issue.get("step") == (step is not None), now
            assert issue.get("stalled") == (step is None and 2 <= now < end), now
            assert issue.get("ended") == (now == end), now
            stalls += step is None and 2 <= now < end
            if step is not None:
                assert issue.get("last") == step.last, now
                assert issue.get("row_tile_last") == step.row_tile_last, now
                if config.products:
                    assert issue.get("holds") == step.holds, now
            if (before := in_cycle.get(now - 1)) is not None:
                assert issue.get("live_address") == before.live_address, now
            if (before := in_cycle.get(now - to_core(config))) is not None:
                assert issue.get("core_address") == before.core_address, now
                if config.fold > 1:
                    assert issue.get("core_fold") == before.core_fold, now
            if now < load:
                await issue.tick()
    assert stalls > 20 or config.rows == 1


@for_each(name=["3x4"])
async def reset_in_the_middle(dut, name: str) -> None:
    """A reset, and then another stage: nothing of the first one is left."""
    config = CONFIGS[name]
    issue = await unit(dut, f"issue_{name}")
    rng = random.Random(name)
    for stage in stages(config, rng, 10):
        issue.set(load=1, descriptor=descriptor_bits(stage, config))
        await issue.tick()
        issue.set(load=0)
        await issue.tick(rng.randint(1, 20))
        await issue.bench.reset()
        for _ in range(4):
            assert issue.get("step") == issue.get("stalled") == issue.get("ended") == 0
            await issue.tick()
        issue.set(load=1)
        await issue.tick()
        issue.set(load=0)
        await issue.tick()
        first = issue_steps(stage, config)[0]
        assert issue.get("step") == 1
        assert issue.get("last") == first.last
        await issue.tick()
        assert issue.get("live_address") == first.live_address
        await issue.tick(to_core(config) - 1)
        assert issue.get("core_address") == first.core_address
        await issue.bench.reset()
