"""cocotb tests of Sequencer; run by test_sequencer.py."""

from __future__ import annotations

import random

from cocotb.triggers import Timer
from cocotb_bench import Unit, for_each, unit

from drawbar.gen.config import EngineConfig
from drawbar.gen.cycles import Cycles, fetch_cycles, program_cycles
from drawbar.gen.pipeline import HANDOVER, RUN_GAP, pipeline
from drawbar.gen.program import descriptor_fields
from drawbar.gen.stage import Loop, Stage

CONFIGS = {
    "sequencer_1": EngineConfig(rows=1, lanes=1, k_loops=1, row_loops=1, column_loops=1),
    "sequencer_16": EngineConfig(rows=16, lanes=2),
    "sequencer_short": EngineConfig(rows=5, lanes=4, short_pipeline=1),
}
COUNTERS = ("cycles", "busy", "stall_drain", "stall_fetch", "flush", "stages", "idle")


def bits(config: EngineConfig, **values: int) -> int:
    """A descriptor with some fields set."""
    packed = offset = 0
    for name, width in descriptor_fields(config):
        packed |= values.get(name, 0) << offset
        offset += width
    return packed


def one_tile(k: int, rows: int, wait: int) -> Stage:
    return Stage((Loop(k),), (Loop(rows),), (), 1, 1, 1, wait=wait)


class Sides:
    """The neighbours of a sequencer: a fetch, an issue side of one-tile stages, a drain side."""

    def __init__(self, sequencer: Unit, config: EngineConfig, stages: list[Stage]) -> None:
        self.sequencer = sequencer
        self.config = config
        self.stages = stages
        self.now = 0
        self.fetched_at = 1 << 30
        self.taken = 0
        self.shown = 0
        self.issuing: Stage | None = None
        self.starts = self.left = self.held_until = 0
        self.events: dict[int, set[str]] = {}
        self.handed: list[int] = []

    def descriptor(self, number: int) -> int:
        stage = self.stages[number]
        last = number == len(self.stages) - 1
        # The shift stands for the whole descriptor: a number to know it by.
        return bits(self.config, last=last, wait=stage.wait, shift=number + 1)

    async def cycle(self) -> None:
        """One cycle: what each side does in it, what the sequencer answers, and the clock."""
        s = self.sequencer
        events = self.events.pop(self.now, set())
        fetched = self.taken < len(self.stages) and self.now >= self.fetched_at
        if fetched:  # one that is taken stays a while
            self.shown = self.taken
        s.set(fetched=fetched, fetched_descriptor=self.descriptor(self.shown))
        s.set(**{name: name in events for name in ("free", "settled", "written", "finished")})
        s.set(step=0, stalled=0, ended=0)
        await Timer(1, "ns")
        if self.issuing is not None and self.now >= self.starts:
            step = self.left > 1 or self.now >= self.held_until
            ended = step and self.left == 1
            s.set(step=step, stalled=not step, ended=ended)
            self.left -= step
            if ended:
                self.drain_follows(self.issuing, last=self.taken == len(self.stages))
                self.issuing = None
        await Timer(1, "ns")
        if s.get("drain_load"):
            shift = s.get("drain_descriptor") >> self.offset("shift") & 0x1F
            self.handed.append(shift)
        if s.get("begin"):
            self.fetched_at = self.now + fetch_cycles(self.config)
        load = s.get("issue_load")
        take = s.get("take")
        await s.tick()
        if load:
            self.issuing = self.stages[self.taken - 1]
            self.starts = self.now + 2
            self.left = self.issuing.k
        if take:
            assert fetched
            self.taken += 1
            self.fetched_at = self.now + fetch_cycles(self.config)
        self.now += 1

    def offset(self, field: str) -> int:
        offset = 0
        for name, width in descriptor_fields(self.config):
            if name == field:
                return offset
            offset += width
        raise KeyError(field)

    def drain_follows(self, stage: Stage, *, last: bool) -> None:
        """The drain side's events after a stage's last step in this cycle."""
        pipe = pipeline(self.config)
        self.held_until = self.now + stage.rows + HANDOVER
        last_row = self.now + pipe.issue_to_drain + stage.rows
        written = last_row + pipe.step_to_result + pipe.work_access
        for cycle, name in (
            (last_row + 1, "free"),
            (last_row + pipe.step_to_settled, "settled"),
            (written, "written"),
        ):
            self.events.setdefault(cycle, set()).add(name)
        if last:
            self.events[written].add("finished")


