"""The golden board: the golden model behind the very bytes of a board. Needs no compiler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from drawbar.gen.config import EngineConfig
from drawbar.gen.cycles import Cycles
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
    has_payload,
    item_bytes,
    item_count,
    pack_frame,
)
from drawbar.sim.golden import GoldenEngine
from drawbar.sw.driver.transport import Transport

NUMBERS = 256


class Engine(Protocol):
    """What the board needs of an engine; ``GoldenEngine`` is one."""

    program: np.ndarray
    core: np.ndarray
    bias: np.ndarray
    work: np.ndarray

    def run(self, address: int) -> list[Cycles]: ...


class GoldenBoard(Transport):
    """A board at byte level: finds frames, checks them, orders and executes them, and answers.

    Everything happens within ``write``, so an answer waits before anybody reads; ``read`` never
    waits. A RUN runs at once and to its end, in no time: no program is ever pending, none runs when
    a WAIT or STATUS looks, and ``idle`` is 0. A program that the engine cannot run raises from
    ``write`` the golden model's own error, where hardware would do anything.

    Arguments
    ---------
    config:
        The engine to be.
    engine:
        Runs the programs; a ``GoldenEngine`` without it.
    """

    def __init__(self, config: EngineConfig, engine: Engine | None = None) -> None:
        self.config = config
        self.memories = Memories(config, engine or GoldenEngine(config))
        self._received = bytearray()
        self._answers = bytearray()
        self._in_step = True
        self._expected = 0
        self._history = 0
        self._cycles = Cycles()
        self._stages = 0
        self._crc_errors = 0
        self._sequence_errors = 0

    # -- transport ---------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        self._received += data
        while self._take_frame():
            pass

    def read(self, timeout: float) -> bytes:
        data = bytes(self._answers)
        self._answers.clear()
        return data

    def close(self) -> None:
        self._answers.clear()

    def describe(self) -> str:
        return f"golden board {self.config.name!r}"

    # -- frames ------------------------------------------------------------------------------------

    def _take_frame(self) -> bool:
        """Take one frame, or what is none, off what was received; False where more bytes are
        needed.
        """
        received = self._received
        start = received.find(SYNC)
        if start < 0:
            # The last byte may be the first half of the sync bytes.
            start = len(received) - (received[-1:] == SYNC[:1])
        if start:
            self._in_step = False
            del received[:start]
        if len(received) < HEADER_BYTES:
            return False
        header = Header.unpack(bytes(received[:HEADER_BYTES]))
        if header is None:
            del received[:HEADER_BYTES]
            # Out of step it was chance, or belongs to a burst that got its NAK.
            if self._in_step:
                self._damaged()
            self._in_step = False
            return True
        payload = b""
        end = HEADER_BYTES
        if has_payload(header) and header.length <= MAX_PAYLOAD:
            end += header.length + CRC_BYTES
            if len(received) < end:
                return False
            payload = bytes(received[HEADER_BYTES : HEADER_BYTES + header.length])
        check = int.from_bytes(received[end - CRC_BYTES : end], "little")
        del received[:end]
        self._in_step = True
        if payload and crc32c(payload) != check:
            self._in_step = False
            self._damaged()
        else:
            self._order(header, payload)
        return True

    def _damaged(self) -> None:
        self._crc_errors += 1
        self._nak(Status.BAD_CRC)

    def _nak(self, reason: Status) -> None:
        self._answer(Header(Op.NAK | RESPONSE_FLAG, self._expected, status=reason))

    def _answer(self, header: Header, payload: bytes = b"") -> None:
        self._answers += pack_frame(header, payload)

    def _order(self, header: Header, payload: bytes) -> None:
        """Execute what comes in order, answer again what was executed, refuse the rest."""
        window = self.config.link_window
        behind = (self._expected - header.seq) % NUMBERS
        if header.op == Op.IDENTIFY:
            self._expected = (header.seq + 1) % NUMBERS
            self._history = 1
            self._execute(header, payload, again=False)
        elif behind == 0:
            self._expected = (header.seq + 1) % NUMBERS
            self._history = min(self._history + 1, window)
            self._execute(header, payload, again=False)
        elif behind <= self._history:
            self._execute(header, payload, again=True)
        else:
            self._sequence_errors += 1
            self._nak(Status.BAD_SEQUENCE)

    # -- operations --------------------------------------------------------------------------------

    def _execute(self, header: Header, payload: bytes, *, again: bool) -> None:
        operations: dict[int, Callable[[Header, bytes, bool], tuple[Status, bytes]]] = {
            Op.IDENTIFY: self._identify,
            Op.STATUS: self._status,
            Op.WRITE: self._write,
            Op.READ: self._read,
            Op.RUN: self._run,
            Op.WAIT: self._wait,
        }
        operation = operations.get(header.op)
        status, answer = operation(header, payload, again) if operation else (Status.BAD_OP, b"")
        op = (header.op | RESPONSE_FLAG) & 0xFF
        self._answer(Header(op, header.seq, header.address, len(answer), status), answer)

    def _identify(self, header: Header, payload: bytes, again: bool) -> tuple[Status, bytes]:
        identity = Identity(PROTOCOL_VERSION, self.config.link_window, self.config.hash)
        return Status.OK, identity.pack()

    def _status(self, header: Header, payload: bytes, again: bool) -> tuple[Status, bytes]:
        cycles = self._cycles
        counters = Counters(
            running=0,
            cycles=cycles.total,
            busy=cycles.busy,
            stall_drain=cycles.stall_drain,
            stall_fetch=cycles.stall_fetch,
            flush=cycles.flush,
            stages=self._stages,
            idle=0,
            crc_errors=self._crc_errors % 256,
            sequence_errors=self._sequence_errors % 256,
        )
        return Status.OK, counters.pack()

    def _wait(self, header: Header, payload: bytes, again: bool) -> tuple[Status, bytes]:
        if header.address not in (WAIT_IDLE, WAIT_PENDING):
            return Status.BAD_ADDRESS, b""
        return self._status(header, payload, again)

    def _write(self, header: Header, payload: bytes, again: bool) -> tuple[Status, bytes]:
        status = self.memories.check(header.address, header.length)
        if status == Status.OK and not again:
            self.memories.write(header.address, payload)
        return status, b""

    def _read(self, header: Header, payload: bytes, again: bool) -> tuple[Status, bytes]:
        status = self.memories.check(header.address, header.length)
        if status != Status.OK:
            return status, b""
        return status, self.memories.read(header.address, header.length)

    def _run(self, header: Header, payload: bytes, again: bool) -> tuple[Status, bytes]:
        word = header.address % (1 << SPACE_SHIFT)
        if word >= self.config.program_depth or word % self.config.fetch_words:
            return Status.BAD_ADDRESS, b""
        if not again:
            stages = self.memories.engine.run(word)
            self._cycles = sum(stages, Cycles())
            self._stages = len(stages)
        return Status.OK, b""


class Memories:
    """An engine's memories as the link addresses them: items, little-endian two's complement."""

    def __init__(self, config: EngineConfig, engine: Engine) -> None:
        self.config = config
        self.engine = engine

    def check(self, address: int, length: int) -> Status:
        """Whether ``length`` bytes from ``address`` on are whole items that exist."""
        space, item = divmod(address, 1 << SPACE_SHIFT)
        if space not in list(Space):
            return Status.BAD_ADDRESS
        size = item_bytes(self.config, Space(space))
        if not 0 < length <= MAX_PAYLOAD or length % size:
            return Status.BAD_LENGTH
        if item + length // size > item_count(self.config, Space(space)):
            return Status.BAD_ADDRESS
        return Status.OK

    def write(self, address: int, data: bytes) -> None:
        memory, dtype, index, exists = self._place(address, len(data))
        values = np.frombuffer(data, dtype)
        if memory is self.engine.bias:
            values = values << (64 - self.config.acc_width) >> (64 - self.config.acc_width)
        memory.reshape(-1)[index[exists]] = values[exists]

    def read(self, address: int, length: int) -> bytes:
        memory, dtype, index, exists = self._place(address, length)
        values = np.zeros(len(index), dtype)
        values[exists] = memory.reshape(-1)[index[exists]]
        return values.tobytes()

    def _place(
        self, address: int, length: int
    ) -> tuple[np.ndarray, np.dtype, np.ndarray, np.ndarray]:
        """Memory, item type, flat indices of the items, and which of them exist: a core vector may
        have holes.
        """
        space = Space(address >> SPACE_SHIFT)
        size = item_bytes(self.config, space)
        item = address % (1 << SPACE_SHIFT)
        index = np.arange(item, item + length // size)
        exists = np.ones(len(index), bool)
        if space == Space.CORE:
            vector, row = index >> self.config.row_bits, index % (1 << self.config.row_bits)
            index, exists = vector * self.config.rows + row, row < self.config.rows
        memory = {
            Space.PROGRAM: self.engine.program,
            Space.CORE: self.engine.core,
            Space.BIAS: self.engine.bias,
            Space.WORK: self.engine.work,
        }[space]
        return memory, np.dtype(f"<{'u' if space == Space.PROGRAM else 'i'}{size}"), index, exists
