"""Transfers: what goes over the link for each run, in which order, and how long it takes.

In steady state a run with two buffers costs the longest of three: its own cycles and the gap to the
next, its bytes in, and its bytes out. That is a bound; ``gen.timeline`` walks through every frame.

Of a run of several passes, each pass's loads are written while the pass before it computes, and the
next input and the last output are moved where a pass leaves time for it::

    WRITE loads 1, RUN 1, WAIT for pass 0, WRITE loads 2, RUN 2, WAIT for pass 1, ...
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from typing import TypeVar

from drawbar.gen.artefact import Buffer, Load, Pass, TensorLayout
from drawbar.gen.config import EngineConfig
from drawbar.gen.protocol import (
    CRC_BYTES,
    HEADER_BYTES,
    MAX_PAYLOAD,
    STATUS_BYTES,
    WAIT_IDLE,
    WAIT_PENDING,
    Op,
    Space,
    item_bytes,
)

_T = TypeVar("_T")

#: Bits of a byte on a serial line: start, data, stop.
SERIAL_BITS = 10


@dataclass(frozen=True)
class LinkRate:
    """Clock cycles of a byte to the device and of one back.

    Members
    -------
    byte_in, byte_out:
        Cycles from one byte to the next.
    """

    byte_in: Fraction
    byte_out: int


#: The simulated board's byte streams.
STREAMS = LinkRate(Fraction(1), 1)


def serial_rate(config: EngineConfig, baud: int | None = None) -> LinkRate:
    """A serial line at the engine's own rate, or another; the device's transmitter takes whole
    cycles for a byte and one more to the next (``hw.uart``).
    """
    byte = Fraction(SERIAL_BITS * config.clock_hz, baud or config.baud)
    return LinkRate(byte, ceil(byte) + 1)


@dataclass(frozen=True)
class Transfer:
    """One request of a row of runs.

    Members
    -------
    length:
        Bytes of payload to the device, or from it.
    item:
        The first item, or what a WAIT waits for; of a RUN the word at which its program starts.
    space:
        Where items are.
    source:
        Of a load, the first of these items in the artefact's image.
    run:
        The run whose inputs, results, loads or programs it is about.
    """

    op: Op
    length: int = 0
    item: int = 0
    space: Space = Space.WORK
    source: int = 0
    run: int = 0

    @property
    def bytes_in(self) -> int:
        """Of the request, frame and all."""
        payload = self.length + CRC_BYTES if self.op == Op.WRITE else 0
        return HEADER_BYTES + payload

    @property
    def bytes_out(self) -> int:
        """Of the answer."""
        payload = self.length + CRC_BYTES if self.op in (Op.READ, Op.WAIT) else 0
        return HEADER_BYTES + payload


def layout_span(layout: TensorLayout, batch: int) -> tuple[int, int]:
    """First element of a tensor in work memory, and elements from there to its last, gaps
    included: what is transferred.
    """
    counts = (batch, *layout.shape)
    strides = (layout.batch_stride, *layout.strides)
    last = sum((count - 1) * stride for count, stride in zip(counts, strides, strict=True))
    return layout.base, last + 1


def pieces(elements: int, size: int) -> list[tuple[int, int]]:
    """First element and number of elements of each frame for so many elements of ``size`` bytes."""
    step = MAX_PAYLOAD // size
    return [(start, min(step, elements - start)) for start in range(0, elements, step)]


def _pieces(op: Op, layout: TensorLayout, batch: int, size: int) -> list[Transfer]:
    first, elements = layout_span(layout, batch)
    return [Transfer(op, size * count, first + start) for start, count in pieces(elements, size)]


def spread(reads: Sequence[_T], writes: Sequence[_T], lead: int) -> list[_T]:
    """Reads evenly among writes, so that both directions of the link are busy, after the first
    ``lead`` writes.
    """
    lead = min(lead, len(writes))
    room = len(writes) - lead
    places = [(lead + room * n / len(reads), 0, read) for n, read in enumerate(reads)]
    places += [(n + 0.5, 1, write) for n, write in enumerate(writes)]
    return [transfer for _, _, transfer in sorted(places, key=lambda place: place[:2])]


def lead_writes(cycles: int, rate: LinkRate) -> int:
    """Writes that go before the first read: as many as take the time of a run.

    A program reads work memory in nearly every cycle, so a READ may have to wait for its end, and
    as requests are done in order, what stands behind it would wait as well. Over a serial line a
    single write takes longer than most runs: there, reads go first, and both ways are full.
    """
    frame = Transfer(Op.WRITE, MAX_PAYLOAD).bytes_in
    return round(cycles / (frame * rate.byte_in))


def row_items(config: EngineConfig, space: Space) -> int:
    """Items of an address space that make a word or vector of its memory, gaps included."""
    return {
        Space.PROGRAM: 1,
        Space.CORE: 1 << config.row_bits,
        Space.BIAS: config.lanes,
        Space.WORK: 1,
    }[space]


def load_transfers(load: Load, config: EngineConfig) -> list[Transfer]:
    """The WRITEs of a load."""
    size, items = item_bytes(config, load.space), row_items(config, load.space)
    return [
        Transfer(
            *(Op.WRITE, size * count, load.target * items + start),
            space=load.space,
            source=load.source * items + start,
        )
        for start, count in pieces(load.count * items, size)
    ]


def run_transfers(
    buffer: Buffer, config: EngineConfig, *, batch: int, buffers: int, cycles: int, rate: LinkRate
) -> list[Transfer]:
    """The transfers of work memory for one run in steady state, in order: results of the buffer's
    last run, inputs of its next one.
    """
    size = item_bytes(config, Space.WORK)
    reads = _pieces(Op.READ, buffer.output, batch, size)
    writes = _pieces(Op.WRITE, buffer.input, batch, size)
    # With one buffer the output may lie where the input was.
    if buffers == 1:
        return [*reads, *writes]
    return spread(reads, writes, lead_writes(cycles, rate))


def _time(transfer: Transfer, rate: LinkRate) -> Fraction:
    """Cycles of the link's longer way."""
    return max(transfer.bytes_in * rate.byte_in, Fraction(transfer.bytes_out * rate.byte_out))


