"""The link against the golden board, over good and bad wires."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest
from driver_helpers import (
    CONFIG,
    CountingEngine,
    CountingTransport,
    FaultyTransport,
    SilentTransport,
)

from drawbar.gen.errors import LinkError
from drawbar.gen.protocol import (
    IDENTITY_BYTES,
    MAX_FRAME,
    PROTOCOL_VERSION,
    RESPONSE_FLAG,
    Header,
    Identity,
    Op,
    Space,
    Status,
    pack_frame,
)
from drawbar.sim.golden_board import GoldenBoard
from drawbar.sw.driver.frames import (
    Request,
    read_requests,
    write_requests,
)
from drawbar.sw.driver.link import Link

SIZE = CONFIG.element_bytes
WORK_BYTES = CONFIG.work_elements * SIZE


def test_write_then_read() -> None:
    link = Link(GoldenBoard(CONFIG))
    assert link.identity == Identity(PROTOCOL_VERSION, CONFIG.link_window, CONFIG.hash)
    data = random.Random(1).randbytes(WORK_BYTES)
    link.write(Space.WORK, 0, data, SIZE)
    assert link.read(Space.WORK, 0, WORK_BYTES, SIZE) == data
    assert link.read(Space.WORK, 100, 40, SIZE) == data[200:240]
    statistics = link.statistics
    assert (statistics.retries, statistics.naks, statistics.bad_frames) == (0, 0, 0)


def test_the_window_is_filled_and_never_exceeded() -> None:
    for window in (2, 4, 16):
        config = CONFIG.replace(link_window=window)
        wire = CountingTransport(GoldenBoard(config), window)
        link = Link(wire)
        data = random.Random(window).randbytes(WORK_BYTES)
        size = config.element_bytes
        # Longer than the numbers go: they wrap around.
        for _ in range(300 * 512 // len(data) + 1):
            link.write(Space.WORK, 0, data, size)
        assert link.statistics.requests > 256
        assert link.read(Space.WORK, 0, len(data), size) == data
        assert wire.most == min(window, -(-len(data) // 512))


def test_nothing_changes_what_is_read_while_a_read_is_unanswered() -> None:
    wire = CountingTransport(GoldenBoard(CONFIG), CONFIG.link_window)
    link = Link(wire)
    requests = []
    for value in range(20):
        requests += write_requests(Space.WORK, 7, bytes([value, 0]), SIZE)
        requests += read_requests(Space.WORK, 7, SIZE, SIZE)
        requests += [Request(Op.STATUS)]
    answers = link.exchange(requests)  # the wire asserts
    assert answers[1::3] == [bytes([value, 0]) for value in range(20)]
    assert wire.ops[1:] == [r.op for r in requests]


FAULTS = [
    {"corrupt": 0.08},
    {"drop": 0.08},
    {"duplicate": 0.2},
    {"truncate": 0.08},
    {"insert": 0.2},
    {"corrupt": 0.03, "drop": 0.03, "duplicate": 0.05, "truncate": 0.03, "insert": 0.05},
]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("faults", FAULTS, ids=lambda f: "+".join(f))
def test_a_bad_wire_costs_retries_and_no_data(faults: dict[str, float], seed: int) -> None:
    wire = FaultyTransport(GoldenBoard(CONFIG), seed, **faults)
    link = Link(wire, retries=12)
    rng = random.Random(seed)
    for _ in range(4):
        data = rng.randbytes(WORK_BYTES)
        link.write(Space.WORK, 0, data, SIZE)
        assert link.read(Space.WORK, 0, WORK_BYTES, SIZE) == data
        # Reads before writes, which must not see them even where they are repeated.
        requests = []
        for value in range(10):
            requests += read_requests(Space.WORK, 4, SIZE, SIZE)
            requests += write_requests(Space.WORK, 4, bytes([value, 1]), SIZE)
        seen = [answer for answer in link.exchange(requests) if answer]
        assert seen == [data[8:10], *(bytes([value, 1]) for value in range(9))]
        # The same where the window mixes reads with writes beside them.
        requests = []
        for value in range(10):
            requests += read_requests(Space.WORK, 4, SIZE, SIZE)
            requests += write_requests(Space.WORK, 5, bytes([value, 2]), SIZE)
            requests += read_requests(Space.WORK, 6, SIZE, SIZE)
            requests += write_requests(Space.WORK, 4, bytes([value, 3]), SIZE)
        seen = [answer for answer in link.exchange(requests) if answer]
        assert seen[::2] == [bytes([9, 1]), *(bytes([value, 3]) for value in range(9))]
        assert seen[1::2] == [data[12:14]] * 10
    counts, statistics = wire.faults, link.statistics
    assert sum(counts.values()) > 5
    if counts["corrupt"] + counts["drop"] + counts["truncate"]:
        assert statistics.retries > 0
    if counts["duplicate"]:
        assert statistics.discarded > 0
    if counts["corrupt"]:
        assert statistics.naks > 0
        assert statistics.bad_frames > 0


@pytest.mark.parametrize("seed", range(8))
def test_a_repeated_run_runs_once(seed: int) -> None:
    board = GoldenBoard(CONFIG)
    board.memories.engine = CountingEngine(board)
    wire = FaultyTransport(board, seed, corrupt=0.1, drop=0.1, duplicate=0.2)
    link = Link(wire, retries=20)
    for done in range(1, 21):
        link.run(0)
        assert link.read(Space.WORK, 0, SIZE, SIZE) == done.to_bytes(SIZE, "little")
    assert link.statistics.retries > 0


class NthFrame(FaultyTransport):
    """Damages one byte of the frames with these numbers on their way to the device."""

    def __init__(self, inner: GoldenBoard, which: set[int], at: int) -> None:
        super().__init__(inner, 0)
        self.which, self.at, self.count = which, at, 0

    def write(self, data: bytes) -> None:
        if self.count in self.which:
            data = data[: self.at] + bytes([data[self.at] ^ 0x10]) + data[self.at + 1 :]
        self.count += 1
        self.inner.write(data)


@pytest.mark.parametrize("at", [5, 40], ids=["header", "payload"])
def test_one_damaged_request_goes_back_once_without_waiting(at: int) -> None:
    board = GoldenBoard(CONFIG)
    wire = NthFrame(board, {3}, at)  # IDENTIFY is 0
    link = Link(wire)
    data = random.Random(1).randbytes(8 * 512)[:WORK_BYTES]
    link.write(Space.WORK, 0, data, SIZE)
    assert link.read(Space.WORK, 0, len(data), SIZE) == data
    statistics = link.statistics
    assert statistics.timeouts == 0
    # Each frame of the window behind the damaged one was refused as well, and all were sent again
    # once.
    assert 1 <= statistics.naks <= CONFIG.link_window
    assert 1 <= statistics.retries <= CONFIG.link_window
    counters = link.status()
    assert counters.crc_errors == 1
    assert counters.sequence_errors == statistics.naks - 1


def test_the_refusals_of_one_window_cause_one_repetition() -> None:
    # Each refusal is read by itself, so the host may send between any two of them.
    wire = CountingTransport(NthFrame(GoldenBoard(CONFIG), {1}, 40), window=99)
    link = Link(wire)
    link.write(Space.WORK, 0, bytes(4 * 512), SIZE)
    assert link.statistics.naks == CONFIG.link_window
    assert link.statistics.retries == CONFIG.link_window
    assert link.statistics.timeouts == 0


def test_a_damaged_identify_is_repeated_without_waiting() -> None:
    # The device's refusal carries a number that means nothing to this session.
    link = Link(NthFrame(GoldenBoard(CONFIG), {0}, 5), first_number=100)
    link.identify()
    assert (link.statistics.naks, link.statistics.timeouts) == (1, 0)


class Hold(GoldenBoard):
    """Changes what is read: ``plan`` holds a function of the bytes for each read in turn."""

    def __init__(self, plan: list[Callable[[bytes], bytes]]) -> None:
        super().__init__(CONFIG)
        self.plan = plan

    def read(self, timeout: float) -> bytes:
        data = super().read(timeout)
        return self.plan.pop(0)(data) if self.plan else data


def test_late_answers_count_and_only_one_request_was_repeated() -> None:
    board = Hold([])
    link = Link(board)
    link.identify()
    held = bytearray()

    def hold(data: bytes) -> bytes:
        held.extend(data)
        return b""

    board.plan = [hold, lambda data: bytes(held) + data]
    link.exchange([r for n in range(8) for r in write_requests(Space.WORK, n, b"ab", SIZE)])
    assert (link.statistics.timeouts, link.statistics.retries) == (1, 1)


def test_half_an_answer_does_not_swallow_the_next() -> None:
    board = Hold([])
    link = Link(board)
    link.identify()
    board.plan = [lambda data: data[:60]]
    assert link.read(Space.WORK, 0, 400, SIZE) == bytes(400)
    assert (link.statistics.timeouts, link.statistics.retries) == (1, 1)


def test_an_answer_to_another_request_of_that_number_is_stale() -> None:
    board = GoldenBoard(CONFIG)
    stale = Header(Op.READ | RESPONSE_FLAG, 77, length=IDENTITY_BYTES)
    board._answers += pack_frame(stale, bytes(IDENTITY_BYTES))
    link = Link(board, first_number=77)
    assert link.identify().config_hash == CONFIG.hash
    assert link.statistics.discarded == 1


def test_every_answer_gives_new_retries() -> None:
    board = Hold([lambda data: b"", lambda data: data] * 8)
    link = Link(board, retries=1)
    for _ in range(7):
        link.status()
    assert link.statistics.timeouts == 8
    board.plan = [lambda data: b""] + [lambda data: data[:16], lambda data: b""] * 3
    link.write(Space.WORK, 0, bytes(4 * 512), SIZE)
    assert link.statistics.timeouts == 8 + 4


def test_refusals_name_the_status_and_leave_the_session_usable() -> None:
    link = Link(GoldenBoard(CONFIG))
    beyond = CONFIG.work_elements - 4
    with pytest.raises(LinkError, match=rf"WRITE of 16 bytes at WORK {beyond}.*BAD_ADDRESS"):
        link.write(Space.WORK, beyond, bytes(16), SIZE)
    with pytest.raises(LinkError, match=r"READ of 3 bytes at PROGRAM 0.*BAD_LENGTH"):
        link.read(Space.PROGRAM, 0, 3, 1)
    with pytest.raises(LinkError, match=r"RUN at PROGRAM 4096.*BAD_ADDRESS"):
        link.run(4096)
    with pytest.raises(LinkError, match="moves whole items of 2 bytes; found 3 bytes"):
        link.write(Space.WORK, 0, bytes(3), SIZE)
    assert link.read(Space.WORK, 0, 4, SIZE) == bytes(4)
    assert link.statistics.retries == 0


def test_a_refusal_stops_what_was_not_sent_yet() -> None:
    wire = CountingTransport(GoldenBoard(CONFIG), CONFIG.link_window)
    link = Link(wire)
    requests = [
        *write_requests(Space.WORK, CONFIG.work_elements, bytes(2), SIZE),
        *[r for item in range(50) for r in write_requests(Space.WORK, item, b"ab", SIZE)],
    ]
    with pytest.raises(LinkError, match="BAD_ADDRESS"):
        link.exchange(requests)
    assert len(wire.ops) <= 1 + CONFIG.link_window
    assert link.read(Space.WORK, 49, 2, SIZE) == bytes(2)


def test_a_silent_device_ends_in_an_error_that_says_how_far_it_got() -> None:
    wire = SilentTransport()
    started = time.monotonic()
    with pytest.raises(LinkError) as caught:
        Link(wire, retries=3, first_number=77).identify()
    assert time.monotonic() - started < 2
    text = str(caught.value)
    assert "silent port: answers every request within 0.02 s" in text
    assert "no answer to IDENTIFY (number 77, sent 4 times)" in text
    assert "0 of 1 requests were answered, 0 bytes came back" in text
    assert "powered" in caught.value.fix
    frame = Request(Op.IDENTIFY).frame(77)
    assert wire.written == (frame + bytes(MAX_FRAME)) * 3 + frame


@pytest.mark.parametrize("answer", [b"\xff" * 40, Request(Op.IDENTIFY).frame(77)])
def test_noise_and_echo_are_no_answers(answer: bytes) -> None:
    with pytest.raises(LinkError, match=r"[1-9]\d* bytes came back") as caught:
        Link(SilentTransport(answer=answer), first_number=77).identify()
    assert "baud rate" in caught.value.fix


class Endless(SilentTransport):
    """Noise that never ends."""

    def read(self, timeout: float) -> bytes:
        time.sleep(0.001)
        return b"\xd5\xba noise"


def test_endless_noise_times_out_too() -> None:
    started = time.monotonic()
    with pytest.raises(LinkError, match="no answer to IDENTIFY"):
        Link(Endless()).identify()
    assert time.monotonic() - started < 2


class Dying(GoldenBoard):
    """Stops to answer after some frames; ``refuse`` sends a NAK for a number of another session
    instead.
    """

    def __init__(self, frames: int, refuse: bool = False) -> None:
        super().__init__(CONFIG)
        self.timeout = 0.02
        self.left = frames
        self.refuse = refuse

    def write(self, data: bytes) -> None:
        self.left -= 1
        if self.left >= 0:
            super().write(data)
        elif self.refuse:
            nak = Header(Op.NAK | RESPONSE_FLAG, 200, status=Status.BAD_SEQUENCE)
            self._answers += pack_frame(nak)


def test_a_device_that_dies_in_a_transfer() -> None:
    wire = Dying(3)
    link = Link(wire, first_number=10)
    with pytest.raises(LinkError) as caught:
        link.write(Space.WORK, 0, bytes(2048), SIZE)
    assert "no answer to WRITE of 512 bytes at WORK 512 (number 13, sent 4 times)" in str(
        caught.value
    )
    # After silence one request at a time, behind a flush.
    assert wire.left == -(2 + 3 * 2)
    assert "2 of 4 requests and 1024 of 2048 bytes were answered" in str(caught.value)


def test_a_device_that_lost_the_session() -> None:
    link = Link(Dying(3, refuse=True), first_number=10)
    with pytest.raises(LinkError, match="the device waits for number 200") as caught:
        link.write(Space.WORK, 0, bytes(2048), SIZE)
    assert "no other program" in caught.value.fix


def test_an_error_ends_the_session_and_the_next_call_opens_one() -> None:
    wire = Dying(2)
    link = Link(wire, retries=1)
    with pytest.raises(LinkError):
        link.write(Space.WORK, 0, bytes(2048), SIZE)
    wire.left = 1 << 30
    # Half a frame from before is still in the device.
    wire._received.extend(Request(Op.WRITE, 0, 512, bytes(512)).frame(3)[:18])
    link.write(Space.WORK, 0, b"abcdef", SIZE)
    assert link.read(Space.WORK, 0, 6, SIZE) == b"abcdef"
    assert link.statistics.timeouts == 2 + 1


def test_an_interrupt_in_a_transfer_leaves_no_stale_answers() -> None:
    link = Link(GoldenBoard(CONFIG))
    link.write(Space.WORK, 0, b"abcd" * 600, SIZE)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            link.read(Space.WORK, 0, 2400, SIZE, interrupt)
        assert link.read(Space.WORK, 2, 8, SIZE) == b"abcd" * 2


def test_progress_counts_bytes() -> None:
    seen: list[tuple[int, int]] = []
    link = Link(GoldenBoard(CONFIG))
    link.write(Space.WORK, 0, bytes(2000), SIZE, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (2000, 2000)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


class Old(GoldenBoard):
    """Speaks another version of the protocol."""

    def _identify(self, header: Header, payload: bytes, again: bool) -> tuple[Status, bytes]:
        return Status.OK, Identity(9, 4, self.config.hash).pack()


def test_another_protocol_version_is_refused() -> None:
    with pytest.raises(LinkError, match=rf"speaks version {PROTOCOL_VERSION} .* found version 9"):
        Link(Old(CONFIG)).identify()


class Slow(GoldenBoard):
    """Answers each request after 9 s of its own time, which passes in no time of ours."""

    def __init__(self) -> None:
        super().__init__(CONFIG)
        self.timeout = 10.0
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def read(self, timeout: float) -> bytes:
        if timeout < 9:
            self.time += timeout
            return b""
        self.time += 9
        return super().read(timeout)


def test_time_is_the_transports() -> None:
    link = Link(Slow())
    for _ in range(20):
        link.status()
    assert link.statistics.timeouts == 0
