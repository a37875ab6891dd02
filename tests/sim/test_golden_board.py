"""The golden board, byte by byte: answers to good, damaged and unexpected frames."""

from __future__ import annotations

import numpy as np
import pytest

from drawbar.gen.config import EngineConfig
from drawbar.gen.cycles import Cycles
from drawbar.gen.protocol import (
    MAX_PAYLOAD,
    PROTOCOL_VERSION,
    RESPONSE_FLAG,
    SPACE_SHIFT,
    WAIT_IDLE,
    WAIT_PENDING,
    Counters,
    Header,
    Identity,
    Op,
    Space,
    Status,
    address_of,
    pack_frame,
)
from drawbar.sim.golden_board import GoldenBoard
from drawbar.sw.driver.frames import FrameReader

CONFIG = EngineConfig(
    name="test", rows=3, lanes=4, core_depth=20, work_depth=30, bias_depth=16, program_depth=64
)
NAK = Op.NAK | RESPONSE_FLAG


class Engine:
    """Memories, and a program of two stages of which it counts the runs."""

    def __init__(self) -> None:
        self.program = np.zeros(CONFIG.program_depth, np.uint32)
        self.core = np.zeros((CONFIG.core_depth, CONFIG.rows), np.int64)
        self.bias = np.zeros((CONFIG.bias_depth, CONFIG.lanes), np.int64)
        self.work = np.zeros(CONFIG.work_elements, np.int64)
        self.runs: list[int] = []

    def run(self, address: int) -> list[Cycles]:
        self.runs.append(address)
        return [Cycles(10, 2, 3, 4), Cycles(100, 20, 30, 40)]


