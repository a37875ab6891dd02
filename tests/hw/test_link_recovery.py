"""hw/link.py where things go wrong: retries, repeats, floods, silence and full windows."""

from __future__ import annotations

import random

import pytest
from amaranth_bench import idle
from link_bench import IDLE_CYCLES, TINY, LinkBench, answers, corrupt, request, write
from link_model import DeviceModel, run_counters

from drawbar.gen.protocol import (
    PROTOCOL_VERSION,
    RESPONSE_FLAG,
    WAIT_IDLE,
    WAIT_PENDING,
    Counters,
    Header,
    Identity,
    Op,
    Space,
    Status,
    address_of,
    pack_frame,
)


class SlidingHost:
    """A host that goes back to what was not answered, after a NAK or a time-out."""

    def __init__(self, frames: list[bytes], window: int, first: int, timeout: int) -> None:
        self.frames = frames
        self.answers: dict[int, tuple[Header, bytes]] = {}
        self.retries = 0
        self._window = window
        self._first = first
        self._timeout = timeout
        self._base = 0  # the oldest request without an answer
        self._next = 0
        self._data = b""
        self._quiet = 0
        self._answered_nak = -1

    @property
    def done(self) -> bool:
        return self._base == len(self.frames)

    def take(self, data: bytes) -> None:
        self._data += data
        while len(self._data) >= 16:
            header = Header.unpack(self._data[:16])
            if header is None:
                self._data = self._data[1:]
                continue
            end = 16 + (header.length + 4 if header.length else 0)
            if len(self._data) < end:
                break
            payload = self._data[16 : 16 + header.length]
            if pack_frame(header, payload) != self._data[:end]:
                self._data = self._data[1:]
                continue
            self._data = self._data[end:]
            self._answer(header, payload)

    def _answer(self, header: Header, payload: bytes) -> None:
        self._quiet = 0
        if header.op == 0xFF:
            if self._answered_nak != self._base:
                self._answered_nak = self._base
                self._go_back()
            return
        index = self._base + (header.seq - self._first - self._base) % 256
        if index < self._next:
            self.answers.setdefault(index, (header, payload))
        while self._base in self.answers:
            self._base += 1

    def _go_back(self) -> None:
        self.retries += 1
        self._next = self._base

    def next_frame(self) -> bytes:
        """A frame to send now, or nothing. To be called once a cycle while nothing is sent."""
        limit = min(len(self.frames), self._base + self._window)
        self._next = max(self._next, self._base)
        # A repeated READ or WAIT is done anew, so nothing may change what it sees before it is
        # answered.
        blocked = self._next < limit and self.frames[self._next][2] in (Op.WRITE, Op.RUN)
        before = [self.frames[i][2] for i in range(self._base, self._next)]
        blocked &= Op.READ in before or Op.WAIT in before
        if self._next < limit and not blocked:
            self._next += 1
            self._quiet = 0
            return self.frames[self._next - 1]
        self._quiet += 1
        if self._quiet > self._timeout:
            self._quiet = 0
            self._data = b""
            self._answered_nak = -1
            self._go_back()
        return b""


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_request_is_done_exactly_once(seed: int) -> None:
    """Errors in both directions: the host's retries lead to the writes and runs of a sound line."""
    config = TINY
    rng = random.Random(seed)
    bench = LinkBench(
        config, seed=seed, rx_stall=0.1, tx_stall=0.2, write_stall=0.2, latency=(1, 4)
    )
    first = rng.randrange(256)
    frames, expected = [], []
    model = DeviceModel(config)
    model.receive(request(Op.IDENTIFY, first))
    for index in range(60):
        seq = (first + 1 + index) % 256
        # Addresses repeat, so that a write done twice, or late, destroys what a later one wrote.
        item = rng.randrange(4)
        payload = rng.randbytes(rng.choice([2, 8, 40]))
        frame = rng.choice(
            [
                write(seq, Space.WORK, item, payload),
                write(seq, Space.WORK, item, payload),
                request(Op.READ, seq, address_of(Space.WORK, item), 2 * rng.randint(1, 20)),
                request(Op.RUN, seq, index),
                request(Op.WAIT, seq, WAIT_IDLE),
            ]
        )
        frames.append(frame)
        expected.extend(answers(model.receive(frame)))
    host = SlidingHost(frames, config.link_window, first + 1, timeout=4 * IDLE_CYCLES)
    errors = 0

    def noisy(data: bytes) -> bytes:
        nonlocal errors
        if rng.random() < 0.15:
            errors += 1
            return corrupt(data, rng)
        return data

    async def line(ctx):
        identify = answers(await bench.exchange(ctx, request(Op.IDENTIFY, first)))
        assert identify[0][0].status == Status.OK
        taken = len(bench.received)
        while not host.done:
            frame = host.next_frame()
            if frame:
                await bench.send(ctx, noisy(frame))
            await ctx.tick()
            if len(bench.received) - taken > 30 or host._quiet:
                host.take(noisy_bytes(bytes(bench.received[taken:])))
                taken = len(bench.received)

    def noisy_bytes(data: bytes) -> bytes:
        nonlocal errors
        if data and rng.random() < 0.01:
            errors += 1
            return corrupt(data, rng)
        return data

    bench.run(line, cycles=100_000)
    # What a WAIT says of errors differs; nothing else does.
    for index, (header, payload) in enumerate(expected):
        got_header, got = host.answers[index]
        errors_from = -8 if header.op == Op.WAIT | RESPONSE_FLAG else len(payload)
        assert (got_header, got[:errors_from]) == (header, payload[:errors_from])
    assert bench.starts == model.starts
    assert bench.memory == model.memory
    writes = sum(len(f) > 16 and f[2] == Op.WRITE for f in frames)
    assert writes > 10
    assert errors > 5
    assert host.retries > 5


