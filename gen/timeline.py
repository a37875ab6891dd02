"""The timeline: when each request of a row of runs is sent, done and answered, to the cycle.

The link does requests in order, and so does this walk, with the latencies that ``hw.link`` and its
parts document. Transfers of work memory take the slots that the running program leaves free, which
follow from the cycle model.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from fractions import Fraction
from math import ceil

import numpy as np

from drawbar.gen.config import EngineConfig
from drawbar.gen.cycles import ISSUE_TO_WRITE, RUN_GAP, program_cycles, stage_tiling
from drawbar.gen.protocol import CRC_BYTES, HEADER_BYTES, WAIT_PENDING, Op, Space, item_bytes
from drawbar.gen.stage import Stage
from drawbar.gen.transfers import LinkRate, Transfer

#: Cycles from the last byte of a request to the first one in which the executor has it: without a
#: payload and with one. Receiver's own cycles after a frame, in which it takes no byte.
ARRIVAL = (4, 3)
SETTLE = (2, 1)
#: Cycles in the executor from taking a request to acting on it.
TAKE_TO_ACT = 3
#: Cycles from the fetch of a line of work memory to the first byte of an item in it, and the least
#: from one item of a line to the next.
FETCH_TO_BYTE = 8
ITEM_TO_ITEM = 3
#: A run starts this many cycles after the executor acts on its RUN, if nothing runs.
ACT_TO_START = 2
#: Cycles from a step to its read of work memory, and from the last step of a tile to the write of
#: its first row, where they take the memory's address.
#: A receiver that gets a byte in fewer cycles loses one after each header.
QUICK = 2
STEP_TO_READ = 1
STEP_TO_WRITE = ISSUE_TO_WRITE - 1


class Slots:
    """Cycles of a run in which it takes the read and the write address of work memory."""

    def __init__(self, stages: Sequence[Stage], config: EngineConfig) -> None:
        spent = program_cycles(stages, config)
        self.cycles = sum(cycles.total for cycles in spent)
        reading = np.zeros(self.cycles + 1, bool)
        writing = np.zeros(self.cycles + 1, bool)
        start = 0
        for stage, cycles in zip(stages, spent, strict=True):
            tiles = stage_tiling(stage, config)
            first_step = start + cycles.stall_fetch + cycles.flush
            issue = cycles.busy + cycles.stall_drain
            start += cycles.total
            if start == self.cycles:  # the last stage: its flush comes after its steps, too
                first_step -= tiles.emptying
            # A tile ends once the one before has drained; only its last step waits for that.
            rows = np.full(tiles.row_tiles, tiles.rows)
            rows[-1] = tiles.rows_last
            rows = np.tile(rows, tiles.lane_tiles)
            between = np.maximum(tiles.k, rows[:-1])
            ends = first_step + issue - 1 - np.append(np.cumsum(between[::-1])[::-1], 0)
            steps = np.append(first_step, ends[:-1] + 1)[:, None] + np.arange(tiles.k - 1)
            reading[np.append(steps.reshape(-1), ends) + STEP_TO_READ] = True
            for row in range(tiles.rows):
                writing[ends[rows > row] + STEP_TO_WRITE + row] = True
        self.reading = _Free(reading)
        self.writing = _Free(writing)


class _Free:
    """The next cycle in which a slot is free."""

    def __init__(self, busy: np.ndarray) -> None:
        after = np.append(np.where(busy, len(busy), np.arange(len(busy))), len(busy))
        self._next = np.minimum.accumulate(after[::-1])[::-1].tolist()

    def after(self, cycle: int, starts: Sequence[int]) -> int:
        """``cycle``, or the first one after it that no run takes; runs start at ``starts``."""
        while True:
            run = bisect_right(starts, cycle) - 1
            if run < 0 or cycle - starts[run] >= len(self._next):
                return cycle
            free = starts[run] + self._next[cycle - starts[run]]
            if run + 1 == len(starts) or free < starts[run + 1]:
                return free
            cycle = starts[run + 1]


class Timeline:
    """The walk through the requests of many runs.

    Arguments
    ---------
    requests:
        Of all runs. RUNs start the same program, or two that take the same slots.
    gap:
        The host sends as soon as it may, and looks at what it has received when it may not send,
        after so many cycles of silence; 0 for a host that reacts at once.

    Members
    -------
    starts:
        First cycle of each run, from that of the first request's first byte.
    """

    def __init__(
        self,
        requests: Sequence[Transfer],
        config: EngineConfig,
        slots: Slots,
        rate: LinkRate,
        gap: int = 0,
    ) -> None:
        self.requests = requests
        self.config = config
        self.slots = slots
        self.rate = rate
        self.starts: list[int] = []
        self._item = item_bytes(config, Space.WORK)
        # First cycles in which each takes the next byte, request, answer, byte.
        self._receiver_free = 0
        self._executor_free = 0
        self._transmitter_free = 0
        self._line_free = 0
        # Cycles of the answers' bytes; those of each answer's last.
        self._sent_back: list[int] = []
        self._answered: list[int] = []
        self._walk(gap)

    # -- host --------------------------------------------------------------------------------------

    def _walk(self, gap: int) -> None:
        now: int | Fraction = 0
        sent = answered = heard = 0
        while answered < len(self.requests):
            while self._may_send(sent, answered):
                now = self._request(self.requests[sent], now)
                sent += 1
            # What came while it sent waits to be heard; then it listens until there is silence.
            quiet = now if self._sent_back[heard] < now else self._sent_back[heard] + 1
            heard = bisect_left(self._sent_back, quiet, heard)
            while heard < len(self._sent_back) and self._sent_back[heard] < quiet + gap:
                quiet = self._sent_back[heard] + 1
                heard += 1
            now = quiet + gap
            answered = bisect_left(self._answered, now, answered)

    def _may_send(self, sent: int, answered: int) -> bool:
        if sent >= min(len(self.requests), answered + self.config.link_window):
            return False
        request = self.requests[sent]
        return not any(self._holds(r, request) for r in self.requests[answered:sent])

    def _holds(self, earlier: Transfer, later: Transfer) -> bool:
        """Whether ``later`` is only sent when ``earlier`` is answered."""
        if later.op == Op.RUN:
            return earlier.op in (Op.READ, Op.WAIT)
        return (
            later.op == Op.WRITE
            and earlier.op == Op.READ
            and later.item < earlier.item + earlier.length // self._item
            and earlier.item < later.item + later.length // self._item
        )

    # -- device ------------------------------------------------------------------------------------

    def _request(self, request: Transfer, now: int | Fraction) -> int | Fraction:
        """Send a request, and all that follows from it; the cycle in which the host is free."""
        payload = request.bytes_in > HEADER_BYTES
        end = max(now, self._receiver_free) + request.bytes_in * self.rate.byte_in
        if self.rate.byte_in < QUICK:
            end += payload
            self._receiver_free = ceil(end) + SETTLE[payload]
        act = max(ceil(end) - 1 + ARRIVAL[payload], self._executor_free) + TAKE_TO_ACT
        match request.op:
            case Op.WRITE:
                self._answer(request, self._write(request, act) + 1)
            case Op.READ:
                self._answer(request, act + 1)
            case Op.RUN:
                self._answer(request, self._run(act) + 1)
            case _:
                self._answer(request, max(act, self._waits_until(request)) + 1)
        return end

    def _run(self, act: int) -> int:
        """Start a run, or leave it pending; a third one waits until none is."""
        if self.starts:
            act = max(act, self.starts[-1])
            next_start = self.starts[-1] + self.slots.cycles + RUN_GAP
            self.starts.append(max(act + ACT_TO_START, next_start))
        else:
            self.starts.append(act + ACT_TO_START)
        return act

    def _waits_until(self, request: Transfer) -> int:
        """When a WAIT is over: when the latest run has started, or has ended."""
        if not self.starts:
            return 0
        return self.starts[-1] + (0 if request.item == WAIT_PENDING else self.slots.cycles)

    def _write(self, request: Transfer, start: int) -> int:
        """The cycle in which the last item is written."""
        cycle = start + 2
        for _ in range(request.length // self._item):
            cycle = self.slots.writing.after(cycle + self._item, self.starts)
        return cycle

    def _answer(self, request: Transfer, ready: int) -> None:
        """Send an answer as soon as the one before is sent."""
        cycle = max(ready, self._transmitter_free)
        self._executor_free = cycle + 1
        for _ in range(HEADER_BYTES):
            end = self._byte(cycle + 1)
        if request.bytes_out > HEADER_BYTES:
            if request.op == Op.READ:
                end = self._items(request, ready)
            else:
                for _ in range(request.length):
                    end = self._byte(0)
            self._executor_free = end + 1
            for _ in range(CRC_BYTES):
                end = self._byte(0)
        self._transmitter_free = end + 1
        self._answered.append(self._sent_back[-1])

    def _items(self, request: Transfer, ask: int) -> int:
        """Send what a READ reads; the cycle of the last byte."""
        in_line = False
        end = 0
        for item in range(request.item, request.item + request.length // self._item):
            if in_line:
                there = ask + ITEM_TO_ITEM
            else:
                there = self.slots.reading.after(ask, self.starts) + FETCH_TO_BYTE
            ask = max(there, end + 1)
            for _ in range(self._item):
                end = self._byte(ask)
            in_line = (item + 1) % self.config.lanes != 0
        return end

    def _byte(self, ready: int) -> int:
        """Send a byte as soon as it is there and the line takes it; the cycle in which it does."""
        cycle = max(ready, self._line_free)
        self._line_free = cycle + self.rate.byte_out
        self._sent_back.append(self._line_free - 1)
        return cycle


def steady_period(starts: Sequence[int]) -> int:
    """Cycles from one run to the next once they repeat: between the last ones, two buffers each."""
    return (starts[-1] - starts[-3]) // 2
