"""Quantisation: integers that cannot overflow, biases where the stages read them, honest errors."""

from __future__ import annotations

import random
from dataclasses import replace

import naive
import numpy as np
import pytest
from random_models import planner_config, random_model, random_tt_layer

from drawbar.gen.artefact import Artefact
from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import FitError, InputError
from drawbar.gen.formats import dense_network
from drawbar.gen.network import Model
from drawbar.gen.plan import plan_model
from drawbar.gen.program import decode
from drawbar.gen.stage import Stage
from drawbar.sim.golden import GoldenEngine, run_artefact
from drawbar.sw.compress.quantise import core_image, quantise

SIXTEEN = EngineConfig(
    name="sixteen",
    rows=3,
    lanes=4,
    core_depth=20000,
    work_depth=8000,
    bias_depth=2000,
    program_depth=2000,
)
EIGHT = SIXTEEN.replace(name="eight", data_width=8, acc_width=32)
TIGHT = EIGHT.replace(acc_width=20)


def matrix_of(stage: Stage, artefact: Artefact) -> np.ndarray:
    """A stage's integer core matrix, ``(rows, k)``, out of the core memory's image."""
    rows = artefact.config.rows
    return np.array(
        [
            [
                artefact.cores[
                    stage.core_base
                    + (row // stage.fold // rows * stage.k + step) * stage.fold
                    + row % stage.fold
                ][row // stage.fold % rows]
                for step in range(stage.k)
            ]
            for row in range(stage.rows)
        ]
    )


def bias_of(stage: Stage, artefact: Artefact) -> np.ndarray:
    """A stage's biases, ``(columns, rows)``, as the engine reads them."""
    lanes = artefact.config.lanes // stage.fold
    assert stage.bias_base is not None
    found = []
    for column in naive.counts(stage.column_loops):
        for lane in range(stage.lane_count):
            vector = stage.bias_base + lane // lanes * stage.lane_bias
            vector += naive.offset(stage.column_loops, column, "bias")
            vectors = naive.addresses(vector, stage.result_loops, "bias")
            group = np.arange(stage.rows) % stage.fold
            found.append(artefact.biases[vectors, group * lanes + lane % lanes])
    return np.array(found)


def check_no_overflow(artefact: Artefact) -> None:
    """No input whatsoever can make an accumulator wrap, bias included."""
    config = artefact.config
    assert np.abs(artefact.cores).max() <= config.data_max
    for stage in decode(artefact.program, config):
        reach = np.abs(matrix_of(stage, artefact)).sum(axis=1) * -config.data_min
        if stage.bias_base is not None:
            reach = (reach + np.abs(bias_of(stage, artefact))).max()
        assert np.max(reach) < 1 << (config.acc_width - 1)


def noise_db(artefact: Artefact, model: Model, x: np.ndarray) -> float:
    """Signal to noise of the golden model against float, in dB."""
    y = artefact.dequantise_output(run_artefact(artefact, artefact.quantise_input(x)))
    expected = model.forward(x)
    noise = np.mean((y - expected) ** 2)
    return float(10 * np.log10(np.mean(expected**2) / noise)) if noise else 200.0


@pytest.mark.parametrize("block", range(5))
def test_random_models_are_close_to_float(block: int) -> None:
    done = 0
    for seed in range(30 * block, 30 * block + 30):
        rng = random.Random(seed)
        model, config = random_model(rng), planner_config(rng)
        batch = rng.choice((1, 2, 3))
        try:
            plan = plan_model(model, config, batch=batch)
        except FitError:
            continue
        x = np.random.default_rng(seed).standard_normal((24, model.inputs))
        artefact = quantise(plan, x)
        check_no_overflow(artefact)
        assert artefact.cores.shape == (plan.core_vectors, config.rows)
        assert artefact.biases.shape == (plan.bias_vectors, config.lanes)
        assert noise_db(artefact, model, x) > (55 if config.data_width == 16 else 12), seed
        done += 1
    assert done >= 8


@pytest.mark.parametrize("config", [SIXTEEN, EIGHT, TIGHT], ids=lambda c: f"acc{c.acc_width}")
@pytest.mark.parametrize("scale", [1e-6, 1e-2, 1.0, 1e3, 1e6])
def test_weights_of_any_size(config: EngineConfig, scale: float) -> None:
    rng = np.random.default_rng(3)
    layer = random_tt_layer(random.Random(3), "l", (4, 5), (3, 4), bias=True, activation="relu")
    cores = tuple(replace(core, values=core.values * scale**0.5) for core in layer.cores)
    assert layer.bias is not None
    layer = replace(layer, cores=cores, bias=layer.bias * scale)
    model = Model("m", (layer,))
    x = rng.standard_normal((50, 20))
    artefact = quantise(plan_model(model, config), x)
    check_no_overflow(artefact)
    least = {40: 60, 32: 15, 20: 5}[config.acc_width]
    assert noise_db(artefact, model, x) > least


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1e4, 1e8])
def test_inputs_of_any_size(scale: float) -> None:
    rng = np.random.default_rng(4)
    model = Model("m", (dense_network("fc", rng.standard_normal((6, 10)) / 3),))
    x = rng.standard_normal((50, 10)) * scale
    artefact = quantise(plan_model(model, SIXTEEN), x)
    check_no_overflow(artefact)
    assert noise_db(artefact, model, x) > 60


