"""cocotb tests of the whole Engine against GoldenEngine; run by test_engine.py."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import cocotb
import numpy as np
from cocotb_bench import Bench, signed
from host_traffic import Traffic
from random_stages import random_memories, random_program, random_stage
from stage_model import plain_stage

from drawbar.gen.config import EngineConfig
from drawbar.gen.cycles import Cycles
from drawbar.gen.pipeline import RUN_GAP, pipeline
from drawbar.gen.program import descriptor_words, encode
from drawbar.gen.protocol import Space
from drawbar.gen.schedule import schedule
from drawbar.gen.stage import Loop, Stage
from drawbar.sim.cocotb_runner import parameters
from drawbar.sim.golden import GoldenEngine

#: Engines of every kind: one multiplier, ragged rows, tall, wide, odd depths, few loops and many.
CONFIGS = {
    "least": EngineConfig(
        rows=1,
        lanes=1,
        data_width=8,
        acc_width=20,
        core_depth=64,
        work_depth=300,
        bias_depth=32,
        program_depth=64,
        k_loops=1,
        row_loops=1,
        column_loops=1,
    ),
    "odd": EngineConfig(
        rows=3, lanes=4, acc_width=36, core_depth=90, work_depth=110, bias_depth=50
    ),
    "tall": EngineConfig(
        rows=8, lanes=2, data_width=8, acc_width=20, core_depth=64, work_depth=200, bias_depth=64
    ),
    "wide": EngineConfig(
        rows=2, lanes=8, core_depth=128, work_depth=75, bias_depth=33, k_loops=2, row_loops=1
    ),
    "deep": EngineConfig(
        rows=5,
        lanes=2,
        core_depth=128,
        work_depth=256,
        program_depth=300,
        k_loops=4,
        row_loops=4,
        column_loops=5,
    ),
    # One stage at a time.
    "single": EngineConfig(
        rows=3, lanes=4, acc_width=32, stages_held=1, core_depth=90, work_depth=110, bias_depth=50
    ),
    # The same, and work memory of single-port blocks.
    "blocks": EngineConfig(
        rows=8,
        lanes=1,
        acc_width=32,
        core_depth=100,
        work_depth=1200,
        bias_depth=64,
        program_depth=200,
        k_loops=2,
        row_loops=2,
        column_loops=2,
        count_bits=5,
        counter_bits=20,
        stages_held=1,
        work_blocks=3,
        tile_gap=1,
    ),
    # Stages overlap, and tiles have a gap between them.
    "gap": EngineConfig(
        rows=3, lanes=2, acc_width=32, tile_gap=1, core_depth=90, work_depth=110, bias_depth=50
    ),
    # The array folds, and descriptors come in a few reads.
    "folds": EngineConfig(
        rows=3,
        lanes=8,
        acc_width=36,
        core_depth=160,
        work_depth=120,
        bias_depth=40,
        program_depth=96,
        fold=4,
        fetch_words=4,
    ),
    # The same where each lane has rows of its own, and with products.
    "folds most": EngineConfig(
        rows=2,
        lanes=4,
        data_width=8,
        acc_width=24,
        core_depth=160,
        work_depth=220,
        bias_depth=60,
        program_depth=192,
        fold=4,
        fetch_words=32,
        products=1,
    ),
    # A short pipeline; folds, and lanes that would be two groups in a long one.
    "short": EngineConfig(
        rows=3, lanes=8, core_depth=160, work_depth=220, fold=2, products=1, short_pipeline=1
    ),
    # A short pipeline of an engine that holds one stage and has a gap between tiles.
    "short, held": EngineConfig(
        rows=3,
        lanes=1,
        acc_width=32,
        core_depth=90,
        work_depth=200,
        work_blocks=2,
        bias_depth=50,
        stages_held=1,
        tile_gap=1,
        short_pipeline=1,
    ),
    # Two lane groups, and products of live tensors.
    "gates": EngineConfig(
        rows=3, lanes=8, acc_width=36, core_depth=100, work_depth=60, bias_depth=40, products=1
    ),
}


class Host:
    """The engine's host port, and its golden twin with the same memories."""

    def __init__(self, dut: Any, config: EngineConfig) -> None:
        self.bench = Bench(dut, cycles=1_000_000)
        self.config = config
        self.pipe = pipeline(config)
        self.golden = GoldenEngine(config)
        self.traffic: Traffic | None = None
        self.ended = 0  # the first cycle without a program, after the latest one or reset

    async def reset(self) -> None:
        await self.bench.reset()
        self.ended = self.bench.now

    async def write(self, space: Space, address: int, value: int) -> None:
        """Without a program every write is taken at once."""
        self.bench.set(
            host__space=space,
            host__address=address,
            host__write_data=int(value) & (2**64 - 1),
            host__write=1,
        )
        await self.bench.tick()
        self.bench.set(host__write=0)

    async def write_all(self, space: Space, values: Sequence[int], first: int = 0) -> None:
        for n, value in enumerate(values):
            await self.write(space, first + n, value)

    async def read(self, space: Space, addresses: Sequence[int]) -> list[int]:
        """Items one after the other; neighbours in one vector of work memory are fetched at once.
        The cycles of each are asserted.
        """
        bench, lanes = self.bench, self.config.lanes
        values = []
        before = -2
        for address in addresses:
            latency = self.pipe.host_read + 1
            if space == Space.WORK:
                follows = address == before + 1
                if not follows:
                    bench.set(host__read=0, host__refresh=1)
                    await bench.tick()
                latency = 1 if follows and address % lanes else self.pipe.work_read + 2
            before = address
            bench.set(host__refresh=0, host__read=1, host__space=space, host__address=address)
            for cycle in range(1, latency + 1):
                await bench.tick()
                assert bench.get("host__read_valid") == (cycle == latency)
            item = bench.get("host__read_data")
            values.append(item & 0xFFFF_FFFF if space == Space.PROGRAM else signed(item, 64))
            await bench.tick()
            assert bench.get("host__read_valid") == 0
        bench.set(host__read=0, host__address=0)
        return values

    async def load_memories(self, seed: int) -> None:
        """Random core, bias and work memories."""
        config = self.config
        core, bias, work = random_memories(np.random.default_rng(seed), config)
        self.golden.core[:], self.golden.bias[:] = core, bias
        padded = np.zeros((config.core_depth, 1 << config.row_bits), np.int64)
        padded[:, : config.rows] = core
        await self.write_all(Space.CORE, padded.ravel().tolist())
        await self.write_all(Space.BIAS, bias.ravel().tolist())
        await self.load_work(work)

    async def load_work(self, work: np.ndarray) -> None:
        self.golden.work[:] = work
        await self.write_all(Space.WORK, work.tolist())

    async def load_program(self, stages: Sequence[Stage], address: int) -> None:
        words = encode(stages, self.config)
        self.golden.program[address : address + len(words)] = words
        await self.write_all(Space.PROGRAM, words.tolist(), address)

    async def start(self, address: int) -> None:
        """The first cycle in which the program runs is the present one."""
        assert self.states() == (0, 0)
        self.bench.set(host__start=1, host__start_address=address)
        await self.cycle()
        self.bench.set(host__start=0, host__start_address=0)
        assert self.states() == (0, 1)
        await self.cycle()
        assert self.states() == (1, 0)

    def states(self) -> tuple[int, int]:
        """Running and pending."""
        return self.bench.get("host__running"), self.bench.get("host__pending")

    async def run(self, address: int) -> Cycles:
        """Runs to the end; checks the time and every counter against the cycle model."""
        expected = self.golden.run(address)
        total = sum(expected, start=Cycles())
        await self.start(address)
        await self.until_end(expected)
        return total

    async def until_end(self, expected: Sequence[Cycles]) -> None:
        """From the first cycle of a program to the first one after it."""
        total = sum(expected, start=Cycles())
        start = self.bench.now
        idle = start - self.ended
        while self.bench.get("host__running"):
            assert self.bench.now - start < total.total, "runs longer than the cycle model says"
            await self.cycle()
        self.ended = self.bench.now
        assert self.ended - start == total.total
        assert not self.bench.get("counted")
        await self.cycle()  # counters are a cycle behind
        assert self.bench.get("counted")
        assert self.counters() == counted(expected, idle)

    async def cycle(self) -> None:
        """One cycle, with traffic if there is to be any."""
        if self.traffic is None:
            await self.bench.tick()
        else:
            await self.traffic.cycle()

    def counters(self) -> list[int]:
        """Cycles, busy, stall_drain, stall_fetch, flush, stages, idle."""
        word = self.bench.get("counters")
        return [word >> (32 * n) & 0xFFFFFFFF for n in range(7)]

    async def check_work(self) -> None:
        """Every element of work memory."""
        got = await self.read(Space.WORK, range(self.config.work_elements))
        wrong = np.flatnonzero(np.array(got) != self.golden.work)
        assert not len(wrong), f"{len(wrong)} work elements differ, first at {wrong[:8]}"


