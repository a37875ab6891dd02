"""Runs components in Amaranth's simulator, under a watchdog that counts cycles."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from amaranth.hdl import Elaboratable
from amaranth.sim import Simulator

Bench = Callable[[Any], Awaitable[None]]


class Stuck(AssertionError):
    """The benches had not finished within their cycles."""


def simulate(
    dut: Elaboratable, *benches: Bench, cycles: int, background: Iterable[Bench] = ()
) -> int:
    """Runs ``benches`` to their ends, and ``background`` for as long; returns the cycles taken.

    Raises ``Stuck`` after ``cycles`` cycles: a simulation that waits for something that never
    comes fails, and does not hang.
    """
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    now = 0

    async def watchdog(ctx: Any) -> None:
        nonlocal now
        while True:
            await ctx.tick()
            now += 1
            if now >= cycles:
                raise Stuck(f"not finished after {cycles} cycles")

    for bench in benches:
        simulator.add_testbench(bench)
    for bench in (*background, watchdog):
        simulator.add_testbench(bench, background=True)
    simulator.run()
    return now


async def idle(ctx: Any, cycles: int) -> None:
    for _ in range(cycles):
        await ctx.tick()


async def send(
    ctx: Any, port: Any, items: Iterable[Any], rng: random.Random, stall: float = 0.0
) -> None:
    """Gives ``items`` to a stream; before each, pauses with probability ``stall`` a cycle."""
    for item in items:
        while rng.random() < stall:
            await ctx.tick()
        ctx.set(port.payload, item)
        ctx.set(port.valid, 1)
        # Not `until`: it cannot be ended from outside, which is what the watchdog does.
        taken = False
        while not taken:
            _, _, taken = await ctx.tick().sample(port.ready)
        ctx.set(port.valid, 0)


async def collect(
    ctx: Any,
    port: Any,
    into: list[Any],
    rng: random.Random,
    stall: float | Callable[[], float] = 0.0,
) -> None:
    """Takes what a stream gives, for ever; refuses with probability ``stall`` a cycle.

    Checks the rule of streams: what was offered and not taken is offered again.
    """
    offered: Any = None
    while True:
        ready = rng.random() >= (stall() if callable(stall) else stall)
        ctx.set(port.ready, ready)
        _, _, valid, payload = await ctx.tick().sample(port.valid, port.payload)
        if offered is not None:
            assert valid, "a stream took back what it had offered"
            assert payload == offered, "a stream changed what it had offered"
        offered = payload if valid and not ready else None
        if valid and ready:
            into.append(payload)
