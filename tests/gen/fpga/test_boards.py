"""Boards: every file is complete, its engine's clock can be made, and bad files are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from drawbar.gen.errors import ConfigError
from drawbar.gen.fpga.boards import PORTS, BoardSpec, board_names, load_board, parse_board
from drawbar.gen.fpga.family import Pin
from drawbar.gen.fpga.pll import find_pll
from drawbar.gen.presets import load_config

BOARDS = [load_board(name) for name in board_names()]
CHIPS = [board for board in BOARDS if not board.generic]
GOOD = """
title = "Mine"
family = "ecp5"
part = "LFE5U-25F"
package = "CABGA381"
speed = "6"
oscillator_hz = 25_000_000
engine = "tiny"
[pins]
clk = { site = "G2", IO_TYPE = "LVCMOS33" }
rx = { site = "M1" }
tx = { site = "L4" }
"""


def test_the_boards_are_there() -> None:
    assert board_names() == [
        "icebreaker",
        "orangecrab-25f",
        "orangecrab-85f",
        "tang-nano-20k",
        "tang-nano-9k",
        "ulx3s-12f",
        "ulx3s-25f",
        "ulx3s-45f",
        "ulx3s-85f",
        "generic",
    ]


@pytest.mark.parametrize("board", CHIPS, ids=lambda b: b.name)
def test_the_engine_of_a_board_can_be_clocked_and_fed(board: BoardSpec) -> None:
    """Its PLL makes the clock, its multipliers suffice, and a bit has enough cycles."""
    config = load_config(board.engine)
    find_pll(board.chip_family.pll_limits(board.chip), board.oscillator_hz, config.clock_hz)
    assert config.multipliers <= board.chip.dsps
    assert board.chip.max_mhz is None or config.clock_hz <= board.chip.max_mhz * 1e6
    assert config.clock_hz >= 4 * min(config.baud, board.baud)
    assert board.programmer


@pytest.mark.parametrize("board", CHIPS, ids=lambda b: b.name)
def test_every_pin_has_a_place(board: BoardSpec) -> None:
    pytest.importorskip("amaranth_boards")
    from drawbar.hw.pins import board_pins

    pins = board_pins(board)
    assert [pin.port for pin in pins] == list(PORTS)
    assert len({pin.site for pin in pins}) == len(PORTS)
    text = board.chip_family.constraints(pins, board.oscillator_hz)
    for pin in pins:
        assert any(pin.port in line and pin.site in line for line in text.splitlines())


def test_pins_of_amaranth_boards() -> None:
    pytest.importorskip("amaranth_boards")
    from drawbar.hw.pins import board_pins

    clk, rx, tx = board_pins(load_board("ulx3s-85f"))
    assert (clk, rx.site, tx.site) == (Pin("clk", "G2", {"IO_TYPE": "LVCMOS33"}), "M1", "L4")


def test_an_unknown_board_names_its_neighbours() -> None:
    with pytest.raises(ConfigError, match=r"ulx3s-85f or .*drawbar boards lists them all"):
        load_board("ulx3s85")


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    board = load_board(path)
    assert (board.name, board.chip.dsps, board.pins["tx"]) == ("mine", 28, {"site": "L4"})
    with pytest.raises(ConfigError, match="can be read"):
        load_board(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title = ", "titel = ", "has only known keys"),
        ('title = "Mine"\n', "", "has the key title"),
        ('"ecp5"', '"ecp6"', "use one of ecp5, ice40, gowin"),
        ('"LFE5U-25F"', '"LFE5U-24F"', "LFE5U-25F"),
        ("25_000_000", '"25"', "is of type int"),
        ("25_000_000", "0", "is positive"),
        ('rx = { site = "M1" }', "", "pins, rx"),
        ('rx = { site = "M1" }', 'rx = "uart.rx"', "has a site"),
        ("title = ", "title == ", "is valid TOML"),
    ],
)
def test_bad_files(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError, match=message):
        parse_board("mine", GOOD.replace(old, new))
