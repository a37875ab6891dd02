"""The requests of many runs, one after the other, and the way from their answers to results.

With two buffers the host fills one and reads its results while the engine runs the other::

    WRITE x0, RUN 0, WRITE x1, RUN 1, WAIT until run 0 has ended,
    READ y0 and WRITE x2, RUN 2, WAIT until run 1 has ended,
    READ y1 and WRITE x3, RUN 3, ...

``RUN 2`` is sent while run 1 is under way and starts when that ends. With one buffer each run waits
for the end of the one before.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from drawbar.gen.artefact import Artefact, TensorLayout
from drawbar.gen.config import EngineConfig
from drawbar.gen.protocol import WAIT_IDLE, WAIT_PENDING, Counters, Op, Space, item_bytes
from drawbar.gen.transfers import layout_span, spread
from drawbar.sw.driver.frames import (
    Request,
    read_requests,
    run_request,
    wait_request,
    write_requests,
)


@dataclass(frozen=True)
class _Place:
    """A tensor in work memory: its first element, elements to its last, and where among these each
    feature of each sample lies, ``(batch, features)``.
    """

    first: int
    span: int
    index: np.ndarray

    @classmethod
    def of(cls, layout: TensorLayout, batch: int) -> _Place:
        first, span = layout_span(layout, batch)
        return cls(first, span, layout.addresses(batch) - first)


def _element(config: EngineConfig) -> np.dtype:
    return np.dtype("<i1" if config.data_width == 8 else "<i2")


class Places:
    """Where an artefact's buffers lie; computed once for many runs."""

    def __init__(self, artefact: Artefact) -> None:
        self.artefact = artefact
        batch = artefact.batch
        self.inputs = [_Place.of(buffer.input, batch) for buffer in artefact.buffers]
        self.outputs = [_Place.of(buffer.output, batch) for buffer in artefact.buffers]


class RunStream:
    """The requests of all runs for some samples.

    Arguments
    ---------
    places:
        The loaded artefact's.
    x:
        Integers ``(samples, inputs)``, at least one; the rest of the last run is zeros.
    first:
        The buffer of the first run.

    Members
    -------
    runs:
        How many that takes.
    requests:
        In the order in which they are to be made.
    """

    def __init__(self, places: Places, x: np.ndarray, first: int = 0) -> None:
        self._places = places
        self._first = first
        self._samples = len(x)
        artefact = places.artefact
        self._batch = artefact.batch
        self._dtype = _element(artefact.config)
        self._size = item_bytes(artefact.config, Space.WORK)
        self.runs = -(-len(x) // self._batch)
        self.requests: list[Request] = []

        count = len(artefact.buffers)
        for run in range(self.runs):
            reads = self._reads(run - count) if run >= count else []
            writes = self._writes(run, x[run * self._batch : (run + 1) * self._batch])
            # With one buffer the output may lie where the input was.
            self.requests += spread(reads, writes) if count > 1 else [*reads, *writes]
            self.requests.append(run_request(artefact.buffers[self._buffer(run)].address))
            if count - 1 <= run < self.runs - 1:
                self.requests.append(wait_request(WAIT_PENDING if count > 1 else WAIT_IDLE))
        for run in range(max(0, self.runs - count), self.runs):
            last = run == self.runs - 1
            self.requests.append(wait_request(WAIT_IDLE if last else WAIT_PENDING))
            self.requests += self._reads(run)

        # Bytes written and read until the results of each run are there.
        moved, reads_seen, each = 0, 0, len(self._reads(0))
        self._ends: list[int] = []
        for request in self.requests:
            moved += request.length
            if request.op == Op.READ:
                reads_seen += 1
                if reads_seen % each == 0:
                    self._ends.append(moved)

    def results(self, answers: Sequence[bytes]) -> np.ndarray:
        """Integers ``(samples, outputs)`` from the answers to all requests."""
        data = b"".join(self._answers(Op.READ, answers))
        batch, features = self._places.outputs[0].index.shape
        y = np.empty((self.runs * batch, features), np.int64)
        start = 0
        for run in range(self.runs):
            place = self._places.outputs[self._buffer(run)]
            memory = np.frombuffer(data, self._dtype, place.span, start)
            y[run * batch : (run + 1) * batch] = memory[place.index]
            start += place.span * self._size
        return y[: self._samples]

    def counters(self, answers: Sequence[bytes]) -> tuple[Counters, ...]:
        """From the answer to each WAIT, one for each run: of that run, or of the one after it where
        that had ended by then, too. The last is of the last run.
        """
        return tuple(Counters.unpack(answer) for answer in self._answers(Op.WAIT, answers))

    def samples_done(self, moved: int) -> int:
        """Samples whose results are there once so many bytes were written and read."""
        return min(bisect_right(self._ends, moved) * self._batch, self._samples)

    def _answers(self, op: Op, answers: Sequence[bytes]) -> Iterator[bytes]:
        for request, answer in zip(self.requests, answers, strict=True):
            if request.op == op:
                yield answer

    def _buffer(self, run: int) -> int:
        return (self._first + run) % len(self._places.artefact.buffers)

    def _writes(self, run: int, x: np.ndarray) -> list[Request]:
        place = self._places.inputs[self._buffer(run)]
        memory = np.zeros(place.span, self._dtype)
        memory[place.index[: len(x)]] = x
        return write_requests(Space.WORK, place.first, memory.tobytes(), self._size)

    def _reads(self, run: int) -> list[Request]:
        place = self._places.outputs[self._buffer(run)]
        return read_requests(Space.WORK, place.first, place.span * self._size, self._size)
