"""For cocotb test modules: drives the ports of a device, one cycle at a time.

A bench stands at the falling edge of the clock. What it reads there are the outputs of the present
cycle, what it sets are inputs of the present cycle, and ``tick`` goes on to the next one::

    bench.set(dut__i=1)          # cycle n
    await bench.tick(2)
    assert bench.get("dut__o")   # a latency of two cycles

Outputs that depend on inputs of the same cycle need a ``settle`` in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge, ReadOnly

from drawbar.sim.cocotb_runner import parameters

PERIOD_NS = 10


def pack(values: Iterable[int], width: int) -> int:
    """Elements of ``width`` bits to one word, the first lowest."""
    word = 0
    for j, value in enumerate(values):
        word |= (int(value) & ((1 << width) - 1)) << (j * width)
    return word


def unpack(word: int, width: int, count: int) -> list[int]:
    """The inverse of ``pack``: signed elements."""
    return [signed(word >> (j * width), width) for j in range(count)]


def signed(value: int, width: int) -> int:
    """The low ``width`` bits in two's complement."""
    half = 1 << (width - 1)
    return ((value + half) & ((1 << width) - 1)) - half


class Bench:
    """Arguments: the device, and the cycles after which the test fails, so that it never hangs."""

    def __init__(self, dut: Any, *, cycles: int = 100_000) -> None:
        self.dut = dut
        self.now = 0
        self._limit = cycles
        self._handles: dict[str, Any] = {}
        self._driven: dict[str, int] = {}

    async def start(self) -> None:
        """Start the clock; all inputs are 0; reset for two cycles."""
        self.set(rst=1, **dict.fromkeys(parameters()["inputs"], 0))
        Clock(self.dut.clk, PERIOD_NS, "ns").start(start_high=False)
        await self.reset()

    async def reset(self) -> None:
        self.set(rst=1)
        await self.tick(2)
        self.set(rst=0)

    def handle(self, name: str) -> Any:
        if name not in self._handles:
            self._handles[name] = getattr(self.dut, name)
        return self._handles[name]

    def set(self, **values: int) -> None:
        for name, value in values.items():
            if self._driven.get(name) != value:
                self._driven[name] = value
                self.handle(name).value = value

    def get(self, name: str) -> int:
        """An output, unsigned; an error where a bit of it is unknown."""
        return int(self.handle(name).value)

    def bits(self, name: str) -> str:
        """An output, highest bit first, unknown bits as X."""
        return str(self.handle(name).value)

    async def tick(self, cycles: int = 1) -> None:
        for _ in range(cycles):
            await FallingEdge(self.handle("clk"))
        self._advance(cycles)

    async def run(self, cycles: int) -> None:
        """``tick`` without Python in every cycle, for long waits."""
        await ClockCycles(self.handle("clk"), cycles, FallingEdge)
        self._advance(cycles)

    async def settle(self) -> None:
        """Let inputs of this cycle through to outputs; nothing may be set before the next tick."""
        await ReadOnly()

    def _advance(self, cycles: int) -> None:
        self.now += cycles
        assert self.now <= self._limit, f"not finished after {self._limit} cycles"


class Unit:
    """One component of a ``SideBySide``: a bench with the component's name before every port."""

    def __init__(self, bench: Bench, name: str) -> None:
        self.bench = bench
        self.name = name
        self.tick = bench.tick

    def set(self, **values: int) -> None:
        self.bench.set(**{f"{self.name}__{port}": value for port, value in values.items()})

    def get(self, port: str) -> int:
        return self.bench.get(f"{self.name}__{port}")

    def bits(self, port: str) -> str:
        return self.bench.bits(f"{self.name}__{port}")


async def unit(dut: Any, name: str, *, cycles: int = 100_000) -> Unit:
    """A unit after reset."""
    bench = Bench(dut, cycles=cycles)
    await bench.start()
    return Unit(bench, name)


def for_each(**options: Sequence[Any]) -> Any:
    """A cocotb test for every combination of options."""

    def decorate(function: Any) -> Any:
        return cocotb.test()(cocotb.parametrize(**options)(function))

    return decorate
