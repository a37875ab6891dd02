# amaranth: UnusedElaboratable=no
"""hw/uart.py against a line that is fast, slow, jittery or broken."""

from __future__ import annotations

import random

import pytest
from amaranth.hdl import Module
from amaranth_bench import Stuck, collect, idle, send, simulate

from drawbar.hw.uart import Uart, UartReceiver, UartTransmitter

#: Cycles a bit of 4 (the least), 8.33, 16 (the default configuration), and 26.04.
RATES = [(4, 1), (25_000_000, 3_000_000), (48_000_000, 3_000_000), (3_000_000, 115_200)]


def edges(data: bytes, bit: float, start: float, gap: float = 0.0) -> list[tuple[float, int]]:
    """A line that sends ``data``: the time of each change, in cycles, and the level after it."""
    changes = []
    for byte in data:
        for index, level in enumerate([0, *(byte >> i & 1 for i in range(8)), 1]):
            changes.append((start + index * bit, level))
        start += 10 * bit + gap
    return changes


async def drive(ctx, line, changes: list[tuple[float, int]], rng: random.Random, jitter: float):
    """Puts a line through its changes, each moved by up to ``jitter`` cycles; time 0 is now."""
    now = 0
    for time, level in changes:
        at = round(time + rng.uniform(-jitter, jitter))
        if at > now:
            await idle(ctx, at - now)
            now = at
        ctx.set(line, level)


@pytest.mark.parametrize(("clock_hz", "baud"), RATES)
@pytest.mark.parametrize("error", [-0.02, 0.0, 0.02])
def test_receiver_with_rate_error(clock_hz: int, baud: int, error: float) -> None:
    """Back to back frames from a sender that is 2 % off, at every phase to the clock."""
    dut = UartReceiver(clock_hz=clock_hz, baud=baud)
    rng = random.Random(1)
    bit = clock_hz / baud * (1 + error)
    data = bytes([0x00, 0xFF, 0x55, 0xAA, 0x01, 0x80]) + rng.randbytes(24)
    got: list[int] = []

    async def bench(ctx):
        ctx.set(dut.rx, 1)
        await idle(ctx, 5)
        changes = edges(data, bit, rng.random())
        await drive(ctx, dut.rx, changes, rng, jitter=0.0)
        await idle(ctx, round(2 * bit) + 5)

    async def faults(ctx):
        while True:
            _, _, framing, overflow = await ctx.tick().sample(dut.framing_error, dut.overflow)
            assert not framing
            assert not overflow

    async def sink(ctx):
        await collect(ctx, dut.received, got, rng)

    simulate(dut, bench, cycles=round(len(data) * 11 * bit) + 200, background=[sink, faults])
    assert bytes(got) == data


def test_receiver_with_jitter() -> None:
    """16 cycles a bit: an edge may be off by a tenth of a bit, besides 2 % of rate error."""
    dut = UartReceiver(clock_hz=16, baud=1)
    rng = random.Random(2)
    data = rng.randbytes(80)
    got: list[int] = []

    async def bench(ctx):
        ctx.set(dut.rx, 1)
        await idle(ctx, 5)
        bit = 16 * 1.02
        await drive(ctx, dut.rx, edges(data, bit, 3.0, gap=8.0), rng, jitter=0.1 * bit)
        await idle(ctx, 40)

    async def sink(ctx):
        await collect(ctx, dut.received, got, rng)

    simulate(dut, bench, cycles=len(data) * 180, background=[sink])
    assert bytes(got) == data


def test_framing_error_and_noise() -> None:
    """A low stop bit and a break drop one byte each; a short low pulse drops nothing."""
    dut = UartReceiver(clock_hz=16, baud=1)
    rng = random.Random(3)
    got: list[int] = []
    errors: list[int] = []
    changes: list[tuple[float, int]] = []
    time = 5.0

    def good(byte: int) -> None:
        nonlocal time
        changes.extend(edges(bytes([byte]), 16, time))
        time += 160 + 20

    good(0x11)
    changes.extend(edges(b"\x22", 16, time)[:-1])  # the stop bit is low,
    changes.append((time + 144, 0))
    changes.append((time + 160, 1))  # and the line high again only after it
    time += 200
    good(0x33)
    changes.extend([(time, 0), (time + 5, 1)])  # noise, less than half a bit
    time += 20
    good(0x44)
    changes.extend([(time, 0), (time + 16 * 30, 1)])  # a break of three bytes' length
    time += 16 * 30 + 20
    good(0x55)

    async def bench(ctx):
        ctx.set(dut.rx, 1)
        await drive(ctx, dut.rx, changes, rng, jitter=0.0)
        await idle(ctx, 40)

    async def faults(ctx):
        while True:
            _, _, framing = await ctx.tick().sample(dut.framing_error)
            errors.append(framing)

    async def sink(ctx):
        await collect(ctx, dut.received, got, rng)

    simulate(dut, bench, cycles=3000, background=[sink, faults])
    assert got == [0x11, 0x33, 0x44, 0x55]
    assert sum(errors) == 2