def counted(stages: Sequence[Cycles], idle: int) -> list[int]:
    """What the engine counts in a run of these stages."""
    total = sum(stages, start=Cycles())
    by_cause = [total.busy, total.stall_drain, total.stall_fetch, total.flush]
    return [total.total, *by_cause, len(stages), idle]


async def host_of(dut: Any, seed: int) -> Host:
    """A host of an engine after reset, with random memories."""
    host = Host(dut, EngineConfig(**parameters()["config"]))
    await host.bench.start()
    host.ended = host.bench.now
    await host.load_memories(seed)
    return host


@cocotb.test()
async def memories_keep_what_they_are_given(dut) -> None:
    """Every space over all of its addresses, written before any is read; reads pipelined."""
    host = Host(dut, EngineConfig(**parameters()["config"]))
    await host.bench.start()
    config, rng = host.config, random.Random(1)
    spaces = {
        Space.PROGRAM: (range(config.program_depth), 32),
        Space.CORE: (
            [
                v << config.row_bits | r
                for v in range(config.core_depth)
                for r in range(config.rows)
            ],
            config.data_width,
        ),
        Space.BIAS: (range(config.bias_depth * config.lanes), config.acc_width),
        Space.WORK: (range(config.work_elements), config.data_width),
    }
    written: dict[tuple[Space, int], int] = {}
    for space, (addresses, width) in spaces.items():
        for address in addresses:
            # All that is above the item is ignored.
            value = rng.getrandbits(64)
            await host.write(space, address, value)
            low = value & ((1 << width) - 1)
            written[space, address] = low if space == Space.PROGRAM else signed(low, width)
    for space, (addresses, _) in spaces.items():
        order = rng.sample(list(addresses), len(addresses))
        assert await host.read(space, order) == [written[space, a] for a in order], space


