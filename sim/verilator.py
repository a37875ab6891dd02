"""Verilog to a shared library: Verilator and the C++ compiler.

The C++ that Verilator writes is compiled here and not by its makefile: that gives a fraction done,
leaves the rarely run half unoptimised, keeps Verilator's own run time compiled between models, and
needs no ``make``.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import re
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

from drawbar.gen.errors import LinkError, ToolError
from drawbar.sim import tools
from drawbar.sim.cache import Progress, cached, digest, quiet

HARNESS = Path(__file__).with_name("harness.cpp")
_LOG_LINES = 12
#: Seconds that one run of Verilator or of the compiler may take.
_STEP_TIMEOUT = 900
_GLOBALS = re.compile(r"^(VM_\w+) \+=((?:[ \t]*\\\n[ \t]*\S+)*)", re.MULTILINE)

VERILATOR_FLAGS = (
    "-O3",
    # Every register has an initial value, so an unknown never decides anything.
    *("--x-assign", "fast", "--x-initial", "fast"),
    "--noassert",
    # Files and functions of this size compile in seconds each; smaller ones make a 16 x 16 engine a
    # quarter slower.
    *("--output-split", "20000", "--output-split-cfuncs", "20000"),
)
#: ``-O3`` gives the same speed as ``-O2``, ``-O1`` and ``-Os`` two thirds of it.
FAST_FLAGS = ("-O2",)
_SLOW_FLAGS = ("-O0",)
#: A C++ file smaller than this takes its time for Verilator's headers.
_SMALL_BYTES = 50_000
LIBRARY_FLAGS = (
    *("-fPIC", "-fvisibility=hidden"),
    # harness.cpp has its own: Verilator's end the process.
    *("-DVL_USER_FATAL", "-DVL_USER_STOP", "-DVL_USER_FINISH", "-DVL_TIME_CONTEXT"),
)


# -- programs --------------------------------------------------------------------------------------


def run_program(
    command: Sequence[str | Path],
    *,
    cwd: Path,
    timeout: float,
    env: dict[str, str] | None = None,
) -> tuple[int, str]:
    """Exit status and output of a program. Past ``timeout`` seconds, or when this process is
    interrupted, the program and all of its children are killed; TimeoutExpired then carries the
    output so far.
    """
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd,
            env=tools.child_environment() if env is None else env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(timeout)
        except BaseException as stop:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if isinstance(stop, subprocess.TimeoutExpired):
                log.seek(0)
                stop.output = log.read().decode(errors="replace")
            raise
        log.seek(0)
        return process.returncode, log.read().decode(errors="replace")


def build_step(command: Sequence[str | Path], *, cwd: Path, what: str) -> None:
    """Run a program that must succeed.

    Raises
    ------
    ToolError:
        it failed, with the last lines of what it said.
    """
    try:
        status, output = run_program(command, cwd=cwd, timeout=_STEP_TIMEOUT)
    except subprocess.TimeoutExpired as stop:
        status, output = f"no end within {_STEP_TIMEOUT} s", str(stop.output)
    except OSError as error:
        status, output = "not started", str(error)
    if status != 0:
        tail = "\n".join(output.strip().splitlines()[-_LOG_LINES:])
        raise ToolError(
            f"{what} ({Path(command[0]).name})",
            "succeeds",
            f"{status}; its last lines are:\n{tail}\n",
            "run drawbar doctor; with every tool in order this is a bug of Drawbar",
        )


@functools.cache
def _versions_of(verilator: Path, compiler: Path) -> tuple[str, str, Path]:
    return tools.verilator_version(), tools.compiler_version(), tools.verilator_root()


class Toolchain(NamedTuple):
    """The programs of a build, and what names them in a cache key."""

    verilator: Path
    compiler: Path
    root: Path
    identity: tuple[str, ...]


def toolchain() -> Toolchain:
    """Raises ToolError that names the program which is missing."""
    tools.find_perl()
    verilator, compiler = tools.find_verilator(), tools.find_compiler()
    verilator_says, compiler_says, root = _versions_of(verilator, compiler)
    return Toolchain(
        verilator,
        compiler,
        root,
        (verilator_says, compiler_says, platform.system(), platform.machine()),
    )


class Verilated(NamedTuple):
    """What Verilator wrote: C++ files to optimise, those that hardly run, and names of run-time
    files.
    """

    fast: list[Path]
    slow: list[Path]
    runtime: list[str]


def verilate(
    chain: Toolchain, verilog: str, top: str, folder: Path, prefix: str, flags: Sequence[str]
) -> Verilated:
    """Run Verilator on ``verilog``; C++ of class ``prefix`` goes to ``folder``."""
    (folder / "top.v").write_text(verilog)
    command = [chain.verilator, "--cc", "top.v", "--top-module", top, "--prefix", prefix]
    # Amaranth's Verilog is not written to please a linter; errors are still errors.
    command += ["--Mdir", ".", "--no-timing", "-Wno-lint", "-Wno-style", "-Wno-fatal", *flags]
    build_step(command, cwd=folder, what="Verilator on the engine")
    text = (folder / f"{prefix}_classes.mk").read_text()
    names: dict[str, list[str]] = {}
    for variable, listed in _GLOBALS.findall(text):
        names[variable] = listed.replace("\\", " ").split()
    files = {key: [folder / f"{name}.cpp" for name in names[key]] for key in names}
    return Verilated(
        fast=files["VM_CLASSES_FAST"] + files["VM_SUPPORT_FAST"],
        slow=files["VM_CLASSES_SLOW"] + files["VM_SUPPORT_SLOW"],
        runtime=names["VM_GLOBAL_FAST"] + names["VM_GLOBAL_SLOW"],
    )


def _compile(
    chain: Toolchain,
    jobs: Sequence[tuple[Path, Path, Sequence[str]]],
    folder: Path,
    progress: Progress,
) -> None:
    """Compile (source, object, flags), as many at a time as there are processors, the largest
    first.
    """
    options = [
        "-std=c++17",
        "-w",
        "-I.",
        f"-I{chain.root}/include",
        f"-I{chain.root}/include/vltstd",
    ]
    for name in ("COVERAGE", "SC", "TIMING", "TRACE", "TRACE_FST", "TRACE_VCD", "TRACE_SAIF"):
        options.append(f"-DVM_{name}=0")
    jobs = sorted(jobs, key=lambda job: -job[0].stat().st_size)
    total, done = sum(job[0].stat().st_size for job in jobs), 0
    progress("compile", 0.0)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        futures = {
            pool.submit(
                build_step,
                [chain.compiler, *options, *flags, "-c", source, "-o", target],
                cwd=folder,
                what=f"the C++ compiler on {source.name}",
            ): source.stat().st_size
            for source, target, flags in jobs
        }
        try:
            for future in as_completed(futures):
                future.result()
                done += futures[future]
                progress("compile", done / total)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def runtime_objects(
    chain: Toolchain,
    names: Sequence[str],
    flags: Sequence[str],
    *,
    cache: str | Path | None,
    progress: Progress,
) -> list[Path]:
    """Objects of Verilator's own run time, compiled once for each toolchain and kept."""
    key = digest("runtime", chain.identity, names, flags)

    def build(scratch: Path, product: Path) -> None:
        include = chain.root / "include"
        jobs = [(include / f"{n}.cpp", product / f"{n}.o", [*flags, "-O1"]) for n in names]
        _compile(chain, jobs, scratch, lambda _, part: progress("compile the run time", part))

    entry = cached("runtime", key, build, cache=cache, progress=progress)
    return [entry / f"{name}.o" for name in names]


