"""A link in the simulator, between a line and an engine that is only memories and a timer.

And short ways to write requests, to break them, and to read answers.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

from amaranth.hdl import Module, Value
from amaranth_bench import collect, send, simulate
from link_model import Memory, kept, run_counters

from drawbar.gen.config import EngineConfig
from drawbar.gen.presets import PRESETS
from drawbar.gen.protocol import Header, Op, Space, address_of, item_bytes, pack_frame
from drawbar.hw.link import Link

COUNTERS = ("cycles", "busy", "stall_drain", "stall_fetch", "flush", "stages", "idle")
#: After so many cycles of silence the links of these tests drop an unfinished frame.
IDLE_CYCLES = 60


TINY = PRESETS["tiny"]


def write(seq: int, space: Space, item: int, payload: bytes) -> bytes:
    return pack_frame(Header(Op.WRITE, seq, address_of(space, item), len(payload)), payload)


def request(op: int, seq: int, address: int = 0, length: int = 0) -> bytes:
    return pack_frame(Header(op, seq, address, length))


def answers(data: list[int] | bytes) -> list[tuple[Header, bytes]]:
    """The frames in bytes that hold whole frames and nothing else."""
    data = bytes(data)
    frames = []
    while data:
        header = Header.unpack(data[:16])
        assert header is not None
        end = 16
        if header.length:
            end += header.length + 4
        payload = data[16 : 16 + header.length]
        assert pack_frame(header, payload) == data[:end]
        frames.append((header, payload))
        data = data[end:]
    return frames


def corrupt(frame: bytes, rng: random.Random) -> bytes:
    kind = rng.randrange(5)
    at = rng.randrange(len(frame))
    if kind == 0:  # a few bits, anywhere
        broken = bytearray(frame)
        for _ in range(rng.randint(1, 3)):
            broken[rng.randrange(len(frame))] ^= 1 << rng.randrange(8)
        return bytes(broken)
    if kind == 1:  # a byte lost
        return frame[:at] + frame[at + 1 :]
    if kind == 2:  # a byte too many
        return frame[:at] + rng.randbytes(1) + frame[at:]
    if kind == 3:  # the beginning, and no more
        return frame[:at]
    return rng.choice([b"\xd5", b"\xd5\xd5", b"\xd5\xba", b"\0\0\xba"]) + frame


class WatchedLink(Link):
    """A link that shows when a byte is read in the cycle in which it is written."""

    collision: Value

    def elaborate(self, platform: object) -> Module:
        m = super().elaborate(platform)
        receiver, executor = m.submodules.receiver, m.submodules.executor
        self.collision = (
            receiver.slot_write
            & executor.slot_read
            & (receiver.slot_address == executor.slot_address)
        ) | (
            receiver.header_write
            & executor.header_read
            & (receiver.header_address == executor.header_address)
        )
        return m


class LinkBench:
    """``received`` is what came out of ``tx``; ``writes`` and ``starts`` what the engine saw.

    Arguments
    ---------
    rx_stall, tx_stall:
        Probability a cycle that the line pauses, and that it does not take a byte.
    write_stall:
        Probability a cycle that the engine does not take an item.
    latency:
        Least and most cycles of a read.
    run_cycles:
        What a run takes.
    """

    def __init__(
        self,
        config: EngineConfig,
        *,
        seed: int,
        rx_stall: float = 0.0,
        tx_stall: float = 0.0,
        write_stall: float = 0.0,
        latency: tuple[int, int] = (1, 1),
        run_cycles: int = 20,
    ) -> None:
        self.config = config
        self.link = WatchedLink(config=config, idle_cycles=IDLE_CYCLES)
        self.rng = random.Random(seed)
        self.rx_stall = rx_stall
        self.tx_stall = tx_stall
        self.write_stall = write_stall
        self.latency = latency
        self.run_cycles = run_cycles
        self.received: list[int] = []
        self.memory: Memory = {}
        self.writes: list[tuple[tuple[int, int], int]] = []
        self.starts: list[int] = []
        self.now = 0
        self.answered = -2  # the cycle of the latest read_valid
        self.busy_until = 0  # the last cycle in which the device was seen at work

    def run(self, bench: Callable[[Any], Awaitable[None]], *, cycles: int) -> int:
        async def watch_slots(ctx: Any) -> None:
            while True:
                _, _, collides = await ctx.tick().sample(self.link.collision)
                assert not collides, "a byte is read in the cycle in which it is written"

        async def sink(ctx: Any) -> None:
            rng = random.Random(self.rng.random())
            await collect(ctx, self.link.tx, self.received, rng, lambda: self.tx_stall)

        return simulate(
            self.link, bench, cycles=cycles, background=[self._engine, watch_slots, sink]
        )

    async def send(self, ctx: Any, data: bytes) -> None:
        await send(ctx, self.link.rx, data, self.rng, self.rx_stall)

    async def quiet(self, ctx: Any) -> None:
        """Waits until nothing has happened for longer than any pause and any latency."""
        count, since = len(self.received), self.now
        while self.now - since < IDLE_CYCLES + 40:
            await ctx.tick()
            if len(self.received) != count or self.busy_until >= self.now - 1:
                count, since = len(self.received), self.now

    async def exchange(self, ctx: Any, data: bytes) -> bytes:
        """Sends, waits for the end of the answers, and returns them."""
        before = len(self.received)
        await self.send(ctx, data)
        await self.quiet(ctx)
        return bytes(self.received[before:])

    async def wait_for(self, ctx: Any, count: int) -> None:
        """Until ``count`` bytes have been received in all."""
        while len(self.received) < count:
            await ctx.tick()

    async def _engine(self, ctx: Any) -> None:
        """Memories that answer late, and programs that only take time; what the link promises of
        its strobes is asserted.
        """
        host, rng = self.link.host, random.Random(self.rng.random())
        answer_at = -1  # when the read under way is answered
        end_at = -1  # when the program that runs ends
        counted_at = -1  # when what ended is counted
        pending: int | None = None
        offered: tuple[int, ...] = ()  # a write that was not taken
        while True:
            (
                _,
                _,
                write,
                ready,
                read,
                refresh,
                start,
                *item,
                data,
                start_address,
            ) = await ctx.tick().sample(
                host.write,
                host.write_ready,
                host.read,
                host.refresh,
                host.start,
                host.space,
                host.address,
                host.write_data,
                host.start_address,
            )
            self.now += 1
            running = end_at >= 0
            space, address = item
            assert write + read + refresh + start <= 1, "two strobes at once"
            assert not offered or (write, *item, data) == offered, "a write was taken back"
            offered = (write, *item, data) if write and not ready else ()
            if write or read:
                size = item_bytes(self.config, Space(space))
            if write and ready:
                self.memory[space, address] = kept(self.config, space, data & ((1 << 8 * size) - 1))
                self.writes.append(((space, address), self.memory[space, address]))

            valid = False
            if answer_at >= 0:
                assert read, "a read was taken back"
                valid = self.now >= answer_at
            elif read and self.answered != self.now - 1:
                assert space == Space.WORK or not (running or pending is not None)
                answer_at = self.now + rng.randint(*self.latency) - 1
                valid = self.now >= answer_at
                # Until it is valid it is rubbish; then it stays.
                ctx.set(host.read_data, rng.getrandbits(64))
            if valid:
                value = self.memory.get((space, address), 0)
                if value >> (8 * size - 1):
                    value -= 1 << 8 * size
                ctx.set(host.read_data, value % (1 << 64))
                self.answered, answer_at = self.now, -1
            ctx.set(host.read_valid, valid)
            ctx.set(host.write_ready, rng.random() >= self.write_stall)

            # As of the engine: all is counted in the second cycle after the last one of a run.
            ctx.set(self.link.counted, self.now == counted_at)
            if self.now == counted_at:
                self._count(ctx, self.link.counters, self.starts[-1])
            elif end_at >= 0 or self.now > counted_at:
                # Other values than those of the end.
                self._count(ctx, self.link.counters, rng.getrandbits(16))
            if running and self.now >= end_at:
                end_at = -1
                counted_at = self.now + 1
            elif end_at < 0 and pending is not None:
                self.starts.append(pending)
                pending, end_at = None, self.now + self.run_cycles
            if start:
                assert pending is None, "a third program"
                pending = start_address
            ctx.set(host.running, end_at >= 0)
            ctx.set(host.pending, pending is not None)
            if end_at >= 0 or pending is not None or answer_at >= 0 or write or read:
                self.busy_until = self.now

    @staticmethod
    def _count(ctx: Any, counters: Any, start: int) -> None:
        for field, value in zip(COUNTERS, run_counters(start), strict=True):
            ctx.set(getattr(counters, field), value)
