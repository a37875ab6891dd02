"""drawbar build with stand-ins for the tools: what is chosen, reported, refused and removed. The
true tools run in tests/e2e/test_build.py.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

import drawbar
from drawbar.bitstream import check_clock, engine_for
from drawbar.gen import synthesis
from drawbar.gen.cli.main import app
from drawbar.gen.errors import ArtefactError, ConfigError, FitError, TimingError, ToolError
from drawbar.gen.fpga.boards import load_board
from drawbar.gen.presets import load_config
from drawbar.hw.vendor import Portable
from drawbar.sweep import sweep

pytest.importorskip("amaranth_boards")
pytest.importorskip("matplotlib")

RUNNER = CliRunner()
RECORDED = Path(__file__).parent / "gen" / "fpga" / "timing_ecp5.json"
YOSYS = """
echo '{}' > netlist.json
echo '{"design": {"num_cells_by_type": {"LUT4": 12, "TRELLIS_FF": 34}}}' > stat.json
"""
#: A nextpnr that is 10 MHz faster with each seed, and fails as the true one does: with status 1 and
#: all of its files written. Seed 4 cannot be placed, seed 5 takes forever, and seed 6 is killed
#: when it has written half of its output.
NEXTPNR = f"""
import json, os, signal, sys, time
arguments = dict(zip(sys.argv[1:], sys.argv[2:]))
seed = int(arguments["--seed"])
if seed == 4:
    sys.exit("ERROR: cannot place")
if seed == 5:
    print("routing", flush=True)
    time.sleep(60)
