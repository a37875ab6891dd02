"""Synthesis and place-and-route: what is done with the tools and their reports, with stand-ins for
the tools and a report of the true ones; those run in tests/test_bitstream.py and
tests/test_suites.py.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from drawbar.gen.errors import ToolError
from drawbar.gen.fpga.ecp5 import ECP5
from drawbar.gen.fpga.gowin import GOWIN
from drawbar.gen.fpga.ice40 import ICE40
from drawbar.gen.synthesis import Area, RouteJob, pack, place_and_route, signal_name, synthesise

#: Of nextpnr 0.11.1, a 4 x 4 engine on an LFE5U-25F, with most of its nets taken out.
RECORDED = Path(__file__).with_name("fpga") / "timing_ecp5.json"
YOSYS = """
grep -q "synth_ecp5 -top top" synth.ys || exit 3
echo '{}' > netlist.json
echo '{"design": {"num_cells_by_type": {"LUT4": 12, "TRELLIS_FF": 34, "DP16KD": 5}}}' > stat.json
"""
JOB = RouteJob("ecp5", "LFE5U-25F", "CABGA381", "6", b"{}", 60.0)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs that comes first on PATH; all say that they are version 9.9."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    version = 'case "$1" in -V|--version) echo 9.9; exit;; esac'
    path.write_text(f"#!/bin/sh\n{version}\n{text}\n")
    path.chmod(0o755)


def nextpnr(status: int, report: Path | None = RECORDED) -> str:
    """A nextpnr that checks what it is given, and leaves a recorded report."""
    lines = ["test -f netlist.json || exit 3", "echo $@ > routed.config"]
    if report is not None:
        lines.append(f"cp '{report}' timing.json")
    return "\n".join([*lines, "echo 'ERROR: last words'", f"exit {status}"])


def test_cells_are_counted_by_kind(tools: Path) -> None:
    program(tools, "yosys", YOSYS)
    beats: list[float] = []
    netlist = synthesise("module top; endmodule\n", "top", beat=beats.append)
    assert netlist.json == b"{}\n"
    assert netlist.area.cells == {
        "LUT": 12, "FF": 34, "carry": 0, "DSP": 0, "block RAM": 5, "LUT RAM": 0,
    }  # fmt: skip
    assert beats


def test_a_recorded_report(tools: Path) -> None:
    program(tools, "nextpnr-ecp5", nextpnr(0))
    routed = place_and_route(JOB)
    timing = routed.timing
    assert timing.met
    assert timing.mhz == pytest.approx(75.953, abs=1e-3)
    assert timing.path == ("board.link.receiver.header", "board.link.queue.inner_level")
    assert timing.through[1:-1] == (
        "board.link.receiver.expected",
        "board.link.receiver.in_step",
        "board.link.queue.r_rdy",
    )
    assert timing.logic_ns + timing.routing_ns == pytest.approx(1000 / timing.mhz, abs=1e-3)
    assert timing.levels == 16
    area = Area({"FF": 6482}, 0.0)
    assert timing.resources(ECP5, area) == {"luts": 8033, "ffs": 6482, "dsps": 16, "brams": 19}
    # The worst first; none is worse than the slowest path.
    slacks = list(timing.slack_ns.values())
    assert slacks == sorted(slacks)
    assert slacks[0] >= 1000 / 60 - 1000 / timing.mhz
    assert "board.engine.array" in timing.slack_ns
    assert b"--freq 60 --seed 1" in routed.design


def test_a_missed_clock_is_a_result_whoever_says_so(tools: Path) -> None:
    """By exit status, and by the report's own number."""
    program(tools, "nextpnr-ecp5", nextpnr(1))
    assert not place_and_route(JOB).timing.met
    program(tools, "nextpnr-ecp5", nextpnr(0))
    assert not place_and_route(replace(JOB, target_mhz=76.0)).timing.met
    assert place_and_route(replace(JOB, target_mhz=75.0)).timing.met


def test_what_is_packed_counts_and_not_what_the_router_goes_through(tools: Path) -> None:
    """nextpnr's report has the latter in it, its log does not."""
    packed = ("Info: Device utilisation:", "Info: TRELLIS_COMB: 7000/ 24288 28%", "")
    lines = (*packed, "Info: DP16KD: 1/ 56 1%")
    told = "\n".join(f"echo '{line}'" for line in lines)
    program(tools, "nextpnr-ecp5", f"{told}\n{nextpnr(0)}")
    used = place_and_route(JOB).timing.used
    assert (used["TRELLIS_COMB"], used["DP16KD"]) == (7000, 19)


def test_another_failure_is_an_error(tools: Path) -> None:
    """nextpnr ends with the same status where it cannot place, but leaves no report."""
    program(tools, "nextpnr-ecp5", nextpnr(1, None))
    with pytest.raises(ToolError, match="last words"):
        place_and_route(JOB)


def test_an_unreadable_report_is_named(tools: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    program(tools, "nextpnr-ecp5", nextpnr(0, broken))
    with pytest.raises(ToolError, match="JSON report"):
        place_and_route(JOB)


def test_a_design_without_a_clock_is_an_error(tools: Path, tmp_path: Path) -> None:
    still = tmp_path / "still.json"
    still.write_text(json.dumps({"fmax": {}, "utilization": {}, "critical_paths": []}))
    program(tools, "nextpnr-ecp5", nextpnr(0, still))
    with pytest.raises(ToolError, match="finds a clock"):
        place_and_route(JOB)


def test_pins_and_packing(tools: Path) -> None:
    program(tools, "nextpnr-ecp5", "grep -q LOCATE pins.lpf || exit 3\n" + nextpnr(0))
    program(tools, "ecppack", 'echo bits > "$3"')
    routed = place_and_route(replace(JOB, constraints='LOCATE COMP "clk" SITE "G2";\n'))
    assert b"--lpf pins.lpf" in routed.design
    assert pack(routed) == b"bits\n"


@pytest.mark.parametrize(
    ("cell", "signal"),
    [
        ("board.link.receiver.header_TRELLIS_FF_Q_9", "board.link.receiver.header"),
        ("a.seq_TRELLIS_FF_Q_DI_CCU2C_A0$CCU2_COMB1", "a.seq"),
        ("board.engine.acc_0_1_SB_DFFESR_Q_31_DFFLC", "board.engine.acc_0_1"),
        ("board.engine.acc_0_1_DFFRE_Q", "board.engine.acc_0_1"),
        ("board.engine.acc_0_1_ALU_SUM_3", "board.engine.acc_0_1"),
        ("a.executor._TRELLIS_FF_Q_3", "a.executor"),
        ("plain", "plain"),
    ],
)
def test_names_of_the_source(cell: str, signal: str) -> None:
    assert signal_name(cell) == signal


def test_every_family_names_what_reports_count() -> None:
    for family in (ECP5, ICE40, GOWIN):
        assert set(family.resources) == {"luts", "dsps", "brams"}
        assert {"LUT", "FF", "DSP", "block RAM"} <= set(family.cells)
        for part in family.parts.values():
            assert family.synthesis(part).startswith("synth_")
            assert family.routed_name in family.output_arguments()
            assert family.routed_name in family.pack_arguments(part, "x")
