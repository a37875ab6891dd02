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
    WAIT_IDLE,
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
    """One request.

    Members
    -------
    length:
        In bytes: of a WRITE's payload, or of the answer to a READ.
    size:
        Bytes of an item of a READ or WRITE.
    patience:
        Seconds for which the device may wait before it answers, on top of the link's timeout.
    """

    op: Op
    address: int = 0
    length: int = 0
    payload: bytes = b""
    size: int = 1
    patience: float = 0.0

    def waits_for(self, earlier: Request) -> bool:
        """Whether it is only sent when ``earlier`` is answered, since that is done again if it has
        to be sent again, and must not see what this one does: a RUN changes counters and, for all
        that the link knows, any memory, a WRITE the items that it has.
        """
        if self.op == Op.RUN:
            return earlier.op in (Op.READ, Op.STATUS, Op.WAIT)
        return self.op == Op.WRITE and earlier.op == Op.READ and self._overlaps(earlier)

    def _overlaps(self, other: Request) -> bool:
        """Whether the two have an item in common."""
        return (
            self.address < other.address + other.length // other.size
            and other.address < self.address + self.length // self.size
        )

    def frame(self, number: int) -> bytes:
        return pack_frame(Header(self.op, number, self.address, self.length), self.payload)

    def __str__(self) -> str:
        if self.op == Op.WAIT:
            return "WAIT for the end of " + (
                "all programs" if self.address == WAIT_IDLE else "all programs but the latest"
            )
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
        Request(Op.WRITE, address_of(space, item + start // size), len(piece), piece, size)
        for start, piece in pieces
    ]


def read_requests(space: Space, item: int, length: int, size: int) -> list[Request]:
    """READs of ``length`` bytes from ``item`` on; an item has ``size`` bytes."""
    step = MAX_PAYLOAD // size * size
    return [
        Request(
            Op.READ, address_of(space, item + start // size), min(step, length - start), size=size
        )
        for start in range(0, length, step)
    ]


def run_request(word: int) -> Request:
    """RUN of the program that starts at this word of program memory: at once, or when the one that
    runs has ended.
    """
    return Request(Op.RUN, address_of(Space.PROGRAM, word))


def wait_request(until: int = WAIT_IDLE, patience: float = 0.0) -> Request:
    """WAIT, answered with ``Counters``, until no program runs and none is pending (``WAIT_IDLE``)
    or until none is pending (``WAIT_PENDING``); that may take ``patience`` seconds.
    """
    return Request(Op.WAIT, until, patience=patience)


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