def test_the_worst_input_does_not_wrap() -> None:
    """Equal signs everywhere, on the narrowest accumulators: as if those were without end."""
    bias = np.array([3.0, -3.0, 0.0])
    model = Model("m", (dense_network("fc", np.ones((3, 500)), bias=bias),))
    rng = np.random.default_rng(1)
    for config in (TIGHT, EIGHT, SIXTEEN.replace(acc_width=36)):
        artefact = quantise(plan_model(model, config), rng.standard_normal((50, 500)) * 0.01)
        check_no_overflow(artefact)
        (stage,) = decode(artefact.program, config)
        sums = matrix_of(stage, artefact).sum(axis=1)
        for value in (config.data_max, config.data_min):
            expected = [
                naive.requantise(int(s) * value + int(b), stage.shift, config.data_width, "none")
                for s, b in zip(sums, bias_of(stage, artefact)[0], strict=True)
            ]
            found = run_artefact(artefact, np.full((1, 500), value))
            np.testing.assert_array_equal(found, [expected])


def test_zero_weights() -> None:
    zero = dense_network("zero", np.zeros((4, 6)), bias=np.array([1.0, -2.0, 0.5, 0.0]))
    more = dense_network("more", np.eye(4))
    for layers in ((zero,), (zero, more)):
        artefact = quantise(plan_model(Model("m", layers), SIXTEEN), np.ones((5, 6)))
        check_no_overflow(artefact)
        y = artefact.dequantise_output(run_artefact(artefact, np.ones((2, 6), int)))
        np.testing.assert_allclose(y, [[1.0, -2.0, 0.5, 0.0]] * 2, atol=1e-3)
    nothing = dense_network("nothing", np.zeros((4, 6)))
    artefact = quantise(plan_model(Model("m", (nothing,)), EIGHT), np.ones((5, 6)))
    assert not run_artefact(artefact, np.full((3, 6), 127)).any()


def test_calibration_of_zeros() -> None:
    rng = np.random.default_rng(5)
    for bias in (None, rng.standard_normal(4)):
        model = Model("m", (dense_network("fc", rng.standard_normal((4, 6)), bias=bias),))
        artefact = quantise(plan_model(model, SIXTEEN), np.zeros((5, 6)))
        check_no_overflow(artefact)
        expected = np.zeros(4) if bias is None else bias
        y = artefact.dequantise_output(run_artefact(artefact, np.zeros((1, 6), int)))[0]
        np.testing.assert_allclose(y, expected, atol=1e-3)