def test_what_waits_and_what_does_not() -> None:
    """Transfers, one more RUN, and STATUS without a pending run go on during a run; a third RUN,
    the reads of other spaces and WAITs wait, and a full window stops the line.
    """
    bench = LinkBench(TINY, seed=1, run_cycles=600)
    core = address_of(Space.CORE, 0)
    during = [
        request(Op.RUN, 0, 5),
        request(Op.STATUS, 1),
        write(2, Space.WORK, 0, b"\x01\x02"),
        write(3, Space.CORE, 0, b"\x03\x04"),
        request(Op.READ, 4, address_of(Space.WORK, 0), 2),
        request(Op.RUN, 5, 6),
        request(Op.RUN, 6, 8),  # waits for the end of the first run
        request(Op.STATUS, 7),  # waits for that of the second one
    ]
    after = [
        request(Op.WAIT, 8, WAIT_PENDING),
        request(Op.STATUS, 9),
        request(Op.READ, 10, core, 2),
        request(Op.STATUS, 11),
        request(Op.WAIT, 12, WAIT_IDLE),
    ]

    async def host(ctx):
        await bench.send(ctx, b"".join(during))
        await bench.wait_for(ctx, 4 * 16 + 22 + 60)
        assert bench.starts == [5], "the first run is still under way"
        # More than the window holds: they wait on the line, and none is lost.
        before = bench.now
        await bench.send(ctx, b"".join(after))
        assert bench.now - before > 300, "the line was not stopped"
        await bench.quiet(ctx)

    bench.run(host, cycles=6000)
    got = answers(bench.received)
    assert [h.seq for h, _ in got] == list(range(13))
    assert all(h.status == Status.OK for h, _ in got)
    assert got[4][1] == b"\x01\x02"
    assert got[10][1] == b"\x03\x04"
    assert bench.starts == [5, 6, 8]

    def counters(running: int, start: int) -> Counters:
        return Counters(running, *run_counters(start), 0, 0)

    seen = {h.seq: Counters.unpack(p) for h, p in got if h.op & 0x7F in (Op.STATUS, Op.WAIT)}
    # Nothing has ended when the first one looks.
    assert seen == {
        1: Counters(1, *[0] * 9),
        7: counters(1, 6),
        8: counters(1, 6),
        9: counters(1, 6),
        11: counters(0, 8),
        12: counters(0, 8),
    }


