# amaranth: UnusedElaboratable=no
"""hw/host_reader.py against memories that answer late, and slots that come rarely."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from amaranth_bench import simulate

from drawbar.gen.config import EngineConfig
from drawbar.gen.pipeline import pipeline
from drawbar.gen.protocol import Space
from drawbar.hw.host_reader import HostReader

CONFIG = EngineConfig(
    fetch_words=4, rows=3, lanes=4, data_width=8, acc_width=40, core_depth=64, work_depth=64
)
#: A pipeline that answers for work memory sooner than for the others.
SHORT = CONFIG.replace(short_pipeline=1)


class Memories:
    """What the reader sees: rubbish, but for what it asked for so many cycles ago."""

    def __init__(self, reader: HostReader, *, free: float, seed: int) -> None:
        self.reader = reader
        self.rng = random.Random(seed)
        self.free = free
        self.now = 0
        self.latency = pipeline(reader.config).work_read
        self.work: dict[int, list[int]] = {}
        self.fetches: Counter[int] = Counter()

    async def run(self, ctx: Any) -> None:
        reader, rng, lanes = self.reader, self.rng, CONFIG.lanes
        coming: list[list[int] | None] = [None] * (self.latency - 1)
        while True:
            free = rng.random() < self.free
            ctx.set(reader.slot_free, free)
            _, _, fetch, address = await ctx.tick().sample(reader.fetch, reader.address)
            assert free or not fetch, "a slot that is not the host's"
            self.now += 1
            row, lane = divmod(address, lanes)
            if fetch:
                self.fetches[row] += 1
            coming.append(self.work[row][lane:] if fetch else None)
            answer = coming.pop(0) or []
            # Past the end of the row, too.
            rubbish = [rng.randint(-128, 127) for _ in range(lanes - len(answer))]
            ctx.set(reader.work, answer + rubbish)


async def read(ctx: Any, reader: HostReader, space: Space, address: int) -> tuple[int, int]:
    """An item, and the cycles from ``read`` to ``read_valid``."""
    ctx.set(reader.space, space)
    ctx.set(reader.address, address)
    ctx.set(reader.read, 1)
    for cycles in range(200):
        _, _, valid, item = await ctx.tick().sample(reader.read_valid, reader.read_data)
        if valid:
            ctx.set(reader.read, 0)
            return item - (item >> 63 << 64), cycles
    raise AssertionError("no answer")


@pytest.mark.parametrize("config", [CONFIG, SHORT])
@pytest.mark.parametrize("free", [1.0, 0.05])
def test_rows_of_work_memory(free: float, config: EngineConfig) -> None:
    """Runs of items: each row is fetched once in a run, after its refresh; what comes is kept."""
    reader = HostReader(config=config)
    memories = Memories(reader, free=free, seed=1)
    rng = memories.rng

    async def host(ctx: Any) -> None:
        for _ in range(30):
            first = rng.randrange(CONFIG.work_elements)
            items = range(first, min(first + rng.randint(1, 14), CONFIG.work_elements))
            rows = range(items[0] // CONFIG.lanes, items[-1] // CONFIG.lanes + 1)
            memories.work = {r: [rng.randint(-128, 127) for _ in range(4)] for r in rows}
            memories.fetches.clear()
            ctx.set(reader.refresh, 1)
            await ctx.tick()
            ctx.set(reader.refresh, 0)
            for item in items:
                row, lane = divmod(item, CONFIG.lanes)
                value, cycles = await read(ctx, reader, Space.WORK, item)
                assert value == memories.work[row][lane]
                if item != first and lane:
                    assert cycles == 1
                elif free == 1.0:
                    assert cycles == memories.latency + 2
                else:
                    assert cycles >= memories.latency + 2
                assert ctx.get(reader.read_data) % (1 << 64) == value % (1 << 64)
            assert memories.fetches == Counter(rows)

    simulate(reader, host, cycles=30_000, background=[memories.run])


@pytest.mark.parametrize("config", [CONFIG, SHORT])
def test_other_spaces(config: EngineConfig) -> None:
    """From what the memories answer while no program runs; no slot is taken."""
    reader = HostReader(config=config)
    memories = Memories(reader, free=1.0, seed=2)

    async def host(ctx: Any) -> None:
        ctx.set(reader.program, [0xFFFF_FFFE, 17, 18, 19])
        ctx.set(reader.core, [5, -6, 7])
        ctx.set(reader.bias, [1, -(1 << 39), (1 << 39) - 1, -2])
        for space, address, item in (
            (Space.PROGRAM, 8, 0xFFFF_FFFE),
            (Space.PROGRAM, 11, 19),
            (Space.CORE, 4 * 7, 5),
            (Space.CORE, 4 * 7 + 1, -6),
            (Space.BIAS, 4 * 3 + 1, -(1 << 39)),
            (Space.BIAS, 4 * 3 + 2, (1 << 39) - 1),
        ):
            assert await read(ctx, reader, space, address) == (item, pipeline(config).host_read + 1)
        assert not memories.fetches

    simulate(reader, host, cycles=1000, background=[memories.run])
