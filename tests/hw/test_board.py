from __future__ import annotations

import pytest
from cocotb_board import CONFIG
from hardware_units import run_units

from drawbar.hw.board import Board, SerialBoard
from drawbar.sim.cocotb_runner import simulators


@pytest.mark.parametrize("simulator", simulators)
@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_board(simulator: str, stall: float) -> None:
    """Byte streams that never wait, and ones that wait at random."""
    run_units(
        Board,
        "cocotb_board",
        simulator=simulator,
        parameters={"stall": stall},
        config=CONFIG,
    )


@pytest.mark.parametrize("simulator", simulators)
def test_serial_board(simulator: str) -> None:
    run_units(
        SerialBoard,
        "cocotb_board",
        simulator=simulator,
        parameters={"serial": True},
        config=CONFIG,
    )