def test_a_repeated_wait_waits_again() -> None:
    """For what runs when it is repeated; a bad one is refused and waits for nothing."""
    bench = LinkBench(TINY, seed=1, run_cycles=300)

    async def host(ctx):
        await bench.exchange(ctx, request(Op.RUN, 0, 1) + request(Op.WAIT, 1, WAIT_IDLE))
        await bench.send(ctx, request(Op.RUN, 2, 3))
        await bench.wait_for(ctx, 16 + 60 + 16)
        before = bench.now
        got = answers(await bench.exchange(ctx, request(Op.WAIT, 1, WAIT_IDLE)))
        assert Counters.unpack(got[0][1]) == Counters(0, *run_counters(3), 0, 0)
        assert bench.now - before > 250
        await bench.send(ctx, request(Op.RUN, 3, 4))
        await bench.wait_for(ctx, 3 * 16 + 2 * 60)
        got = answers(await bench.exchange(ctx, request(Op.WAIT, 4, 2)))
        assert got == [(Header(0x86, 4, 2, 0, Status.BAD_ADDRESS), b"")]
        assert bench.starts == [1, 3, 4]

    bench.run(host, cycles=4000)


def test_repeat_of_a_waiting_request_is_ignored() -> None:
    """One answer, one execution; after it, a repeat is answered and still not done again."""
    bench = LinkBench(TINY, seed=1, run_cycles=500)
    run = request(Op.RUN, 0, 1)
    wait = request(Op.WAIT, 1, WAIT_IDLE)
    frame = write(2, Space.BIAS, 0, bytes(range(16)))

    async def host(ctx):
        await bench.send(ctx, run + wait + frame + wait + frame + frame)
        await bench.quiet(ctx)
        assert [h.seq for h, _ in answers(bench.received)] == [0, 1, 2]
        assert len(bench.writes) == 2
        got = answers(await bench.exchange(ctx, frame + run))
        assert [(h.op, h.seq, h.status) for h, _ in got] == [(0x83, 2, 0), (0x85, 0, 0)]
        assert len(bench.writes) == 2
        assert bench.starts == [1]

    bench.run(host, cycles=4000)


def test_waiting_payload_is_safe() -> None:
    """No repeat, skip or broken frame on the slot of a waiting WRITE changes its payload."""
    bench = LinkBench(TINY, seed=1, run_cycles=600)
    payload, other = bytes(range(1, 17)), bytes(range(101, 117))
    skip = 2 + TINY.link_window

    async def host(ctx):
        await bench.send(ctx, request(Op.RUN, 0, 1) + request(Op.WAIT, 1))
        await bench.send(ctx, write(2, Space.WORK, 0, payload))
        broken = write(3, Space.WORK, 0, other)[:-1] + b"\0"
        for frame in (
            write(2, Space.WORK, 0, other),
            write(skip, Space.WORK, 0, other),
            write(2 - TINY.link_window + 256, Space.WORK, 0, other),
            broken,
        ):
            await bench.send(ctx, frame)
        assert not bench.writes
        await bench.quiet(ctx)
        got = answers(await bench.exchange(ctx, request(Op.READ, 3, address_of(Space.WORK, 0), 16)))
        assert got[0][1] == payload

    bench.run(host, cycles=4000)


def test_nak_frees_no_slot() -> None:
    """A NAK carries the number of a request that may wait by then; that one keeps its slot."""
    bench = LinkBench(TINY, seed=1, write_stall=1.0)
    frame = write(1, Space.WORK, 0, b"\1\2")

    async def host(ctx):
        await bench.send(ctx, request(Op.RUN, 0, 1) + request(Op.STATUS, 99) + frame)
        await bench.wait_for(ctx, 2 * 16)
        await bench.send(ctx, frame)
        bench.write_stall = 0.0
        await bench.quiet(ctx)

    bench.run(host, cycles=4000)
    got = [(h.op, h.seq) for h, _ in answers(bench.received)]
    assert got == [(0x85, 0), (0xFF, 1), (0x83, 1)]
    assert len(bench.writes) == 1


