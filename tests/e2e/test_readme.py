"""What README shows works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from drawbar.gen.cli.main import app

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_the_python_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the golden board, which needs no build."""
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert 'drawbar.open("sim")' in example
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(example.replace('drawbar.open("sim")', 'drawbar.open("golden")'), names)
    predicted, measured = capsys.readouterr().out.split()
    assert predicted == measured
    assert getattr(names["y"], "shape", None) == (256, 10)
    assert (tmp_path / "model.drawbar").is_file()


def test_every_command_is_there() -> None:
    named = set(re.findall(r"^drawbar (\w+)", README, re.MULTILINE)) | {"doctor"}
    assert len(named) > 8
    for command in named:
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0, command
    # And none is left out.
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output
    commands = set(re.findall(r"^│ (\w+) ", shown, re.MULTILINE))
    assert commands == named
