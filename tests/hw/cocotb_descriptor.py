"""cocotb tests of DescriptorFetch; run by test_descriptor.py."""

from __future__ import annotations

import random

from cocotb_bench import Unit, for_each, pack, unit

from drawbar.gen.config import EngineConfig
from drawbar.gen.cycles import fetch_cycles
from drawbar.gen.pipeline import pipeline
from drawbar.gen.program import descriptor_fields, descriptor_words

CONFIGS = {
    "fetch_least": EngineConfig(rows=1, lanes=1, k_loops=1, row_loops=1, column_loops=1),
    "fetch_odd": EngineConfig(rows=3, lanes=8, program_depth=700, work_depth=300, row_loops=2),
    "fetch_4": EngineConfig(rows=3, lanes=8, program_depth=600, row_loops=2, fold=2, fetch_words=4),
    "fetch_short": EngineConfig(rows=3, lanes=4, program_depth=600, short_pipeline=1),
}


class ProgramMemory:
    """Words, so many at a time, ``bank_read`` cycles after their address."""

    def __init__(self, fetch: Unit, words: list[int], config: EngineConfig) -> None:
        self.fetch = fetch
        together = config.fetch_words
        self.words = [pack(words[n : n + together], 32) for n in range(0, len(words), together)]
        self.on_the_way = [0] * pipeline(config).bank_read

    async def tick(self) -> None:
        address = self.fetch.get("address")
        word = self.words[address] if address < len(self.words) else 0
        self.on_the_way.append(word)
        await self.fetch.tick()
        self.fetch.set(word=self.on_the_way.pop(1))


def random_program(rng: random.Random, config: EngineConfig, ends: list[bool]) -> list[int]:
    """Random descriptors with these end flags."""
    words = []
    for last in ends:
        words += [rng.getrandbits(32) for _ in range(descriptor_words(config))]
        start = len(words) - descriptor_words(config)
        words[start] = words[start] & ~1 | last
    return words


def descriptor_at(words: list[int], address: int, config: EngineConfig) -> int:
    packed = sum(
        word << (32 * j)
        for j, word in enumerate(words[address : address + descriptor_words(config)])
    )
    return packed & ((1 << sum(width for _, width in descriptor_fields(config))) - 1)


@for_each(name=list(CONFIGS))
async def one_after_another(dut, name: str) -> None:
    """From a start, and from every take, to the cycle; nothing after the last one."""
    config = CONFIGS[name]
    size = descriptor_words(config)
    fetch = await unit(dut, name)
    rng = random.Random(name)
    base = 7 * config.fetch_words
    words = [rng.getrandbits(32) for _ in range(base)]
    words += random_program(rng, config, [False, False, False, True, False])
    memory = ProgramMemory(fetch, words, config)
    for wait in (0, 1, 5):
        fetch.set(start=1, start_address=base)
        await memory.tick()
        fetch.set(start=0, start_address=rng.randrange(64))
        for number in range(4):
            for _ in range(fetch_cycles(config) - 1):
                assert fetch.get("valid") == 0
                await memory.tick()
            expected = descriptor_at(words, base + number * size, config)
            for waited in range(wait + 1):
                assert fetch.get("valid") == 1
                assert fetch.get("descriptor") == expected
                fetch.set(take=waited == wait)
                await memory.tick()
            fetch.set(take=0)
        for _ in range(2 * size + 10):
            assert fetch.get("valid") == 0
            await memory.tick()


@for_each(name=list(CONFIGS))
async def start_wins_at_any_time(dut, name: str) -> None:
    """A start during a fetch, at each of its cycles, when it is done, and together with a take."""
    config = CONFIGS[name]
    size = descriptor_words(config)
    fetch = await unit(dut, name)
    rng = random.Random(name)
    words = random_program(rng, config, [False] * 4 + [True])
    memory = ProgramMemory(fetch, words, config)
    for phase in range(size + 8):
        address = rng.randrange(4) * size
        fetch.set(start=1, start_address=(address + size) % (4 * size), take=0)
        await memory.tick()
        fetch.set(start=0)
        for _ in range(phase):
            await memory.tick()
        fetch.set(start=1, start_address=address, take=fetch.get("valid") and phase % 2)
        await memory.tick()
        fetch.set(start=0, take=0)
        for _ in range(fetch_cycles(config) - 1):
            assert fetch.get("valid") == 0, phase
            await memory.tick()
        assert fetch.get("valid") == 1, phase
        assert fetch.get("descriptor") == descriptor_at(words, address, config), phase


@for_each(name=list(CONFIGS))
async def reset_stops_a_fetch(dut, name: str) -> None:
    config = CONFIGS[name]
    fetch = await unit(dut, name)
    memory = ProgramMemory(fetch, random_program(random.Random(1), config, [True]), config)
    fetch.set(start=1)
    await memory.tick()
    fetch.set(start=0)
    for _ in range(5):
        await memory.tick()
    await fetch.bench.reset()
    for _ in range(descriptor_words(config) + 8):
        assert fetch.get("valid") == 0
        await memory.tick()
