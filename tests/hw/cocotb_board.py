"""cocotb tests of Board and SerialBoard with real packets; run by test_board.py."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, Timer
from cocotb_bench import PERIOD_NS, Bench
from random_stages import random_memories, random_program

from drawbar.gen.config import EngineConfig
from drawbar.gen.cycles import Cycles
from drawbar.gen.pipeline import RUN_GAP
from drawbar.gen.program import encode
from drawbar.gen.protocol import (
    CRC_BYTES,
    HEADER_BYTES,
    PROTOCOL_VERSION,
    RESPONSE_FLAG,
    WAIT_IDLE,
    Counters,
    Header,
    Identity,
    Op,
    Space,
    Status,
    address_of,
    crc32c,
    has_payload,
    item_bytes,
    pack_frame,
)
from drawbar.sim.cocotb_runner import parameters
from drawbar.sim.golden import GoldenEngine

#: 5 1/3 cycles a bit on the serial line.
CONFIG = EngineConfig(
    rows=3,
    lanes=2,
    core_depth=24,
    work_depth=60,
    bias_depth=16,
    program_depth=64,
    k_loops=1,
    row_loops=1,
    column_loops=1,
    link_window=2,
    clock_hz=16_000_000,
    baud=3_000_000,
)


class ByteStreams:
    """A host on the streams of ``Board``; each waits in a cycle with probability ``stall``."""

    def __init__(self, dut: Any, *, stall: float, seed: int) -> None:
        self.bench = Bench(dut, cycles=200_000)
        self.out: deque[int] = deque()
        self.received = bytearray()
        self._stall = stall
        self._rng = random.Random(seed)
        self._offered = False
        self._held: int | None = None

    async def start(self) -> None:
        await self.bench.start()

    async def wait(self) -> None:
        """One cycle."""
        bench = self.bench
        # What is offered once stays offered.
        if self.out and not self._offered:
            self._offered = self._rng.random() >= self._stall
        ready = self._rng.random() >= self._stall
        # A payload that is not valid must not count.
        payload = self.out[0] if self._offered else self._rng.getrandbits(8)
        bench.set(rx__valid=self._offered, rx__payload=payload, tx__ready=ready)
        await bench.settle()
        valid = bench.get("tx__valid")
        byte = bench.get("tx__payload") if valid else None
        if self._held is not None:
            assert byte == self._held, "the board changed a byte that nobody had taken"
        self._held = byte if not ready else None
        if valid and ready:
            self.received.append(byte or 0)
        if self._offered and bench.get("rx__ready"):
            self.out.popleft()
            self._offered = False
        await bench.tick()


class SerialLine:
    """A host on the two wires of ``SerialBoard``, at the exact baud rate."""

    def __init__(self, dut: Any) -> None:
        self.bench = Bench(dut, cycles=1_000_000)
        self.out: deque[int] = deque()
        self.received = bytearray()
        self._bit_ps = round(PERIOD_NS * 1000 * CONFIG.clock_hz / CONFIG.baud)

    async def start(self) -> None:
        await self.bench.start()
        self.bench.set(rx=1)
        await self.bench.tick(20)
        cocotb.start_soon(self._transmit())
        cocotb.start_soon(self._receive())

    async def wait(self) -> None:
        await self.bench.run(50)

    async def _transmit(self) -> None:
        while True:
            if not self.out:
                await Timer(self._bit_ps, "ps")
                continue
            byte = self.out.popleft()
            for bit in (0, *(byte >> n & 1 for n in range(8)), 1):
                self.bench.handle("rx").value = bit
                await Timer(self._bit_ps, "ps")

    async def _receive(self) -> None:
        tx = self.bench.handle("tx")
        while True:
            await FallingEdge(tx)
            await Timer(self._bit_ps * 3 // 2, "ps")
            byte = 0
            for n in range(8):
                byte |= int(tx.value) << n
                await Timer(self._bit_ps, "ps")
            assert int(tx.value) == 1, "no stop bit"
            self.received.append(byte)


class Session:
    """Numbered requests, as many unanswered as the window allows."""

    def __init__(self, line: Any) -> None:
        self.line = line
        self.seq = 0
        self._parsed = 0

    def send(self, op: Op, address: int = 0, length: int = 0, payload: bytes = b"") -> bytes:
        """Sends a request; returns its frame."""
        frame = pack_frame(Header(op, self.seq, address, length), payload)
        self.line.out.extend(frame)
        self.seq = (self.seq + 1) % 256
        return frame

    async def answer(self) -> tuple[Header, bytes]:
        """The next response: whole, and with the right checks."""
        received = self.line.received
        while len(received) - self._parsed < HEADER_BYTES:
            await self.line.wait()
        header = Header.unpack(bytes(received[self._parsed :][:HEADER_BYTES]))
        assert header is not None, "the header's check"
        self._parsed += HEADER_BYTES
        if not has_payload(header):
            return header, b""
        size = header.length + CRC_BYTES
        while len(received) - self._parsed < size:
            await self.line.wait()
        data = bytes(received[self._parsed :][:size])
        self._parsed += size
        assert crc32c(data[:-CRC_BYTES]) == int.from_bytes(data[-CRC_BYTES:], "little")
        return header, data[:-CRC_BYTES]

    async def ask(self, op: Op, address: int = 0, length: int = 0, payload: bytes = b"") -> bytes:
        """One request and its answer's payload."""
        seq = self.seq
        self.send(op, address, length, payload)
        header, answer = await self.answer()
        assert (header.op, header.seq, header.address) == (op | RESPONSE_FLAG, seq, address)
        assert header.status == Status.OK, Status(header.status)
        return answer

    async def write(self, space: Space, values: np.ndarray, first: int, chunk: int) -> None:
        """Items in frames of ``chunk`` items, two of them under way at a time."""
        size = item_bytes(CONFIG, space)
        data = values.astype(f"<i{size}").tobytes()
        expected = []
        for start in range(0, len(values), chunk):
            payload = data[start * size : (start + chunk) * size]
            address = address_of(space, first + start)
            if len(expected) == CONFIG.link_window:
                await self._written(*expected.pop(0))
            expected.append((self.seq, address))
            self.send(Op.WRITE, address, len(payload), payload)
        for one in expected:
            await self._written(*one)

    async def _written(self, seq: int, address: int) -> None:
        header, _ = await self.answer()
        assert header == Header(Op.WRITE | RESPONSE_FLAG, seq, address, 0, Status.OK)

    async def read(self, space: Space, first: int, count: int, chunk: int) -> np.ndarray:
        size = item_bytes(CONFIG, space)
        data = b""
        for start in range(first, first + count, chunk):
            length = min(chunk, first + count - start) * size
            data += await self.ask(Op.READ, address_of(space, start), length)
        return np.frombuffer(data, f"<i{size}").astype(np.int64)