class _Row:
    """The requests of a row of runs, one after the other, and what is known to have ended."""

    def __init__(self) -> None:
        self.requests: list[Transfer] = []
        self.started = 0
        self.ended = 0

    def after(self, passes: int) -> None:
        """What follows comes after the end of so many passes."""
        while self.ended < passes:
            # One WAIT for each pass, so that it is told of.
            self.ended += 1
            until = WAIT_IDLE if self.ended == self.started else WAIT_PENDING
            self.requests.append(Transfer(Op.WAIT, STATUS_BYTES, until))

    def run(self, one: Pass, run: int) -> None:
        # None is pending then.
        self.after(self.started - 1)
        self.requests.append(Transfer(Op.RUN, item=one.address, space=Space.PROGRAM, run=run))
        self.started += 1


def row_of_runs(
    buffers: Sequence[Buffer],
    config: EngineConfig,
    *,
    batch: int,
    cycles: int,
    rate: LinkRate,
    runs: int,
    last_only: bool = False,
) -> list[Transfer]:
    """The requests of so many runs, from the first inputs to the last results: of every run, or of
    the last one only.
    """
    count, length = len(buffers), len(buffers[0].passes)
    each = [
        run_transfers(buffer, config, batch=batch, buffers=count, cycles=cycles, rate=rate)
        for buffer in buffers
    ]
    passes = [one for buffer in buffers for one in buffer.passes]
    loads = [[t for load in one.loads for t in load_transfers(load, config)] for one in passes]
    times = [sum((_time(t, rate) for t in own), start=Fraction(0)) for own in loads]
    row = _Row()

    def moves(run: int) -> list[Transfer]:
        """Of work memory, before a run."""
        return [
            replace(t, run=run if t.op == Op.WRITE else run - count)
            for t in (each[run % count] if run < runs else ())
            # The first runs have nothing to read.
            if not (t.op == Op.READ and (last_only or run < count))
        ]

    left = moves(0)
    for run in range(runs):
        for number in range(length):
            place = run % count * length + number
            if loads[place]:
                # What the pass before needs may lie where they go.
                alone = row.started > 0 and passes[place].evicts(passes[place - 1])
                row.after(row.started - (not alone))
                row.requests += [replace(t, run=run) for t in loads[place]]
            if number == 0:
                row.after((run + 1 - count) * length)
                row.requests += left
                left = moves(run + 1)
            row.run(passes[place], run)
            if count > 1 and number > 0:
                # What the pass before still has time for.
                room = passes[place - 1].cycles - times[place]
                while left and room > 0:
                    row.requests.append(left.pop(0))
                    room -= _time(row.requests[-1], rate)
    for run in range(max(0, runs - count), runs):
        row.after((run + 1) * length)
        if run == runs - 1 or not last_only:
            row.requests += [replace(t, run=run) for t in each[run % count] if t.op == Op.READ]
    return row.requests