def test_flood_of_bad_frames() -> None:
    """With the output blocked, NAKs beyond their room are dropped, and the link stays sound."""
    bench = LinkBench(TINY, seed=1, tx_stall=1.0)
    window = TINY.link_window
    flood = 3 * window

    async def host(ctx):
        await bench.send(ctx, request(Op.STATUS, 99) * flood)
        await bench.send(ctx, request(Op.IDENTIFY, 7))
        for index in range(1, window):
            await bench.send(ctx, request(Op.STATUS, 7 + index))
        await idle(ctx, 100)
        assert not bench.received
        bench.tx_stall = 0.0
        await bench.quiet(ctx)

    bench.run(host, cycles=4000)
    got = answers(bench.received)
    naks = [h for h, _ in got if h.op == 0xFF]
    # One in the executor, and the room in the queue.
    assert len(naks) == window + 1
    assert set(naks) == {Header(0xFF, 0, 0, 0, Status.BAD_SEQUENCE)}
    assert [h.seq for h, _ in got[len(naks) :]] == list(range(7, 7 + window))
    assert Counters.unpack(got[-1][1]).sequence_errors == flood


def test_one_nak_for_a_burst_of_errors() -> None:
    """Headers that fail while the receiver is out of step are silent; a good one ends that."""
    bench = LinkBench(TINY, seed=1)
    broken = bytearray(request(Op.STATUS, 0))
    broken[4] ^= 1

    async def host(ctx):
        got = answers(await bench.exchange(ctx, bytes(broken) * 3))
        assert [(h.op, h.status) for h, _ in got] == [(0xFF, Status.BAD_CRC)]
        got = answers(await bench.exchange(ctx, request(Op.STATUS, 0)))
        assert Counters.unpack(got[0][1]).crc_errors == 1
        assert len(answers(await bench.exchange(ctx, bytes(broken)))) == 1
        got = answers(await bench.exchange(ctx, request(Op.STATUS, 1)))
        assert Counters.unpack(got[0][1]).crc_errors == 2

    bench.run(host, cycles=3000)


@pytest.mark.parametrize("cut", [1, 2, 15, 18, 27])
@pytest.mark.parametrize("pause", [IDLE_CYCLES - 1, IDLE_CYCLES])
def test_silence_in_a_frame(cut: int, pause: int) -> None:
    """A frame goes on after a short pause; after a long one it is dropped, to the cycle."""
    bench = LinkBench(TINY, seed=1)
    frame = write(0, Space.WORK, 0, bytes(range(8)))

    async def host(ctx):
        await bench.send(ctx, frame[:cut])
        await idle(ctx, pause)
        await bench.send(ctx, frame[cut:] if pause < IDLE_CYCLES else frame)
        await bench.quiet(ctx)
        assert [(h.op, h.status) for h, _ in answers(bench.received)] == [(0x83, Status.OK)]
        assert len(bench.writes) == 4

    bench.run(host, cycles=2000)


def test_identity_and_numbers() -> None:
    """Before IDENTIFY number 0 is waited for; after it, older numbers are no duplicates."""
    bench = LinkBench(TINY, seed=1)

    async def host(ctx):
        got = answers(await bench.exchange(ctx, request(Op.STATUS, 255)))
        assert [(h.op, h.seq, h.status) for h, _ in got] == [(0xFF, 0, Status.BAD_SEQUENCE)]
        got = answers(await bench.exchange(ctx, request(Op.IDENTIFY, 40)))
        assert got[0][0] == Header(0x81, 40, 0, 20, 0)
        assert Identity.unpack(got[0][1]) == Identity(PROTOCOL_VERSION, TINY.link_window, TINY.hash)
        # Never executed: it must not be answered with OK.
        got = answers(await bench.exchange(ctx, write(39, Space.WORK, 0, b"\0\0")))
        assert [(h.op, h.seq, h.status) for h, _ in got] == [(0xFF, 41, Status.BAD_SEQUENCE)]
        got = answers(await bench.exchange(ctx, request(Op.STATUS, 41)))
        assert Counters.unpack(got[0][1]).sequence_errors == 2

    bench.run(host, cycles=3000)
