"""The fuzzer: it finds nothing where nothing is wrong, finds what is, saves it, and replays it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from drawbar.fuzz import replay_case, run_fuzz
from drawbar.fuzz_cases import MOST_CYCLES, MOST_ELEMENTS, Case, draw_engine
from drawbar.fuzz_files import STATE, load_case
from drawbar.fuzz_layers import FORMATS
from drawbar.gen.cli.main import app
from drawbar.gen.errors import ArtefactError, ToolError
from drawbar.sim import golden

FUZZ = "drawbar.fuzz"
#: Together 300 cases on 12 engines, 1 x 4 to 15 x 8.
SEEDS, CASES = range(12), 25
#: A seed whose first models fit, and whose first cases meet a rounding that is a tie.
TIES, FOR_A_TIE = 8, 4


@pytest.mark.parametrize("seed", SEEDS)
def test_hardware_is_exact(seed: int, tmp_path: Path) -> None:
    """On the generated RTL, one engine for each seed."""
    result = run_fuzz(cases=CASES, seed=seed, out=tmp_path, per_engine=4 * CASES)
    assert (result.done, result.engines, result.failures) == (CASES, 1, ())


def test_a_call_that_stops_is_gone_on_with(tmp_path: Path) -> None:
    first = run_fuzz(cases=6, seed=0, out=tmp_path, per_engine=16)
    assert (first.done, first.before, first.engines, first.failures) == (6, 0, 2, ())
    second = run_fuzz(cases=8, seed=0, out=tmp_path, per_engine=16)
    assert (second.done, second.before, second.engines, second.failures) == (8, 6, 1, ())
    again = run_fuzz(cases=8, seed=0, out=tmp_path, per_engine=16)
    assert (again.done, again.before, again.engines) == (8, 8, 0)


def rounding_half_up(value: np.ndarray, shift: int) -> np.ndarray:
    """A wrong ``round_shift``: half goes up, and not to even."""
    return value if shift == 0 else (value + (1 << (shift - 1))) >> shift


def wrong_golden(artefact: Any, x: np.ndarray) -> np.ndarray:
    """The golden model with that fault, and nothing else changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(golden, "round_shift", rounding_half_up)
        return golden.run_artefact(artefact, x)


def fuzz_golden(cases: int, out: Path, **options: Any) -> Any:
    """Fuzz against the golden board, which needs no build."""
    return run_fuzz(cases=cases, seed=TIES, out=out, device="golden", **options)


def test_a_wrong_rounding_is_found_saved_and_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(f"{FUZZ}.run_artefact", wrong_golden)
        result = fuzz_golden(FOR_A_TIE, tmp_path)
        assert not result.passed
        assert result.done == FOR_A_TIE
        broken = replay_case(result.failures[0], device="golden")
    assert broken.program is not None
    assert broken.compiled is not None
    assert (broken.program.kind, broken.compiled.kind) == ("bits", "bits")
    assert broken.saved == broken.program
    # Without the fault the very same file passes.
    mended = replay_case(result.failures[0], device="golden")
    assert mended.passed
    assert mended.program_loaded


def test_a_replay_on_the_hardware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(f"{FUZZ}.run_artefact", wrong_golden)
        path = fuzz_golden(FOR_A_TIE, tmp_path).failures[0]
    runner = CliRunner()
    ran = runner.invoke(app, ["fuzz", "--replay", str(path), "--json"])
    assert ran.exit_code == 0, ran.output
    facts = json.loads(ran.stdout)
    assert facts["passed"]
    assert facts["saved"]["kind"] == "bits"


def test_a_wrong_cycle_is_found_by_its_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules[FUZZ]
    predict: Callable = module.program_cycles

    def one_more(stages: Any, config: Any) -> Any:
        cycles = predict(stages, config)
        return [*cycles, type(cycles[0])(flush=1)]

    monkeypatch.setattr(module, "program_cycles", one_more)
    result = fuzz_golden(1, tmp_path)
    _, _, kind, text = load_case(result.failures[0])
    assert kind == "cycles"
    assert "flush" in text
    assert "busy" not in text


