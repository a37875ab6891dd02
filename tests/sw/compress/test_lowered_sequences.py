"""Recurrent cells as graphs: PyTorch's numbers in float, and nearly so in integers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from random_cells import CLASSES, FORMATS, INPUTS, UNITS, random_cells
from small_engines import ENGINES
from torch import nn

import drawbar
from drawbar.gen.errors import FitError, InputError, NetworkError
from drawbar.gen.model_file import load_model, save_model
from drawbar.sim.golden import run_artefact
from drawbar.sw.compress.lowered_sequences import lower_cell
from drawbar.sw.compress.lowering import lower
from drawbar.sw.compress.sequences import SequenceClassifier

ENGINE = ENGINES[0]
STEPS = 9


def sequences(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, STEPS, INPUTS))


def of_torch(model: nn.Module, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model(torch.from_numpy(x).float()).numpy()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_cells_are_pytorch_s(kind: str, format: str, bias: bool) -> None:
    model = random_cells(kind, format, bias=bias)
    x = sequences(6)
    wanted = of_torch(model, x)
    # With many knots nothing but the maps is left to be wrong.
    exact = lower_cell(model.cell, lower(model.head), "cell", knots=200)  # type: ignore[arg-type]
    np.testing.assert_allclose(exact.forward(x), wanted, atol=3e-4)
    np.testing.assert_allclose(lower(model).forward(x), wanted, atol=0.02)
    # Flat sequences are sequences.
    np.testing.assert_array_equal(of_torch(model, x.reshape(6, -1)), wanted)


@pytest.mark.parametrize("format", ["dense", "tt"])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_compiled_cells(kind: str, format: str) -> None:
    model = random_cells(kind, format)
    x = sequences(40)
    artefact = drawbar.compile(model, ENGINE, calibration=x)
    assert artefact.steps == STEPS
    assert len(artefact.states) == (2 if kind == "lstm" else 1)
    assert len(artefact.buffers) == 2
    found = drawbar.golden(artefact, x)
    assert found.shape == (40, CLASSES)
    np.testing.assert_allclose(found, of_torch(model, x), atol=0.02)
    # What it is, and not what some constant is.
    assert np.abs(found - found.mean(axis=0)).max() > 0.1
    # Shorter sequences are as good; an empty batch is one.
    np.testing.assert_allclose(
        drawbar.golden(artefact, x[:, :4]), of_torch(model, x[:, :4]), atol=0.02
    )
    assert drawbar.golden(artefact, x[:0]).shape == (0, CLASSES)


def test_programs_of_both_buffers_share_the_state() -> None:
    """Steps that take turns in two buffers do what steps in one do."""
    model, x = random_cells("lstm", "tt"), sequences(3)
    two = drawbar.compile(model, ENGINE, calibration=x, buffers=2)
    one = drawbar.compile(model, ENGINE, calibration=x, buffers=1)
    assert (len(two.buffers), len(one.buffers)) == (2, 1)
    assert two.cycles == one.cycles
    places = [b.input.base for b in two.buffers] + [b.output.base for b in two.buffers]
    assert len(set(places)) == 4
    integers = one.quantise_input(x)
    for artefact in (one, two):
        with drawbar.open("golden") as device:
            device.load(artefact)
            # A state that is left over would be in the second sequence, and in all of a second run.
            for _ in range(2):
                found = device.run_integers(integers)
                np.testing.assert_array_equal(found, run_artefact(one, integers))
            assert device.verify().passed


def test_an_artefact_keeps_its_states(tmp_path) -> None:
    model, x = random_cells("gru", "dense"), sequences(3)
    artefact = drawbar.compile(model, ENGINE, calibration=x)
    artefact.save(tmp_path / "cells.drawbar")
    again = type(artefact).load(tmp_path / "cells.drawbar")
    assert (again.states, again.steps) == (artefact.states, artefact.steps)
    np.testing.assert_array_equal(drawbar.golden(again, x), drawbar.golden(artefact, x))


def test_a_model_file_keeps_a_cell(tmp_path) -> None:
    model, x = lower(random_cells("lstm", "tt")), sequences(3)
    save_model(model, tmp_path / "cell.safetensors")
    again = load_model(tmp_path / "cell.safetensors")
    assert again.states == model.states
    np.testing.assert_array_equal(again.forward(x), model.forward(x))


def test_sequences_that_do_not_fit() -> None:
    model, x = random_cells("gru", "dense"), sequences(3)
    artefact = drawbar.compile(model, ENGINE, calibration=x)
    with pytest.raises(InputError, match=f"at most {STEPS} steps.*found {STEPS + 1} steps"):
        artefact.quantise_input(np.concatenate([x, x[:, :1]], axis=1))
    for wrong in (x[0], x[:, :0], x[..., 1:]):
        with pytest.raises(InputError, match=r"\(batch, steps, 12\)"):
            artefact.quantise_input(wrong)
    with drawbar.open("golden") as device:
        device.load(artefact)
        with pytest.raises(InputError, match="steps"):
            device.run_integers(np.zeros((1, STEPS + 1, INPUTS), np.int64))
    with pytest.raises(InputError, match=r"\(sequences, steps, 12\)"):
        drawbar.compile(model, ENGINE, calibration=x[0])


def test_engines_and_batches_that_do_not_fit() -> None:
    model, x = random_cells("lstm", "dense"), sequences(3)
    with pytest.raises(FitError, match="set products = 1 in the engine"):
        drawbar.compile(model, ENGINE.replace(products=0), calibration=x)
    with pytest.raises(FitError, match="use batch 1"):
        drawbar.plan(model, ENGINE, batch=2)
    with pytest.raises(FitError, match="raise program_depth to at least"):
        drawbar.plan(model, ENGINE.replace(program_depth=300), buffers=2, stream=False)
    assert len(drawbar.plan(model, ENGINE.replace(program_depth=300)).bases) == 1


@pytest.mark.parametrize("options", [{"num_layers": 2}, {"bidirectional": True}, {"proj_size": 3}])
def test_cells_that_are_not_lowered(options: dict[str, int]) -> None:
    cell = nn.LSTM(INPUTS, UNITS, batch_first=True, **options)
    with pytest.raises(NetworkError, match="one layer and one direction"):
        lower(SequenceClassifier(cell, nn.Linear(UNITS, CLASSES)))


def test_other_modules_are_refused() -> None:
    with pytest.raises(NetworkError, match="LSTM and GRU in a SequenceClassifier"):
        lower(nn.Sequential(nn.LSTM(4, 4)))
    with pytest.raises(NetworkError, match=r"are an LSTM or a GRU.*found RNN"):
        lower_cell(nn.RNN(4, 4, batch_first=True), lower(nn.Linear(4, 2)), "rnn")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="batch_first"):
        SequenceClassifier(nn.GRU(4, 4), nn.Linear(4, 2))
    model = lower(random_cells("lstm", "dense"))
    with pytest.raises(NetworkError, match="has a result that no layer reads"):
        replace(
            model,
            layers=model.layers[:-1],
            sources=model.sources[:-1],
            shapes=model.shapes[:-1],
            quantised=(),
        )
    with pytest.raises(NetworkError, match="reads a tensor of the model"):
        replace(model, sources=((replace(model.sources[0][0], tensor=99),), *model.sources[1:]))


def test_tanh_and_sigmoid_of_vectors() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5), nn.Sigmoid(), nn.Linear(5, 3)
    )
    x = np.random.default_rng(1).standard_normal((50, 6))
    artefact = drawbar.compile(model, ENGINE.replace(products=0), calibration=x)
    np.testing.assert_allclose(drawbar.golden(artefact, x), of_torch(model, x), atol=0.01)
    with pytest.raises(NetworkError, match="is of a feature vector"):
        lower(nn.Sequential(nn.Unflatten(1, (1, 2, 3)), nn.Tanh()))
