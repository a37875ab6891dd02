"""cocotb tests of MacArray; run by test_array.py."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np
from cocotb_bench import for_each, pack, unit, unpack

from drawbar.gen.config import EngineConfig
from drawbar.gen.pipeline import pipeline
from drawbar.sim.golden import accumulate, products

CONFIGS = {
    "array_1x1": EngineConfig(rows=1, lanes=1, data_width=16, acc_width=36),
    "array_3x4": EngineConfig(rows=3, lanes=4, data_width=8, acc_width=20),
    "array_4x2": EngineConfig(rows=4, lanes=2, data_width=16, acc_width=40),
    # Four lane groups.
    "array_2x16": EngineConfig(rows=2, lanes=16, data_width=8, acc_width=20),
    # Lane groups of four, each one of a fold.
    "array_2x16f": EngineConfig(rows=2, lanes=16, data_width=8, acc_width=20, fold=4),
    # Folds within a lane group.
    "array_3x4f": EngineConfig(rows=3, lanes=4, acc_width=36, fold=4, products=1),
    "array_3x8p": EngineConfig(rows=3, lanes=8, data_width=16, acc_width=36, products=1),
    "array_2x8s": EngineConfig(
        rows=2, lanes=8, data_width=8, acc_width=20, fold=4, products=1, short_pipeline=1
    ),
}


@dataclass
class Cycle:
    """Inputs of one cycle."""

    core: list[int]
    live: list[int]
    fold: int = 0
    valid: int = 0
    last: int = 0
    turn: int = 0
    hold: int = 0
    factors: int = 0


@dataclass
class Script:
    """Inputs of many cycles, and the tiles within: cycle of the last step, and the rows."""

    config: EngineConfig
    rng: random.Random
    cycles: list[Cycle] = field(default_factory=list)
    tiles: list[tuple[int, np.ndarray]] = field(default_factory=list)

    def vector(self, n: int, extreme: float) -> list[int]:
        least, most = self.config.data_min, self.config.data_max
        return [
            self.rng.choice((least, most))
            if self.rng.random() < extreme
            else self.rng.randint(least, most)
            for _ in range(n)
        ]

    def core(self, extreme: float) -> list[int]:
        """A vector for each group of lanes, one after the other."""
        return self.vector(self.config.rows * self.config.fold, extreme)

    def fold(self) -> int:
        return self.rng.randint(0, self.config.fold_bits)

    def idle(self) -> None:
        """A cycle without a step: everything else is there, and must not count."""
        core, live = self.core(0.5), self.vector(self.config.lanes, 0.5)
        self.cycles.append(Cycle(core, live, self.fold(), 0, self.rng.getrandbits(1)))

    def tile(self, k: int, *, gap: float = 0.0, value: int | None = None) -> None:
        """``k`` steps, with idle cycles between them, of random values or of one value only."""
        config = self.config
        rows, lanes = config.rows, config.lanes
        core_steps, live_steps = [], []
        fold = self.fold()
        for step in range(k):
            while self.rng.random() < gap:
                self.idle()
            core = self.core(0.2) if value is None else [value] * rows * config.fold
            live = self.vector(lanes, 0.2) if value is None else [value] * lanes
            self.cycles.append(Cycle(core, live, fold, 1, step == k - 1))
            core_steps.append(core)
            live_steps.append(live)
        # Each lane has the core vector of its group, and a live element of the first part.
        cores = np.array(core_steps).reshape(k, config.fold, rows)
        group = np.arange(lanes) // (lanes // config.fold)
        source = np.arange(lanes) % (lanes >> fold)
        live_by_lane = np.array(live_steps)[:, source].T[:, None, :]
        core_by_lane = cores[:, group].transpose(1, 2, 0)
        result = accumulate(core_by_lane, live_by_lane, config.acc_width)[:, 0]
        self.tiles.append((len(self.cycles) - 1, result.T))

    def product_tile(self, pairs: int, *, gap: float = 0.0) -> None:
        """Pairs of factors, held and multiplied, with idle cycles between any two steps; the rows
        behind row 0 mean nothing.
        """
        lanes = self.config.lanes
        steps = [self.vector(lanes, 0.2) for _ in range(2 * pairs)]
        for n, live in enumerate(steps):
            while self.rng.random() < gap:
                self.idle()
            second = n % 2
            last = n == len(steps) - 1
            core = self.core(0.2)
            self.cycles.append(Cycle(core, live, 0, second, int(last), hold=1 - second, factors=1))
        sums = products(np.array(steps).T, self.config.acc_width)
        self.tiles.append((len(self.cycles) - 1, sums.T))

    async def play(self, dut, name: str) -> int:
        """Checks ``row`` in every cycle; returns the number of rows compared.

        A group's row is checked when it comes, behind that of the group before.
        """
        array = await unit(dut, name)
        lanes, width, pipe = self.config.lanes, self.config.acc_width, pipeline(self.config)
        for _ in range(12 + self.config.rows):
            self.idle()
        comes = {last + pipe.array_to_row: result for last, result in self.tiles}
        shown: np.ndarray | None = None
        row = compared = 0
        # Lane group: what it shows, by cycle.
        due: dict[int, list[tuple[int, list[int]]]] = {}
        for now, cycle in enumerate(self.cycles):
            if now in comes:  # wins over a turn
                shown, row = comes[now], 0
            elif now >= 2:
                row += self.cycles[now - 2].turn
            if shown is not None and row < len(shown):
                together = pipe.group_lanes
                for group, first in enumerate(range(0, lanes, together)):
                    part = shown[row].tolist()[first : first + together]
                    due.setdefault(now + group, []).append((first, part))
                compared += 1
            got = unpack(array.get("row"), width, lanes)
            for first, part in due.pop(now, []):
                assert got[first : first + len(part)] == part, (now, first)
            array.set(
                core=pack(cycle.core, self.config.data_width),
                live=pack(cycle.live, self.config.data_width),
                valid=cycle.valid,
                last=cycle.last,
                turn=cycle.turn,
                **({"fold": cycle.fold} if self.config.fold > 1 else {}),
                **({"hold": cycle.hold, "factors": cycle.factors} if self.config.products else {}),
            )
            await array.tick()
        return compared


def turn_always(script: Script) -> None:
    for cycle in script.cycles:
        cycle.turn = 1


@for_each(name=list(CONFIGS))
async def tiles_back_to_back(dut, name: str) -> None:
    """Tiles as close as the drain registers allow: every row comes out."""
    config = CONFIGS[name]
    script = Script(config, random.Random(name))
    for _ in range(60):
        script.tile(script.rng.choice((config.rows, config.rows + 1, config.rows + 5)))
    turn_always(script)
    assert await script.play(dut, name) >= 60 * config.rows


@for_each(name=list(CONFIGS))
async def tiles_of_one_step(dut, name: str) -> None:
    """A new tile in every cycle: it wins over ``turn``."""
    script = Script(CONFIGS[name], random.Random(name))
    for _ in range(100):
        script.tile(1)
    turn_always(script)
    assert await script.play(dut, name) >= 100


@for_each(name=list(CONFIGS))
async def anything_anywhere(dut, name: str) -> None:
    """Idle cycles within and between tiles, turns at random."""
    script = Script(CONFIGS[name], random.Random(name))
    for _ in range(150):
        script.tile(script.rng.choice((1, 1, 2, 3, 7)), gap=script.rng.choice((0.0, 0.0, 0.5)))
        while script.rng.random() < 0.5:
            script.idle()
    for cycle in script.cycles:
        cycle.turn = script.rng.getrandbits(1)
    assert await script.play(dut, name) >= 150


@for_each(name=[name for name, config in CONFIGS.items() if config.products])
async def products_and_cores(dut, name: str) -> None:
    """Products of pairs among tiles of cores, close together and with gaps within a pair."""
    config = CONFIGS[name]
    script = Script(config, random.Random(name))
    for _ in range(150):
        gap = script.rng.choice((0.0, 0.0, 0.5))
        if script.rng.getrandbits(1):
            script.product_tile(script.rng.choice((1, 1, 2, 3)), gap=gap)
        else:
            script.tile(script.rng.choice((1, 3, 4)), gap=gap)
    turn_always(script)
    assert await script.play(dut, name) >= 150


@for_each(name=list(CONFIGS))
async def extremes_wrap(dut, name: str) -> None:
    """The largest products, summed to the accumulator's limit, and past it: modulo its width."""
    config = CONFIGS[name]
    script = Script(config, random.Random(name))
    to_limit = min(100, 1 << (config.acc_width - 1 - 2 * (config.data_width - 1)))
    for k in (to_limit - 1, to_limit, to_limit + 1, 2 * to_limit, 2 * to_limit + 3):
        script.tile(k, value=config.data_min)
        script.tile(k, value=config.data_max)
    wrapped = sum(int(result.min()) < 0 for _, result in script.tiles)
    assert (wrapped > 0) == (to_limit < 100)
    turn_always(script)
    await script.play(dut, name)


@for_each(name=list(CONFIGS))
async def reset_ends_a_tile(dut, name: str) -> None:
    """What was under way before a reset is gone after it."""
    config = CONFIGS[name]
    array = await unit(dut, name)
    for cycles in range(1, 6):
        array.set(
            core=pack([1] * config.rows * config.fold, config.data_width), live=1, valid=1, last=0
        )
        await array.tick(cycles)
        await array.bench.reset()
        array.set(
            core=pack([3] * config.rows * config.fold, config.data_width), live=1, valid=1, last=1
        )
        await array.tick()
        array.set(valid=0)
        await array.tick(pipeline(config).array_to_row - 1)
        assert unpack(array.get("row"), config.acc_width, config.lanes)[0] == 3
