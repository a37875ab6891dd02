from __future__ import annotations

import time
from pathlib import Path

import pytest
from echo import Echo

from drawbar.gen.errors import LinkError, ToolError
from drawbar.gen.presets import PRESETS
from drawbar.gen.protocol import (
    HEADER_BYTES,
    IDENTITY_BYTES,
    RESPONSE_FLAG,
    Header,
    Identity,
    Op,
    Status,
    pack_frame,
)
from drawbar.sim import board as board_module
from drawbar.sim.board import CYCLES_PER_SECOND, SimBoard

#: Cycles from a byte's last on the line to the echo to its first on the line back, less one.
ECHO_LATENCY = 1


@pytest.fixture(scope="module")
def built() -> None:
    SimBoard.of_component(Echo()).close()


@pytest.fixture
def board(built):
    with SimBoard.of_component(Echo()) as board:
        yield board


def read_all(board: SimBoard, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = board.read(0.01)
        assert part
        data += part
    return data


def test_bytes_there_and_back_twice(board: SimBoard) -> None:
    for start in (0, 100):
        sent = bytes((start + i) % 256 for i in range(1000))
        board.write(sent)
        assert read_all(board, 1000) == bytes((b + 1) % 256 for b in sent)
    assert board.read(0.001) == b""


def test_same_calls_same_cycles(built: None) -> None:
    counts = []
    for _ in range(2):
        with SimBoard.of_component(Echo()) as board:
            board.stall(seed=3, rx=100, tx=100)
            board.write(bytes(500))
            assert read_all(board, 500) == b"\x01" * 500
            counts.append(board.cycles)
    assert counts[0] == counts[1]


def test_a_byte_takes_its_cycles_on_each_line(board: SimBoard) -> None:
    """The first one ``pace`` cycles to the board, one in the echo, ``pace`` back; both lines carry
    bytes at the same time.
    """
    for pace in (40, 7, 1):
        board.pace(pace)
        before = board.cycles
        board.write(b"a")
        assert board.cycles - before == pace
        assert board.read(0.01) == b"b"
        quiet = board_module.GAP_CYCLES + pace - 1
        assert board.cycles - before == 2 * pace + ECHO_LATENCY + quiet
        before = board.cycles
        board.write(bytes(100))
        assert board.cycles - before == 100 * pace
        assert read_all(board, 100) == b"\x01" * 100
        assert board.cycles - before == 101 * pace + ECHO_LATENCY + quiet
    with pytest.raises(ValueError, match="cycles=0"):
        board.pace(0)


def test_a_paced_board_still_stalls(board: SimBoard) -> None:
    board.pace(3)
    board.stall(seed=1, rx=128, tx=128)
    before = board.cycles
    board.write(bytes(range(200)))
    assert board.cycles - before > 700
    assert read_all(board, 200) == bytes(range(1, 201))


def test_silence_is_counted_in_cycles(board: SimBoard) -> None:
    assert board.read(0.25) == b""
    assert board.cycles == CYCLES_PER_SECOND // 4
    assert board.seconds > 0
    assert board.cycles_per_second == pytest.approx(board.cycles / board.seconds)


def test_read_without_patience_still_makes_progress(board: SimBoard) -> None:
    board.write(b"a")
    assert board.read(0.0) == b"b"


def test_silence_is_bounded_by_the_clock_on_the_wall(
    board: SimBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board_module, "_WALL_LIMIT", 0.05)
    start = time.monotonic()
    assert board.read(1e9) == b""
    assert time.monotonic() - start < 20


def test_board_that_takes_nothing() -> None:
    with SimBoard.of_component(Echo(deaf=True)) as board:
        board.timeout = 0.1
        with pytest.raises(LinkError, match="0 of 3 bytes taken"):
            board.write(b"abc")
        assert board.cycles == CYCLES_PER_SECOND // 10


def test_board_that_never_answers() -> None:
    with SimBoard.of_component(Echo(dumb=True)) as board:
        board.write(bytes(100))
        assert board.read(board.timeout) == b""
        assert board.cycles == 100 + int(board.timeout * CYCLES_PER_SECOND)


def test_board_that_fills_up_says_how_far_it_got(board: SimBoard) -> None:
    board.timeout = 0.1
    board.stall(seed=1, tx=256)
    with pytest.raises(LinkError, match=r"1[67] of 100 bytes taken"):
        board.write(bytes(100))


def test_closed_board(board: SimBoard) -> None:
    board.close()
    board.close()
    for use in (lambda: board.write(b"a"), lambda: board.read(0.1), lambda: board.cycles):
        with pytest.raises(LinkError, match="open it again"):
            use()


def test_two_boards_are_apart(built: None) -> None:
    with SimBoard.of_component(Echo()) as one, SimBoard.of_component(Echo()) as other:
        one.write(b"a")
        assert other.read(0.01) == b""
        assert one.read(0.01) == b"b"
        assert one.describe() == "simulated Echo"


def test_generated_board_says_who_it_is_and_is_built_once() -> None:
    config = PRESETS["tiny"]
    request = pack_frame(Header(Op.IDENTIFY, seq=7))
    SimBoard(config).close()
    calls = []
    with SimBoard(config, progress=lambda *call: calls.append(call)) as board:
        assert calls == []
        counts = []
        for _ in range(2):
            board.write(request)
            answer = read_all(board, HEADER_BYTES + IDENTITY_BYTES + 4)
            header = Header.unpack(answer[:HEADER_BYTES])
            assert header == Header(Op.IDENTIFY | RESPONSE_FLAG, 7, 0, IDENTITY_BYTES, Status.OK)
            identity = Identity.unpack(answer[HEADER_BYTES : HEADER_BYTES + IDENTITY_BYTES])
            assert identity.config_hash == config.hash
            assert identity.window == config.link_window
            counts.append(board.cycles)
        assert counts[1] == 2 * counts[0]


def test_sources_that_changed_meanwhile_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hardware is imported late: it would be kept under the key of other sources."""
    monkeypatch.setattr(board_module, "_SOURCES", "sources of an earlier hour")
    with pytest.raises(ToolError, match="start again"):
        board_module.board_verilog(PRESETS["tiny"], cache=tmp_path)
    monkeypatch.undo()
    assert "module" in board_module.board_verilog(PRESETS["tiny"], cache=tmp_path)