class Wire:
    """A board with an engine, and frames in place of bytes."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.board = GoldenBoard(CONFIG, self.engine)

    def send(self, data: bytes) -> list[tuple[Header, bytes]]:
        self.board.write(data)
        return list(FrameReader().feed(self.board.read(0.0)))

    def ask(
        self, op: int, number: int, address: int = 0, length: int = 0, payload: bytes = b""
    ) -> tuple[Header, bytes]:
        header = Header(op, number, address, length or len(payload))
        (answer,) = self.send(pack_frame(header, payload))
        return answer

    def status(self, number: int) -> Counters:
        return Counters.unpack(self.ask(Op.STATUS, number)[1])


@pytest.fixture
def wire() -> Wire:
    return Wire()


def test_identify_opens_with_any_number(wire: Wire) -> None:
    for number in (200, 3, 255, 0):
        header, payload = wire.ask(Op.IDENTIFY, number)
        assert header == Header(Op.IDENTIFY | RESPONSE_FLAG, number, length=len(payload))
        assert Identity.unpack(payload) == Identity(
            PROTOCOL_VERSION, CONFIG.link_window, CONFIG.hash
        )
        assert wire.ask(Op.STATUS, (number + 1) % 256)[0].op == Op.STATUS | RESPONSE_FLAG


ITEMS = [
    (Space.PROGRAM, 60, np.array([1, 2**32 - 1, 7, 8], "<u4")),
    (Space.WORK, 116, np.array([-1, 2, -32768, 32767], "<i2")),
    (Space.BIAS, 60, np.array([-1, 2, -(2**39), 2**39 - 1], "<i8")),
]


@pytest.mark.parametrize(("space", "item", "values"), ITEMS, ids=lambda v: str(v)[:12])
def test_the_last_items_of_a_memory(wire: Wire, space: Space, item: int, values) -> None:
    size = values.dtype.itemsize
    wire.ask(Op.IDENTIFY, 0)
    header, _ = wire.ask(Op.WRITE, 1, address_of(space, item), payload=values.tobytes())
    assert header == Header(Op.WRITE | RESPONSE_FLAG, 1, address_of(space, item))
    memory = {
        Space.PROGRAM: wire.engine.program,
        Space.WORK: wire.engine.work,
        Space.BIAS: wire.engine.bias,
    }[space]
    np.testing.assert_array_equal(memory.reshape(-1)[-4:], values)
    header, payload = wire.ask(Op.READ, 2, address_of(space, item), length=4 * size)
    assert (header.status, payload) == (Status.OK, values.tobytes())
    # One item more does not exist.
    for number, item_more in ((3, item + 1), (4, item + 4), (5, (1 << SPACE_SHIFT) - 1)):
        header, payload = wire.ask(
            Op.READ, number, address_of(space, item_more), length=values.nbytes
        )
        assert (header.status, payload) == (Status.BAD_ADDRESS, b"")


def test_core_vectors_have_holes(wire: Wire) -> None:
    wire.ask(Op.IDENTIFY, 0)
    values = np.arange(1, 9, dtype="<i2")
    address = address_of(Space.CORE, 18 << 2)
    assert wire.ask(Op.WRITE, 1, address, payload=values.tobytes())[0].status == Status.OK
    np.testing.assert_array_equal(wire.engine.core[18:], [[1, 2, 3], [5, 6, 7]])
    assert not wire.engine.core[:18].any()
    payload = wire.ask(Op.READ, 2, address, length=16)[1]
    np.testing.assert_array_equal(np.frombuffer(payload, "<i2"), [1, 2, 3, 0, 5, 6, 7, 0])
    header, _ = wire.ask(Op.WRITE, 3, address_of(Space.CORE, 20 << 2), payload=b"ab")
    assert header.status == Status.BAD_ADDRESS


def test_a_bias_keeps_its_accumulator_bits(wire: Wire) -> None:
    wire.ask(Op.IDENTIFY, 0)
    values = np.array([1 << 39, -(1 << 39) - 1, (1 << 40) + 5], "<i8")
    wire.ask(Op.WRITE, 1, address_of(Space.BIAS, 4), payload=values.tobytes())
    expected = [-(1 << 39), (1 << 39) - 1, 5]
    np.testing.assert_array_equal(wire.engine.bias[1, :3], expected)
    payload = wire.ask(Op.READ, 2, address_of(Space.BIAS, 4), length=24)[1]
    np.testing.assert_array_equal(np.frombuffer(payload, "<i8"), expected)


@pytest.mark.parametrize(
    ("op", "address", "length", "status"),
    [
        (9, 0, 0, Status.BAD_OP),
        (Op.READ, address_of(Space.BIAS, 0), 12, Status.BAD_LENGTH),
        (Op.READ, address_of(Space.WORK, 0), 0, Status.BAD_LENGTH),
        (Op.READ, address_of(Space.WORK, 0), MAX_PAYLOAD + 2, Status.BAD_LENGTH),
        (Op.WRITE, address_of(Space.WORK, 0), 0, Status.BAD_LENGTH),
        (Op.READ, 4 << SPACE_SHIFT, 2, Status.BAD_ADDRESS),
        (Op.RUN, address_of(Space.PROGRAM, 64), 0, Status.BAD_ADDRESS),
        (Op.WAIT, 2, 0, Status.BAD_ADDRESS),
        (Op.WAIT, address_of(Space.CORE, 0), 0, Status.BAD_ADDRESS),
    ],
)
def test_refusals_take_their_number(
    wire: Wire, op: int, address: int, length: int, status: Status
) -> None:
    wire.ask(Op.IDENTIFY, 0)
    header, payload = wire.ask(op, 1, address, length)
    assert (header, payload) == (Header(op | RESPONSE_FLAG, 1, address, status=status), b"")
    assert wire.ask(Op.STATUS, 2)[0].op == Op.STATUS | RESPONSE_FLAG
    assert wire.engine.runs == []


def test_counters_are_of_the_latest_run(wire: Wire) -> None:
    wire.ask(Op.IDENTIFY, 0)
    assert wire.status(1) == Counters(*[0] * 10)
    for number in (2, 4):
        assert wire.ask(Op.RUN, number, address_of(Space.PROGRAM, 5))[0].status == Status.OK
        assert wire.status(number + 1) == Counters(0, 209, 110, 22, 33, 44, 2, 0, 0, 0)
    assert wire.engine.runs == [5, 5]


@pytest.mark.parametrize("until", [WAIT_IDLE, WAIT_PENDING])
def test_a_wait_is_answered_at_once_with_the_counters(wire: Wire, until: int) -> None:
    wire.ask(Op.IDENTIFY, 0)
    assert Counters.unpack(wire.ask(Op.WAIT, 1, until)[1]) == Counters(*[0] * 10)
    wire.ask(Op.RUN, 2, address_of(Space.PROGRAM, 5))
    header, payload = wire.ask(Op.WAIT, 3, until)
    assert header == Header(Op.WAIT | RESPONSE_FLAG, 3, until, length=40)
    assert Counters.unpack(payload) == Counters(0, 209, 110, 22, 33, 44, 2, 0, 0, 0)
    assert wire.ask(Op.WAIT, 3, until) == (header, payload)
    assert wire.engine.runs == [5]


def test_a_repeated_request_is_answered_again_and_done_once(wire: Wire) -> None:
    wire.ask(Op.IDENTIFY, 254)
    first = wire.ask(Op.RUN, 255)
    wire.ask(Op.WRITE, 0, address_of(Space.WORK, 0), payload=b"ab")
    wire.ask(Op.WRITE, 1, address_of(Space.WORK, 0), payload=b"cd")
    assert wire.ask(Op.RUN, 255) == first
    header, _ = wire.ask(Op.WRITE, 0, address_of(Space.WORK, 0), payload=b"ab")
    assert (header.op, header.seq) == (Op.WRITE | RESPONSE_FLAG, 0)
    assert wire.engine.runs == [0]
    assert wire.ask(Op.READ, 2, address_of(Space.WORK, 0), 2)[1] == b"cd"
    # A READ is executed again, and a refusal refused again.
    wire.ask(Op.WRITE, 3, address_of(Space.WORK, 0), payload=b"ef")
    assert wire.ask(Op.READ, 2, address_of(Space.WORK, 0), 2)[1] == b"ef"
    refused = wire.ask(Op.WRITE, 4, address_of(Space.WORK, 9999), payload=b"ab")
    assert wire.ask(Op.WRITE, 4, address_of(Space.WORK, 9999), payload=b"ab") == refused


def test_numbers_that_are_neither_next_nor_in_the_window_get_a_nak(wire: Wire) -> None:
    wire.ask(Op.IDENTIFY, 10)
    # Before 10 there is nothing to repeat, although the window is wider.
    refused = 0
    for number in (9, 12, 139, 250):
        assert wire.ask(Op.RUN, number) == (Header(NAK, 11, status=Status.BAD_SEQUENCE), b"")
        refused += 1
    for number in range(11, 20):
        wire.ask(Op.STATUS, number)
    assert wire.ask(Op.STATUS, 20 - CONFIG.link_window)[0].op == Op.STATUS | RESPONSE_FLAG
    assert wire.ask(Op.STATUS, 19 - CONFIG.link_window)[0].op == NAK
    assert wire.status(20).sequence_errors == refused + 1
    # A new session has no past.
    wire.ask(Op.IDENTIFY, 20)
    assert wire.ask(Op.STATUS, 19)[0].op == NAK
    assert wire.engine.runs == []


@pytest.mark.parametrize("at", [3, 13, 17, 21], ids=["header", "its check", "payload", "its check"])
def test_a_damaged_frame_gets_a_nak_and_changes_nothing(wire: Wire, at: int) -> None:
    wire.ask(Op.IDENTIFY, 0)
    frame = bytearray(pack_frame(Header(Op.WRITE, 1, address_of(Space.WORK, 0), 4), b"abcd"))
    frame[at] ^= 0x20
    assert wire.send(bytes(frame)) == [(Header(NAK, 1, status=Status.BAD_CRC), b"")]
    assert not wire.engine.work.any()
    frame[at] ^= 0x20
    ((header, _),) = wire.send(bytes(frame))
    assert (header.op, header.status) == (Op.WRITE | RESPONSE_FLAG, Status.OK)
    assert wire.status(2).crc_errors == 1


def test_noise_is_skipped_without_an_answer(wire: Wire) -> None:
    wire.ask(Op.IDENTIFY, 0)
    # Out of step, what looks like a header and is none is noise as well.
    assert wire.send(b"\x00\xd5\x11" + b"\xd5\xba" + bytes(14) + b"\xff" * 40) == []
    assert wire.status(1).crc_errors == 0


def test_a_burst_of_damage_gets_one_nak(wire: Wire) -> None:
    wire.ask(Op.IDENTIFY, 0)
    payload = bytearray(pack_frame(Header(Op.WRITE, 1, address_of(Space.WORK, 0), 4), b"abcd"))
    payload[17] ^= 1
    header = bytearray(pack_frame(Header(Op.STATUS, 2)))
    header[2] ^= 1
    assert [answer.op for answer, _ in wire.send(bytes(payload + header + header))] == [NAK]
    assert wire.status(1).crc_errors == 1
    # A good header puts the receiver back in step.
    assert [answer.op for answer, _ in wire.send(bytes(header + header))] == [NAK]


def test_frames_may_come_byte_by_byte(wire: Wire) -> None:
    stream = pack_frame(Header(Op.IDENTIFY, 0))
    stream += pack_frame(Header(Op.WRITE, 1, address_of(Space.WORK, 2), 4), b"abcd")
    stream += b"\xd5" + pack_frame(Header(Op.READ, 2, address_of(Space.WORK, 2), 4))
    answers = [answer for byte in stream for answer in wire.send(bytes([byte]))]
    assert [header.seq for header, _ in answers] == [0, 1, 2]
    assert answers[2][1] == b"abcd"


def test_a_payload_may_hold_a_frame(wire: Wire) -> None:
    wire.ask(Op.IDENTIFY, 0)
    inner = pack_frame(Header(Op.RUN, 2))
    outer = bytearray(pack_frame(Header(Op.WRITE, 1, address_of(Space.WORK, 0), len(inner)), inner))
    outer[-1] ^= 1
    assert [header.op for header, _ in wire.send(bytes(outer))] == [NAK]
    outer[-1] ^= 1
    assert [header.op for header, _ in wire.send(bytes(outer))] == [Op.WRITE | RESPONSE_FLAG]
    assert wire.engine.runs == []
