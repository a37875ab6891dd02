"""Synthesis and place-and-route: what is done with the tools and their reports, with stand-ins for
both; the true ones run in tests/test_suites.py.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from drawbar.gen import synthesis
from drawbar.gen.errors import ToolError

YOSYS = """#!/bin/sh
grep -q "synth_ecp5 -top top" synth.ys || exit 3
echo '{}' > netlist.json
echo '{"design": {"num_cells_by_type": {"LUT4": 12, "TRELLIS_FF": 34, "DP16KD": 5}}}' > stat.json
"""
NEXTPNR = """#!/bin/sh
test -f netlist.json || exit 3
cat > report.json <<'END'
{"fmax": {"clk": {"achieved": 92.5, "constraint": 90}},
 "utilization": {"TRELLIS_FF": {"available": 24288, "used": 34}},
 "critical_paths": [
  {"from": "<async>", "to": "posedge clk", "path": [
    {"type": "routing", "delay": 99, "from": {"cell": "rst$tr_io"}, "to": {"cell": "x"}}]},
  {"from": "posedge clk", "to": "posedge clk", "path": [
    {"type": "clk-to-q", "delay": 0.5, "from": {"cell": "a.b_TRELLIS_FF_Q_5"}, "to": {"cell": "a"}},
    {"type": "routing", "delay": 1.5, "from": {"cell": "a"}, "to": {"cell": "b"}},
    {"type": "setup", "delay": 0.25, "from": {"cell": "c"},
     "to": {"cell": "c.d_e_TRELLIS_FF_Q_DI_LUT4"}}]}]}
END
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs that comes first on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)


def test_reports_are_read(tools: Path, tmp_path: Path) -> None:
    program(tools, "yosys", YOSYS)
    program(tools, "nextpnr-ecp5", NEXTPNR)
    beats: list[float] = []
    area = synthesis.synthesise("module top; endmodule\n", "top", tmp_path, beat=beats.append)
    assert area.cells == {
        "LUT": 12, "FF": 34, "carry": 0, "DSP": 0, "block RAM": 5, "LUT RAM": 0,
    }  # fmt: skip
    timing = synthesis.place_and_route(tmp_path)
    assert (timing.mhz, timing.target_mhz) == (92.5, 90.0)
    assert timing.path == ("a.b", "c.d_e")
    assert (timing.logic_ns, timing.routing_ns) == (0.75, 1.5)
    assert (timing.used["TRELLIS_FF"], timing.available["TRELLIS_FF"]) == (34, 24288)
    assert beats


def test_a_failing_tool_says_its_last_words(tools: Path, tmp_path: Path) -> None:
    program(tools, "yosys", "#!/bin/sh\necho 'ERROR: syntax error'\nexit 1\n")
    with pytest.raises(ToolError, match="exit status 1: ERROR: syntax error"):
        synthesis.synthesise("nonsense", "top", tmp_path)


def test_a_tool_that_hangs_is_stopped(tools: Path, tmp_path: Path) -> None:
    program(tools, "yosys", "#!/bin/sh\nexec sleep 60\n")
    started = time.monotonic()
    with pytest.raises(ToolError, match="still running"):
        synthesis.synthesise("", "top", tmp_path, timeout=0.3)
    assert time.monotonic() - started < 10


def test_a_missing_report_is_named(tools: Path, tmp_path: Path) -> None:
    program(tools, "yosys", "#!/bin/sh\n")
    with pytest.raises(ToolError, match="JSON report"):
        synthesis.synthesise("", "top", tmp_path)


def test_native_programs_come_first(tools: Path) -> None:
    program(tools, "yosys", "#!/bin/sh\n")
    assert synthesis.find_program("yosys") == [str(tools / "yosys")]


def test_a_missing_tool_names_its_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(synthesis.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ToolError, match=r"drawbar\[fpga\]"):
        synthesis.find_program("nextpnr-ecp5")