def test_overflow_keeps_the_older_byte() -> None:
    dut = UartReceiver(clock_hz=8, baud=1)
    rng = random.Random(4)
    lost: list[int] = []

    async def bench(ctx):
        ctx.set(dut.rx, 1)
        await idle(ctx, 5)
        await drive(ctx, dut.rx, edges(b"\xa1\xb2\xc3", 8, 0.0), rng, jitter=0.0)
        await idle(ctx, 20)
        assert ctx.get(dut.received.valid)
        assert ctx.get(dut.received.payload) == 0xA1

    async def faults(ctx):
        while True:
            _, _, overflow = await ctx.tick().sample(dut.overflow)
            lost.append(overflow)

    simulate(dut, bench, cycles=400, background=[faults])
    assert sum(lost) == 2


@pytest.mark.parametrize(("clock_hz", "baud"), RATES)
def test_transmitter_edges(clock_hz: int, baud: int) -> None:
    """Each edge within a cycle of its place, counted from the start bit; the line never rests."""
    dut = UartTransmitter(clock_hz=clock_hz, baud=baud)
    rng = random.Random(5)
    bit = clock_hz / baud
    data = rng.randbytes(12)
    line: list[int] = []

    async def bench(ctx):
        await send(ctx, dut.sent, data, rng)
        await idle(ctx, round(11 * bit) + 3)

    async def record(ctx):
        while True:
            _, _, tx = await ctx.tick().sample(dut.tx)
            line.append(tx)

    simulate(dut, bench, cycles=round(len(data) * 12 * bit) + 100, background=[record])
    position = previous = 0
    for count, byte in enumerate(data):
        start = line.index(0, position)
        if count:
            assert start - previous <= 10 * bit + 2, "a pause between back to back bytes"
        levels = [0, *(byte >> i & 1 for i in range(8)), 1]
        for index, level in enumerate(levels):
            first, last = start + index * bit, start + (index + 1) * bit
            inside = line[int(first) + 1 : int(last)]
            assert inside, "the test looks at no cycle of this bit"
            assert set(inside) == {level}, f"byte {count}, bit {index}"
        previous = start
        position = int(start + 9 * bit) + 1
    assert 0 not in line[position:]


@pytest.mark.parametrize(("clock_hz", "baud"), RATES)
def test_loop(clock_hz: int, baud: int) -> None:
    """Transmitter to receiver, with random pauses: the same bytes."""
    m = Module()
    m.submodules.uart = dut = Uart(clock_hz=clock_hz, baud=baud)
    m.d.comb += dut.rx.eq(dut.tx)
    rng = random.Random(6)
    data = rng.randbytes(30)
    got: list[int] = []

    async def bench(ctx):
        await send(ctx, dut.sent, data, rng, stall=0.3)
        while len(got) < len(data):
            await ctx.tick()

    async def sink(ctx):
        await collect(ctx, dut.received, got, rng, stall=0.5)

    simulate(m, bench, cycles=round(len(data) * 12 * clock_hz / baud) + 500, background=[sink])
    assert bytes(got) == data


def test_watchdog_ends_a_stuck_simulation() -> None:
    dut = UartReceiver(clock_hz=8, baud=1)

    async def bench(ctx):
        while not ctx.get(dut.received.valid):
            await ctx.tick()

    with pytest.raises(Stuck, match="50 cycles"):
        simulate(dut, bench, cycles=50)


@pytest.mark.parametrize("component", [Uart, UartReceiver, UartTransmitter])
@pytest.mark.parametrize(("clock_hz", "baud"), [(11_999_999, 3_000_000), (1000, 0)])
def test_refuses_rates(component: type, clock_hz: int, baud: int) -> None:
    with pytest.raises(ValueError, match=f"clock_hz={clock_hz}, baud={baud}"):
        component(clock_hz=clock_hz, baud=baud)
