"""gen/protocol.py: frames, checks and payloads, byte for byte."""

from __future__ import annotations

import random
import re

import pytest

from drawbar.gen import protocol
from drawbar.gen.config import EngineConfig
from drawbar.gen.presets import PRESETS
from drawbar.gen.protocol import (
    HEADER_BYTES,
    MAX_FRAME,
    MAX_PAYLOAD,
    RESPONSE_FLAG,
    SYNC,
    Counters,
    Header,
    Identity,
    Op,
    Space,
    Status,
    address_of,
    crc32c,
    has_payload,
    item_bytes,
    item_count,
    pack_frame,
)


@pytest.mark.parametrize(
    ("data", "check"),
    [
        # RFC 3720, appendix B.4.
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(reversed(range(32))), 0x113FDB5C),
        (b"", 0),
        (b"123456789", 0xE3069283),
    ],
)
def test_crc32c_is_that_of_the_rfc(data: bytes, check: int) -> None:
    assert crc32c(data) == check
    assert crc32c(bytearray(data)) == check  # type: ignore[arg-type]


def test_a_frame_is_at_most_640_bytes() -> None:
    header = Header(op=Op.WRITE, seq=0, length=MAX_PAYLOAD)
    assert len(pack_frame(header, bytes(MAX_PAYLOAD))) == MAX_FRAME == 16 + 512 + 4
    assert MAX_FRAME <= 640


def test_a_header_byte_for_byte() -> None:
    header = Header(op=Op.READ, seq=0x12, address=0x89ABCDEF, length=0x0102, status=0x0304)
    packed = header.pack()
    assert packed[:12] == bytes.fromhex("d5ba 04 12 efcdab89 0201 0403")
    assert packed[12:] == crc32c(packed[:12]).to_bytes(4, "little")
    assert len(packed) == HEADER_BYTES


def random_header(rng: random.Random) -> Header:
    return Header(
        op=rng.randrange(256),
        seq=rng.randrange(256),
        address=rng.randrange(1 << 32),
        length=rng.randrange(MAX_PAYLOAD + 1),
        status=rng.randrange(1 << 16),
    )


def test_headers_come_back() -> None:
    rng = random.Random(1)
    for _ in range(500):
        header = random_header(rng)
        assert Header.unpack(header.pack()) == header
        assert Header.unpack(header.pack() + b"payload") == header


def test_a_header_with_another_sync_is_refused_even_with_a_good_check() -> None:
    body = b"\xd5\xbb" + Header(op=Op.RUN, seq=1).pack()[2:12]
    assert Header.unpack(body + crc32c(body).to_bytes(4, "little")) is None
    assert SYNC == b"\xd5\xba"


@pytest.mark.parametrize(
    ("op", "length", "carries"),
    [
        (Op.WRITE, 8, True),
        (Op.WRITE, 0, False),
        (Op.READ, 8, False),
        (Op.RUN, 8, False),
        (Op.STATUS, 8, False),
        (Op.IDENTIFY, 8, False),
        (Op.WRITE | RESPONSE_FLAG, 8, False),
        (Op.READ | RESPONSE_FLAG, 8, True),
        (Op.READ | RESPONSE_FLAG, 0, False),
        (Op.STATUS | RESPONSE_FLAG, 40, True),
        (Op.WAIT, 40, False),
        (Op.WAIT | RESPONSE_FLAG, 40, True),
        (Op.IDENTIFY | RESPONSE_FLAG, 20, True),
        (Op.RUN | RESPONSE_FLAG, 8, False),
        (Op.NAK | RESPONSE_FLAG, 8, False),
    ],
)
def test_which_frames_carry_a_payload(op: int, length: int, carries: bool) -> None:
    assert has_payload(Header(op=op, seq=0, length=length)) is carries


def accepted(frame: bytes) -> bool:
    """Whether a receiver that starts at the frame's first byte would take it for good."""
    header = Header.unpack(frame)
    if header is None:
        return False
    if not has_payload(header):
        return True
    payload = frame[HEADER_BYTES : HEADER_BYTES + header.length]
    check = frame[HEADER_BYTES + header.length : HEADER_BYTES + header.length + 4]
    return len(check) == 4 and crc32c(payload) == int.from_bytes(check, "little")