async def session_of(dut: Any) -> Session:
    options = parameters()
    line: Any
    if options.get("serial"):
        line = SerialLine(dut)
    else:
        line = ByteStreams(dut, stall=options["stall"], seed=1)
    await line.start()
    return Session(line)


async def load(session: Session, golden: GoldenEngine, address: int) -> int:
    """Random memories and a random program into both; returns the number of stages."""
    rng = random.Random(5)
    core, bias, work = random_memories(np.random.default_rng(5), CONFIG)
    stages = random_program(rng, CONFIG, 2)
    words = encode(stages, CONFIG)
    golden.core[:], golden.bias[:], golden.work[:] = core, bias, work
    golden.program[address : address + len(words)] = words
    await session.write(Space.PROGRAM, words.view(np.int32), address, 10)
    padded = np.zeros((CONFIG.core_depth, 1 << CONFIG.row_bits), np.int64)
    padded[:, : CONFIG.rows] = core
    await session.write(Space.CORE, padded.ravel(), 0, 64)
    await session.write(Space.BIAS, bias.ravel(), 0, 24)
    await session.write(Space.WORK, work, 0, 50)
    return len(stages)


@cocotb.test()
async def two_inferences(dut) -> None:
    """From IDENTIFY to the counters: the same bits and cycles as the golden engine, twice."""
    session = await session_of(dut)
    golden = GoldenEngine(CONFIG)
    session.seq = 254  # wraps on the way
    identity = Identity.unpack(await session.ask(Op.IDENTIFY))
    assert identity == Identity(PROTOCOL_VERSION, CONFIG.link_window, CONFIG.hash)
    address = 3
    stages = await load(session, golden, address)
    rng = np.random.default_rng(6)
    for _ in range(2):
        total = sum(golden.run(address), start=Cycles())
        await session.ask(Op.RUN, address_of(Space.PROGRAM, address))
        counters = Counters.unpack(await session.ask(Op.WAIT, WAIT_IDLE))
        got = await session.read(Space.WORK, 0, CONFIG.work_elements, 70)
        assert got.tolist() == golden.work.tolist()
        assert counters == Counters.unpack(await session.ask(Op.STATUS))
        assert counters.idle > RUN_GAP
        assert counters == Counters(
            running=0,
            cycles=total.total,
            busy=total.busy,
            stall_drain=total.stall_drain,
            stall_fetch=total.stall_fetch,
            flush=total.flush,
            stages=stages,
            idle=counters.idle,
            crc_errors=0,
            sequence_errors=0,
        )
        inputs = rng.integers(CONFIG.data_min, CONFIG.data_max + 1, 33)
        golden.work[7:40] = inputs
        await session.write(Space.WORK, inputs, 7, 33)


@cocotb.test()
async def a_corrupted_frame_is_refused_and_repeated(dut) -> None:
    """A NAK says why and what is awaited, and nothing is written; then the same frame again."""
    session = await session_of(dut)
    await session.ask(Op.IDENTIFY)
    old = np.arange(6, dtype=np.int64) - 3
    new = old * 1000
    await session.write(Space.WORK, old, 10, 6)
    payload = new.astype("<i2").tobytes()
    awaited = session.seq
    address = address_of(Space.WORK, 10)
    frame = pack_frame(Header(Op.WRITE, awaited, address, len(payload)), payload)
    for number, place in enumerate((HEADER_BYTES + 5, 6, len(frame) - 1)):
        damaged = bytearray(frame)
        damaged[place] ^= 0x10
        session.line.out.extend(damaged)
        header, _ = await session.answer()
        assert (header.op, header.seq) == (Op.NAK | RESPONSE_FLAG, awaited)
        assert header.status == Status.BAD_CRC
        if number == 0:
            assert (await session.read(Space.WORK, 10, 6, 6)).tolist() == old.tolist()
            awaited = session.seq
            frame = pack_frame(Header(Op.WRITE, awaited, address, len(payload)), payload)
    session.seq = awaited
    session.send(Op.WRITE, address, len(payload), payload)
    header, _ = await session.answer()
    assert header == Header(Op.WRITE | RESPONSE_FLAG, awaited, address, 0, Status.OK)
    assert (await session.read(Space.WORK, 10, 6, 6)).tolist() == new.tolist()
    counters = Counters.unpack(await session.ask(Op.STATUS))
    assert (counters.crc_errors, counters.sequence_errors) == (3, 0)
