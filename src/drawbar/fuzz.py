"""The exactness fuzzer: random models on random engines, the golden model's bits and the planned
cycles against the simulated hardware's.

Every case comes from the seed and its own number, so that a run can stop anywhere and go on.
Engines cost a build each, so several cases in a row share one.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from drawbar import api
from drawbar.fuzz_cases import Case, draw_engine
from drawbar.fuzz_files import FuzzState, load_case, save_case
from drawbar.fuzz_formats import chosen_kinds
from drawbar.gen.artefact import Artefact
from drawbar.gen.cycles import Cycles, program_cycles
from drawbar.gen.errors import DrawbarError, LinkError, ToolError
from drawbar.sim.golden import run_artefact
from drawbar.sw.driver import Device

__all__ = ["FuzzResult", "Mismatch", "ReplayResult", "check_case", "replay_case", "run_fuzz"]

#: Told how far it is: a title, cases done, cases to do.
Report = Callable[[str, int, int], None]
BuildProgress = Callable[[str, float | None], None]


@dataclass(frozen=True)
class Mismatch:
    """What is wrong with a case: ``kind`` is "bits", "cycles", "link" or "error"."""

    kind: str
    text: str


@dataclass(frozen=True)
class FuzzResult:
    """What a run of the fuzzer found.

    Members
    -------
    cases, done, before:
        Cases wanted, cases done in all, and how many of them an earlier call had done.
    formats:
        Cases done of each format, where formats were asked for.
    redrawn:
        Models that did not fit their engine and were drawn again.
    engines:
        Engines that this call opened.
    failures:
        Files of failing cases, the earlier call's too.
    seconds:
        Of this call.
    """

    seed: int
    cases: int
    done: int
    before: int
    redrawn: int
    engines: int
    failures: tuple[Path, ...]
    seconds: float
    formats: dict[str, int] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return not self.failures


@dataclass(frozen=True)
class ReplayResult:
    """A failing case, run again.

    Members
    -------
    case:
        Its name.
    saved:
        What was wrong when it was saved.
    program:
        What is wrong with the program as it was saved; None where nothing is, or where it is for
        another version of the hardware (``program_loaded`` is False).
    compiled:
        What is wrong with the model compiled again; None where nothing is.
    """

    case: str
    saved: Mismatch
    program_loaded: bool
    program: Mismatch | None
    compiled: Mismatch | None

    @property
    def passed(self) -> bool:
        return self.program is None and self.compiled is None


def check_case(board: Device, artefact: Artefact, x: np.ndarray) -> Mismatch | None:
    """Load an artefact and run it on integer inputs, batch after batch, and then all in one stream.

    Outputs must be the golden model's, and each run's cycles, cause by cause, the cycle model's.
    None where they are.
    """
    predicted = [
        sum(program_cycles(stages, artefact.config), start=Cycles())
        for stages in artefact.pass_stages()
    ]
    expected = run_artefact(artefact, x)
    board.load(artefact)
    parts = [
        (start, x[start : start + artefact.batch]) for start in range(0, len(x), artefact.batch)
    ]
    for start, piece in [*parts, (0, x)]:
        title = f"run {start // artefact.batch}" if len(piece) < len(x) else "all runs"
        try:
            found = board.run_integers(piece)
        except LinkError as error:
            counters = board.status()
            wrong = min((_wrong_cycles(own, counters) for own in predicted), key=len)
            if wrong:
                return Mismatch("cycles", f"{title}: {wrong}")
            return Mismatch("link", f"{title}: {error}")
        report = board.last_run
        assert report is not None
        for number, counters in enumerate(report.waits):
            # It tells of its own pass, or of the next one, if that had ended as well.
            own, later = (predicted[n % len(predicted)] for n in (number, number + 1))
            wrong = _wrong_cycles(own, counters)
            if wrong and _wrong_cycles(later, counters):
                return Mismatch("cycles", f"{title}, pass {number}: {wrong}")
        bad = np.argwhere(found != expected[start : start + len(piece)])
        if len(bad):
            sample, output = (int(i) for i in bad[0])
            return Mismatch(
                "bits",
                f"{title}: {len(bad)} of {found.size} outputs differ; sample {sample}, output "
                f"{output}: golden {int(expected[start + sample, output])}, "
                f"hardware {int(found[sample, output])}",
            )
    return None


def _wrong_cycles(predicted: Cycles, counters: object) -> str:
    """The causes whose cycles are not the predicted ones, or nothing."""
    names = [field.name for field in dataclasses.fields(Cycles)]
    pairs = [(name, getattr(predicted, name), getattr(counters, name)) for name in names]
    pairs.append(("total", predicted.total, counters.cycles))  # type: ignore[attr-defined]
    return ", ".join(
        f"{n} {want} predicted, {got} counted" for n, want, got in pairs if want != got
    )


def _examine(board: Device, case: Case) -> tuple[Artefact | None, Mismatch | None]:
    """Compile and check a case; the artefact where there is one."""
    artefact = None
    try:
        artefact = api.compile(
            case.model,
            case.config,
            calibration=case.calibration,
            batch=case.batch,
            minimise=case.minimise,
        )
        return artefact, check_case(board, artefact, case.x)
    except (ToolError, KeyboardInterrupt):
        raise
    except DrawbarError as error:
        return artefact, Mismatch("link" if isinstance(error, LinkError) else "error", str(error))
    except Exception as error:
        # Whatever breaks on a valid model is a finding, and must not end the run.
        return artefact, Mismatch("error", f"{type(error).__name__}: {error}")


def run_fuzz(
    *,
    cases: int = 300,
    seed: int = 0,
    out: str | Path = "build/fuzz",
    per_engine: int = 50,
    formats: Sequence[str] = (),
    fresh: bool = False,
    device: str = "sim",
    report: Report | None = None,
    build_progress: BuildProgress | None = None,
) -> FuzzResult:
    """Check ``cases`` random cases on the simulated board.

    Arguments
    ---------
    out:
        Folder of the state and of failing cases. A call with the same seed and ``per_engine``, and
        unchanged code, goes on where the one before stopped.
    per_engine:
        Cases for each engine; small engines, which are built fast, get a quarter of it.
    formats:
        Kinds of models that take turns (``drawbar.fuzz_formats.format_kinds``), or "all" of them;
        without them, random layers and graphs. Decompositions need PyTorch.
    fresh:
        Begin again, whatever the state says.
    device:
        "sim", or "golden" to try the fuzzer itself.

    Raises
    ------
    InputError:
        a format that there is not.
    ToolError:
        the simulator is missing, or the folder cannot be written.
    """
    started = time.monotonic()
    kinds = chosen_kinds(formats) if formats else ()
    state = FuzzState.open(Path(out), seed, per_engine, kinds, fresh=fresh)
    before = state.done
    engines = 0
    while state.done < cases:
        turn = draw_engine(seed, state.done, per_engine, formats=bool(kinds))
        engines += 1
        title = f"{turn.config.rows} x {turn.config.lanes}, {turn.config.data_width} bit"
        with api.open(device, engine=turn.config, progress=build_progress) as board:
            while state.done < min(cases, turn.end):
                if report is not None:
                    report(title, state.done, cases)
                case, redrawn = Case.draw(seed, state.done, turn.config, kinds)
                artefact, wrong = _examine(board, case)
                if wrong is not None:
                    path = save_case(Path(out), case, artefact, wrong.kind, wrong.text)
                    state.failures.append(path.name)
                state.redrawn += redrawn
                state.done += 1
                state.save()
                if wrong is not None and wrong.kind == "link":
                    break  # The board may be stuck: open it anew.
    if report is not None:
        report("done", cases, cases)
    return FuzzResult(
        seed=seed,
        cases=cases,
        done=state.done,
        before=before,
        redrawn=state.redrawn,
        engines=engines,
        failures=tuple(Path(out) / name for name in state.failures),
        seconds=time.monotonic() - started,
        formats={kind: len(range(n, state.done, len(kinds))) for n, kind in enumerate(kinds)},
    )


def replay_case(
    path: str | Path, *, device: str = "sim", build_progress: BuildProgress | None = None
) -> ReplayResult:
    """Run a failing case again: its program as it was saved, and its model compiled again.

    Raises
    ------
    ArtefactError:
        no such file, or not a case.
    ToolError:
        the simulator is missing.
    """
    case, artefact, kind, text = load_case(path)
    program = None
    if artefact is not None:
        with api.open(device, engine=case.config, progress=build_progress) as board:
            try:
                program = check_case(board, artefact, case.x)
            except LinkError as error:
                program = Mismatch("link", str(error))
    with api.open(device, engine=case.config, progress=build_progress) as board:
        _, compiled = _examine(board, case)
    return ReplayResult(
        case=case.name,
        saved=Mismatch(kind, text),
        program_loaded=artefact is not None,
        program=program,
        compiled=compiled,
    )
