"""Requests as values, and responses out of a stream of bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from drawbar.gen.protocol import (
    CRC_BYTES,
    HEADER_BYTES,
    MAX_PAYLOAD,
    SPACE_SHIFT,
    SYNC,
    Header,
    Op,
    Space,
    address_of,
    crc32c,
    has_payload,
    pack_frame,
)


@dataclass(frozen=True)
class Request:
    """One request. ``length`` is in bytes: of a WRITE's payload, or of the answer to a READ."""

    op: Op
    address: int = 0
    length: int = 0
    payload: bytes = b""

    @property
    def mutates(self) -> bool:
        """Whether it changes what a READ or STATUS sees."""
        return self.op in (Op.WRITE, Op.RUN)

    @property
    def observes(self) -> bool:
        """Whether its answer depends on when it is executed."""
        return self.op in (Op.READ, Op.STATUS)

    def frame(self, number: int) -> bytes:
        return pack_frame(Header(self.op, number, self.address, self.length), self.payload)

    def __str__(self) -> str:
        if self.op not in (Op.WRITE, Op.READ, Op.RUN):
            return self.op.name
        place = f"{Space(self.address >> SPACE_SHIFT).name} {self.address % (1 << SPACE_SHIFT)}"
        if self.op == Op.RUN:
            return f"RUN at {place}"
        return f"{self.op.name} of {self.length} bytes at {place}"


def write_requests(space: Space, item: int, data: bytes, size: int) -> list[Request]:
    """WRITEs of ``data`` from ``item`` on, in frames of at most ``MAX_PAYLOAD`` bytes; an item has
    ``size`` bytes.
    """
    step = MAX_PAYLOAD // size * size
    pieces = [(start, data[start : start + step]) for start in range(0, len(data), step)]
    return [
        Request(Op.WRITE, address_of(space, item + start // size), len(piece), piece)
        for start, piece in pieces
    ]


def read_requests(space: Space, item: int, length: int, size: int) -> list[Request]:
    """READs of ``length`` bytes from ``item`` on; an item has ``size`` bytes."""
    step = MAX_PAYLOAD // size * size
    return [
        Request(Op.READ, address_of(space, item + start // size), min(step, length - start))
        for start in range(0, length, step)
    ]


def run_request(word: int) -> Request:
    """RUN of the program that starts at this word of program memory."""
    return Request(Op.RUN, address_of(Space.PROGRAM, word))


class FrameReader:
    """Cuts a stream of bytes into frames, and finds its way back after damage.

    Out of step it looks for sync bytes and a header whose check matches. Behind such a header it
    takes the payload whole and drops it whole, so that data which looks like a frame is never taken
    for one.

    Members
    -------
    bad_frames:
        Frames dropped for a check that failed.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.bad_frames = 0

    def reset(self) -> None:
        """Forget the beginning of a frame whose end never came."""
        self._buffer.clear()

    def feed(self, data: bytes) -> Iterator[tuple[Header, bytes]]:
        """Whole frames, as far as ``data`` completes them."""
        self._buffer += data
        while (frame := self._next()) is not None:
            yield frame

    def _next(self) -> tuple[Header, bytes] | None:
        buffer = self._buffer
        while True:
            start = buffer.find(SYNC)
            if start < 0:
                # The last byte may be the first half of the sync bytes.
                start = len(buffer) - (buffer[-1:] == SYNC[:1])
            del buffer[:start]
            if len(buffer) < HEADER_BYTES:
                return None
            header = Header.unpack(bytes(buffer[:HEADER_BYTES]))
            if header is None or header.length > MAX_PAYLOAD:
                self.bad_frames += 1
                del buffer[: len(SYNC)]
                continue
            if not has_payload(header):
                del buffer[:HEADER_BYTES]
                return header, b""
            end = HEADER_BYTES + header.length
            if len(buffer) < end + CRC_BYTES:
                return None
            payload = bytes(buffer[HEADER_BYTES:end])
            check = int.from_bytes(buffer[end : end + CRC_BYTES], "little")
            del buffer[: end + CRC_BYTES]
            if crc32c(payload) == check:
                return header, payload
            self.bad_frames += 1
