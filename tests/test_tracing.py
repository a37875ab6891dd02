"""Traces: an accuracy loss points at its layer, and what is compared is what the device holds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_cells import random_cells
from small_engines import ENGINES
from typer.testing import CliRunner

import drawbar
from drawbar.gen.cli.main import app
from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import InputError
from drawbar.gen.formats import dense_network, tt_network
from drawbar.gen.formats.convolution import (
    dense_convolution,
    global_average,
    joined_network,
    sum_network,
)
from drawbar.gen.model_file import save_model
from drawbar.gen.network import Model, Source
from drawbar.gen.plan import plan_model
from drawbar.gen.results import layer_results
from drawbar.sim.golden import GoldenEngine
from drawbar.sw.compress import lower
from drawbar.sw.compress.quantise import Scales, calibrate

WIDE, NARROW = ENGINES[:2]


def chain() -> Model:
    rng = np.random.default_rng(5)

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(size=shape)

    cores = [draw(1, 3, 4, 5), draw(5, 4, 2, 1)]
    return Model(
        "chain",
        (
            dense_network("first", draw(8, 10), bias=draw(8), activation="relu"),
            tt_network("second", cores, bias=draw(12), activation="relu"),
            dense_network("third", draw(5, 12)),
        ),
    )


def graph() -> Model:
    """Convolutions, one with a stride, a sum, an average and a product."""
    rng = np.random.default_rng(6)

    def conv(name: str, outputs: int, inputs: int, stride: int = 1) -> Any:
        weight = rng.normal(size=(outputs, inputs, 3, 3))
        size = (6, 6) if stride == 2 or inputs == 2 else (3, 3)
        bias = rng.normal(size=outputs)
        return dense_convolution(
            name,
            weight,
            shape=size,
            stride=(stride, stride),
            padding=(1, 1),
            bias=bias,
            activation="relu",
        )

    layers = (
        conv("one", 3, 2, stride=2),
        conv("two", 3, 3),
        sum_network("sum", (3, 3, 3), activation="relu"),
        global_average("average", 3, (3, 3)),
        dense_network("last", rng.normal(size=(4, 3))),
    )
    sources = ((Source(0),), (Source(1),), (Source(1), Source(2)), (Source(3),), (Source(4),))
    shapes = ((2, 6, 6), (3, 3, 3), (3, 3, 3), (3, 3, 3), (3,), (4,))
    return Model("graph", layers, sources, shapes)


def joins() -> Model:
    """Two concatenations, one within the other, of which the second is the output; the input is a
    part, too.
    """
    rng = np.random.default_rng(8)

    def conv(name: str, outputs: int, inputs: int) -> Any:
        weight = rng.normal(size=(outputs, inputs, 3, 3)) / np.sqrt(9 * inputs)
        return dense_convolution(name, weight, shape=(5, 4), padding=(1, 1))

    layers = (
        conv("one", 3, 2),
        joined_network("both", (5, 5, 4)),
        conv("two", 2, 5),
        joined_network("all", (7, 5, 4)),
    )
    sources = ((Source(0),), (Source(0), Source(1)), (Source(2),), (Source(2), Source(3)))
    shapes = tuple((channels, 5, 4) for channels in (2, 3, 5, 2, 7))
    return Model("joins", layers, sources, shapes)


MODELS = {"chain": chain, "graph": graph, "joins": joins}


def inputs(model: Model, samples: int = 11) -> np.ndarray:
    return np.random.default_rng(7).normal(size=(samples, model.inputs))


def misscaled(model: Model, config: EngineConfig, name: str, factor: float) -> Scales:
    """The scales of a calibration, but for one layer's result."""
    plan = plan_model(model, config, buffers=1)
    scales = calibrate(plan, inputs(model))
    names = [layer.name for layer in plan.model.layers]
    results = list(scales.results)
    results[layer_results(plan)[names.index(name)].step] *= factor
    return replace(scales, results=tuple(results))


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("config", [WIDE, NARROW], ids=lambda c: c.name)
@pytest.mark.parametrize("kind", MODELS)
def test_all_layers(kind: str, config: EngineConfig, batch: int) -> None:
    """Every layer's result is found, whatever its layout: it is the float model's, and a device's
    is the same.
    """
    model = MODELS[kind]()
    x = inputs(model)
    found = drawbar.trace(model, config, data=x, batch=batch, device="golden")
    assert [row.name for row in found.layers] == ["input", *(y.name for y in model.layers)]
    assert [row.elements for row in found.layers] == [
        model.inputs,
        *(y.outputs for y in model.layers),
    ]
    assert found.samples == len(x)
    assert found.mismatches == 0
    for row in found.layers:
        assert row.sqnr > (55 if config is WIDE else 15)
        assert row.own_sqnr > row.sqnr - 10
        assert row.mismatches == 0
        assert sum(row.histogram) == sum(row.float_histogram) == row.elements * len(x)
        assert 0.2 < row.range_use <= 1.01
    # The last one is what everybody else sees.
    artefact = drawbar.compile(model, config, calibration=x, batch=batch, buffers=1)
    y, wanted = drawbar.golden(artefact, x), model.forward(x)
    ratio = 10 * np.log10(np.square(wanted).sum() / np.square(y - wanted).sum())
    assert found.layers[-1].sqnr == pytest.approx(ratio, abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "name"), [("chain", "first"), ("chain", "second"), ("graph", "two")]
)
def test_a_scale_that_is_too_coarse_is_the_worst(kind: str, name: str) -> None:
    model = MODELS[kind]()
    well = drawbar.trace(model, WIDE, data=inputs(model))
    bad = drawbar.trace(
        model, WIDE, data=inputs(model), scales=misscaled(model, WIDE, name, 1 / 1024)
    )
    assert bad.worst.name == name
    before, after = (next(r for r in t.layers if r.name == name) for t in (well, bad))
    # Ten bits of 6 dB each.
    assert after.own_sqnr < before.own_sqnr - 45
    assert after.range_use < 0.01
    assert after.saturated == 0
    # The layers after it have its noise, and add none of their own.
    others = [r for r in bad.layers if r.name != name]
    assert min(r.own_sqnr for r in others) > after.own_sqnr + 15
    assert bad.layers[-1].sqnr < well.layers[-1].sqnr - 20


