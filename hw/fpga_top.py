"""What goes into an FPGA: a serial board on its three pins."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from drawbar.gen.config import EngineConfig
from drawbar.gen.fpga.boards import BoardSpec
from drawbar.hw.board import SerialBoard
from drawbar.hw.clocking import add_clock


class FpgaTop(wiring.Component):
    """A ``SerialBoard`` behind the board's oscillator and the chip's PLL.

    Arguments
    ---------
    config:
        The engine; its ``clock_hz`` is what the PLL makes.
    board:
        The board.

    Members
    -------
    clk:
        The oscillator.
    rx, tx:
        The serial line.
    """

    def __init__(self, *, config: EngineConfig, board: BoardSpec) -> None:
        self.config = config
        self.board = board
        super().__init__({"clk": In(1), "rx": In(1, init=1), "tx": Out(1, init=1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        add_clock(m, board=self.board, clock_hz=self.config.clock_hz, oscillator=self.clk)
        m.submodules.board = serial = SerialBoard(config=self.config)
        m.d.comb += [serial.rx.eq(self.rx), self.tx.eq(serial.tx)]
        return m
