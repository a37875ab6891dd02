"""The timeline: when each request of a row of runs is sent, done and answered, to the cycle.

The link does requests in order, and so does this walk, with the latencies that ``hw.link`` and its
parts document. Transfers of work memory take the slots that the running program leaves free, which
follow from the cycle model.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from math import ceil

from drawbar.gen.artefact import Artefact, Buffer
from drawbar.gen.config import EngineConfig
from drawbar.gen.pipeline import RUN_GAP, pipeline
from drawbar.gen.planned import Plan
from drawbar.gen.protocol import CRC_BYTES, HEADER_BYTES, WAIT_PENDING, Op, Space, item_bytes
from drawbar.gen.slots import Runs, Slots
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
#: Cycles from the data of a line of work memory to the first byte of an item in it, and the least
#: from one item of a line to the next; and from the last byte of an item to the first one of the
#: next, if that was there before.
READ_TO_BYTE = 4
ITEM_TO_ITEM = 3
END_TO_NEXT = 2
#: Cycles from when a program starts or ends to when the executor acts on it.
SEEN = 1
#: A run starts this many cycles after the executor acts on its RUN, if nothing runs.
ACT_TO_START = 3
#: Runs after which they repeat, and the last ones of them that are averaged: both buffers alike.
STEADY_RUNS = 8
AVERAGED = 4


class Timeline:
    """The walk through the requests of many runs.

    Arguments
    ---------
    requests:
        Of all runs.
    slots:
        Of each program of a run, in order: RUNs start one after the other, and then the first one
        again. Both buffers' take the same.
    gap:
        The host sends as soon as it may, and looks at what it has received when it may not send,
        after so many cycles of silence; 0 for a host that reacts at once.

    Members
    -------
    starts:
        First cycle of each program, from that of the first request's first byte.
    told:
        For each WAIT the number of the latest program that has ended by then, whose counters
        answer it; not to the cycle: over a slow line the device may tell of the next one, if that
        ends while the answer's header is sent.
    cycles:
        Of each program of a run.
    """

    def __init__(
        self,
        requests: Sequence[Transfer],
        config: EngineConfig,
        slots: Sequence[Slots],
        rate: LinkRate,
        gap: int = 0,
    ) -> None:
        self.requests = requests
        self.config = config
        self.slots = slots
        self.rate = rate
        self.starts: list[int] = []
        self.told: list[int] = []
        self.cycles = [own.cycles for own in slots]
        self._reading = Runs([kind.reading for kind in slots], self.starts)
        self._writing = Runs([kind.writing for kind in slots], self.starts)
        self._item = item_bytes(config, Space.WORK)
        self._fetch_to_byte = pipeline(config).work_read + READ_TO_BYTE
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
            and later.space == earlier.space
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
                done = max(act, self._waits_until(request))
                self.told.append(len(self.starts) - (1 if done >= self._end() + SEEN else 2))
                self._answer(request, done + 1)
        return end

    @property
    def latency(self) -> int:
        """From the start of the last run to its end: its own cycles, and what its passes wait."""
        return self._end() - self.starts[-len(self.slots)]

    def _end(self) -> int:
        """The cycle in which the latest program has ended."""
        if not self.starts:
            return 0
        latest = len(self.starts) - 1
        return self.starts[latest] + self.slots[latest % len(self.slots)].cycles

    def _run(self, act: int) -> int:
        """Start a run, or leave it pending; a third one waits until none is."""
        if self.starts:
            act = max(act, self.starts[-1] + SEEN)
            next_start = self._end() + RUN_GAP
            self.starts.append(max(act + ACT_TO_START, next_start))
        else:
            self.starts.append(act + ACT_TO_START)
        return act

    def _waits_until(self, request: Transfer) -> int:
        """When a WAIT is over: when it is seen that the latest run has started, or has ended."""
        if not self.starts:
            return 0
        return (self.starts[-1] if request.item == WAIT_PENDING else self._end()) + SEEN

    def _write(self, request: Transfer, start: int) -> int:
        """The cycle in which the last item is written."""
        cycle = start + ACT_TO_ITEM
        if request.space != Space.WORK or self._writing.clear(cycle, cycle + request.length):
            return cycle + request.length
        for _ in range(request.length // self._item):
            cycle = self._writing.after(cycle + self._item)
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
            there = self._reading.after(ask) + self._fetch_to_byte
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
                    if items > 2:  # the first one may wait in the transmitter behind a check
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
    passes, bytes_loaded:
        Passes of a run, and bytes of cores, biases and programs that stream in during it; 0 where
        the model fits the engine.
    cycles, cycles_in, cycles_out:
        Of the run itself, all passes together, of its bytes to the device, and of those back.
    cycles_link:
        From one run to the next if runs took no time: with requests that are done one after the
        other, and a host that waits for answers, it may be more than either way.
    latency:
        From the start of a run to its end: ``cycles``, and what passes wait for their loads.
    period:
        From one run to the next.
    """

    buffers: int
    batch: int
    passes: int
    bytes_loaded: int
    cycles: int
    cycles_in: float
    cycles_out: float
    cycles_link: float
    latency: float
    period: float

    @property
    def idle(self) -> float:
        """Cycles of a run, and up to the next one, in which nothing computes."""
        return self.period - self.cycles

    @property
    def limit(self) -> str:
        """What takes longest: "compute", or the link, "link in" or "link out"."""
        if self.cycles + self.passes * RUN_GAP >= self.cycles_link:
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
    passes: Sequence[Sequence[Stage]],
    config: EngineConfig,
    *,
    batch: int,
    rate: LinkRate,
    gap: int = 0,
) -> Streaming:
    """What a run of these stages, pass by pass, costs in steady state.

    Arguments
    ---------
    rate, gap:
        Of the link, and of the host: see ``Timeline``. A host that takes longer to react than
        ``gap`` may make it more.
    """
    slots = [Slots(stages, config) for stages in passes]
    cycles = sum(own.cycles for own in slots)

    def requests(runs: int) -> list[Transfer]:
        return row_of_runs(buffers, config, batch=batch, cycles=cycles, rate=rate, runs=runs)

    def walk(slots: Sequence[Slots]) -> tuple[float, float]:
        """From one run to the next, and from the start of one to its end."""
        starts = Timeline(requests(STEADY_RUNS), config, slots, rate, gap).starts
        first = starts[:: len(slots)][-1 - AVERAGED :]
        last = starts[len(slots) - 1 :: len(slots)][-1 - AVERAGED :]
        spans = [b - a + slots[-1].cycles for a, b in zip(first, last, strict=True)][1:]
        return (
            _number(Fraction(first[-1] - first[0], AVERAGED)),
            _number(Fraction(sum(spans), AVERAGED)),
        )

    period, latency = walk(slots)
    one = requests(1)
    loads = [t for t in one if t.op == Op.WRITE and t.space != Space.WORK]
    return Streaming(
        buffers=len(buffers),
        batch=batch,
        passes=len(passes),
        bytes_loaded=sum(t.length for t in loads),
        cycles=cycles,
        cycles_in=_number(sum(t.bytes_in for t in one) * rate.byte_in),
        cycles_out=_number(Fraction(sum(t.bytes_out for t in one) * rate.byte_out)),
        cycles_link=walk([Slots((), config) for _ in passes])[0],
        latency=latency,
        period=period,
    )