@cocotb.test()
async def random_programs(dut) -> None:
    """Each program runs twice, the second time on what the first one left; no reset in between."""
    host = await host_of(dut, 1)
    rng = random.Random(1)
    room = host.config.program_depth // descriptor_words(host.config)
    seen = Cycles()
    for _ in range(parameters()["programs"]):
        stages = random_program(rng, host.config, rng.randint(1, min(6, room)))
        last_start = host.config.program_depth - len(stages) * descriptor_words(host.config)
        address = rng.choice((0, last_start, rng.randint(0, last_start)))
        address -= address % host.config.fetch_words
        await host.load_program(stages, address)
        for _ in range(2):
            seen += await host.run(address)
            await host.check_work()
    assert seen.busy
    assert seen.stall_fetch
    assert seen.stall_drain or host.config.rows == 1


@cocotb.test()
async def stages_read_what_the_one_before_wrote(dut) -> None:
    """A chain of one-step stages: each reads at once the result that has just been written."""
    host = await host_of(dut, 2)
    config = host.config
    rng = random.Random(2)
    room = config.program_depth // descriptor_words(config)
    for rows, lane_count in ((1, 1), (config.rows, config.lanes), (config.rows + 1, 1)):
        forth = plain_stage(config, k=rows, rows=rows, columns=1, lane_count=lane_count)
        back = Stage(
            k_loops=(Loop(rows, x=1),),
            row_loops=(Loop(rows, y=1),),
            column_loops=(),
            lane_count=lane_count,
            lane_x=forth.lane_y,
            lane_y=forth.lane_x,
            x_base=forth.y_base,
            core_base=1,
            shift=3,
        )
        chain, _ = schedule([forth, back, forth, back][: min(4, room)], config)
        await host.load_program(chain, 0)
        await host.run(0)
        await host.check_work()
        await host.load_work(np.array([rng.randint(-9, 9) for _ in range(config.work_elements)]))
        await host.run(0)
        await host.check_work()


