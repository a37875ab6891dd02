"""Transfers: what goes over the link for each run, in which order, and how long it takes.

In steady state a run with two buffers costs the longest of three: its own cycles and the gap to the
next, its bytes in, and its bytes out. That is a bound; ``gen.timeline`` walks through every frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import TypeVar

from drawbar.gen.artefact import Buffer, TensorLayout
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
    """One request of a run: ``length`` bytes of payload to the device, or from it; ``item`` is the
    first in work memory, or what a WAIT waits for.
    """

    op: Op
    length: int = 0
    item: int = 0

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


def run_transfers(
    buffer: Buffer, config: EngineConfig, *, batch: int, buffers: int, cycles: int, rate: LinkRate
) -> list[Transfer]:
    """The requests of one run in steady state, in order: results of the buffer's last run, inputs
    of its next one, its start, and the wait for the run before (with one buffer: for it).
    """
    size = item_bytes(config, Space.WORK)
    reads = _pieces(Op.READ, buffer.output, batch, size)
    writes = _pieces(Op.WRITE, buffer.input, batch, size)
    moves = [*reads, *writes]
    # With one buffer the output may lie where the input was.
    if buffers > 1:
        moves = spread(reads, writes, lead_writes(cycles, rate))
    until = WAIT_PENDING if buffers > 1 else WAIT_IDLE
    return [*moves, Transfer(Op.RUN), Transfer(Op.WAIT, STATUS_BYTES, until)]


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
    count = len(buffers)
    each = [
        run_transfers(buffer, config, batch=batch, buffers=count, cycles=cycles, rate=rate)
        for buffer in buffers
    ]
    result: list[Transfer] = []
    for run in range(runs):
        # The first runs have nothing to read, and none before them to wait for.
        result += [
            transfer
            for transfer in each[run % count]
            if not (transfer.op == Op.READ and (last_only or run < count))
            and not (transfer.op == Op.WAIT and not count - 1 <= run < runs - 1)
        ]
    for run in range(max(0, runs - count), runs):
        until = WAIT_IDLE if run == runs - 1 else WAIT_PENDING
        result.append(Transfer(Op.WAIT, STATUS_BYTES, until))
        if run == runs - 1 or not last_only:
            result += [transfer for transfer in each[run % count] if transfer.op == Op.READ]
    return result