def plan_streaming(plan: Plan, rate: LinkRate | None = None) -> Streaming:
    """``streaming`` of a plan, over a serial line at its engine's rate or another link."""
    return streaming(
        plan.buffers,
        [[stage for _, stage in own] for own in plan.pass_programs(0)],
        plan.config,
        batch=plan.batch,
        rate=rate or serial_rate(plan.config),
    )


def artefact_streaming(artefact: Artefact, rate: LinkRate | None = None, gap: int = 0) -> Streaming:
    """``streaming`` of an artefact, over a serial line at its engine's rate or another link."""
    return streaming(
        artefact.buffers,
        artefact.pass_stages(),
        artefact.config,
        batch=artefact.batch,
        rate=rate or serial_rate(artefact.config),
        gap=gap,
    )


def artefact_timeline(artefact: Artefact, rate: LinkRate, runs: int, gap: int = 0) -> Timeline:
    """The walk through so many runs of an artefact, from the first inputs to the last results."""
    requests = row_of_runs(
        artefact.buffers,
        artefact.config,
        batch=artefact.batch,
        cycles=artefact.cycles,
        rate=rate,
        runs=runs,
    )
    slots = [Slots(stages, artefact.config) for stages in artefact.pass_stages()]
    return Timeline(requests, artefact.config, slots, rate, gap)


def _number(value: Fraction) -> float:
    return int(value) if value.denominator == 1 else float(value)