@pytest.mark.parametrize(("kind", "name"), [("chain", "second"), ("graph", "one")])
def test_a_scale_that_is_too_fine_saturates(kind: str, name: str) -> None:
    model = MODELS[kind]()
    bad = drawbar.trace(model, WIDE, data=inputs(model), scales=misscaled(model, WIDE, name, 8))
    assert bad.worst.name == name
    assert bad.worst.saturated > 0
    assert bad.worst.range_use == pytest.approx(1, abs=1e-3)
    assert bad.worst.float_use > 2
    assert bad.worst.histogram[-1] >= bad.worst.saturated


def test_calibration_on_other_data() -> None:
    model = chain()
    x = inputs(model)
    found = drawbar.trace(model, WIDE, data=x, calibration=x / 16)
    assert found.layers[0].saturated > 0
    assert found.worst.name == "input"


def test_saturation_within_a_layer() -> None:
    """Of a stage that is not the layer's last."""
    rng = np.random.default_rng(8)
    cores = [rng.normal(size=(1, 8, 8, 2)), rng.normal(size=(2, 8, 8, 1))]
    first = dense_network("first", rng.normal(size=(64, 10)))
    model = Model("two", (first, tt_network("second", cores)))
    plan = plan_model(model, WIDE, buffers=1)
    scales = calibrate(plan, inputs(model))
    steps = [n for n, p in enumerate(plan.stages) if p.layer == 1 and not p.ends_layer]
    results = list(scales.results)
    results[steps[0]] *= 8
    found = drawbar.trace(
        model, WIDE, data=inputs(model), scales=replace(scales, results=tuple(results))
    )
    assert found.worst.name == "second"
    assert found.worst.saturated_inside > 0
    assert all(row.saturated_inside == 0 for row in found.layers if row.name != "second")


def cells(kind: str) -> tuple[Model, np.ndarray]:
    """One step of a recurrent classifier, and sequences for it."""
    model = lower(random_cells(kind, "tt"), kind)
    return model, np.random.default_rng(7).normal(size=(5, 6, model.inputs))


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_sequences(kind: str) -> None:
    """Every layer in every step, states carried on; a device is the same after the last step."""
    model, x = cells(kind)
    found = drawbar.trace(model, WIDE, data=x, device="golden")
    assert [row.name for row in found.layers] == ["input", *(y.name for y in model.layers)]
    assert found.mismatches == 0
    for row in found.layers:
        assert len(row.by_step) == 6
        assert min(row.by_step) <= row.sqnr + 1e-9
        assert row.sqnr <= max(row.by_step) + 1e-9
        assert row.sqnr > 45
        assert row.own_sqnr > row.sqnr - 10
        assert sum(row.histogram) == row.elements * 5 * 6
        json.dumps(row.as_dict())
    # States are 0 at first, and so is what is made of them alone; a GRU's map has a bias.
    exact = {row.name for row in found.layers if row.by_step[0] == np.inf}
    assert ("lstm.state" in exact) == (kind == "lstm")
    # What everybody else sees is the last step.
    artefact = drawbar.compile(model, WIDE, calibration=x, buffers=1)
    y, wanted = drawbar.golden(artefact, x), model.forward(x)
    ratio = 10 * np.log10(np.square(wanted).sum() / np.square(y - wanted).sum())
    assert found.layers[-1].by_step[-1] == pytest.approx(ratio, abs=1e-6)
    # And one step alone is a sequence, too.
    assert drawbar.trace(model, WIDE, data=x[:, :1], device="golden").mismatches == 0


