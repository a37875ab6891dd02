"""A link in the simulator, between a line and an engine that is only memories and a timer.

And short ways to write requests, to break them, and to read answers.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

from amaranth.hdl import Module, Value
from amaranth_bench import collect, send, simulate
from link_model import Memory, run_counters

from drawbar.gen.config import PRESETS, EngineConfig
from drawbar.gen.protocol import Header, Op, Space, address_of, item_bytes, pack_frame
from drawbar.hw.link import Link

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
    """A link that shows when a payload byte is read in the cycle in which it is written."""

    collision: Value

    def elaborate(self, platform: object) -> Module:
        m = super().elaborate(platform)
        receiver, executor = m.submodules.receiver, m.submodules.executor
        self.collision = (
            receiver.slot_write
            & executor.slot_read
            & (receiver.slot_address == executor.slot_address)
        )
        return m


class LinkBench:
    """``received`` is what came out of ``tx``; ``writes`` and ``starts`` what the engine saw.

    Arguments
    ---------
    rx_stall, tx_stall:
        Probability a cycle that the line pauses, and that it does not take a byte.
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
        latency: tuple[int, int] = (1, 1),
        run_cycles: int = 20,
    ) -> None:
        self.config = config
        self.link = WatchedLink(config=config, idle_cycles=IDLE_CYCLES)
        self.rng = random.Random(seed)
        self.rx_stall = rx_stall
        self.tx_stall = tx_stall
        self.latency = latency
        self.run_cycles = run_cycles
        self.received: list[int] = []
        self.memory: Memory = {}
        self.writes: list[tuple[tuple[int, int], int]] = []
        self.starts: list[int] = []
        self.now = 0
        self.busy_until = 0  # the last cycle in which the device was seen at work

    def run(self, bench: Callable[[Any], Awaitable[None]], *, cycles: int) -> int:
        async def watch_slots(ctx: Any) -> None:
            while True:
                _, _, collides = await ctx.tick().sample(self.link.collision)
                assert not collides, "a payload byte is read in the cycle in which it is written"

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
        host = self.link.host
        reads: list[tuple[int, int]] = []  # when it is answered, and with what
        stop_at = -1
        running = False
        rng = random.Random(self.rng.random())
        while True:
            _, _, write, read, start, space, address, data, start_address = await ctx.tick().sample(
                host.write,
                host.read,
                host.start,
                host.space,
                host.address,
                host.write_data,
                host.start_address,
            )
            self.now += 1
            assert not (running and (write or read or start)), "a strobe while a program runs"
            assert write + read + start <= 1, "two strobes at once"
            if write or read:
                size = item_bytes(self.config, Space(space))
                item = (space, address)
            if write:
                self.memory[item] = data & ((1 << 8 * size) - 1)
                self.writes.append((item, self.memory[item]))
            if read:
                value = self.memory.get(item, 0)
                if space != Space.PROGRAM and value >> (8 * size - 1):
                    value -= 1 << 8 * size
                at = self.now + rng.randint(*self.latency) - 1
                reads.append((max([at] + [r[0] + 1 for r in reads]), value % (1 << 64)))
            if start:
                running = True
                stop_at = self.now + self.run_cycles
                self.starts.append(start_address)
            elif running and self.now >= stop_at:
                running = False
                for field, value in zip(
                    ("cycles", "busy", "stall_drain", "stall_fetch", "flush", "stages"),
                    run_counters(self.starts[-1]),
                    strict=True,
                ):
                    ctx.set(getattr(self.link.counters, field), value)
            if running or reads or write:
                self.busy_until = self.now
            ctx.set(host.running, running)
            answer = bool(reads) and reads[0][0] <= self.now
            ctx.set(host.read_valid, answer)
            # What is not valid is rubbish.
            ctx.set(host.read_data, reads.pop(0)[1] if answer else rng.getrandbits(64))
