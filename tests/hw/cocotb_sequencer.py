"""cocotb tests of Sequencer; run by test_sequencer.py."""

from __future__ import annotations

import random

from cocotb.triggers import Timer
from cocotb_bench import Unit, for_each, unit

from drawbar.gen.config import EngineConfig
from drawbar.gen.cycles import HANDOVER, WORK_ACCESS, Cycles, fetch_cycles, program_cycles
from drawbar.gen.program import descriptor_fields
from drawbar.gen.stage import Loop, Stage
from drawbar.hw.drain import ISSUE_TO_DRAIN, step_to_result, step_to_settled

CONFIGS = {
    "sequencer_1": EngineConfig(rows=1, lanes=1, k_loops=1, row_loops=1, column_loops=1),
    "sequencer_16": EngineConfig(rows=16, lanes=2),
}
COUNTERS = ("cycles", "busy", "stall_drain", "stall_fetch", "flush", "stages")


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
        self.fetched_at = fetch_cycles(config)
        self.taken = 0
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
        number = min(self.taken, len(self.stages) - 1)
        fetched = self.taken < len(self.stages) and self.now >= self.fetched_at
        s.set(fetched=fetched, fetched_descriptor=self.descriptor(number))
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
        self.held_until = self.now + stage.rows + HANDOVER
        last_row = self.now + ISSUE_TO_DRAIN + stage.rows
        written = last_row + step_to_result(self.config) + WORK_ACCESS
        for cycle, name in (
            (last_row + 1, "free"),
            (last_row + step_to_settled(self.config), "settled"),
            (written, "written"),
        ):
            self.events.setdefault(cycle, set()).add(name)
        if last:
            self.events[written].add("finished")


@for_each(name=list(CONFIGS))
async def programs_take_the_cycles_of_the_model(dut, name: str) -> None:
    """Back to back, no reset: every counter by cause, and stages handed over in order."""
    config = CONFIGS[name]
    sequencer = await unit(dut, name)
    rng = random.Random(name)
    seen = Cycles()
    for _ in range(40):
        stages = [
            one_tile(
                rng.choice((1, 2, 5, 30, 60)), rng.randint(1, config.rows), rng.choice((0, 0, 1, 9))
            )
            for _ in range(rng.randint(1, 6))
        ]
        sides = Sides(sequencer, config, stages)
        assert sequencer.get("running") == 0
        sequencer.set(start=1)
        await sides.cycle()
        sequencer.set(start=0)
        while sequencer.get("running"):
            await sides.cycle()
        expected = sum(program_cycles(stages, config), Cycles())
        found = sequencer.get("counters")
        values = [found >> (32 * n) & 0xFFFFFFFF for n in range(len(COUNTERS))]
        assert dict(zip(COUNTERS, values, strict=True)) == {
            "cycles": expected.total,
            "busy": expected.busy,
            "stall_drain": expected.stall_drain,
            "stall_fetch": expected.stall_fetch,
            "flush": expected.flush,
            "stages": len(stages),
        }
        assert sides.handed == list(range(1, len(stages) + 1))
        assert not sides.events
        seen += expected
    # A tile of one row has drained before the next stage's first one can end.
    assert seen.stall_drain or config.rows == 1
    assert seen.stall_fetch > 40 * fetch_cycles(config)


@for_each(name=["sequencer_16"])
async def reset_in_the_middle(dut, name: str) -> None:
    """After a reset at any cycle the next program runs as the first one did."""
    config = CONFIGS[name]
    sequencer = await unit(dut, name)
    stages = [one_tile(3, 16, 0), one_tile(5, 1, 4), one_tile(2, 2, 0)]
    total = sum(program_cycles(stages, config), Cycles()).total
    for cycles in range(1, total + 1, 3):
        sides = Sides(sequencer, config, stages)
        sequencer.set(start=1)
        await sides.cycle()
        sequencer.set(start=0)
        for _ in range(cycles):
            await sides.cycle()
        sequencer.set(fetched=0, step=0, stalled=0, ended=0)
        sequencer.set(free=0, settled=0, written=0, finished=0)
        await sequencer.bench.reset()
        assert sequencer.get("running") == 0
        assert sequencer.get("counters") == 0
    sides = Sides(sequencer, config, stages)
    sequencer.set(start=1)
    await sides.cycle()
    sequencer.set(start=0)
    while sequencer.get("running"):
        await sides.cycle()
    assert sequencer.get("counters") & 0xFFFFFFFF == total
