"""The command line on a model file: compile, estimate, info, run, verify, generate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import drawbar
from drawbar.sim.golden import run_artefact
from drawbar.sim.golden_board import GoldenBoard
from drawbar.sim.pty_bridge import PtyBridge

LAYER = {
    "name",
    "format",
    "modes_in",
    "modes_out",
    "ranks",
    "dense_weights",
    "core_weights",
    "multiplications",
    "cycles",
    "utilisation",
    "plan",
}


def test_compile(workshop, command) -> None:
    arguments = ("compile", "net.safetensors", "--calibration", "calibration.npy")
    for batch in (1, 3):
        answer = command(
            *arguments, "--engine", "engine.toml", "--batch", batch, "-o", "out.drawbar", "--json"
        )
        assert answer.code == 0
        facts = answer.json
        artefact = drawbar.Artefact.load("out.drawbar")
        assert facts["artefact"] == "out.drawbar"
        assert facts["cycles"] == artefact.cycles
        assert facts["batch"] == artefact.batch == batch
        assert facts["config_hash"] == artefact.config.hash.hex()
        assert facts["inputs"] == 20
        assert facts["outputs"] == 5
        assert [set(layer) for layer in facts["layers"]] == [LAYER] * 2
    plain = command(*arguments)
    assert plain.code == 0
    assert "first" in plain.out
    # The default name is the model's.
    assert drawbar.Artefact.load("net.drawbar").config == drawbar.PRESETS["small"]


def test_the_same_input_gives_the_same_bytes(workshop, command) -> None:
    for name in ("a.drawbar", "b.drawbar"):
        arguments = ("compile", "net.safetensors", "--calibration", "calibration.npy", "-o", name)
        assert command(*arguments, "--engine", "engine.toml").code == 0
    assert Path("a.drawbar").read_bytes() == Path("b.drawbar").read_bytes()


def test_estimate_is_what_compile_gives(workshop, command) -> None:
    answer = command("estimate", "net.safetensors", "--engine", "engine.toml", "--json")
    assert answer.code == 0
    facts = answer.json
    assert facts["cycles"] == workshop.artefact.cycles
    parts = ("busy", "stall_drain", "stall_fetch", "flush")
    assert sum(facts[part] for part in parts) == facts["cycles"]
    assert facts["core_bytes"] == workshop.artefact.cores.size * 2 <= facts["core_bytes_available"]
    assert facts["work_bytes_peak"] <= facts["work_bytes_available"]
    assert [set(layer) for layer in facts["layers"]] == [LAYER] * 2
    assert sum(layer["cycles"] for layer in facts["layers"]) == facts["cycles"]
    assert (
        f"{facts['cycles']:,}"
        in command("estimate", "net.safetensors", "--engine", "engine.toml").out
    )


def test_minimise_memory(workshop, command) -> None:
    arguments = ("net.safetensors", "--engine", "engine.toml", "--json")
    fast = command("estimate", *arguments).json
    small = command("estimate", *arguments, "--minimise", "memory").json
    assert (fast["minimise"], small["minimise"]) == ("cycles", "memory")
    assert small["work_bytes_peak"] <= fast["work_bytes_peak"]
    assert small["cycles"] <= 1.1 * fast["cycles"]
    assert len(small["slices"]) == len(small["layers"])
    assert small["stages"] >= sum(small["slices"])
    compiled = command(
        "compile",
        *arguments,
        *("--calibration", "calibration.npy", "-o", "s.drawbar", "--minimise", "memory"),
    ).json
    assert compiled["cycles"] == small["cycles"]
    assert compiled["meta"]["minimise"] == "memory"
    assert compiled["meta"]["work_bytes_peak"] == small["work_bytes_peak"]
    refused = command("estimate", *arguments, "--minimise", "bytes")
    assert refused.code == 1
    assert "cycles, memory" in refused.json["rule"]


def test_buffers(workshop, command) -> None:
    arguments = ("net.safetensors", "--engine", "engine.toml")
    made = ("--calibration", "calibration.npy", "-o", "b.drawbar")
    cycles = set()
    for buffers in (1, 2):
        estimate = command("estimate", *arguments, "--buffers", buffers, "--json").json
        compiled = command("compile", *arguments, *made, "--buffers", buffers, "--json").json
        info = command("info", "b.drawbar", "--json").json
        explained = command("explain", "b.drawbar", "--json").json
        assert len(drawbar.Artefact.load("b.drawbar").buffers) == buffers
        assert estimate["buffers"] == compiled["buffers"] == info["buffers"] == buffers
        assert estimate["work_bytes_double"] == info["work_bytes_double"] > 0
        stream = estimate["streaming"]
        assert stream == compiled["streaming"] == info["streaming"] == explained["streaming"]
        assert stream["cycles"] == estimate["cycles"]
        assert stream["period"] >= max(stream["cycles"], stream["cycles_in"], stream["cycles_out"])
        assert stream["limit"] in ("compute", "link in", "link out")
        assert command("verify", "b.drawbar", "--device", "golden").code == 0
        cycles.add(estimate["cycles"])
        for answer in (
            command("estimate", *arguments, "--buffers", buffers),
            command("compile", *arguments, *made, "--buffers", buffers),
            command("info", "b.drawbar"),
            command("explain", "b.drawbar"),
        ):
            assert "two, so transfers go beside a run" in answer.out or buffers == 1
            assert "one; two would need" in answer.out or buffers == 2
    assert len(cycles) == 1
    assert command("estimate", *arguments, "--json").json["buffers"] == 2
    assert command("estimate", *arguments, "--minimise", "memory", "--json").json["buffers"] == 1
    refused = command("estimate", *arguments, "--buffers", 3)
    assert refused.code == 2

    words = 2 * estimate["program_words"]
    depth = workshop.artefact.config.program_depth
    toml = Path("engine.toml").read_text()
    Path("short.toml").write_text(
        toml.replace(f"program_depth = {depth}", f"program_depth = {words - 1}")
    )
    one = command("estimate", "net.safetensors", "--engine", "short.toml")
    assert "two would need 1 words more program memory" in " ".join(one.out.split())
    arguments = ("estimate", "net.safetensors", "--engine", "short.toml", "--buffers", 2)
    error = workshop.refused(*arguments, "--no-stream")
    assert error["value"] == f"{words} words, 1 too many"
    assert command(*arguments, "--json").json["streaming"]["passes"] > 1


def test_info(workshop, command) -> None:
    facts = command("info", "net.drawbar", "--json").json
    assert facts["config_hash"] == workshop.artefact.config.hash.hex()
    assert facts["self_test_samples"] == len(workshop.artefact.test_input)
    assert command("info", "net.drawbar").code == 0
    presets = command("info", "--json").json
    assert {p["name"]: p["config_hash"] for p in presets} == {
        name: c.hash.hex() for name, c in drawbar.PRESETS.items()
    }
    assert "large" in command("info").out


@pytest.mark.parametrize("device", ["golden", "sim"])
def test_run(workshop, command, device: str) -> None:
    expected = drawbar.golden(workshop.artefact, workshop.x)
    arguments = ("run", "net.drawbar", "--input", "x.npy", "--device", device)
    # Twice, to a name without the usual suffix: this very file is written.
    for _ in range(2):
        answer = command(*arguments, "--output", "y", "--json")
        assert answer.code == 0
        np.testing.assert_array_equal(np.load("y"), expected)
    facts = answer.json
    assert facts["samples"] == facts["runs"] == 7
    assert facts["cycles"] == workshop.artefact.cycles
    assert facts["output"] == "y"
    assert facts["classes"] == expected.argmax(axis=1).tolist()
    plain = command(*arguments)
    assert plain.code == 0
    assert "7 samples" in plain.out
    assert not list(workshop.folder.glob("*.part"))


@pytest.mark.parametrize("device", ["golden", "sim"])
def test_verify(workshop, command, device: str) -> None:
    answer = command("verify", "net.drawbar", "--device", device, "--json")
    assert answer.code == 0
    facts = answer.json
    assert facts["passed"] is True
    assert facts["mismatches"] == 0
    assert facts["compared"] == 2 * 8 * 5  # in each buffer
    assert facts["first"] is None
    assert "passed" in command("verify", "net.drawbar", "--device", device).out


def test_verify_finds_a_wrong_bit(workshop, command) -> None:
    expected = workshop.artefact.test_output.copy()
    expected[3, 2] ^= 1
    replace(workshop.artefact, test_output=expected).save("wrong.drawbar")
    answer = command("verify", "wrong.drawbar", "--device", "golden", "--json")
    assert answer.code == 3
    facts = answer.json
    assert facts["passed"] is False
    assert facts["mismatches"] == 2  # in each buffer
    assert facts["first"][:3] == [3, 2, int(expected[3, 2])]
    plain = command("verify", "wrong.drawbar", "--device", "golden")
    assert plain.code == 3
    assert "FAILED" in plain.out


def test_a_board_on_a_serial_port(workshop, command) -> None:
    with PtyBridge(GoldenBoard(workshop.artefact.config)) as path:
        url = f"serial://{path}?baud=3000000"
        assert command("verify", "net.drawbar", "--device", url).code == 0
        answer = command(
            "run", "net.drawbar", "--input", "x.npy", "-o", "y.npy", "--device", url, "--json"
        )
        assert answer.code == 0
    np.testing.assert_array_equal(np.load("y.npy"), drawbar.golden(workshop.artefact, workshop.x))


def test_generate(workshop, command) -> None:
    answer = command("generate", "--engine", "engine.toml", "--output", "rtl", "--json")
    assert answer.code == 0
    facts = answer.json
    assert "module" in Path(facts["verilog"]).read_text()
    manifest = json.loads(Path(facts["manifest"]).read_text())
    assert workshop.artefact.config.hash.hex() in json.dumps(manifest)


def test_in_a_process_of_its_own(workshop) -> None:
    """Installed as a program: one JSON document on standard output, and an exit code."""
    program = Path(sys.executable).with_name("drawbar")
    environment = {**os.environ, "NO_COLOR": "1"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(program), *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            env=environment,
            check=False,
        )

    arguments = ("run", "net.drawbar", "--input", "x.npy", "--device", "golden", "--json")
    done = run(*arguments)
    assert done.returncode == 0
    x = workshop.artefact.quantise_input(workshop.x)
    expected = run_artefact(workshop.artefact, x).argmax(axis=1).tolist()
    assert json.loads(done.stdout)["classes"] == expected
    Path("x.npy").write_bytes(b"nothing")
    failed = run(*arguments)
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["error"] == "InputError"
    assert run("run").returncode == 2
    assert run("--version").stdout.startswith("drawbar ")
