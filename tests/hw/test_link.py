# amaranth: UnusedElaboratable=no
"""hw/link.py against the model of the protocol's device, on lines that stall and corrupt."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest
from amaranth.back import rtlil, verilog
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth_bench import collect, send, simulate
from link_bench import TINY, LinkBench, answers, corrupt, request, write
from link_model import DeviceModel

from drawbar.gen.config import EngineConfig
from drawbar.gen.presets import PRESETS
from drawbar.gen.protocol import (
    RESPONSE_FLAG,
    Header,
    Op,
    Space,
    Status,
    address_of,
    item_bytes,
    item_count,
    pack_frame,
)
from drawbar.hw.link import Link
from drawbar.hw.link_receiver import LinkReceiver
from drawbar.hw.uart import Uart

NARROW = PRESETS["tiny-8bit"].replace(link_window=2, program_depth=70, core_depth=3, rows=5)


def random_request(config: EngineConfig, seq: int, rng: random.Random) -> bytes:
    """Mostly sound; now and then a bad operation, space, range or length."""
    op = rng.choice([Op.WRITE] * 4 + [Op.READ] * 4 + [Op.RUN, Op.STATUS, Op.WAIT])
    if rng.random() < 0.04:
        return request(rng.choice([0, 7, 0x45, 0x84, 0xFF]), seq, rng.getrandbits(32), 4)
    if op == Op.STATUS:
        return request(op, seq, rng.getrandbits(32), rng.getrandbits(16))
    if op == Op.WAIT:
        return request(op, seq, rng.choice([0, 0, 1, 1, 2, 0x10000001]), rng.getrandbits(16))
    if op == Op.RUN:
        top = rng.choice([0, 0, 0x70000000])
        return request(op, seq, top | rng.randrange(config.program_depth + 8))
    space = rng.choice(list(Space))
    size, total = item_bytes(config, space), item_count(config, space)
    most = min(512 // size, total)
    count = most if rng.random() < 0.05 else rng.randint(1, min(6, most))
    item = rng.choice([0, total - count, rng.randint(0, total - count), rng.randrange(8)])
    length = count * size
    kind = rng.random()
    if kind < 0.06:
        item = rng.choice([total - count + 1, total, (1 << 28) - 1])
    elif kind < 0.12:
        length = rng.choice([length + 1, max(length - 1, 0), 0])
    address = address_of(space, item)
    if rng.random() < 0.04:
        address |= rng.choice([0x40000000, 0x80000000])
    if op == Op.READ:
        if rng.random() < 0.05:
            length = rng.choice([512 + size, 0xFFF8])
        return request(op, seq, address, length)
    if rng.random() < 0.05:
        return request(op, seq, address, rng.choice([513, 520, 0xFFFF]))
    payload = rng.randbytes(length)
    return pack_frame(Header(op, seq, address, length), payload)


def without_errors(frames: list[tuple[Header, bytes]]) -> list[tuple[Header, bytes]]:
    """What a report says of errors, it says of those when it is sent, behind other frames."""
    reports = (Op.STATUS | RESPONSE_FLAG, Op.WAIT | RESPONSE_FLAG)
    return [(header, data[:-8] if header.op in reports else data) for header, data in frames]


@pytest.mark.parametrize("config", [TINY, NARROW], ids=["tiny", "narrow"])
@pytest.mark.parametrize(
    ("seed", "burst", "stall"), [(1, 1, 0.0), (2, 1, 0.4), (3, 2, 0.0), (4, 0, 0.1)]
)
def test_equals_the_model(config: EngineConfig, seed: int, burst: int, stall: float) -> None:
    """Random bursts, a part of them broken, repeated or skipped: the same bytes, the same memories.

    ``burst`` 0 stands for the whole window. Runs are short enough to end before their answer does,
    so what STATUS says is certain.
    """
    rng = random.Random(seed)
    stalls = {"rx_stall": stall, "tx_stall": stall, "write_stall": stall}
    bench = LinkBench(config, seed=seed, latency=(1, 5), run_cycles=10, **stalls)
    model = DeviceModel(config)
    burst = burst or config.link_window
    seen: Counter[tuple[int, int]] = Counter()

    async def host(ctx):
        seq = rng.randrange(256)
        sent = [request(Op.IDENTIFY, seq)]
        assert await bench.exchange(ctx, sent[0]) == model.receive(sent[0])
        seq += 1
        for _ in range(50 // burst):
            data = b""
            for index in range(burst):
                frame = random_request(config, seq % 256, rng)
                kind = rng.random()
                if kind < 0.08:
                    frame = random_request(config, (seq + rng.randrange(1, 200)) % 256, rng)
                elif kind < 0.25:
                    frame = corrupt(frame, rng)
                elif kind < 0.4 and index == 0:
                    # Repeats are exact here only when nothing of before still waits.
                    frame = rng.choice(sent[-config.link_window - 1 :])
                    # One that was refused then may be the one that is waited for now.
                    seq += frame[3] == seq % 256
                else:
                    seq += 1
                    sent.append(frame)
                data += frame
            expected = model.receive(data)
            model.silence()
            got = answers(await bench.exchange(ctx, data))
            assert without_errors(got) == without_errors(answers(expected)), data.hex()
            seen.update((header.op, header.status) for header, _ in got)
            # What the device waits for is known from its model only after an error.
            seq = model._expected
        assert {k: v for k, v in bench.memory.items() if v} == {
            k: v for k, v in model.memory.items() if v
        }
        assert bench.starts == model.starts
        status = request(Op.STATUS, seq % 256)
        assert await bench.exchange(ctx, status) == model.receive(status)

    bench.run(host, cycles=120_000)
    assert seen[Op.WRITE | 0x80, Status.OK] > 3
    assert seen[Op.READ | 0x80, Status.OK] > 3
    assert seen[0xFF, Status.BAD_CRC] + seen[0xFF, Status.BAD_SEQUENCE] > 2


def test_nothing_is_written_before_the_check() -> None:
    bench = LinkBench(TINY, seed=1)
    frame = write(0, Space.PROGRAM, 0, bytes(range(64)))
    broken = frame[:-1] + bytes([frame[-1] ^ 1])

    async def host(ctx):
        got = answers(await bench.exchange(ctx, broken))
        assert [(h.op, h.seq, h.status) for h, _ in got] == [(0xFF, 0, Status.BAD_CRC)]
        assert not bench.writes
        got = answers(await bench.exchange(ctx, frame))
        assert got == [(Header(0x83, 0, 0, 0, 0), b"")]
        assert len(bench.writes) == 16

    bench.run(host, cycles=2000)


def test_line_that_cannot_wait() -> None:
    """A byte every three cycles, and a full window of the longest frames all the time.

    As behind a UART, a byte may wait until the next one is complete; none may be lost.
    """
    bench = LinkBench(TINY, seed=1, latency=(2, 2))
    window, rounds = TINY.link_window, 3
    rng = random.Random(2)
    contents = [rng.randbytes(512) for _ in range(window)]
    frames = []
    for index in range(rounds * window):
        seq = index % 256
        item = 256 * (index // 2 % 2)
        if index % 2:
            frames.append(request(Op.READ, seq, address_of(Space.WORK, item), 512))
        else:
            data = contents[index // 2 % 2]
            frames.append(write(seq, Space.WORK, item, data))

    async def host(ctx):
        rx = bench.link.rx
        answered = 0
        waiting = False
        for index, frame in enumerate(frames):
            # No more than the window: the answer to the request `window` before this one is there.
            while index - answered >= window:
                await ctx.tick()
                answered = count_answers()
            for byte in frame:
                assert not waiting, "a byte was lost"
                ctx.set(rx.payload, byte)
                ctx.set(rx.valid, 1)
                waiting = True
                for _ in range(3):
                    _, _, ready = await ctx.tick().sample(rx.ready)
                    if ready:
                        waiting = False
                        ctx.set(rx.valid, 0)
        await bench.quiet(ctx)

    def count_answers() -> int:
        data, count = bytes(bench.received), 0
        while len(data) >= 16:
            length = int.from_bytes(data[8:10], "little")
            end = 16 + (length + 4 if length else 0)
            if len(data) < end:
                break
            data, count = data[end:], count + 1
        return count

    bench.run(host, cycles=60_000)
    got = answers(bench.received)
    assert [h.seq for h, _ in got] == list(range(len(frames)))
    assert all(h.status == Status.OK for h, _ in got)
    for index, (header, payload) in enumerate(got):
        if index % 2:
            assert header.op == 0x84
            assert payload == contents[index // 2 % 2]


def test_latency_and_throughput() -> None:
    """The cycles that the docstrings promise, from the last byte of a request on."""
    bench = LinkBench(TINY, seed=1, latency=(1, 1))

    async def cycles_of(ctx, frame: bytes) -> tuple[int, int]:
        """From the last byte taken to the first byte of the answer, and from there to the last."""
        await bench.send(ctx, frame)
        # Here the byte was taken in the cycle before; samples below count from it.
        first = last = 0
        for cycle in range(1, 2000):
            _, _, valid = await ctx.tick().sample(bench.link.tx.valid)
            if valid:
                first, last = first or cycle, cycle
            elif first and cycle > last + 30:
                break
        return first, last - first + 1

    async def host(ctx):
        assert await cycles_of(ctx, request(Op.IDENTIFY, 255)) == (24, 16 + 20 + 4)
        assert await cycles_of(ctx, request(Op.STATUS, 0)) == (24, 16 + 40 + 4)
        # Two bytes of payload for each item, and an item every three cycles.
        first, length = await cycles_of(ctx, request(Op.READ, 1, address_of(Space.WORK, 0), 512))
        assert first == 24
        assert length <= 16 + 256 * 3 + 4
        first, length = await cycles_of(ctx, request(Op.READ, 2, address_of(Space.BIAS, 0), 512))
        # Eight bytes for each item, and a cycle in between.
        assert (first, length) == (24, 16 + 512 + 63 + 4)
        frame = write(3, Space.WORK, 0, bytes(512))
        assert await cycles_of(ctx, frame) == (28 + 512, 16)
        assert await cycles_of(ctx, request(Op.RUN, 4)) == (24, 16)
        assert await cycles_of(ctx, request(Op.WAIT, 5)) == (24, 16 + 40 + 4)

    bench.run(host, cycles=8000)


def test_behind_a_uart() -> None:
    """Frames over serial lines at the highest rate, 2 % off, with several requests under way."""
    config = TINY.replace(clock_hz=4, baud=1)
    m = Module()
    m.submodules.link = link = Link(config=config, idle_cycles=1000)
    m.submodules.uart = uart = Uart(clock_hz=config.clock_hz, baud=config.baud)
    m.submodules.host_uart = host_uart = Uart(clock_hz=408, baud=100)
    wiring.connect(m, uart.received, link.rx)
    wiring.connect(m, link.tx, uart.sent)
    m.d.comb += [
        uart.rx.eq(host_uart.tx),
        host_uart.rx.eq(uart.tx),
        link.host.write_ready.eq(1),
    ]
    data = random.Random(1).randbytes(24)
    frames = [
        request(Op.IDENTIFY, 9),
        write(10, Space.PROGRAM, 0, data),
        request(Op.STATUS, 11),
        request(Op.RUN, 12, config.program_depth),
    ]
    received: list[int] = []

    async def host(ctx):
        await send(ctx, host_uart.sent, b"".join(frames), random.Random(2))
        while len(received) < 16 + 24 + 16 + 16 + 44 + 16:
            await ctx.tick()

    async def sink(ctx):
        await collect(ctx, host_uart.received, received, random.Random(3))

    async def faults(ctx):
        while True:
            _, _, fault = await ctx.tick().sample(
                uart.overflow | uart.framing_error | host_uart.framing_error
            )
            assert not fault

    simulate(m, host, cycles=20_000, background=[sink, faults])
    got = answers(received)
    assert [(h.op, h.seq, h.status) for h, _ in got] == [
        (0x81, 9, Status.OK),
        (0x83, 10, Status.OK),
        (0x82, 11, Status.OK),
        (0x85, 12, Status.BAD_ADDRESS),
    ]


def test_memories_are_simple() -> None:
    """One write port and one synchronous read port each: what FPGAs make block RAM of."""
    text = rtlil.convert(Link(config=TINY))
    memories = re.findall(r"^  memory .* (\\\S+)$", text, re.MULTILINE)
    assert sorted(memories) == ["\\headers", "\\slots", "\\storage"]
    cells = re.findall(r"^  cell \$mem(rd|wr)_v2 .*?^  end$", text, re.MULTILINE | re.DOTALL)
    assert Counter(cells) == {"rd": 3, "wr": 3}
    assert text.count("parameter \\CLK_ENABLE 1\n") == 6


def test_verilog() -> None:
    text = verilog.convert(Link(config=TINY))
    for port in ("rx__payload", "tx__ready", "host__read_data", "host__running", "counters"):
        assert re.search(rf"^  (input|output) .*\b{port};", text, re.MULTILINE), port


def test_refuses_bad_parameters() -> None:
    with pytest.raises(ValueError, match="idle_cycles=0"):
        Link(config=TINY, idle_cycles=0)
    with pytest.raises(ValueError, match="window=3"):
        LinkReceiver(window=3, idle_cycles=10)