@pytest.mark.parametrize("length", [1, 2, 4, 31, 128, 511, 512])
def test_payloads_are_checked(length: int) -> None:
    rng = random.Random(length)
    payload = rng.randbytes(length)
    frame = pack_frame(Header(op=Op.WRITE, seq=3, length=length), payload)
    assert len(frame) == HEADER_BYTES + length + 4
    assert frame[HEADER_BYTES:-4] == payload
    assert accepted(frame)
    assert not accepted(frame[:-1])


@pytest.mark.parametrize("length", [0, 1, 64, 512])
def test_every_error_of_up_to_five_bits_is_found(length: int) -> None:
    """A seeded sample, half of it with all the flipped bits in one of the frame's two pieces."""
    rng = random.Random(1000 + length)
    op = Op.WRITE if length else Op.RUN
    frame = pack_frame(Header(op=op, seq=9, address=77, length=length), rng.randbytes(length))
    bits = 8 * len(frame)
    regions = [range(bits), range(8 * HEADER_BYTES)]
    if length:
        regions.append(range(8 * HEADER_BYTES, bits))
    for trial in range(3000):
        value = int.from_bytes(frame, "little")
        for bit in rng.sample(regions[trial % len(regions)], 1 + trial % 5):
            value ^= 1 << bit
        assert not accepted(value.to_bytes(len(frame), "little"))


@pytest.mark.parametrize("length", [0, 8])
def test_every_single_bit_error_is_found(length: int) -> None:
    op = Op.WRITE if length else Op.RUN
    frame = pack_frame(Header(op=op, seq=9, length=length), bytes(length))
    for bit in range(8 * len(frame)):
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        assert not accepted(bytes(damaged))


# -- address spaces and payloads -------------------------------------------------------------------


@pytest.mark.parametrize("config", PRESETS.values(), ids=list(PRESETS))
def test_address_spaces_hold_the_memories(config: EngineConfig) -> None:
    element = config.data_width // 8
    assert {space: item_bytes(config, space) for space in Space} == {
        Space.PROGRAM: 4,
        Space.CORE: element,
        Space.BIAS: 8,
        Space.WORK: element,
    }
    assert item_count(config, Space.PROGRAM) == config.program_depth
    assert item_count(config, Space.CORE) >= config.core_depth * config.rows
    assert item_count(config, Space.BIAS) == config.bias_depth * config.lanes
    assert item_count(config, Space.WORK) == config.work_depth * config.lanes


def test_core_items_are_spaced_by_powers_of_two() -> None:
    config = EngineConfig(rows=6, core_depth=10)
    assert item_count(config, Space.CORE) == 10 * 8


def test_an_address_holds_its_space_and_its_item() -> None:
    assert address_of(Space.PROGRAM, 5) == 5
    assert address_of(Space.WORK, 0xABCDEF) == 0x30ABCDEF


def test_identity_byte_for_byte() -> None:
    identity = Identity(protocol=1, window=4, config_hash=bytes(range(16)))
    assert identity.pack() == bytes.fromhex("0100 04 00") + bytes(range(16))
    assert len(identity.pack()) == protocol.IDENTITY_BYTES == 20
    assert Identity.unpack(identity.pack()) == identity


def test_counters_byte_for_byte() -> None:
    counters = Counters(1, 2, 3, 4, 5, 6, 7, 8, 9, 0xFFFFFFFF)
    packed = counters.pack()
    assert len(packed) == protocol.STATUS_BYTES == 40
    words = [int.from_bytes(packed[i : i + 4], "little") for i in range(0, 40, 4)]
    assert words == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0xFFFFFFFF]
    assert Counters.unpack(packed) == counters


def test_operations_and_status_codes_are_what_devices_in_the_field_speak() -> None:
    assert {op.name: op.value for op in Op} == {
        "IDENTIFY": 1,
        "STATUS": 2,
        "WRITE": 3,
        "READ": 4,
        "RUN": 5,
        "WAIT": 6,
        "NAK": 0x7F,
    }
    assert [status.value for status in Status] == list(range(len(Status)))


def test_the_frame_in_the_documentation_is_the_frame() -> None:
    """Field offsets of the drawing at the top of the module."""
    drawing = re.search(r"byte.*", protocol.__doc__ or "")
    assert drawing
    assert drawing.group().split()[1:] == [
        *("0", "1", "2", "3", "4..7", "8..9", "10..11", "12..15", "16..", "last", "4"),
    ]
