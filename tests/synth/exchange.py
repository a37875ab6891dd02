"""What a driver and the golden board said to each other, to be said again to hardware."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

import drawbar
from drawbar.gen.artefact import Artefact
from drawbar.gen.protocol import (
    CRC_BYTES,
    HEADER_BYTES,
    RESPONSE_FLAG,
    Counters,
    Header,
    Op,
    crc32c,
    has_payload,
)
from drawbar.sim.golden_board import GoldenBoard
from drawbar.sw.driver.transport import Transport


@dataclass(frozen=True)
class Exchange:
    """One session as hex.

    Members
    -------
    sent:
        For each write of the host, how many bytes of answers it had by then, and what it wrote.
    answers:
        All bytes that it got.
    """

    sent: Sequence[tuple[int, str]]
    answers: str

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: str | Path) -> Exchange:
        return cls(**json.loads(Path(path).read_text()))


class Recorder(Transport):
    """A transport that keeps what goes through it."""

    def __init__(self, inner: Transport) -> None:
        self.inner = inner
        self.sent: list[tuple[int, str]] = []
        self.answers = bytearray()

    def write(self, data: bytes) -> None:
        self.sent.append((len(self.answers), data.hex()))
        self.inner.write(data)

    def read(self, timeout: float) -> bytes:
        data = self.inner.read(timeout)
        self.answers += data
        return data

    def close(self) -> None:
        self.inner.close()

    def describe(self) -> str:
        return f"recorded {self.inner.describe()}"


def record(artefact: Artefact, inputs: np.ndarray) -> Exchange:
    """The driver loads an artefact into a golden board, and runs it on integers ``(samples,
    inputs)``, one run after the other.
    """
    recorder = Recorder(GoldenBoard(artefact.config))
    with drawbar.Device(recorder) as device:
        device.load(artefact)
        device.run_integers(inputs)
    return Exchange(recorder.sent, recorder.answers.hex())


def frames(data: bytes) -> Iterator[tuple[Header, bytes]]:
    """The frames of an undisturbed stream, all checks included."""
    while data:
        header = Header.unpack(data[:HEADER_BYTES])
        assert header is not None, f"a header with another check: {data[:HEADER_BYTES].hex()}"
        data = data[HEADER_BYTES:]
        payload = b""
        if has_payload(header):
            payload, check = data[: header.length], data[header.length :][:CRC_BYTES]
            assert crc32c(payload).to_bytes(CRC_BYTES, "little") == check, f"payload of {header}"
            data = data[header.length + CRC_BYTES :]
        yield header, payload


def comparable(header: Header, payload: bytes) -> tuple[Header, bytes | Counters]:
    """A frame without what the golden board, on which runs take no time, does not know: whether
    another run is under way, and how long nothing ran before.
    """
    if header.op & ~RESPONSE_FLAG in (Op.STATUS, Op.WAIT):
        return header, replace(Counters.unpack(payload), running=0, idle=0)
    return header, payload
