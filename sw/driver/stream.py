"""The requests of many runs, one after the other, and the way from their answers to results.

With two buffers the host fills one and reads its results while the engine runs the other::

    WRITE x0, RUN 0, WRITE x1, RUN 1, WAIT until run 0 has ended,
    READ y0 and WRITE x2, RUN 2, WAIT until run 1 has ended,
    READ y1 and WRITE x3, RUN 3, ...

``RUN 2`` is sent while run 1 is under way and starts when that ends. With one buffer each run waits
for the end of the one before.

A model that is larger than the engine's memories runs in passes, each of which has a RUN; what the
next pass needs is written beside the one that runs. See ``gen.transfers``.

Of a sequence each run is a step. Before the first one the states are zeroed, and only the results
of the last one are read.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from drawbar.gen.artefact import Artefact, TensorLayout
from drawbar.gen.config import EngineConfig
from drawbar.gen.protocol import WAIT_IDLE, Counters, Op, Space, address_of, item_bytes
from drawbar.gen.transfers import LinkRate, Transfer, layout_span, pieces, row_of_runs
from drawbar.sw.driver.frames import Request, run_request, wait_request
from drawbar.sw.driver.images import item_images


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
    """Where an artefact's buffers lie, and what streams in; computed once for many runs."""

    def __init__(self, artefact: Artefact) -> None:
        self.artefact = artefact
        self.images = item_images(artefact)
        batch = artefact.batch
        self.inputs = [_Place.of(buffer.input, batch) for buffer in artefact.buffers]
        self.outputs = [_Place.of(buffer.output, batch) for buffer in artefact.buffers]


class RunStream:
    """The requests of all runs for some samples, or for the steps of one batch of sequences.

    Arguments
    ---------
    places:
        The loaded artefact's.
    x:
        Integers ``(samples, inputs)``, at least one; the rest of the last run is zeros. Of
        sequences ``(steps, samples, inputs)``, as many samples as one run takes or fewer.
    rate:
        Of the link: ``gen.transfers`` chooses the order of reads and writes for it.
    first:
        The buffer of the first run.

    Members
    -------
    runs:
        How many that takes.
    requests:
        In the order in which they are to be made.
    """

    def __init__(self, places: Places, x: np.ndarray, rate: LinkRate, first: int = 0) -> None:
        artefact = places.artefact
        turn = [(first + n) % len(artefact.buffers) for n in range(len(artefact.buffers))]
        buffers = [artefact.buffers[n] for n in turn]
        self._inputs = [places.inputs[n] for n in turn]
        self._outputs = [places.outputs[n] for n in turn]
        sequences = artefact.steps > 0
        if sequences:
            self._samples = x.shape[1]
            steps = np.zeros((len(x), artefact.batch, x.shape[2]), x.dtype)
            steps[:, : x.shape[1]] = x
            x = steps.reshape(-1, x.shape[2])
        else:
            self._samples = len(x)
        self._dtype = _element(artefact.config)
        self._size = item_bytes(artefact.config, Space.WORK)
        self.runs = -(-len(x) // artefact.batch)
        self.requests: list[Request] = []
        #: Runs whose results are read.
        self._read = range(self.runs - 1 if sequences else 0, self.runs)
        if sequences:
            self.requests += self._zeros(artefact)

        transfers = row_of_runs(
            buffers,
            artefact.config,
            batch=artefact.batch,
            cycles=artefact.cycles,
            rate=rate,
            runs=self.runs,
            last_only=sequences,
        )
        # Bytes written and read until the results of each run are there.
        self._ends: list[int] = []
        self._batch = artefact.batch
        #: Cycles that may answer each WAIT: of the passes of which it may tell.
        self.expected: list[tuple[int, ...]] = []
        passes = [one.cycles for one in buffers[0].passes]
        moved = got = started = 0
        run, memory = -1, b""
        for transfer in transfers:
            if transfer.op == Op.WRITE and transfer.space == Space.WORK and transfer.run != run:
                run, memory = transfer.run, self._image(transfer.run, x)
            self.requests.append(self._request(transfer, memory, places))
            if transfer.op == Op.RUN:
                started += 1
            elif transfer.op == Op.WAIT:
                told = (started - 1,) if transfer.item == WAIT_IDLE else (started - 2, started - 1)
                self.expected.append(tuple(passes[n % len(passes)] for n in told))
            else:
                moved += transfer.length
                got += transfer.length if transfer.op == Op.READ else 0
                if got == self._outputs[0].span * self._size:
                    self._ends.append(moved)
                    got = 0

    def results(self, answers: Sequence[bytes]) -> np.ndarray:
        """Integers ``(samples, outputs)`` from the answers to all requests."""
        data = b"".join(self._answers(Op.READ, answers))
        features = self._outputs[0].index.shape[1]
        y = np.empty((len(self._read) * self._batch, features), np.int64)
        start = 0
        for number, run in enumerate(self._read):
            place = self._outputs[run % len(self._outputs)]
            memory = np.frombuffer(data, self._dtype, place.span, start)
            y[number * self._batch : (number + 1) * self._batch] = memory[place.index]
            start += place.span * self._size
        return y[: self._samples]

    def counters(self, answers: Sequence[bytes]) -> tuple[Counters, ...]:
        """From the answer to each WAIT, one for each pass: of that pass, or of the one after it
        where that had ended by then, too. The last is of the last pass of all.
        """
        return tuple(Counters.unpack(answer) for answer in self._answers(Op.WAIT, answers))

    def samples_done(self, moved: int) -> int:
        """Samples whose results are there once so many bytes were written and read."""
        return min(bisect_right(self._ends, moved) * self._batch, self._samples)

    def _answers(self, op: Op, answers: Sequence[bytes]) -> Iterator[bytes]:
        for request, answer in zip(self.requests, answers, strict=True):
            if request.op == op:
                yield answer

    def _zeros(self, artefact: Artefact) -> Iterator[Request]:
        """Writes of zeros to all states."""
        for base, elements in artefact.states:
            for first, count in pieces(elements, self._size):
                item = address_of(Space.WORK, base + first)
                length = count * self._size
                yield Request(Op.WRITE, item, length, bytes(length), self._size)

    def _image(self, run: int, x: np.ndarray) -> bytes:
        """What work memory holds of a run's input, from its first to its last element."""
        place = self._inputs[run % len(self._inputs)]
        samples = x[run * self._batch : (run + 1) * self._batch]
        memory = np.zeros(place.span, self._dtype)
        memory[place.index[: len(samples)]] = samples
        return memory.tobytes()

    def _request(self, transfer: Transfer, memory: bytes, places: Places) -> Request:
        place = address_of(transfer.space, transfer.item)
        match transfer.op:
            case Op.READ:
                return Request(Op.READ, place, transfer.length, size=self._size)
            case Op.WRITE if transfer.space == Space.WORK:
                first = self._inputs[transfer.run % len(self._inputs)].first
                start = (transfer.item - first) * self._size
                payload = memory[start : start + transfer.length]
                return Request(Op.WRITE, place, transfer.length, payload, self._size)
            case Op.WRITE:
                image = places.images[transfer.space]
                count = transfer.length // image.itemsize
                payload = image[transfer.source : transfer.source + count].tobytes()
                return Request(Op.WRITE, place, transfer.length, payload, image.itemsize)
            case Op.RUN:
                return run_request(transfer.item)
            case _:
                return wait_request(transfer.item)
