"""What the fuzzer keeps: the state of a run, and failing cases as files that hold all they need."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import drawbar
import drawbar.gen
import drawbar.hw
import drawbar.sim
import drawbar.sw
from drawbar.fuzz_cases import Case
from drawbar.gen.artefact import Artefact
from drawbar.gen.config import EngineConfig
from drawbar.gen.container import read_container, write_container
from drawbar.gen.errors import ArtefactError, ConfigError, ToolError
from drawbar.gen.model_file import load_model, save_model

CASE_VERSION = 2
CASE_MAGIC = "drawbar-fuzz-case"
CASE_SUFFIX = ".fuzz"
STATE = "state.json"


def code_digest() -> str:
    """SHA-256 over the code that a case exercises: generator, hardware, models, driver, and the
    fuzzer's own draws.
    """
    total = hashlib.sha256()
    for package in (drawbar.gen, drawbar.hw, drawbar.sim, drawbar.sw):
        root = Path(package.__path__[0])
        for path in sorted(root.rglob("*.py")):
            # The command line is not part of any case.
            if path.parent.name != "cli":
                total.update(path.relative_to(root).as_posix().encode() + b"\0")
                total.update(path.read_bytes())
    for name in ("", "_cases", "_formats", "_graphs", "_layers"):
        total.update((Path(drawbar.__path__[0]) / f"fuzz{name}.py").read_bytes())
    return total.hexdigest()


@dataclass
class FuzzState:
    """How far a run is; ``save`` after every case.

    The file holds one entry for each (seed, cases per engine, formats). An entry that other code
    made is begun again: its cases prove nothing of this code. Its failing cases' files stay.
    """

    folder: Path
    key: str
    code: str
    done: int = 0
    redrawn: int = 0
    failures: list[str] = field(default_factory=list)

    @classmethod
    def open(
        cls,
        folder: Path,
        seed: int,
        per_engine: int,
        formats: Sequence[str] = (),
        *,
        fresh: bool = False,
    ) -> FuzzState:
        """The state of a run, new or gone on with."""
        own = f", formats {', '.join(formats)}" if formats else ""
        state = cls(folder, f"seed {seed}, {per_engine} cases an engine{own}", code_digest())
        entry = state._entries().get(state.key)
        if entry is not None and not fresh and entry["code"] == state.code:
            state.done, state.redrawn = int(entry["done"]), int(entry["redrawn"])
            state.failures = list(entry["failures"])
        return state

    def _entries(self) -> dict[str, dict]:
        path = self.folder / STATE
        if not path.exists():
            return {}
        try:
            entries = json.loads(path.read_text())
            return {str(key): dict(entry) for key, entry in entries.items()}
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise ToolError(
                f"fuzz state {path}", "can be read", error, "remove it, or name another --out"
            ) from None

    def save(self) -> None:
        """Write the entry, whole or not at all."""
        entries = self._entries()
        entries[self.key] = {
            "code": self.code,
            "done": self.done,
            "redrawn": self.redrawn,
            "failures": self.failures,
        }
        path = self.folder / STATE
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".json.part")
            partial.write_text(json.dumps(entries, indent=2) + "\n")
            partial.replace(path)
        except OSError as error:
            raise ToolError(
                f"fuzz state {path}",
                "can be written",
                error,
                "name a folder that you may write to with --out",
            ) from None


def _bytes_of(save: Path) -> np.ndarray:
    return np.frombuffer(save.read_bytes(), np.uint8)


def save_case(folder: Path, case: Case, artefact: Artefact | None, kind: str, text: str) -> Path:
    """Write a failing case: engine, model, calibration data and inputs, and the compiled program
    where there is one; returns the file.
    """
    arrays = {"calibration": case.calibration, "x": case.x}
    with tempfile.TemporaryDirectory(prefix="drawbar-fuzz-") as scratch:
        model = Path(scratch) / "model.safetensors"
        save_model(case.model, model)
        arrays["model"] = _bytes_of(model)
        if artefact is not None:
            program = Path(scratch) / "program.drawbar"
            artefact.save(program)
            arrays["artefact"] = _bytes_of(program)
    path = folder / f"{case.name}{CASE_SUFFIX}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ToolError(
            f"folder {folder}", "can be written", error, "name another with --out"
        ) from None
    write_container(
        path,
        what="fuzz case",
        magic=CASE_MAGIC,
        arrays=arrays,
        description={
            "format_version": CASE_VERSION,
            "seed": case.seed,
            "number": case.number,
            "batch": case.batch,
            "minimise": case.minimise,
            "of": case.kind,
            "config": case.config.as_dict(),
            "kind": kind,
            "text": text,
        },
    )
    return path


def load_case(path: str | Path) -> tuple[Case, Artefact | None, str, str]:
    """A failing case, its compiled program, and what was wrong (kind and text).

    The program is None where compiling failed, or where it is for another version of the hardware.

    Raises
    ------
    ArtefactError:
        no such file, not a case, damaged, or of another version.
    """
    again = "run drawbar fuzz with its seed again"
    arrays, fields = read_container(
        path,
        what="fuzz case",
        magic=CASE_MAGIC,
        version=CASE_VERSION,
        suffix=CASE_SUFFIX,
        again=again,
    )
    try:
        config = EngineConfig(**fields["config"])
    except (ConfigError, TypeError) as error:
        raise ArtefactError(
            f"fuzz case {path}", "carries a valid engine configuration", error, again
        ) from None
    artefact = None
    with tempfile.TemporaryDirectory(prefix="drawbar-fuzz-") as scratch:
        model_path = Path(scratch) / "model.safetensors"
        model_path.write_bytes(arrays["model"].tobytes())
        model = load_model(model_path)
        if "artefact" in arrays:
            program = Path(scratch) / "program.drawbar"
            program.write_bytes(arrays["artefact"].tobytes())
            try:
                artefact = Artefact.load(program)
            except ArtefactError:
                # The file's digest was right, so the program is whole: it is of older hardware.
                artefact = None
    case = Case(
        seed=fields["seed"],
        number=fields["number"],
        config=config,
        model=model,
        batch=fields["batch"],
        minimise=fields["minimise"],
        calibration=arrays["calibration"],
        x=arrays["x"],
        kind=fields.get("of", ""),
    )
    return case, artefact, fields["kind"], fields["text"]
