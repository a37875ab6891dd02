"""What the end-to-end tests share: a small model and its calibration data as files, and the command
line.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_models import random_tt_layer
from typer.testing import CliRunner

import drawbar
from drawbar.gen.cli.main import app
from drawbar.gen.config import EngineConfig
from drawbar.gen.formats import dense_network
from drawbar.gen.model_file import save_model
from drawbar.gen.network import Model

#: As TOML, so that the command line takes it.
ENGINE = EngineConfig(
    name="engine", rows=3, lanes=4, core_depth=2999, work_depth=777, bias_depth=333
)


@dataclass
class Answer:
    """What a command did: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which is one JSON document and nothing else."""
        return json.loads(self.out)


def drawbar_command(*arguments: object) -> Answer:
    """Run the command line in this process."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Answer(result.exit_code, result.stdout, result.stderr)


@dataclass
class Workshop:
    """A folder with ``net.safetensors``, ``calibration.npy``, ``x.npy``, ``engine.toml`` and the
    compiled ``net.drawbar``.
    """

    folder: Path
    model: Model
    artefact: drawbar.Artefact
    x: np.ndarray

    def path(self, name: str) -> Path:
        return self.folder / name

    def files(self) -> dict[str, bytes]:
        """Every file and what is in it."""
        return {str(p): p.read_bytes() for p in sorted(self.folder.rglob("*")) if p.is_file()}

    def refused(self, *arguments: object) -> dict[str, str]:
        """A command that fails for a reason: its error, with no file made or changed."""
        before = self.files()
        plain = drawbar_command(*arguments)
        answer = drawbar_command(*arguments, "--json")
        assert self.files() == before
        assert plain.code == answer.code == 1
        error = answer.json
        assert set(error) == {"error", "subject", "rule", "value", "fix"}
        assert all(error.values())
        assert plain.out == ""
        for part in ("rule", "found", "fix"):
            assert part in plain.err
        assert "Traceback" not in plain.err + answer.err
        return error


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    monkeypatch.chdir(tmp_path)
    rng = random.Random(21)
    layers = (
        random_tt_layer(rng, "first", (4, 5), (3, 4), bias=True, activation="relu", most_rank=3),
        dense_network("second", np.random.default_rng(21).standard_normal((5, 12)) / 3),
    )
    model = Model("net", layers)
    values = np.random.default_rng(22)
    calibration = values.standard_normal((40, 20))
    x = values.standard_normal((7, 20))
    save_model(model, "net.safetensors")
    np.save("calibration.npy", calibration)
    np.save("x.npy", x)
    lines = [f"{k} = {v}" for k, v in ENGINE.as_dict().items() if k != "name"]
    Path("engine.toml").write_text("\n".join(lines))
    artefact = drawbar.compile(model, ENGINE, calibration=calibration)
    artefact.save("net.drawbar")
    return Workshop(tmp_path, model, artefact, x)


@pytest.fixture
def command():
    """``drawbar`` with these arguments, in this process."""
    return drawbar_command