def test_what_breaks_the_compiler_is_a_failing_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise IndexError("off by one")

    with monkeypatch.context() as patch:
        patch.setattr("drawbar.fuzz_cases.plan_model", broken)
        patch.setattr("drawbar.api.plan_model", broken)
        # Of this seed, the first models that are drawn fit their engine.
        result = run_fuzz(cases=2, seed=26, out=tmp_path, device="golden")
    assert len(result.failures) == 2
    _, artefact, kind, text = load_case(result.failures[0])
    assert (artefact, kind, text) == (None, "error", "IndexError: off by one")
    assert replay_case(result.failures[0], device="golden").passed


def test_a_missing_tool_is_no_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ToolError("verilator", "is installed", "nothing", "install it")

    monkeypatch.setattr("drawbar.api.compile", missing)
    with pytest.raises(ToolError):
        fuzz_golden(1, tmp_path)
    assert not list(tmp_path.glob("*.fuzz"))


def test_failures_are_remembered_and_end_with_exit_code_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(f"{FUZZ}.run_artefact", wrong_golden)
        failures = fuzz_golden(FOR_A_TIE, tmp_path).failures
    options = {"--seed": TIES, "--cases": FOR_A_TIE, "--out": tmp_path}
    arguments = ["fuzz", *(str(word) for pair in options.items() for word in pair)]
    ran = CliRunner().invoke(app, arguments)
    assert ran.exit_code == 3
    assert all(path.name in ran.stdout.replace("\n", "") for path in failures)


def test_other_code_begins_again(tmp_path: Path) -> None:
    assert fuzz_golden(3, tmp_path).done == 3
    state = json.loads((tmp_path / STATE).read_text())
    for entry in state.values():
        entry["code"] = "of another day"
    (tmp_path / STATE).write_text(json.dumps(state))
    assert fuzz_golden(3, tmp_path).before == 0
    assert fuzz_golden(3, tmp_path).before == 3
    assert fuzz_golden(3, tmp_path, fresh=True).before == 0


def test_seeds_and_cases_are_independent_and_repeatable() -> None:
    config = draw_engine(7, 0, 10).config
    a, b = Case.draw(7, 4, config)[0], Case.draw(7, 4, config)[0]
    assert np.array_equal(a.x, b.x)
    assert all(
        np.array_equal(one.values, other.values)
        for one, other in zip(a.model.layers[0].cores, b.model.layers[0].cores, strict=True)
    )
    other = Case.draw(7, 5, config)[0]
    assert (other.model.inputs, other.x.tolist()) != (a.model.inputs, a.x.tolist())


def test_the_space_is_covered_and_bounded() -> None:
    engines = [draw_engine(0, case, 1).config for case in range(120)]
    assert {1, 16} <= {config.rows for config in engines}
    assert {config.lanes for config in engines} == {1, 2, 4, 8, 16}
    assert {config.data_width for config in engines} == {8, 16}
    drawn = [Case.draw(0, n, config)[0] for n, config in enumerate(engines)]
    graphs = [case for case in drawn if not case.model.chain]
    assert len(graphs) > len(drawn) / 10
    assert {"dense", "three", "separable", "sum", "average"} <= {
        layer.format for case in graphs for layer in case.model.layers
    }
    cases = [case for case in drawn if case.model.chain]
    assert {len(case.model.layers) for case in cases} == {1, 2, 3}
    layers = [layer for case in cases for layer in case.model.layers]
    assert {layer.format for layer in layers} == set(FORMATS)
    mixes = [case for case in cases if len({layer.format for layer in case.model.layers}) > 1]
    assert len(mixes) > len(cases) / 4
    assert {case.minimise for case in cases} == {"cycles", "memory"}
    assert {1, 40} <= {case.batch for case in cases}
    modes = [m for layer in layers if layer.format != "dense" for m in layer.modes_out]
    assert min(modes) == 1
    assert max(modes) == 64
    assert 24 <= max(rank for layer in layers for rank in layer.ranks) <= 32
    assert {layer.bias is None for case in cases for layer in case.model.layers} == {True, False}
    assert max(case.model.inputs * case.batch for case in cases) <= MOST_ELEMENTS
    assert MOST_CYCLES < 100_000


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "case.fuzz"
    path.write_bytes(b"nonsense")
    with pytest.raises(ArtefactError, match="safetensors"):
        replay_case(path)


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    (tmp_path / STATE).write_text("{")
    with pytest.raises(ToolError, match="can be read"):
        fuzz_golden(1, tmp_path)