def _united(files: Sequence[Path], united: Path) -> list[Path]:
    """The files, with all small ones included by one."""
    small = [path for path in files if path.stat().st_size < _SMALL_BYTES]
    united.write_text("".join(f'#include "{path.name}"\n' for path in small))
    return [*(path for path in files if path not in small), *([united] if small else [])]


def link_model(
    chain: Toolchain,
    model: Verilated,
    extra: Sequence[Path],
    target: Path,
    *,
    flags: Sequence[str],
    fast: tuple[str, ...],
    link: Sequence[str],
    cache: str | Path | None,
    progress: Progress,
) -> None:
    """Compile a verilated model with the C++ files ``extra`` and link them to ``target``."""
    scratch = target.parent.parent / "scratch"
    runtime = runtime_objects(chain, model.runtime, flags, cache=cache, progress=progress)
    groups: dict[Sequence[str], list[Path]] = {fast: [*model.fast]}
    groups.setdefault(_SLOW_FLAGS, []).extend(model.slow)
    sources = [(source, fast) for source in extra]
    for number, (level, files) in enumerate(groups.items()):
        sources += [(source, level) for source in _united(files, scratch / f"united{number}.cpp")]
    jobs = [(p, scratch / f"{p.stem}.o", [*flags, *level]) for p, level in sources]
    _compile(chain, jobs, scratch, progress)
    progress("link", None)
    objects = [job[1] for job in jobs]
    command = [chain.compiler, "-o", target, *objects, *runtime, *link, "-lpthread"]
    build_step(command, cwd=scratch, what="the linker")


# -- the simulated board's library -----------------------------------------------------------------


#: What is verilated around the board. A reset that can happen puts every register's next value into
#: the logic that follows from inputs, which Verilator works out twice a cycle: tied off, a 16 x 16
#: engine runs three times as fast.
_WRAPPER = """
module drawbar_sim(
    input clk,
    input rx__valid, input [7:0] rx__payload, output rx__ready,
    output tx__valid, output [7:0] tx__payload, input tx__ready
);
    TOP board(
        .clk(clk), RESET
        .rx__valid(rx__valid), .rx__payload(rx__payload), .rx__ready(rx__ready),
        .tx__valid(tx__valid), .tx__payload(tx__payload), .tx__ready(tx__ready)
    );
endmodule
"""


