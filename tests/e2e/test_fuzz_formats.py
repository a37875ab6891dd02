"""The fuzzer's formats: every one there is, on the hardware, and what a run of them says."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from drawbar.fuzz import replay_case, run_fuzz
from drawbar.fuzz_cases import Case, draw_engine
from drawbar.fuzz_files import load_case
from drawbar.fuzz_formats import chosen_kinds, format_kinds, random_kind
from drawbar.gen.cli.main import app
from drawbar.gen.errors import InputError
from drawbar.sim import golden
from drawbar.sw.compress.formats import format_names, get_format

KINDS = format_kinds()
BESIDES = {"dense", "scada_tucker", "products", "lstm", "gru", "concatenation"}


def test_every_format_is_there() -> None:
    assert set(KINDS) == {*format_names(), *BESIDES}


@pytest.mark.parametrize("kind", KINDS)
def test_models_of_a_kind(kind: str) -> None:
    """Linear layers and, where the format is defined for them, convolutions; each draw another."""
    rng = random.Random(kind)
    models = [random_kind(rng, kind, 0.5) for _ in range(24)]
    layers = [layer for model in models for layer in model.layers]
    assert len({(layer.inputs, layer.outputs) for layer in layers}) > 12
    named = {layer.format.replace("-", "_") for layer in layers}
    expected = {"scada_tucker": "ada_tucker", "products": "products", "concatenation": None}
    wanted = "table" if kind in ("lstm", "gru") else expected.get(kind, kind)
    assert wanted is None or wanted in named
    if kind in format_names():
        images = any(layer.windows for layer in layers)
        assert images == get_format(kind).convolution
        assert any(model.chain for model in models)
    if kind == "concatenation":
        assert all(any(layer.joined for layer in model.layers) for model in models)
        assert {len(model.shapes[0]) for model in models} == {1, 3}
    if kind in ("lstm", "gru"):
        assert all(model.states for model in models)


@pytest.mark.parametrize("seed", [9, 23])
def test_hardware_is_exact(seed: int, tmp_path: Path) -> None:
    """Two cases of each kind on the generated RTL: an engine of 3 x 2, and one of 1 x 4 and 8 bit
    that holds one stage.
    """
    cases = 2 * len(KINDS)
    result = run_fuzz(cases=cases, seed=seed, out=tmp_path, per_engine=4 * cases, formats=["all"])
    assert (result.done, result.engines, result.failures) == (cases, 1, ())
    assert result.formats == dict.fromkeys(KINDS, 2)


def test_names() -> None:
    assert chosen_kinds(["all"]) == KINDS
    assert chosen_kinds(["TT", " tr", "tensor-ring", "bt"]) == ("tt", "tensor_ring", "block_term")
    with pytest.raises(InputError, match=r"format 'tuker'.*did you mean tucker"):
        chosen_kinds(["tt", "tuker"])
    with pytest.raises(InputError, match="is all, or some of dense, tt"):
        chosen_kinds([""])
    result = CliRunner().invoke(app, ["fuzz", "--formats", "cp,lstn"], env={"COLUMNS": "200"})
    assert result.exit_code == 1
    assert "did you mean lstm" in result.output


def test_runs_of_formats_are_apart(tmp_path: Path) -> None:
    """A run goes on where it was; one of other formats is another run."""

    def run(cases: int, *formats: str):
        return run_fuzz(cases=cases, seed=3, out=tmp_path, device="golden", formats=formats)

    first = run(3, "cp", "products")
    assert (first.done, first.before, first.formats) == (3, 0, {"cp": 2, "products": 1})
    again = run(4, "cp", "products")
    assert (again.done, again.before, again.failures) == (4, 3, ())
    assert run(2, "svd").before == 0


def test_cases_are_repeatable() -> None:
    turn = draw_engine(5, 0, 10, formats=True)
    one, other = (Case.draw(5, 2, turn.config, ("gru", "cp", "lstm"))[0] for _ in range(2))
    assert one.kind == "lstm"
    assert one.name == "lstm-5-2"
    assert np.array_equal(one.x, other.x)
    assert one.x.ndim == one.calibration.ndim == 3
    for a, b in zip(one.model.layers, other.model.layers, strict=True):
        for core, same in zip(a.cores, b.cores, strict=True):
            assert np.array_equal(core.values, same.values)


def test_a_failing_cell_is_saved_and_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(artefact, x):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(golden, "round_shift", lambda v, shift: v >> shift)
            return golden.run_artefact(artefact, x)

    with monkeypatch.context() as patch:
        patch.setattr("drawbar.fuzz.run_artefact", wrong)
        result = run_fuzz(cases=1, seed=3, out=tmp_path, device="golden", formats=["gru"])
    assert [path.name for path in result.failures] == ["gru-3-0.fuzz"]
    case, artefact, kind, _ = load_case(result.failures[0])
    assert (case.kind, kind) == ("gru", "bits")
    assert artefact is not None
    assert case.model.states
    assert replay_case(result.failures[0], device="golden").passed
