"""The timeline: when each request of a row of runs is sent, done and answered, to the cycle.

The link does requests in order, and so does this walk, with the latencies that ``hw.link`` and its
parts document. Transfers of work memory take the slots that the running program leaves free, which
follow from the cycle model.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from math import ceil

import numpy as np

from drawbar.gen.artefact import Artefact, Buffer
from drawbar.gen.config import EngineConfig
from drawbar.gen.cycles import (
    ISSUE_TO_ADDRESS,
    RUN_GAP,
    WORK_ACCESS,
    WORK_READ,
    issue_to_write,
    program_cycles,
    stage_tiling,
)
from drawbar.gen.planned import Plan
from drawbar.gen.program import decode
from drawbar.gen.protocol import CRC_BYTES, HEADER_BYTES, WAIT_PENDING, Op, Space, item_bytes
from drawbar.gen.stage import Stage
from drawbar.gen.transfers import LinkRate, Transfer, row_of_runs, serial_rate

#: Cycles from the last byte of a request to the first one in which the executor has it: without a
#: payload and with one.
ARRIVAL = (8, 7)
#: The receiver holds one byte while it judges a frame or a header, and takes no second one: the
#: least cycles from the last byte before to that one.
SETTLE = (5, 4)
HEADER_SETTLE = 4
#: Cycles in the executor from taking a request to acting on it, and from there to the first byte of
#: a payload on its way to memory, besides one.
TAKE_TO_ACT = 12
ACT_TO_ITEM = 4
#: Cycles from the one in which the executor begins an answer to its first byte on the line.
ANSWER_TO_BYTE = 3
#: Cycles from the last item of a WRITE to its answer, and from the answer of a READ to when that
#: asks for an item.
WRITE_TO_ANSWER = 2
ANSWER_TO_ASK = 1
#: Cycles from the last byte of a piece that the transmitter takes to when the executor goes on.
TAKEN_TO_NEXT = 2
#: Cycles from the fetch of a line of work memory to the first byte of an item in it, and the least
#: from one item of a line to the next; and from the last byte of an item to the first one of the
#: next, if that was there before.
FETCH_TO_BYTE = WORK_READ + 4
ITEM_TO_ITEM = 3
END_TO_NEXT = 2
#: Cycles from when a program starts or ends to when the executor acts on it.
SEEN = 1
#: A run starts this many cycles after the executor acts on its RUN, if nothing runs.
ACT_TO_START = 3
#: Runs after which they repeat, and the last ones of them that are averaged: both buffers alike.
STEADY_RUNS = 8
AVERAGED = 4


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
            between = np.maximum(tiles.k + tiles.gap, rows[:-1])
            ends = first_step + issue - 1 - np.append(np.cumsum(between[::-1])[::-1], 0)
            steps = np.append(first_step, ends[:-1] + 1 + tiles.gap)[:, None] + np.arange(
                tiles.k - 1
            )
            # A write takes the memory's address when its way there begins.
            to_write = issue_to_write(config) + 1 - WORK_ACCESS
            reading[np.append(steps.reshape(-1), ends) + ISSUE_TO_ADDRESS] = True
            for row in range(tiles.rows):
                writing[ends[rows > row] + to_write + row] = True
        if config.work_blocks:
            # A block has a single port: the host has the cycles in which neither is taken.
            reading = writing = reading | writing
        self.reading = _Free(reading)
        self.writing = _Free(writing)


class _Free:
    """The next cycle in which a slot is free."""

    def __init__(self, busy: np.ndarray) -> None:
        after = np.append(np.where(busy, len(busy), np.arange(len(busy))), len(busy))
        self._next = np.minimum.accumulate(after[::-1])[::-1].tolist()

    def clear(self, first: int, last: int, starts: Sequence[int]) -> bool:
        """Whether no run takes any of these cycles."""
        run = bisect_right(starts, last) - 1
        return run < 0 or first - starts[run] >= len(self._next)

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
        # First cycles in which each takes the next frame's second byte, request, byte.
        self._receiver_free = 0
        self._executor_free = 0
        self._line_free = 0
        # Cycles of each answer's last byte; and of all bytes, where the host looks at each.
        self._answered: list[int] = []
        self._sent_back: list[int] = [] if gap else self._answered
        self._each_byte = gap > 0
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
        byte = self.rate.byte_in
        end = max(now + 2 * byte, self._receiver_free) + (request.bytes_in - 2) * byte
        if payload:
            end += max(0, HEADER_SETTLE - 2 * byte)
        self._receiver_free = ceil(end) + SETTLE[payload]
        act = max(ceil(end) - 1 + ARRIVAL[payload], self._executor_free) + TAKE_TO_ACT
        match request.op:
            case Op.WRITE:
                self._answer(request, self._write(request, act) + WRITE_TO_ANSWER)
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
            act = max(act, self.starts[-1] + SEEN)
            next_start = self.starts[-1] + self.slots.cycles + RUN_GAP
            self.starts.append(max(act + ACT_TO_START, next_start))
        else:
            self.starts.append(act + ACT_TO_START)
        return act

    def _waits_until(self, request: Transfer) -> int:
        """When a WAIT is over: when it is seen that the latest run has started, or has ended."""
        if not self.starts:
            return 0
        waits = 0 if request.item == WAIT_PENDING else self.slots.cycles
        return self.starts[-1] + waits + SEEN

    def _write(self, request: Transfer, start: int) -> int:
        """The cycle in which the last item is written."""
        cycle = start + ACT_TO_ITEM
        if self.slots.writing.clear(cycle, cycle + request.length, self.starts):
            return cycle + request.length
        for _ in range(request.length // self._item):
            cycle = self.slots.writing.after(cycle + self._item, self.starts)
        return cycle

    def _answer(self, request: Transfer, ready: int) -> None:
        """Send an answer. The transmitter holds a byte, and takes the next one when the line takes
        that; the executor is free when its last byte is taken.
        """
        each = self.rate.byte_out
        end = self._bytes(HEADER_BYTES, ready + ANSWER_TO_BYTE)
        header = end - CRC_BYTES * each  # the last byte before the check
        taken = header - each
        if request.bytes_out > HEADER_BYTES:
            if request.op == Op.READ:
                free = max(header, taken + TAKEN_TO_NEXT)
                taken = self._items(request, ready + ANSWER_TO_ASK, free)
            else:
                taken = self._bytes(request.length, 0) - each
            self._bytes(CRC_BYTES, 0)
        self._executor_free = taken + TAKEN_TO_NEXT
        self._answered.append(self._line_free - 1)

    def _items(self, request: Transfer, ask: int, free: int) -> int:
        """Send what a READ reads, line by line, from the cycle ``free`` on; the cycle in which the
        transmitter takes the last byte.
        """
        lanes, size, each = self.config.lanes, self._item, self.rate.byte_out
        item, last = request.item, request.item + request.length // size
        end = -END_TO_NEXT  # the last byte before is taken
        while item < last:
            count = min(last, item - item % lanes + lanes) - item
            there = self.slots.reading.after(ask, self.starts) + FETCH_TO_BYTE
            # Each item is there when the line takes it, and leaves room for the next; or not.
            steps = [count] if size * each >= ITEM_TO_ITEM else [1] * count
            for items in steps:
                first = max(there, end + END_TO_NEXT)
                taken = max(first, free)
                free = self._bytes(items * size, taken + 1)
                before = free - size * each  # the last byte of the item before on the line
                if size > 1:
                    end, end_before = free - each, before - each
                else:
                    # A single byte is taken as soon as it is there.
                    late = max(first, taken - 1) + (items - 1) * ITEM_TO_ITEM
                    end = taken if items == 1 else max(late, free - each)
                    end_before = taken + (items - 2) * ITEM_TO_ITEM
                    end_before = max(end_before, before - each)
                ask = first + (items - 1) * ITEM_TO_ITEM
                if items > 1:
                    ask = max(ask, end_before + END_TO_NEXT)
                there = ask + ITEM_TO_ITEM
            item += count
        return end

    def _bytes(self, count: int, ready: int) -> int:
        """Send bytes as soon as they are there and the line takes them; the cycle in which it takes
        the last.
        """
        each = self.rate.byte_out
        first = max(ready, self._line_free)
        self._line_free = first + count * each
        if self._each_byte:
            self._sent_back.extend(range(first + each - 1, self._line_free, each))
        return self._line_free - each


@dataclass(frozen=True)
class Streaming:
    """What one run costs where many follow each other.

    Members
    -------
    buffers, batch:
        Of the artefact.
    cycles, cycles_in, cycles_out:
        Of the run itself, of its bytes to the device, and of those back.
    cycles_link:
        From one run to the next if runs took no time: with requests that are done one after the
        other, and a host that waits for answers, it may be more than either way.
    period:
        From one run to the next.
    """

    buffers: int
    batch: int
    cycles: int
    cycles_in: float
    cycles_out: float
    cycles_link: float
    period: float

    @property
    def idle(self) -> float:
        """Cycles between two runs."""
        return self.period - self.cycles

    @property
    def limit(self) -> str:
        """What takes longest: "compute", or the link, "link in" or "link out"."""
        if self.cycles + RUN_GAP >= self.cycles_link:
            return "compute"
        return "link in" if self.cycles_in >= self.cycles_out else "link out"

    def inferences_per_second(self, clock_hz: float) -> float:
        return self.batch * clock_hz / self.period

    def as_dict(self, clock_hz: float) -> dict[str, object]:
        """What JSON can hold."""
        return {
            **asdict(self),
            "idle": self.idle,
            "limit": self.limit,
            "inferences_per_second": self.inferences_per_second(clock_hz),
        }


def streaming(
    buffers: Sequence[Buffer],
    stages: Sequence[Stage],
    config: EngineConfig,
    *,
    batch: int,
    rate: LinkRate,
    gap: int = 0,
) -> Streaming:
    """What a run of these stages costs in steady state.

    Arguments
    ---------
    rate, gap:
        Of the link, and of the host: see ``Timeline``. A host that takes longer to react than
        ``gap`` may make it more.
    """
    slots = Slots(stages, config)

    def requests(runs: int) -> list[Transfer]:
        return row_of_runs(buffers, config, batch=batch, cycles=slots.cycles, rate=rate, runs=runs)

    def period(slots: Slots) -> float:
        starts = Timeline(requests(STEADY_RUNS), config, slots, rate, gap).starts
        return _number(Fraction(starts[-1] - starts[-1 - AVERAGED], AVERAGED))

    one = requests(1)
    return Streaming(
        buffers=len(buffers),
        batch=batch,
        cycles=slots.cycles,
        cycles_in=_number(sum(t.bytes_in for t in one) * rate.byte_in),
        cycles_out=_number(Fraction(sum(t.bytes_out for t in one) * rate.byte_out)),
        cycles_link=period(Slots((), config)),
        period=period(slots),
    )


def plan_streaming(plan: Plan) -> Streaming:
    """``streaming`` of a plan, over a serial line at its engine's rate."""
    stages = [stage for _, stage in plan.program]
    rate = serial_rate(plan.config)
    return streaming(plan.buffers, stages, plan.config, batch=plan.batch, rate=rate)


def artefact_streaming(artefact: Artefact, rate: LinkRate | None = None, gap: int = 0) -> Streaming:
    """``streaming`` of an artefact, over a serial line at its engine's rate or another link."""
    config = artefact.config
    return streaming(
        artefact.buffers,
        decode(artefact.program, config),
        config,
        batch=artefact.batch,
        rate=rate or serial_rate(config),
        gap=gap,
    )


def _number(value: Fraction) -> float:
    return int(value) if value.denominator == 1 else float(value)
