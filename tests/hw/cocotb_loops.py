"""cocotb tests of LoopNest and AddressGenerator; run by test_loops.py."""

from __future__ import annotations

import random

from cocotb_bench import for_each, pack, unit


class NestModel:
    """Counts up, and knows nothing of deltas or zero flags."""

    def __init__(self, counts: list[int]) -> None:
        self.counts = counts
        self.at = [0] * len(counts)

    def step(self) -> None:
        for j, count in enumerate(self.counts):
            self.at[j] += 1
            if self.at[j] < count:
                return
            self.at[j] = 0

    def outputs(self) -> tuple[int, int, int]:
        """``at_last``, ``advance`` and ``ended`` of the present iteration."""
        last = [at == count - 1 for at, count in zip(self.at, self.counts, strict=True)]
        advance = 1 << last.index(False) if not all(last) else 0
        return pack(last, 1), advance, pack((all(last[: j + 1]) for j in range(len(last))), 1)


@for_each(levels=[1, 2, 5])
async def nest_follows_random_loads_and_steps(dut, levels: int) -> None:
    nest = await unit(dut, f"nest_{levels}")
    rng = random.Random(levels)
    wrapped = 0
    for _ in range(60):
        counts = [rng.choice((1, 1, 2, 3, 4)) for _ in range(levels)]
        # The counts of this load hold from here on; the iteration before may end anywhere.
        nest.set(load=1, step=rng.getrandbits(1), counts=pack([c - 1 for c in counts], 16))
        await nest.tick()
        nest.set(load=0, step=1)
        await nest.tick()
        model = NestModel(counts)
        rate = rng.choice((0.2, 0.7, 1.0))
        for _ in range(rng.randint(1, 60)):
            got = nest.get("at_last"), nest.get("advance"), nest.get("ended")
            assert got == model.outputs(), (counts, model.at)
            step = rng.random() < rate
            nest.set(load=0, step=step)
            if step:
                wrapped += model.outputs()[2] >> (levels - 1)
                model.step()
            await nest.tick()
    assert wrapped > 10


@for_each(inner=[0, 1])
async def nest_counts_to_65536(dut, inner: int) -> None:
    """The largest count, at the inner and at the outer level."""
    nest = await unit(dut, "nest_2")
    counts = [65536, 2] if inner == 0 else [1, 65536]
    nest.set(load=1, counts=pack([c - 1 for c in counts], 16))
    await nest.tick()
    nest.set(load=0, step=1)
    await nest.tick()
    await nest.bench.run(65534)
    for at in (65534, 65535):
        model = NestModel(counts)
        model.at[inner] = at
        got = nest.get("at_last"), nest.get("advance"), nest.get("ended")
        assert got == model.outputs(), at
        await nest.tick()
    model = NestModel(counts)
    model.at = [0, 1] if inner == 0 else [0, 0]
    assert (nest.get("at_last"), nest.get("advance"), nest.get("ended")) == model.outputs()


@for_each(levels=[1, 4])
async def generator_adds_deltas(dut, levels: int) -> None:
    bits = {1: 1, 4: 11}[levels]
    generator = await unit(dut, f"generator_{levels}")
    rng = random.Random(levels)
    # The address of the next cycles: a choice takes one cycle, an addition another.
    address = chosen = 0
    deltas = [0] * levels
    for _ in range(1500):
        assert generator.get("address") == address
        load = rng.random() < 0.1
        step = not load and rng.random() < 0.7
        advance = rng.choice([0, *(1 << j for j in range(levels))])
        base = rng.getrandbits(bits)
        if load:
            deltas = [rng.getrandbits(bits) for _ in range(levels)]
        generator.set(load=load, step=step, advance=advance, base=base, deltas=pack(deltas, bits))
        address = 0 if load else (address + chosen) % (1 << bits)
        delta = deltas[advance.bit_length() - 1] if advance else 0
        chosen = base if load else step * delta
        await generator.tick()
