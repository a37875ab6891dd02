"""The link protocol: frame layout, operations and status codes, shared by the hardware and the
driver.

Every request gets one response. Both have the same frame::

    byte  0     1     2    3    4..7     8..9    10..11    12..15     16..             last 4
         +-----+-----+----+----+--------+-------+---------+----------+----------------+-----------+
         | D5  | BA  | op | seq| address| length| status  | CRC-32C  | payload        | CRC-32C   |
         |     |     |    |    |  u32   |  u16  |  u16    | of 0..11 | (length bytes) | of payload|
         +-----+-----+----+----+--------+-------+---------+----------+----------------+-----------+

All numbers are little-endian. Payload and its CRC are there only when the frame carries a payload:
WRITE requests, and READ, STATUS, WAIT and IDENTIFY responses. The header has a check of its own, so
a receiver in step knows where a frame ends before it believes a single byte of it, and no byte is
ever escaped. At these lengths CRC-32C detects every error of up to five bits (Koopman 2002: Hamming
distance 6 up to 5,243 bits; the longest checked piece here is 516 bytes).

Sequence numbers count requests modulo 256. The device executes requests strictly in order: one that
repeats an executed number is answered again but a WRITE or RUN is not done again; one that skips a
number, or fails its check, is answered with a NAK that carries the number which the device waits
for. IDENTIFY opens a session: it is accepted with any number, and sets it. A host keeps at most
``link_window`` requests unanswered.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

import google_crc32c

from drawbar.gen.config import EngineConfig

SYNC = b"\xd5\xba"
HEADER_BYTES = 16
CRC_BYTES = 4
MAX_PAYLOAD = 512
MAX_FRAME = HEADER_BYTES + MAX_PAYLOAD + CRC_BYTES
PROTOCOL_VERSION = 3
RESPONSE_FLAG = 0x80

_HEADER = struct.Struct("<2sBBIHH")


class Op(enum.IntEnum):
    """Operations. A response carries its request's operation with ``RESPONSE_FLAG`` set.

    A STATUS is a WAIT that waits no longer than until no program is pending.
    """

    IDENTIFY = 1
    STATUS = 2
    WRITE = 3
    READ = 4
    RUN = 5
    WAIT = 6
    NAK = 0x7F


#: What a WAIT waits for, in its address: that no program runs and none is pending, or only that
#: none is pending, so that every program but the latest one has ended.
WAIT_IDLE = 0
WAIT_PENDING = 1


class Status(enum.IntEnum):
    """What a response says of its request."""

    OK = 0
    BAD_OP = 1
    BAD_ADDRESS = 2
    BAD_LENGTH = 3
    # The reasons of a NAK:
    BAD_CRC = 4
    BAD_SEQUENCE = 5


class Space(enum.IntEnum):
    """Address spaces, in bits 28..31 of the address; the rest counts items of
    ``item_bytes(config, space)``.

    PROGRAM: 32-bit words. CORE: elements, ``vector << row_bits | row``. BIAS: accumulators,
    ``vector * lanes + lane``. WORK: elements. Items are little-endian two's complement on the wire;
    a bias takes 8 bytes, sign-extended.
    """

    PROGRAM = 0
    CORE = 1
    BIAS = 2
    WORK = 3


SPACE_SHIFT = 28


def item_bytes(config: EngineConfig, space: Space) -> int:
    """Bytes of one item of an address space; reads and writes move whole items."""
    return {
        Space.PROGRAM: 4,
        Space.CORE: config.element_bytes,
        Space.BIAS: 8,
        Space.WORK: config.element_bytes,
    }[space]


def item_count(config: EngineConfig, space: Space) -> int:
    """Items of an address space."""
    return {
        Space.PROGRAM: config.program_depth,
        Space.CORE: config.core_depth << config.row_bits,
        Space.BIAS: config.bias_depth * config.lanes,
        Space.WORK: config.work_elements,
    }[space]


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli), as in RFC 3720."""
    return google_crc32c.value(bytes(data))


def address_of(space: Space, item: int) -> int:
    return (space << SPACE_SHIFT) | item


@dataclass(frozen=True)
class Header:
    op: int
    seq: int
    address: int = 0
    length: int = 0
    status: int = 0

    def pack(self) -> bytes:
        head = _HEADER.pack(SYNC, self.op, self.seq, self.address, self.length, self.status)
        return head + crc32c(head).to_bytes(CRC_BYTES, "little")

    @classmethod
    def unpack(cls, data: bytes) -> Header | None:
        """The header in 16 bytes, or None where the sync bytes or the check do not match."""
        sync, op, seq, address, length, status = _HEADER.unpack_from(data)
        if sync != SYNC or crc32c(data[:12]) != int.from_bytes(data[12:16], "little"):
            return None
        return cls(op, seq, address, length, status)


def has_payload(header: Header) -> bool:
    """Whether ``length`` bytes of payload and their check follow this header."""
    if header.length == 0:
        return False
    if header.op & RESPONSE_FLAG:
        return header.op & ~RESPONSE_FLAG in (Op.READ, Op.STATUS, Op.WAIT, Op.IDENTIFY)
    return header.op == Op.WRITE


def pack_frame(header: Header, payload: bytes = b"") -> bytes:
    """A whole frame. ``payload`` is empty, or ``header.length`` bytes long."""
    frame = header.pack()
    if payload:
        frame += payload + crc32c(payload).to_bytes(CRC_BYTES, "little")
    return frame


# -- payload of IDENTIFY: what a host must know before it sends anything else ----------------------

_IDENTITY = struct.Struct("<HBB16s")


@dataclass(frozen=True)
class Identity:
    """Payload of an IDENTIFY response: 20 bytes."""

    protocol: int
    window: int
    config_hash: bytes

    def pack(self) -> bytes:
        return _IDENTITY.pack(self.protocol, self.window, 0, self.config_hash)

    @classmethod
    def unpack(cls, data: bytes) -> Identity:
        protocol, window, _, config_hash = _IDENTITY.unpack(data)
        return cls(protocol, window, config_hash)


# -- payload of STATUS and WAIT: counters ----------------------------------------------------------

_COUNTERS = struct.Struct("<10I")


@dataclass(frozen=True)
class Counters:
    """Payload of a STATUS or WAIT response: ten 32-bit words.

    ``running`` is 1 while a program runs. The next seven are of the latest run that has ended. In
    cycles, ``cycles == busy + stall_drain + stall_fetch + flush``. ``stages`` counts the stages
    done. ``idle`` counts the cycles in which nothing ran before this run, since the end of the one
    before or since reset, modulo 2**32: ``gen.cycles.RUN_GAP`` where this run was pending, more
    where the engine had to wait for the host. The last two count since power-on, modulo 256, up
    to when they are sent: frames rejected by a check, and frames out of sequence.
    """

    running: int
    cycles: int
    busy: int
    stall_drain: int
    stall_fetch: int
    flush: int
    stages: int
    idle: int
    crc_errors: int
    sequence_errors: int

    def pack(self) -> bytes:
        return _COUNTERS.pack(
            self.running,
            self.cycles,
            self.busy,
            self.stall_drain,
            self.stall_fetch,
            self.flush,
            self.stages,
            self.idle,
            self.crc_errors,
            self.sequence_errors,
        )

    @classmethod
    def unpack(cls, data: bytes) -> Counters:
        return cls(*_COUNTERS.unpack(data))


STATUS_BYTES = _COUNTERS.size
IDENTITY_BYTES = _IDENTITY.size