async def started(sides: Sides) -> None:
    """A program starts; the first cycle in which it runs is the present one."""
    s = sides.sequencer
    assert (s.get("running"), s.get("pending")) == (0, 0)
    s.set(start=1)
    await sides.cycle()
    s.set(start=0)
    await begun(sides)


async def begun(sides: Sides) -> None:
    """The pending program starts in the present cycle; the next one is the first of its run."""
    s = sides.sequencer
    assert (s.get("running"), s.get("pending"), s.get("begin")) == (0, 1, 1)
    await sides.cycle()
    assert (s.get("running"), s.get("pending")) == (1, 0)


@for_each(name=list(CONFIGS))
async def programs_take_the_cycles_of_the_model(dut, name: str) -> None:
    """Back to back, pending or not, no reset: every counter by cause, the cycles between, and
    stages handed over in order.
    """
    config = CONFIGS[name]
    sequencer = await unit(dut, name)
    bench = sequencer.bench
    rng = random.Random(name)
    seen = Cycles()
    ended = bench.now
    queued = False
    gaps = []
    wanted: dict[str, int] = {}
    for _ in range(40):
        stages = [
            one_tile(
                rng.choice((1, 2, 5, 30, 60)), rng.randint(1, config.rows), rng.choice((0, 0, 1, 9))
            )
            for _ in range(rng.randint(1, 6))
        ]
        sides = Sides(sequencer, config, stages)
        if queued:
            await begun(sides)
            gaps.append(bench.now - ended)
        else:
            sequencer.set(start_address=rng.randrange(config.program_depth))
            await started(sides)
        # Counters are a cycle behind: these are still those of the program before.
        if wanted:
            assert counters(sequencer) == wanted
            assert sequencer.get("counted") == queued
        idle = bench.now - ended
        expected = sum(program_cycles(stages, config), Cycles())
        # The next program is given in any cycle of this one, the first and the last among them.
        queued = rng.random() < 0.7
        left = rng.choice((1, expected.total, rng.randint(1, expected.total))) if queued else 0
        begin_address = sequencer.get("begin_address")
        address = rng.randrange(config.program_depth)
        while sequencer.get("running"):
            left -= 1
            sequencer.set(start=left == 0, start_address=address)
            assert sequencer.get("pending") == (queued and left < 0)
            await sides.cycle()
            sequencer.set(start=0)
        ended = bench.now
        assert sequencer.get("pending") == queued
        assert sequencer.get("begin_address") == (address if queued else begin_address)
        wanted = {
            "cycles": expected.total,
            "busy": expected.busy,
            "stall_drain": expected.stall_drain,
            "stall_fetch": expected.stall_fetch,
            "flush": expected.flush,
            "stages": len(stages),
            "idle": idle,
        }
        assert sides.handed == list(range(1, len(stages) + 1))
        assert not sides.events
        seen += expected
    # A tile of one row has drained before the next stage's first one can end.
    assert seen.stall_drain or config.rows == 1
    assert seen.stall_fetch > 40 * fetch_cycles(config)
    assert len(gaps) > 10
    assert set(gaps) == {RUN_GAP}


def counters(sequencer: Unit) -> dict[str, int]:
    word = sequencer.get("counters")
    return {name: word >> (32 * n) & 0xFFFFFFFF for n, name in enumerate(COUNTERS)}


@for_each(name=["sequencer_16", "sequencer_short"])
async def reset_in_the_middle(dut, name: str) -> None:
    """After a reset at any cycle the next program runs as the first one did, and the pending one
    does not.
    """
    config = CONFIGS[name]
    sequencer = await unit(dut, name)
    stages = [one_tile(3, 16, 0), one_tile(5, 1, 4), one_tile(2, 2, 0)]
    total = sum(program_cycles(stages, config), Cycles()).total
    for cycles in range(1, total + 1, 3):
        sides = Sides(sequencer, config, stages)
        await started(sides)
        sequencer.set(start=1)
        for _ in range(cycles):
            await sides.cycle()
            sequencer.set(start=0)
        sequencer.set(fetched=0, step=0, stalled=0, ended=0)
        sequencer.set(free=0, settled=0, written=0, finished=0)
        await sequencer.bench.reset()
        assert (sequencer.get("running"), sequencer.get("pending")) == (0, 0)
        assert sequencer.get("counters") == 0
    sides = Sides(sequencer, config, stages)
    await started(sides)
    while sequencer.get("running"):
        await sides.cycle()
    assert not sequencer.get("counted")
    await sides.cycle()
    assert sequencer.get("counted")
    assert counters(sequencer)["cycles"] == total
