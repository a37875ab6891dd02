"""The simulated board: the generated RTL behind the byte protocol of a real one."""

from __future__ import annotations

import hashlib
import time
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import drawbar.gen
import drawbar.hw
from drawbar.gen import verilog
from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import LinkError, ToolError
from drawbar.gen.transfers import LinkRate
from drawbar.sim.cache import Progress, cached, digest, quiet
from drawbar.sim.verilator import Model, build_library
from drawbar.sw.driver.transport import Transport

if TYPE_CHECKING:
    from amaranth.lib.wiring import Component

TOP = "drawbar_board"

#: A simulated board's second of silence, in cycles; wall time would make results depend on the
#: machine.
CYCLES_PER_SECOND = 1_000_000
#: A wait is never shorter, so that a loop of reads without patience still makes progress.
_LEAST_CYCLES = 1_000
#: Cycles of one call into the model: short enough for an interrupt from the keyboard.
_CALL_CYCLES = 50_000
#: Bytes that follow each other within so many cycles are returned together.
GAP_CYCLES = 32
#: Wall-clock seconds that one wait may take, whatever its cycles.
_WALL_LIMIT = 300.0


def _sources_digest() -> str:
    """SHA-256 over the Python files that the engine's Verilog comes from."""
    total = hashlib.sha256()
    for package in (drawbar.gen, drawbar.hw):
        root = Path(package.__path__[0])
        for path in sorted(root.rglob("*.py")):
            total.update(path.relative_to(root).as_posix().encode() + b"\0")
            total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


#: Taken with the sources that this process runs: files that change later do not change it.
_SOURCES = _sources_digest()


def board_verilog(
    config: EngineConfig, *, progress: Progress = quiet, cache: str | Path | None = None
) -> str:
    """Verilog of the whole board, kept between runs: elaborating a large engine takes seconds."""
    key = digest("verilog", config.hash.hex(), _SOURCES, verilog.tool_versions())

    def build(_scratch: Path, product: Path) -> None:
        verilog.need_amaranth()
        if _sources_digest() != _SOURCES:
            # What is imported only now would be other hardware than the key says.
            raise ToolError(
                "Verilog of the simulated board",
                "comes from the sources that this process started with",
                "files of gen/ or hw/ that have changed since",
                "start again",
            )
        progress("generate Verilog", None)
        from drawbar.hw.board import Board

        (product / "board.v").write_text(verilog.to_verilog(Board(config=config), TOP))

    entry = cached("verilog", key, build, cache=cache, progress=progress)
    return (entry / "board.v").read_text()


class SimBoard(Transport):
    """A board in Verilator: the first of a configuration takes a build of half a minute, later ones
    start at once.

    Time is the engine's: a timeout of one second is ``CYCLES_PER_SECOND`` cycles, however fast the
    simulation runs. The same calls give the same bytes in the same cycles. It passes while a call
    waits, for bytes to be taken or to come, and stands still between calls: a program that runs
    goes on while the host sends and receives, and a host thinks in no time.

    Arguments
    ---------
    config:
        The engine.
    progress:
        Told what happens while the board is built; not called for one that is there.
    cache:
        The cache folder; by default DRAWBAR_CACHE, or the user's cache folder.

    Members
    -------
    seconds:
        Wall-clock seconds spent in the model so far.

    Raises
    ------
    ToolError:
        amaranth, Verilator or the C++ compiler is missing or fails.
    """

    clock_hz = CYCLES_PER_SECOND

    def __init__(
        self,
        config: EngineConfig,
        *,
        progress: Progress | None = None,
        cache: str | Path | None = None,
    ) -> None:
        report = progress or quiet
        text = board_verilog(config, progress=report, cache=cache)
        self._start(text, f"simulated board {config.name!r}", report, cache)

    @classmethod
    def of_component(
        cls,
        component: Component,
        *,
        progress: Progress | None = None,
        cache: str | Path | None = None,
    ) -> SimBoard:
        """A board of any component with byte streams ``rx`` and ``tx``."""
        board = cls.__new__(cls)
        text = verilog.to_verilog(component, TOP)
        name = f"simulated {type(component).__name__}"
        board._start(text, name, progress or quiet, cache)
        return board

    def _start(self, text: str, name: str, progress: Progress, cache: str | Path | None) -> None:
        self._name = name
        self._model: Model | None = None
        self._pace = 1
        library = build_library(text, TOP, progress=progress, cache=cache)
        self._model = Model(library)
        self.seconds = 0.0

    def _open_model(self) -> Model:
        if self._model is None:
            raise LinkError(self._name, "is open", "a closed board", "open it again")
        return self._model

    @property
    def cycles(self) -> int:
        """Cycles simulated so far."""
        return self._open_model().cycles

    @property
    def cycles_per_second(self) -> float:
        """Speed of the simulation so far."""
        return self.cycles / self.seconds if self.seconds else 0.0

    def stall(self, *, seed: int, rx: int = 0, tx: int = 0) -> None:
        """From now on each stream waits in ``rx`` and ``tx`` of 256 cycles, at random."""
        self._open_model().stalls(seed, rx, tx)

    def pace(self, cycles: int) -> None:
        """From now on each byte takes so many cycles on its line, one line each way, as a serial
        line of ``10 / cycles`` baud for each Hz of the engine's clock. To be called while no byte
        is under way; a board starts with 1.
        """
        if cycles < 1:
            raise ValueError(f"a byte takes at least 1 cycle; found cycles={cycles!r}")
        self._open_model().pace(cycles)
        self._pace = cycles

    def rate(self, config: EngineConfig) -> LinkRate:
        return LinkRate(Fraction(self._pace), self._pace)

    def write(self, data: bytes) -> None:
        model = self._open_model()
        patience = self._cycles_of(self.timeout)
        start = time.perf_counter()
        sent, quiet_since = 0, model.cycles
        while sent < len(data):
            accepted = model.write(data[sent:], min(_CALL_CYCLES, patience))
            sent += accepted
            if accepted:
                quiet_since = model.cycles
            elif model.cycles - quiet_since >= patience:
                self.seconds += time.perf_counter() - start
                raise LinkError(
                    self._name,
                    f"takes a byte within {patience} cycles",
                    f"{sent} of {len(data)} bytes taken",
                    "close it and open it again",
                )
        self.seconds += time.perf_counter() - start

    def read(self, timeout: float) -> bytes:
        model = self._open_model()
        start = time.perf_counter()
        end = model.cycles + self._cycles_of(timeout)
        data = b""
        while not data and model.cycles < end and time.perf_counter() - start < _WALL_LIMIT:
            data = model.read(min(_CALL_CYCLES, end - model.cycles), GAP_CYCLES + self._pace - 1)
        self.seconds += time.perf_counter() - start
        return data

    @staticmethod
    def _cycles_of(timeout: float) -> int:
        return max(_LEAST_CYCLES, int(timeout * CYCLES_PER_SECOND))

    def now(self) -> float:
        return self.cycles / CYCLES_PER_SECOND

    def close(self) -> None:
        if self._model is not None:
            self._model.close()
            self._model = None

    def describe(self) -> str:
        return self._name