@pytest.mark.parametrize("bits", [16, 8])
def test_scales_at_the_borders_are_powers_of_two(bits: int) -> None:
    config = SIXTEEN if bits == 16 else EIGHT
    model = Model("m", (dense_network("fc", np.eye(4)),))
    artefact = quantise(plan_model(model, config), np.full((5, 4), 0.9))
    assert artefact.input.fraction_bits == bits - 1
    # 0.9 exceeds half of the range, and 1.0 is its end: nothing larger fits.
    x = artefact.quantise_input(np.array([[0.5, -0.5, 0.25, -1.0]]))
    half = 1 << (bits - 2)
    np.testing.assert_array_equal(x, [[half, -half, half // 2, -2 * half]])


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 5, 9])
def test_biases_lie_where_each_sample_reads_them(batch: int) -> None:
    """Zero weights: outputs are the biases, for every sample of every batch size and layout."""
    rng = random.Random(batch)
    blocks = set()
    for seed in range(12):
        layer = _biased(rng)
        outputs = layer.outputs
        bias = np.random.default_rng(seed).permutation(outputs) - outputs / 2
        cores = tuple(replace(core, values=core.values * 1e-9) for core in layer.cores)
        model = Model("m", (replace(layer, cores=cores, bias=bias),))
        config = SIXTEEN.replace(lanes=rng.choice((1, 2, 4, 8)), rows=rng.choice((1, 2, 3, 4)))
        plan = plan_model(model, config, batch=batch)
        last = plan.stages[-1]
        blocks.add("batch" in last.block)
        artefact = quantise(plan, np.zeros((4, layer.inputs)) + 0.01)
        y = run_artefact(artefact, np.zeros((batch, layer.inputs), int))
        real = artefact.dequantise_output(y)
        np.testing.assert_allclose(real, np.tile(bias, (batch, 1)), atol=0.02)
    if batch > 1:
        assert True in blocks


def _biased(rng: random.Random):
    depth = rng.choice((1, 2, 3))
    modes_in = tuple(rng.choice((2, 3, 4)) for _ in range(depth))
    modes_out = tuple(rng.choice((1, 2, 3, 5)) for _ in range(depth))
    return random_tt_layer(rng, "l", modes_in, modes_out, bias=True, activation="none", most_rank=3)


def test_core_image_by_hand() -> None:
    config = EngineConfig(rows=2, lanes=2)
    image = core_image(np.array([[[1, 2], [3, 4], [5, 6]]]), config)
    np.testing.assert_array_equal(image, [[1, 3], [2, 4], [5, 0], [6, 0]])
    two = core_image(np.array([[[1, 2], [3, 4], [5, 6]], [[7, 8], [9, 1], [2, 3]]]), config)
    np.testing.assert_array_equal(two[4:], [[7, 9], [8, 1], [2, 0], [3, 0]])


def test_an_engine_that_ran_before_gives_the_same() -> None:
    """Memories full of old values change nothing."""
    model = random_model(random.Random(8))
    artefact = quantise(plan_model(model, SIXTEEN), np.ones((4, model.inputs)))
    engine = GoldenEngine(SIXTEEN)
    engine.core[:], engine.bias[:], engine.work[:] = 111, 222, 333
    engine.program[: len(artefact.program)] = artefact.program
    engine.core[: len(artefact.cores)] = artefact.cores
    engine.bias[: len(artefact.biases)] = artefact.biases
    x = artefact.quantise_input(np.random.default_rng(1).standard_normal((1, model.inputs)))
    engine.work[artefact.input.addresses(1)] = x
    engine.run(0)
    found = engine.work[artefact.output.addresses(1)]
    np.testing.assert_array_equal(found, run_artefact(artefact, x))


# -- errors ----------------------------------------------------------------------------------------

PLAN = plan_model(Model("net", (dense_network("fc", np.eye(3)),)), SIXTEEN)


@pytest.mark.parametrize(
    ("data", "rule", "value"),
    [
        (np.zeros((0, 3)), "shape (samples, 3)", "(0, 3)"),
        (np.zeros((5, 4)), "shape (samples, 3)", "(5, 4)"),
        (np.zeros(3), "shape (samples, 3)", "(3,)"),
        (np.array([[1.0, np.nan, 2.0]]), "finite", "NaN"),
        (np.array([[1.0, np.inf, 2.0]]), "finite", "infinity"),
        (np.array([["a", "b", "c"]]), "numbers", "<U1"),
        (np.array([[1j, 1j, 1j]]), "numbers", "complex128"),
        (np.array([[None, None, None]]), "numbers", "object"),
    ],
)
def test_calibration_errors(data: np.ndarray, rule: str, value: str) -> None:
    with pytest.raises(InputError) as caught:
        quantise(PLAN, data)
    assert "'net'" in caught.value.subject
    assert rule in caught.value.rule
    assert value in str(caught.value.value)


def test_a_bias_beyond_every_accumulator_saturates_or_is_refused() -> None:
    """A bias a billion times the weights: right within the output's precision, or an error."""
    weight = np.full((2, 3), 1e-9)
    model = Model("net", (dense_network("fc", weight, bias=np.array([1.0, -1.0])),))
    artefact = quantise(plan_model(model, SIXTEEN), np.ones((4, 3)))
    check_no_overflow(artefact)
    y = artefact.dequantise_output(run_artefact(artefact, np.zeros((1, 3), int)))
    np.testing.assert_allclose(y, [[1.0, -1.0]], atol=1e-3)
