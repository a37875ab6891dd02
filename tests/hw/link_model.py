"""The device's side of the link in plain Python: what hw/link.py must answer, byte for byte.

Time does not exist here but as ``silence``: a request is carried out when its last byte is there.
"""

from __future__ import annotations

from drawbar.gen.config import EngineConfig
from drawbar.gen.protocol import (
    CRC_BYTES,
    HEADER_BYTES,
    MAX_PAYLOAD,
    PROTOCOL_VERSION,
    RESPONSE_FLAG,
    SPACE_SHIFT,
    SYNC,
    WAIT_IDLE,
    WAIT_PENDING,
    Counters,
    Header,
    Identity,
    Op,
    Space,
    Status,
    crc32c,
    item_bytes,
    item_count,
    pack_frame,
)

Memory = dict[tuple[int, int], int]


def run_counters(start: int) -> list[int]:
    """What an engine of these tests counts in a run: anything that differs from run to run."""
    return [(start * 0x01234567 + 0x89ABCDEF * index) & 0xFFFFFFFF for index in range(1, 8)]


def kept(config: EngineConfig, space: int, value: int) -> int:
    """What a memory keeps of an item: of a bias the bits of an accumulator, and their sign."""
    if space != Space.BIAS:
        return value
    sign = 1 << config.acc_width - 1
    return ((value % (2 * sign) ^ sign) - sign) % (1 << 64)


class DeviceModel:
    """``memory`` holds items as unsigned numbers; ``starts`` the address of each run."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.memory: Memory = {}
        self.starts: list[int] = []
        self.crc_errors = 0
        self.sequence_errors = 0
        self._expected = 0
        self._history = 0
        self._in_step = True
        self._frame = b""

    def receive(self, data: bytes) -> bytes:
        """What is sent in answer to some bytes."""
        return b"".join(self._byte(byte) for byte in data)

    def silence(self) -> None:
        """Longer than an unfinished frame may pause."""
        if self._frame:
            self._frame = b""
            self._in_step = False

    def _byte(self, byte: int) -> bytes:
        self._frame += bytes([byte])
        if len(self._frame) <= len(SYNC) and not SYNC.startswith(self._frame):
            self._in_step = False
            self._frame = SYNC[:1] if byte == SYNC[0] else b""
        if len(self._frame) < HEADER_BYTES:
            return b""
        header = Header.unpack(self._frame)
        if header is None:
            self._frame = b""
            if not self._in_step:
                return b""
            self._in_step = False
            self.crc_errors += 1
            return self._nak(Status.BAD_CRC)
        self._in_step = True
        payload = b""
        if header.op == Op.WRITE and 1 <= header.length <= MAX_PAYLOAD:
            if len(self._frame) < HEADER_BYTES + header.length + CRC_BYTES:
                return b""
            payload = self._frame[HEADER_BYTES:-CRC_BYTES]
            check = self._frame[-CRC_BYTES:]
            if crc32c(payload) != int.from_bytes(check, "little"):
                self._frame = b""
                self._in_step = False
                self.crc_errors += 1
                return self._nak(Status.BAD_CRC)
        self._frame = b""
        return self._order(header, payload)

    def _nak(self, status: Status) -> bytes:
        return pack_frame(Header(Op.NAK | RESPONSE_FLAG, self._expected, 0, 0, status))

    def _order(self, header: Header, payload: bytes) -> bytes:
        if header.op == Op.IDENTIFY:
            self._expected = (header.seq + 1) % 256
            self._history = 1
            return self._execute(header, payload, duplicate=False)
        if header.seq == self._expected:
            self._expected = (header.seq + 1) % 256
            self._history = min(self._history + 1, self.config.link_window)
            return self._execute(header, payload, duplicate=False)
        if (self._expected - 1 - header.seq) % 256 < self._history:
            return self._execute(header, payload, duplicate=True)
        self.sequence_errors += 1
        return self._nak(Status.BAD_SEQUENCE)

    def _execute(self, header: Header, payload: bytes, duplicate: bool) -> bytes:
        status, answer = Status.OK, b""
        if header.op in (Op.WRITE, Op.READ):
            status = self._check(header)
            if status == Status.OK and header.op == Op.READ:
                answer = self._read(header)
            elif status == Status.OK and not duplicate:
                self._write(header, payload)
        elif header.op == Op.RUN:
            start = header.address & 0x0FFFFFFF
            if start >= self.config.program_depth:
                status = Status.BAD_ADDRESS
            elif not duplicate:
                self.starts.append(start)
        elif header.op == Op.STATUS:
            answer = self._counters()
        elif header.op == Op.WAIT:
            if header.address in (WAIT_IDLE, WAIT_PENDING):
                answer = self._counters()
            else:
                status = Status.BAD_ADDRESS
        elif header.op == Op.IDENTIFY:
            config = self.config
            answer = Identity(PROTOCOL_VERSION, config.link_window, config.hash).pack()
        else:
            status = Status.BAD_OP
        response = Header(
            header.op | RESPONSE_FLAG, header.seq, header.address, len(answer), status
        )
        return pack_frame(response, answer)

    def _counters(self) -> bytes:
        run = run_counters(self.starts[-1]) if self.starts else [0] * 7
        return Counters(0, *run, self.crc_errors % 256, self.sequence_errors % 256).pack()

    def _check(self, header: Header) -> Status:
        if header.address >> SPACE_SHIFT >= len(Space):
            return Status.BAD_ADDRESS
        space = Space(header.address >> SPACE_SHIFT)
        if not 1 <= header.length <= MAX_PAYLOAD or header.length % item_bytes(self.config, space):
            return Status.BAD_LENGTH
        end = (header.address & 0x0FFFFFFF) + header.length // item_bytes(self.config, space)
        return Status.BAD_ADDRESS if end > item_count(self.config, space) else Status.OK

    def _items(self, header: Header) -> tuple[int, list[tuple[int, int]]]:
        space = Space(header.address >> SPACE_SHIFT)
        size = item_bytes(self.config, space)
        first = header.address & 0x0FFFFFFF
        return size, [(space, first + index) for index in range(header.length // size)]

    def _write(self, header: Header, payload: bytes) -> None:
        size, items = self._items(header)
        for index, item in enumerate(items):
            value = int.from_bytes(payload[index * size : (index + 1) * size], "little")
            self.memory[item] = kept(self.config, item[0], value)

    def _read(self, header: Header) -> bytes:
        size, items = self._items(header)
        return b"".join(self.memory.get(item, 0).to_bytes(size, "little") for item in items)