def test_a_state_that_is_too_coarse_is_found() -> None:
    model, x = cells("lstm")
    plan = plan_model(model, WIDE, buffers=1)
    scales = calibrate(plan, x)
    number = [layer.name for layer in plan.model.layers].index("lstm.tanh")
    results = list(scales.results)
    results[layer_results(plan)[number].step] /= 64
    found = drawbar.trace(model, WIDE, data=x, scales=replace(scales, results=tuple(results)))
    assert found.worst.name == "lstm.tanh"


@pytest.mark.parametrize("shape", [(5, 12), (5, 6, 11), (5, 0, 12)])
def test_sequences_of_another_shape(shape: tuple[int, ...]) -> None:
    model, _ = cells("gru")
    with pytest.raises(InputError, match=r"has shape \(samples, steps, 12\)"):
        drawbar.trace(model, WIDE, data=np.zeros(shape))


def test_sequences_on_the_simulated_board(tmp_path: Path) -> None:
    model, x = cells("gru")
    save_model(model, tmp_path / "gru.safetensors")
    np.save(tmp_path / "x.npy", x[:2, :3])
    lines = [f"{k} = {v}" for k, v in WIDE.as_dict().items() if k != "name"]
    (tmp_path / "engine.toml").write_text("\n".join(lines))
    names = ("gru.safetensors", "--data", "x.npy", "--engine", "engine.toml")
    arguments = [str(tmp_path / n) if "." in n else n for n in names]
    result = CliRunner().invoke(
        app, ["trace", *arguments, "--device", "sim"], env={"COLUMNS": "200"}
    )
    assert result.exit_code == 0, result.output
    assert "first step" in result.output
    assert "all layers: the golden model's bits" in result.output


@pytest.mark.parametrize("kind", ["graph", "joins"])
def test_the_simulated_board(kind: str) -> None:
    model = MODELS[kind]()
    found = drawbar.trace(model, WIDE, data=inputs(model, 3), device="sim")
    assert [row.mismatches for row in found.layers] == [0] * (1 + len(model.layers))
    assert found.device == "sim"


def test_a_device_that_computes_something_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its first wrong layer is named, and the exit code says so."""
    run = GoldenEngine.run

    def broken(self: GoldenEngine, address: int) -> Any:
        found = run(self, address)
        if len(found) > 1:
            self.work ^= 1
        return found

    monkeypatch.setattr(GoldenEngine, "run", broken)
    save_model(chain(), tmp_path / "chain.safetensors")
    np.save(tmp_path / "x.npy", inputs(chain()))
    options = ["--data", str(tmp_path / "x.npy"), "--device", "golden", "--json"]
    result = CliRunner().invoke(app, ["trace", str(tmp_path / "chain.safetensors"), *options])
    assert result.exit_code == 3
    facts = json.loads(result.stdout)
    differ = [row["mismatches"] for row in facts["layers"]]
    assert differ[:2] == [0, 0]
    assert all(differ[2:])
    assert facts["mismatches"] == sum(differ)


def test_the_command(tmp_path: Path) -> None:
    model, picture = tmp_path / "graph.safetensors", tmp_path / "trace.svg"
    save_model(graph(), model)
    np.save(tmp_path / "x.npy", inputs(graph()))
    arguments = ["trace", str(model), "--data", str(tmp_path / "x.npy"), "--samples", "5"]
    shown = CliRunner().invoke(app, [*arguments, "--plot", str(picture)], env={"COLUMNS": "100"})
    assert shown.exit_code == 0
    assert "<- worst" in shown.stdout
    assert picture.read_text().startswith("<?xml")
    facts = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert facts["samples"] == 5
    assert facts["worst"] in [row["name"] for row in facts["layers"]]
    assert len(facts["layers"]) == 6
    assert facts["layers"][1]["mismatches"] is None


@pytest.mark.parametrize(
    ("data", "word"),
    [(np.ones((3, 4)), "10"), (np.full((3, 10), np.nan), "NaN"), (np.ones(0), "10")],
)
def test_bad_data(data: np.ndarray, word: str) -> None:
    with pytest.raises(drawbar.DrawbarError, match=word):
        drawbar.trace(chain(), WIDE, data=data)


def test_an_artefact_has_no_float_model(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", inputs(chain()))
    result = CliRunner().invoke(app, ["trace", "net.drawbar", "--data", str(tmp_path / "x.npy")])
    assert result.exit_code == 1
    assert "compiled from" in result.output
