"""Frames out of a damaged stream."""

from __future__ import annotations

import random

from drawbar.gen.protocol import (
    MAX_FRAME,
    MAX_PAYLOAD,
    RESPONSE_FLAG,
    SYNC,
    Header,
    Op,
    Space,
    pack_frame,
)
from drawbar.sw.driver.frames import FrameReader, Request, read_requests, write_requests

READ = Op.READ | RESPONSE_FLAG


def answer(number: int, payload: bytes) -> bytes:
    return pack_frame(Header(READ, number, length=len(payload)), payload)


def test_frames_come_whole_from_any_cut() -> None:
    rng = random.Random(1)
    payloads = [rng.randbytes(rng.randint(0, MAX_PAYLOAD)) for _ in range(40)]
    stream = b"".join(answer(n, p) for n, p in enumerate(payloads))
    reader, found, at = FrameReader(), [], 0
    while at < len(stream):
        size = rng.randint(1, 700)
        found += reader.feed(stream[at : at + size])
        at += size
    assert [(h.seq, p) for h, p in found] == list(enumerate(payloads))
    assert reader.bad_frames == 0


def test_noise_between_frames_is_skipped() -> None:
    rng = random.Random(2)
    stream = b"".join(
        rng.randbytes(30) + SYNC + rng.randbytes(3) + SYNC[:1] + answer(n, bytes([n]) * 9)
        for n in range(50)
    )
    reader = FrameReader()
    # The noise before a frame never hides it: the reader tries every place where a header may
    # start.
    assert [h.seq for h, _ in reader.feed(stream)] == list(range(50))
    assert reader.bad_frames >= 50


def test_a_frame_within_damaged_data_is_not_believed() -> None:
    inner = answer(7, b"inner")
    outer = bytearray(answer(3, inner))
    outer[-1] ^= 1
    reader = FrameReader()
    assert list(reader.feed(bytes(outer) + answer(4, b"next"))) == [
        (Header(READ, 4, length=4), b"next")
    ]
    assert reader.bad_frames == 1


def test_every_single_bit_error_is_found() -> None:
    frame = answer(9, b"payload")
    for bit in range(8 * len(frame)):
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        reader = FrameReader()
        assert list(reader.feed(bytes(damaged) + bytes(MAX_FRAME))) == []


def test_reset_forgets_half_a_frame() -> None:
    reader = FrameReader()
    assert list(reader.feed(answer(1, b"x" * 100)[:60])) == []
    reader.reset()
    assert [h.seq for h, _ in reader.feed(answer(2, b"y"))] == [2]


def test_transfers_are_cut_into_frames() -> None:
    data = bytes(range(256)) * 5
    writes = write_requests(Space.BIAS, 3, data, 8)
    assert b"".join(r.payload for r in writes) == data
    assert [r.address & 0xFFFF for r in writes] == [3, 3 + 64, 3 + 128]
    assert {r.address >> 28 for r in writes} == {Space.BIAS}
    assert [r.length for r in writes] == [512, 512, 256]
    reads = read_requests(Space.BIAS, 3, len(data), 8)
    assert [(r.address, r.length) for r in reads] == [(r.address, r.length) for r in writes]


def test_requests_say_what_they_are() -> None:
    assert str(write_requests(Space.CORE, 5, b"abcd", 2)[0]) == "WRITE of 4 bytes at CORE 5"
    assert str(Request(Op.STATUS)) == "STATUS"
