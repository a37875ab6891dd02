"""Runs, waits and transfers beside them, over the link against the golden board."""

from __future__ import annotations

import pytest
from driver_helpers import CONFIG, CountingEngine, CountingTransport, FaultyTransport

from drawbar.gen.errors import LinkError
from drawbar.gen.protocol import (
    RESPONSE_FLAG,
    WAIT_IDLE,
    WAIT_PENDING,
    Counters,
    Header,
    Op,
    Space,
    Status,
)
from drawbar.sim.golden_board import GoldenBoard
from drawbar.sw.driver.frames import (
    Request,
    read_requests,
    run_request,
    wait_request,
    write_requests,
)
from drawbar.sw.driver.link import Link

SIZE = CONFIG.element_bytes


def test_transfers_apart_go_side_by_side() -> None:
    """Reads of some items and writes of others fill the window; as soon as they touch, they do
    not.
    """
    data = bytes(range(20))
    for item, most in ((10, 4), (11, 3), (39, 3), (40, 4)):
        wire = CountingTransport(GoldenBoard(CONFIG), CONFIG.link_window)
        link = Link(wire)
        link.write(Space.WORK, 0, bytes(100), SIZE)
        wire.most = 0
        requests = []
        for _ in range(5):
            requests += read_requests(Space.WORK, item, 20, SIZE)
            requests += write_requests(Space.WORK, 20, data + data, SIZE)
            requests += read_requests(Space.BIAS, 0, 8, 8)
        link.exchange(requests)
        assert wire.most == most, item


def test_a_run_waits_for_what_observes_and_nothing_waits_for_a_run() -> None:
    for op, most in ((Op.READ, 1), (Op.STATUS, 1), (Op.WAIT, 1), (Op.RUN, 4)):
        wire = CountingTransport(GoldenBoard(CONFIG), CONFIG.link_window)
        wire.inner.memories.engine = CountingEngine(wire.inner)  # type: ignore[attr-defined]
        link = Link(wire)
        link.identify()
        observer = Request(op, 0, 4 if op == Op.READ else 0, size=4)
        link.exchange([r for _ in range(6) for r in (observer, run_request(0))])
        # The next observer is sent beside the run before it.
        assert wire.most == max(most, 2), op


@pytest.mark.parametrize("seed", range(8))
def test_streamed_runs_over_a_bad_wire(seed: int) -> None:
    """Runs, waits, and transfers beside them in one window: each run is done once, each wait and
    each read sees what the runs before it left, and no later one.
    """
    board = GoldenBoard(CONFIG)
    board.memories.engine = CountingEngine(board)
    wire = FaultyTransport(board, seed, corrupt=0.1, drop=0.05, duplicate=0.2, truncate=0.05)
    link = Link(wire, retries=20)
    requests = []
    for run in range(1, 41):
        requests += [run_request(0), wait_request(run % 2)]
        requests += read_requests(Space.WORK, 0, SIZE, SIZE)
        requests += write_requests(Space.WORK, 1 + run % 4, bytes([run, 7]), SIZE)
        requests += read_requests(Space.WORK, 1 + run % 4, SIZE, SIZE)
    seen = [answer for answer in link.exchange(requests) if answer]
    for run in range(1, 41):
        counted, result, written = seen[3 * run - 3 : 3 * run]
        assert Counters.unpack(counted).cycles == run
        assert int.from_bytes(result, "little") == run
        assert written == bytes([run, 7])
    assert link.statistics.retries > 0


class Busy(GoldenBoard):
    """Answers a WAIT so many seconds after it came; its own time passes only while it is read."""

    def __init__(self, seconds: float) -> None:
        super().__init__(CONFIG)
        self.timeout = 0.05
        self.seconds = seconds
        self.time = 0.0
        self.held: list[tuple[float, Header, bytes]] = []
        self.waits = 0

    def now(self) -> float:
        return self.time

    def _run(self, header: Header, payload: bytes, again: bool) -> tuple[Status, bytes]:
        return Status.OK, b""

    def _answer(self, header: Header, payload: bytes = b"") -> None:
        if header.op != Op.WAIT | RESPONSE_FLAG:
            super()._answer(header, payload)
        elif not self.held:  # the first copy's answer is on its way
            self.waits += 1
            self.held.append((self.time + self.seconds, header, payload))

    def read(self, timeout: float) -> bytes:
        if self.held and not self._answers:
            end, header, payload = self.held[0]
            self.time = min(self.time + timeout, end)
            if self.time == end:
                self.held.clear()
                super()._answer(header, payload)
        elif not self._answers:
            self.time += timeout
        return super().read(timeout)


def test_a_wait_has_patience_of_its_own() -> None:
    board = Busy(9.0)
    link = Link(board)
    assert link.run(0, patience=10.0).running == 0
    assert (board.waits, link.statistics.timeouts) == (1, 0)
    assert 9.0 <= board.time < 9.1
    assert link.wait(WAIT_PENDING, patience=10.0) == link.status()
    assert (board.waits, link.statistics.timeouts) == (2, 0)
    # Nothing else has it: silence costs the transport's timeout and no more.
    before = board.time
    board._order = lambda header, payload: None  # type: ignore[method-assign]
    with pytest.raises(LinkError, match="no answer to STATUS"):
        link.status()
    assert board.time - before == pytest.approx(4 * 0.05)


def test_a_run_without_end_times_out() -> None:
    message = (
        r"ends its programs within 0.25 s; found no answer to WAIT for the end of all programs"
    )
    with pytest.raises(LinkError, match=message) as caught:
        Link(Busy(1e9)).run(0, patience=0.2)
    assert "reset the device" in caught.value.fix


def test_a_wait_says_what_for() -> None:
    assert str(wait_request(WAIT_IDLE)) == "WAIT for the end of all programs"
    assert str(wait_request(WAIT_PENDING)) == "WAIT for the end of all programs but the latest"