def module_header(verilog: str, top: str) -> str:
    """What stands between the parentheses of ``module top(...);``."""
    header = rf"^\s*module {re.escape(top)}\s*\((.*?)\);"
    found = re.search(header, verilog, re.MULTILINE | re.DOTALL)
    if found is None:
        raise ToolError("Verilog", f"has a module {top}", "none", "give its name")
    return found[1]


def build_library(
    verilog: str,
    top: str,
    *,
    progress: Progress | None = None,
    cache: str | Path | None = None,
) -> Path:
    """The shared library of the module ``top`` with byte streams ``rx`` and ``tx``; built once and
    kept.

    Arguments
    ---------
    verilog, top:
        Verilog text, and the name in it of a module with rst or without, and with clk, rst,
        rx__valid, rx__ready, rx__payload, tx__valid, tx__ready and tx__payload.
    progress:
        Told of the phases of a build; not called where the library is there.
    cache:
        The cache folder; by default DRAWBAR_CACHE, or the user's cache folder.

    Raises
    ------
    ToolError:
        a tool is missing, or failed: then with the last lines of its output.
    """
    report = progress or quiet
    chain = toolchain()
    harness = HARNESS.read_text()
    flags = (VERILATOR_FLAGS, FAST_FLAGS, LIBRARY_FLAGS)
    reset = ".rst(1'b0)," if re.search(r"\brst\b", module_header(verilog, top)) else ""
    text = verilog + _WRAPPER.replace("TOP", top).replace("RESET", reset)
    key = digest("library", text, harness, chain.identity, flags)

    def build(scratch: Path, product: Path) -> None:
        report("verilate", None)
        model = verilate(chain, text, "drawbar_sim", scratch, "Vdrawbar", VERILATOR_FLAGS)
        link_model(
            chain,
            model,
            [HARNESS],
            product / "board.so",
            flags=LIBRARY_FLAGS,
            fast=FAST_FLAGS,
            link=["-shared"],
            cache=cache,
            progress=report,
        )

    return cached("board", key, build, cache=cache, progress=report) / "board.so"


class Model:
    """One instance of a library from ``build_library``, after power-up. Every call ends after
    ``max_cycles`` cycles.

    Raises LinkError where the model itself fails, by ``$finish`` or a loop that does not settle.
    """

    def __init__(self, library: Path) -> None:
        lib = ctypes.CDLL(str(library))
        handle, size, u64 = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint64
        lib.drawbar_new.restype = handle
        lib.drawbar_free.argtypes = [handle]
        lib.drawbar_free.restype = None
        lib.drawbar_write.argtypes = [handle, ctypes.c_char_p, size, u64]
        lib.drawbar_write.restype = size
        lib.drawbar_read.argtypes = [handle, ctypes.c_char_p, size, u64, u64]
        lib.drawbar_read.restype = size
        lib.drawbar_stalls.argtypes = [handle, u64, ctypes.c_uint, ctypes.c_uint]
        lib.drawbar_stalls.restype = None
        lib.drawbar_pace.argtypes = [handle, u64]
        lib.drawbar_pace.restype = None
        lib.drawbar_cycles.argtypes = [handle]
        lib.drawbar_cycles.restype = u64
        lib.drawbar_error.argtypes = [handle]
        lib.drawbar_error.restype = ctypes.c_char_p
        self._lib = lib
        self._buffer = ctypes.create_string_buffer(1 << 16)
        self._board = lib.drawbar_new()
        if not self._board:
            raise ToolError("simulated board", "powers up", "an error", "report this bug")

    def _checked(self, count: int) -> int:
        if count == ctypes.c_size_t(-1).value:
            text = self._lib.drawbar_error(self._board).decode(errors="replace")
            raise LinkError("simulated board", "keeps running", text, "report this bug")
        return count

    def write(self, data: bytes, max_cycles: int) -> int:
        """Offer bytes on ``rx``, one a cycle at most; returns how many were accepted."""
        return self._checked(self._lib.drawbar_write(self._board, data, len(data), max_cycles))

    def read(self, max_cycles: int, gap: int = 0) -> bytes:
        """Bytes from ``tx``. The clock runs until one is there, then until none came for ``gap``
        cycles.
        """
        size = len(self._buffer)
        n = self._lib.drawbar_read(self._board, self._buffer, size, gap, max_cycles)
        return ctypes.string_at(self._buffer, self._checked(n))

    def stalls(self, seed: int, rx: int, tx: int) -> None:
        """From now on the streams stall in ``rx`` and ``tx`` of 256 cycles, by ``seed``."""
        self._lib.drawbar_stalls(self._board, seed, rx, tx)

    def pace(self, cycles: int) -> None:
        """From now on each byte takes so many cycles on its line."""
        self._lib.drawbar_pace(self._board, cycles)

    @property
    def cycles(self) -> int:
        """Cycles since power-up."""
        return self._lib.drawbar_cycles(self._board)

    def close(self) -> None:
        if self._board:
            self._lib.drawbar_free(self._board)
            self._board = None