@cocotb.test()
async def reset_in_the_middle_of_a_run(dut) -> None:
    """At any cycle: the run is over, memories keep their contents, and the next run is clean."""
    host = await host_of(dut, 3)
    rng = random.Random(3)
    work = host.golden.work.copy()
    stages = [random_stage(rng, host.config)]
    await host.load_program(stages, 0)
    total = (await host.run(0)).total
    await host.check_work()
    for n in range(parameters()["programs"]):
        await host.load_work(work)
        await host.start(0)
        await host.bench.tick(rng.randrange(min(total, 600)) if n else 1)
        await host.reset()
        assert host.states() == (0, 0)
        assert host.counters() == [0] * 7
        # Work is whatever was written so far: core, bias and program are not loaded again.
        await host.load_work(work)
        await host.run(0)
        await host.check_work()


@cocotb.test()
async def transfers_cost_a_program_nothing(dut) -> None:
    """Reads or writes, or both, in every cycle of a run: the same counters by cause, and bits, as
    the cycle model and the golden engine have for one without; and all of them arrive.
    """
    host = await host_of(dut, 5)
    config = host.config
    rng = random.Random(5)
    seen: Counter[str] = Counter()
    for n in range(parameters()["programs"]):
        if n % 2:
            stages = random_program(rng, config, rng.randint(1, 2))
        else:  # full tiles, one after the other: reads find few slots
            k = max(config.rows, 5)
            stages = [
                plain_stage(config, k=k, rows=config.rows, columns=2, lane_count=config.lanes)
            ]
        words = len(stages) * descriptor_words(config)
        address = rng.randint(0, config.program_depth - words)
        address -= address % config.fetch_words
        await host.load_program(stages, address)
        writes = rng.choice((0.0, 0.5, 1.0)) if n else 1.0
        traffic = Traffic(host, stages, address, rng=rng, writes=writes)
        host.traffic = traffic
        for _ in range(2):
            await host.run(address)
        while traffic.busy:
            await traffic.cycle(more=False)
        await traffic.cycle(more=False)
        host.traffic = None
        await host.check_work()
        for space in Space:
            items = [item for kind, item in traffic.written if kind == space]
            assert await host.read(space, items) == [traffic.written[space, i] for i in items]
        seen += traffic.counts
    for space in Space:
        assert seen[f"write {space.name}"]
    assert seen["read checked"]
    assert seen["write waits"]


@cocotb.test()
async def a_pending_program_starts_by_itself(dut) -> None:
    """Each run of a row on what the one before left, ``RUN_GAP`` cycles after its end."""
    host = await host_of(dut, 6)
    rng = random.Random(6)
    stages = random_program(rng, host.config, 1)
    await host.load_program(stages, 0)
    host.traffic = Traffic(host, stages, 0, rng=rng, writes=0.5)
    before = host.golden.run(0)
    await host.start(0)
    for n in range(6):
        for _ in range(rng.choice((0, 0, 1, 5))):
            await host.cycle()
        host.bench.set(host__start=1)
        await host.cycle()
        host.bench.set(host__start=0)
        start = host.bench.now
        assert host.states() == (1, 1)
        while host.states() == (1, 1):
            await host.cycle()
        assert host.states() == (0, 1)
        ended = host.bench.now
        assert ended > start
        while host.states() == (0, 1):
            await host.cycle()
        assert host.states() == (1, 0)
        assert host.bench.now - ended == RUN_GAP
        # Counters are a cycle behind.
        assert host.bench.get("counted")
        *run, idle = host.counters()
        assert run == counted(before, 0)[:6]
        assert n == 0 or idle == RUN_GAP
        before = host.golden.run(0)
        await host.cycle()
        assert not host.bench.get("counted")
        assert host.counters() == [*[0] * 6, RUN_GAP]
        await host.cycle()
        assert host.counters()[0] == 1
    while host.bench.get("host__running"):
        await host.cycle()
    while host.traffic.busy:
        await host.traffic.cycle(more=False)
    await host.traffic.cycle(more=False)
    await host.check_work()


@cocotb.test()
async def counters_stay_until_the_next_start(dut) -> None:
    host = await host_of(dut, 4)
    stage = plain_stage(host.config, k=2, rows=2, columns=1, lane_count=1)
    await host.load_program([stage], 0)
    await host.run(0)
    before = host.counters()
    await host.bench.tick(50)
    await host.read(Space.WORK, [0, 1])
    assert not host.bench.get("counted")
    assert host.counters() == before
    await host.start(0)
    assert host.counters() == before
    idle = host.bench.now - host.ended
    await host.bench.tick()
    assert host.counters() == [0] * 6 + [idle]
