"""cocotb tests of Issue; run by test_issue.py."""

from __future__ import annotations

import random

from cocotb_bench import for_each, unit
from stage_model import CONFIGS, descriptor_bits, issue_steps, stages


@for_each(name=list(CONFIGS))
async def every_step_in_its_cycle(dut, name: str) -> None:
    """All outputs in all cycles of a stage; stages follow each other as closely as they may."""
    config = CONFIGS[name]
    issue = await unit(dut, f"issue_{name}")
    rng = random.Random(name)
    stalls = 0
    issue.set(drain_ready=1)
    for stage in stages(config, rng, 25):
        steps = issue_steps(stage, config)
        in_cycle = {step.cycle: step for step in steps}
        end = steps[-1].cycle
        issue.set(load=1, descriptor=descriptor_bits(stage, config))
        await issue.tick()
        issue.set(load=0)
        # The next load comes when the last tile's rows have left the array, so that its own stalls
        # are those of its own tiles; addresses are still on their way.
        last_rows = stage.rows - (stage.row_tiles(config) - 1) * config.rows
        load = end + max(1, last_rows - 1)
        for now in range(1, load + 1):
            step = in_cycle.get(now)
            assert issue.get("step") == (step is not None), now
            assert issue.get("stalled") == (step is None and now < end), now
            assert issue.get("ended") == (now == end), now
            stalls += step is None and now < end
            if step is not None:
                assert issue.get("first") == step.first, now
                assert issue.get("last") == step.last, now
                assert issue.get("row_tile_last") == step.row_tile_last, now
            if (before := in_cycle.get(now - 1)) is not None:
                assert issue.get("live_address") == before.live_address, now
            if (before := in_cycle.get(now - 3)) is not None:
                assert issue.get("core_address") == before.core_address, now
            if now < load:
                await issue.tick()
    assert stalls > 20 or config.rows == 1


@for_each(name=list(CONFIGS))
async def tiles_end_only_when_the_drain_side_is_ready(dut, name: str) -> None:
    """With ``drain_ready`` at random: the same steps in the same order, the last of a tile only
    then, and never a step less than there could be.
    """
    config = CONFIGS[name]
    issue = await unit(dut, f"issue_{name}")
    rng = random.Random(name)
    waited = 0
    for stage in stages(config, rng, 10):
        steps = issue_steps(stage, config)
        issue.set(load=1, drain_ready=0, descriptor=descriptor_bits(stage, config))
        await issue.tick()
        issue.set(load=0)
        done = 0
        free = 0
        now = 0
        while done < len(steps):
            now += 1
            assert now < 100_000
            ready = rng.random() < 0.3
            issue.set(drain_ready=ready)
            await issue.bench.settle()
            step = steps[done]
            may = not step.last or (ready and now >= free)
            assert issue.get("step") == may, (name, now)
            assert issue.get("stalled") == (not may), (name, now)
            if may:
                assert issue.get("last") == step.last
                if step.last:
                    last_rows = stage.rows - (stage.row_tiles(config) - 1) * config.rows
                    free = now + (last_rows if step.row_tile_last else config.rows)
                done += 1
            else:
                waited += not ready
            await issue.tick()
        await issue.tick(config.rows)
    assert waited > 20


@for_each(name=["3x4"])
async def reset_in_the_middle(dut, name: str) -> None:
    """A reset, and then another stage: nothing of the first one is left."""
    config = CONFIGS[name]
    issue = await unit(dut, f"issue_{name}")
    rng = random.Random(name)
    issue.set(drain_ready=1)
    for stage in stages(config, rng, 10):
        issue.set(load=1, descriptor=descriptor_bits(stage, config))
        await issue.tick()
        issue.set(load=0)
        await issue.tick(rng.randint(1, 20))
        await issue.bench.reset()
        for _ in range(3):
            assert issue.get("step") == issue.get("stalled") == issue.get("ended") == 0
            await issue.tick()
        issue.set(load=1)
        await issue.tick()
        issue.set(load=0)
        first = issue_steps(stage, config)[0]
        assert issue.get("step") == 1
        assert issue.get("first") == 1
        assert issue.get("last") == first.last
        await issue.tick()
        assert issue.get("live_address") == first.live_address
        await issue.tick(2)
        assert issue.get("core_address") == first.core_address
        await issue.bench.reset()