if seed == 6:
    open("routed.config", "w").write("half of it")
    print("legalising", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
report = json.load(open({str(RECORDED)!r}))
mhz = 50 + 10 * seed
for clock in report["fmax"].values():
    clock["achieved"] = mhz
json.dump(report, open("timing.json", "w"))
open("routed.config", "w").write(f"routed with seed {{seed}}")
sys.exit(mhz < float(arguments["--freq"]))
"""


@pytest.fixture(autouse=True)
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins that come first on PATH; all say that they are version 9.9."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "nextpnr.py").write_text(NEXTPNR)
    programs = {
        "yosys": YOSYS,
        "nextpnr-ecp5": f'exec "{sys.executable}" "{folder}/nextpnr.py" "$@"',
        "ecppack": 'cp "$2" "$3"',
    }
    for name, text in programs.items():
        version = 'case "$1" in -V|--version) echo 9.9; exit;; esac'
        (folder / name).write_text(f"#!/bin/sh\n{version}\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


@pytest.fixture(scope="module")
def text() -> str:
    """Some Verilog: that of the engine takes seconds, and nobody here reads it."""
    return "module top; endmodule\n"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    def to_verilog(component: Any, name: str, platform: Any = None) -> str:
        assert platform is None or isinstance(platform, Portable)
        component._MustUse__used = True  # or Amaranth warns of a component that nobody elaborates
        return text

    monkeypatch.setattr("drawbar.gen.verilog.to_verilog", to_verilog)


def build(tmp_path: Path, **options: Any) -> drawbar.BuildReport:
    settings: dict[str, Any] = {"engine": "tiny", "fmax": 60, "out": tmp_path / "out", **options}
    return drawbar.build("ulx3s-25f", **settings)


def flashable(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.suffix in (".bit", ".config", ".part"))


def test_the_best_passing_seed_is_packed(tmp_path: Path) -> None:
    report = build(tmp_path, seeds=3)
    assert (report.seed, report.fmax_mhz, report.timing_met) == (3, 80.0, True)
    assert [(s.seed, s.mhz, s.met) for s in report.seeds] == [
        (1, 60.0, True),
        (2, 70.0, True),
        (3, 80.0, True),
    ]
    assert report.bitstream is not None
    assert Path(report.bitstream).read_text() == "routed with seed 3"
    assert flashable(tmp_path / "out") == ["drawbar_ulx3s_25f.bit"]
    assert report.toolchain == {
        "yosys": "9.9 (native)", "nextpnr-ecp5": "9.9 (native)", "ecppack": "? (native)",
    }  # fmt: skip


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    paths = [build(tmp_path, out=tmp_path / name, first_seed=2).bitstream for name in "ab"]
    first, second = (Path(str(path)).read_bytes() for path in paths)
    assert first == second == b"routed with seed 2"


def test_reports(tmp_path: Path) -> None:
    report = build(tmp_path)
    found = json.loads((tmp_path / "out" / "report.json").read_text())
    assert list(found)[:14] == [
        "board", "device", "toolchain", "clock_mhz", "fmax_mhz", "timing_met", "luts", "ffs",
        "dsps", "brams", "seed", "wall_s", "config_hash", "bitstream",
    ]  # fmt: skip
    assert (found["luts"], found["ffs"], found["dsps"], found["brams"]) == (8033, 34, 16, 19)
    config = load_config(tmp_path / "out" / "engine.toml")
    assert config.hash.hex() == found["config_hash"] == report.config_hash
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<svg") == 3
    assert report.config_hash in page
    # One page, which loads nothing.
    assert "src=" not in page
    assert "<link" not in page


def test_a_missed_clock_fails_and_leaves_nothing_to_flash(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    build(tmp_path)
    assert flashable(folder) == ["drawbar_ulx3s_25f.bit"]
    with pytest.raises(TimingError) as caught:
        build(tmp_path, fmax=100, seeds=3)
    assert flashable(folder) == []
    message = str(caught.value)
    assert "80.00 MHz with the best of 3 seeds" in message
    assert "from board.link.receiver.header to board.link.queue.inner_level through" in message
    report = caught.value.report
    assert (report.seed, report.timing_met, report.bitstream) == (3, False, None)
    assert json.loads((folder / "report.json").read_text())["timing_met"] is False
    assert "missed" in (folder / "report.html").read_text()


def test_a_seed_that_fails_does_not_hinder_the_others(tmp_path: Path) -> None:
    report = build(tmp_path, first_seed=3, seeds=2)
    assert report.seed == 3
    assert "cannot place" in report.seeds[1].error


def test_no_seed_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="cannot place"):
        build(tmp_path, first_seed=4)
    assert flashable(tmp_path / "out") == []


def test_a_killed_nextpnr_is_quoted_and_leaves_nothing(tmp_path: Path) -> None:
    build(tmp_path)
    with pytest.raises(ToolError, match=r"nextpnr-ecp5.*killed by signal 9.*\n?legalising"):
        build(tmp_path, first_seed=6)
    assert flashable(tmp_path / "out") == []


def test_the_family_says_which_router(tmp_path: Path) -> None:
    assert build(tmp_path).router == "router1"
    assert build(tmp_path, router="router2").router == "router2"


def test_the_cap_stops_late_seeds(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(ToolError, match=r"still running.*\n?routing"):
        build(tmp_path, first_seed=5, cap=1.5)
    report = build(tmp_path, first_seed=3, seeds=3, cap=3, workers=3)
    assert time.monotonic() - started < 30
    assert report.seed == 3
    assert "still running" in report.seeds[2].error


def test_progress_names_the_phases(tmp_path: Path) -> None:
    seen: list[tuple[str, float | None]] = []
    build(tmp_path, progress=lambda phase, share: seen.append((phase, share)))
    words = [phase.split(",")[0] for phase, _ in seen]
    assert list(dict.fromkeys(words)) == ["Verilog", "yosys", "nextpnr", "packing", "done"]
    shares = [share for _, share in seen if share is not None]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_a_cluster_does_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs go to the scheduler at that address, as they are, and their results are taken."""
    sent = []

    class Client:
        def __init__(self, address: str, timeout: str) -> None:
            self.address = address

        def __enter__(self) -> Client:
            return self

        def __exit__(self, *_: object) -> None: ...

        def submit(self, function: Any, *arguments: Any, pure: bool) -> Any:
            sent.append(self.address)
            result = function(*arguments)
            return SimpleNamespace(done=lambda: True, result=lambda: result)

    monkeypatch.setitem(sys.modules, "distributed", SimpleNamespace(Client=Client))
    report = build(tmp_path, seeds=2, scheduler="tcp://there:8786")
    assert sent == ["tcp://there:8786"] * 2
    assert report.seed == 2


def test_a_cluster_needs_dask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    job = synthesis.RouteJob("ecp5", "LFE5U-25F", "CABGA381", "6", b"{}", 60.0)
    with pytest.raises(ToolError, match=r"drawbar\[cluster\]"):
        sweep([job], scheduler="tcp://there:8786")


def test_an_engine_that_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(FitError, match=r"64 multipliers, 36 more.*than the 28"):
        build(tmp_path, engine="small")
    assert not (tmp_path / "out").exists()


def test_a_clock_out_of_reach(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"use 146\.875 and 150 MHz"):
        build(tmp_path, fmax=148.5)


def test_a_clock_beyond_the_datasheet() -> None:
    board = load_board("icebreaker")
    config = load_config(board.engine)
    check_clock(board, config.replace(clock_hz=48_000_000))
    with pytest.raises(ConfigError, match="48 MHz of the datasheet"):
        check_clock(board, config.replace(clock_hz=54_000_000))


def test_the_list_of_boards() -> None:
    rows = {row["board"]: row for row in drawbar.list_boards()}
    assert rows["ulx3s-85f"]["dsps"] == 156
    assert rows["generic"]["device"] is None
    for row in rows.values():
        over = {k: n - row[k] for k, n in row["engine_takes"].items() if n > row[k]}
        assert row["too_much"] == over
        assert (row["engine"] in row["presets_that_fit"]) == (not over)
    fitting = rows["ulx3s-25f"]["presets_that_fit"]
    assert {"ulx3s-25f", "tiny", "tiny-8bit"} <= set(fitting)
    assert not {"small", "large", "ulx3s-85f"} & set(fitting)
    multipliers = [load_config(name).multipliers for name in fitting]
    assert multipliers == sorted(multipliers, reverse=True)
    shown = RUNNER.invoke(app, ["boards"], env={"COLUMNS": "200"})
    assert all(name in shown.stdout for name in rows)


def test_the_generic_board_is_for_other_flows(tmp_path: Path) -> None:
    report = drawbar.build("generic", engine="tiny", out=tmp_path / "out")
    assert (report.bitstream, report.device) == (None, "any")
    assert (tmp_path / "out" / "manifest.json").is_file()
    assert (tmp_path / "out" / "drawbar_tiny.v").is_file()
    assert "create_clock" in (tmp_path / "out" / "drawbar_tiny.sdc").read_text()


def test_the_engine_of_a_build() -> None:
    board = load_board("tang-nano-20k")
    assert engine_for(board).name == board.engine
    # The adapter bounds the rate, and the clock is what is asked for.
    config = engine_for(board, engine="tiny", fmax=54)
    assert (config.baud, config.clock_hz) == (2_000_000, 54_000_000)


def test_an_artefact_for_another_clock() -> None:
    config = load_config("tiny")
    artefact: Any = SimpleNamespace(name="digits", config=config)
    board = load_board("ulx3s-25f")
    assert engine_for(board, artefact=artefact) == config
    with pytest.raises(ArtefactError, match=r"one for 'tiny' at 48 MHz"):
        engine_for(board, artefact=artefact, fmax=60)


def test_the_command_line(tmp_path: Path) -> None:
    arguments = ["build", "--board", "ulx3s-25f", "--engine", "tiny", "--out", str(tmp_path / "o")]
    good = RUNNER.invoke(app, [*arguments, "--fmax", "60", "--json"])
    assert good.exit_code == 0, good.output
    assert json.loads(good.stdout)["timing_met"] is True
    missed = RUNNER.invoke(app, [*arguments, "--fmax", "100", "--json"])
    assert missed.exit_code == 1
    found = json.loads(missed.stdout)
    assert (found["error"], found["bitstream"], found["seed"]) == ("TimingError", None, 1)
    unknown = RUNNER.invoke(app, ["build", "--board", "ulx3s", "--json"])
    assert unknown.exit_code == 1
    assert "ulx3s-85f" in json.loads(unknown.stdout)["fix"]


def test_programming(tools: Path, tmp_path: Path) -> None:
    bitstream = tmp_path / "x.bit"
    with pytest.raises(drawbar.DrawbarError, match="no such file"):
        drawbar.program("ulx3s-85f", bitstream)
    bitstream.write_bytes(b"")
    with pytest.raises(drawbar.DrawbarError, match=r"\.bin"):
        drawbar.program("icebreaker", bitstream)
    loader = tools / "openFPGALoader"
    loader.write_text("#!/bin/sh\nexit 0\n")
    loader.chmod(0o755)
    command = [str(loader), "-b", "ulx3s", "-m", str(bitstream)]
    assert drawbar.program("ulx3s-85f", bitstream) == command
    assert drawbar.program("ulx3s-85f", bitstream, flash=True)[3] == "-f"
    loader.write_text("#!/bin/sh\necho 'no cable' >&2; exit 1\n")
    with pytest.raises(ToolError, match="no cable"):
        drawbar.program("ulx3s-85f", bitstream)


def test_programming_without_the_loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bitstream = tmp_path / "x.bit"
    bitstream.write_bytes(b"")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ToolError, match="apt install openfpgaloader"):
        drawbar.program("ulx3s-85f", bitstream)
