"""cocotb tests of Drain; run by test_drain.py."""

from __future__ import annotations

import random

from cocotb_bench import for_each, unit
from stage_model import CONFIGS, Row, descriptor_bits, drain_tiles, issue_steps, stages

from drawbar.gen.pipeline import pipeline
from drawbar.gen.program import ACTIVATION_CODES, descriptor_values


@for_each(name=list(CONFIGS))
async def every_row_in_its_cycle(dut, name: str) -> None:
    """All outputs in all cycles of a stage; tiles as close as ``Issue`` gives them, or later."""
    config = CONFIGS[name]
    drain = await unit(dut, f"drain_{name}")
    rng = random.Random(name)
    pipe = pipeline(config)
    to_row, to_result = pipe.step_to_row, pipe.step_to_result
    latency = to_result + pipe.work_access
    for number, stage in enumerate(stages(config, rng, 20)):
        tiles = drain_tiles(stage, config)
        ends = [step.cycle for step in issue_steps(stage, config) if step.last]
        last_of_column = [step.row_tile_last for step in issue_steps(stage, config) if step.last]
        late = 0
        begins: dict[int, bool] = {}
        rows: dict[int, Row] = {}
        for end, last, tile in zip(ends, last_of_column, tiles, strict=True):
            if number % 2 and rng.random() < 0.3:
                late += rng.randint(1, 5)
            begins[end + late] = last
            rows |= {end + late + 1 + n: row for n, row in enumerate(tile)}
        finish = max(rows)
        last_stage = rng.getrandbits(1)
        values = descriptor_values(stage, config, last=True)
        travels = {"result_skew": "y_skew"}
        if config.fold > 1:
            travels |= {"result_fold": "fold", "result_fold_skew": "fold_skew"}
        bits = descriptor_bits(stage, config)  # of a last stage: bit 0 says so
        drain.set(load=1, descriptor=bits & ~1 | last_stage)
        await drain.tick()
        drain.set(load=0)
        for now in range(1, finish + latency + 3):
            if (row := rows.get(now - 1)) is not None:
                assert drain.get("bias_address") == row.bias_address, now
            assert drain.get("turn") == (now + 1 - to_row in rows), now
            if now + 1 - to_row in rows:
                assert drain.get("bias_enable") == (stage.bias_base is not None), now
            if now - to_row in rows:
                assert drain.get("shift") == stage.shift, now
                assert drain.get("activation") == ACTIVATION_CODES[stage.activation], now
            if now + 1 - to_result in rows:
                for port, field in travels.items():
                    assert drain.get(port) == values[field], (now, port)
            row = rows.get(now - to_result)
            assert drain.get("result_mask") == (row.mask if row else 0), now
            if row is not None:
                assert drain.get("result_address") == row.result_address, now
            assert drain.get("free") == (now == finish + 1), now
            assert drain.get("settled") == (now == finish + pipe.step_to_settled), now
            assert drain.get("written") == (now == finish + latency), now
            # A descriptor that changes when it may is not asked again whether it is the last.
            assert drain.get("finished") == (last_stage and now == finish + latency), now
            if now == finish + 2:
                drain.set(descriptor=rng.getrandbits(64))
            begin = now in begins
            # Between tiles the flag is whatever the issue side says of its next steps.
            drain.set(begin=begin, row_tile_last=begins[now] if begin else rng.getrandbits(1))
            await drain.tick()


@for_each(name=["3x4"])
async def reset_empties_the_pipeline(dut, name: str) -> None:
    config = CONFIGS[name]
    drain = await unit(dut, f"drain_{name}")
    stage = next(stages(config, random.Random(1), 1))
    for cycles in range(1, 12):
        drain.set(load=1, descriptor=descriptor_bits(stage, config))
        await drain.tick()
        drain.set(load=0, begin=1)
        await drain.tick()
        drain.set(begin=0)
        await drain.tick(cycles)
        await drain.bench.reset()
        for _ in range(20):
            assert drain.get("turn") == drain.get("result_mask") == drain.get("written") == 0
            await drain.tick()
