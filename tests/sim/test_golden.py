"""The golden model against Python's own integers and fractions, element by element."""

from __future__ import annotations

import random
from dataclasses import replace

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_models import random_model
from random_stages import random_config, random_memories, random_stage

from drawbar.gen.artefact import Artefact
from drawbar.gen.config import EngineConfig
from drawbar.gen.cycles import program_cycles
from drawbar.gen.errors import ArtefactError, FitError
from drawbar.gen.plan import plan_model
from drawbar.gen.program import encode
from drawbar.sim.golden import (
    CHUNK,
    GoldenEngine,
    accumulate,
    add_bias,
    products,
    round_shift,
    run_artefact,
    run_stage,
    saturate,
)
from drawbar.sw.compress.quantise import quantise


@given(
    width=st.sampled_from([8, 16]),
    extra=st.integers(0, 12),
    pairs=st.integers(1, 40),
    seed=st.integers(0, 2**32),
    extreme=st.booleans(),
)
def test_products(width: int, extra: int, pairs: int, seed: int, extreme: bool) -> None:
    rng = np.random.default_rng(seed)
    low, high = -(1 << (width - 1)), (1 << (width - 1)) - 1
    shape = (3, 2 * pairs)
    live = rng.choice([low, high], shape) if extreme else rng.integers(low, high + 1, shape)
    expected = [
        [naive.wrap(sum(int(a) * int(b) for a, b in row.reshape(-1, 2)), 2 * width + extra)]
        for row in live
    ]
    assert products(live.astype(np.int32), 2 * width + extra).tolist() == expected


@given(
    width=st.sampled_from([8, 16]),
    extra=st.integers(4, 12),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 40), st.integers(1, 4)),
    seed=st.integers(0, 2**32),
    extreme=st.booleans(),
)
def test_accumulate(width: int, extra: int, shape, seed: int, extreme: bool) -> None:
    acc_width = 2 * width + extra
    rows, k, columns = shape
    rng = np.random.default_rng(seed)
    low, high = -(1 << (width - 1)), (1 << (width - 1)) - 1

    def operand(*size: int) -> np.ndarray:
        return rng.choice([low, high], size) if extreme else rng.integers(low, high + 1, size)

    core, live = operand(rows, k), operand(columns, k)
    expected = [
        [
            naive.wrap(sum(int(a) * int(b) for a, b in zip(row, x, strict=True)), acc_width)
            for row in core
        ]
        for x in live
    ]
    found = accumulate(core, live.astype(np.int32), acc_width)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, expected)


def test_the_longest_reduction_is_exact() -> None:
    """2**20 steps of the largest operands and an odd one: every bit of a 51-bit sum."""
    k = 1 << 20
    core = np.full((1, k), -32768)
    live = np.full((1, k), -32768)
    live[0, 0] = -32767
    assert accumulate(core, live, 53)[0, 0] == (1 << 50) - 32768
    assert accumulate(core, live, 40)[0, 0] == naive.wrap((1 << 50) - 32768, 40)


@pytest.mark.parametrize("acc_width", [20, 36, 40])
def test_accumulators_wrap_at_both_ends(acc_width: int) -> None:
    half = 1 << (acc_width - 1)
    # half = 2**a * 2**b as one product of 16-bit operands, as often as it takes.
    unit = 1 << 14
    steps = max(1, half >> 28)
    first = half // steps // unit
    core = np.full((1, steps), unit)
    live = np.full((2, steps), first)
    live[1] = -first
    found = accumulate(core, live, acc_width)
    np.testing.assert_array_equal(found, [[-half], [-half]])
    live[0, -1] -= 1
    assert accumulate(core, live, acc_width)[0, 0] == half - unit


def test_nothing_accumulates_to_nothing() -> None:
    assert accumulate(np.zeros((3, 2), int), np.zeros((0, 2), int), 40).shape == (0, 3)


@given(st.integers(-(2**52), 2**52), st.integers(-(2**52), 2**52))
def test_add_bias(acc: int, bias: int) -> None:
    assert add_bias(np.array([acc]), np.array([bias]))[0] == acc + bias
    assert add_bias(np.array([acc]), None)[0] == acc


@given(st.integers(-(2**53), 2**53 - 1), st.integers(0, 53))
def test_round_shift_is_half_to_even(value: int, shift: int) -> None:
    expected = round(naive.Fraction(value, 1 << shift))
    assert round_shift(np.array([value]), shift)[0] == expected


def test_every_tie_goes_to_even() -> None:
    for shift in range(1, 6):
        values = np.arange(-400, 400)
        expected = [round(naive.Fraction(int(v), 1 << shift)) for v in values]
        np.testing.assert_array_equal(round_shift(values, shift), expected)


@given(st.integers(-(2**54), 2**54), st.sampled_from([8, 16]), st.sampled_from(["none", "relu"]))
def test_saturate(value: int, width: int, activation: str) -> None:
    expected = naive.requantise(value, 0, width, activation)
    assert saturate(np.array([value]), width, activation)[0] == expected


@pytest.mark.parametrize("seed", range(40))
def test_random_stages(seed: int) -> None:
    """Three samples at once, against one element after the other."""
    rng = random.Random(seed)
    config = random_config(rng)
    stage = random_stage(rng, config)
    if seed % 2:
        stage = replace(stage, lane_bias=0)  # every lane tile has the same biases
    core, bias, work = random_memories(np.random.default_rng(seed), config)
    samples = np.stack([work, np.roll(work, 7), -1 - work]).astype(np.int32)
    expected = samples.tolist()
    for sample in expected:
        naive.run_stage(stage, config, core.tolist(), bias.tolist(), sample)
    run_stage(stage, config, core, bias, samples)
    np.testing.assert_array_equal(samples, expected)


def test_programs_on_an_engine() -> None:
    rng = random.Random(11)
    for seed in range(10):
        config = random_config(rng)
        stages = [random_stage(rng, config) for _ in range(2)]
        words = encode(stages, config)
        core, bias, work = random_memories(np.random.default_rng(seed), config)
        address = config.program_depth - len(words)
        engine = GoldenEngine(config)
        engine.program[address:] = words
        engine.core[:], engine.bias[:], engine.work[:] = core, bias, work
        expected = work.tolist()
        # Twice: what the first run leaves is what the second starts from.
        for _ in range(2):
            cycles = engine.run(address)
            assert cycles == program_cycles(stages, config)
            for stage in stages:
                naive.run_stage(stage, config, core.tolist(), bias.tolist(), expected)
            np.testing.assert_array_equal(engine.work, expected)


def test_a_stage_that_cannot_run_changes_nothing() -> None:
    rng = random.Random(2)
    config = random_config(rng)
    stage = replace(random_stage(rng, config), x_base=config.work_elements)
    core, bias, work = random_memories(np.random.default_rng(2), config)
    samples = work[None].copy()
    with pytest.raises(FitError, match="work elements"):
        run_stage(stage, config, core, bias, samples)
    np.testing.assert_array_equal(samples[0], work)


def test_an_empty_program_memory_is_refused() -> None:
    engine = GoldenEngine(EngineConfig())
    with pytest.raises(ArtefactError, match="end flag"):
        engine.run(0)


def compiled(seed: int, batch: int) -> tuple[Artefact, np.ndarray]:
    model = random_model(random.Random(seed))
    config = EngineConfig(
        rows=3, lanes=4, core_depth=20000, work_depth=4000, bias_depth=1000, program_depth=2000
    )
    rng = np.random.default_rng(seed)
    plan = plan_model(model, config, batch=batch)
    artefact = quantise(plan, rng.standard_normal((20, model.inputs)))
    return artefact, artefact.quantise_input(rng.standard_normal((11, model.inputs)) * 2)


@pytest.mark.parametrize("batch", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(6))
def test_an_artefact_in_ragged_batches(seed: int, batch: int) -> None:
    """11 samples at a time equal one engine that runs batch after batch, padded with zeros."""
    artefact, x = compiled(seed, batch)
    engine = GoldenEngine(artefact.config)
    engine.program[: len(artefact.program)] = artefact.program
    engine.core[: len(artefact.cores)] = artefact.cores
    engine.bias[: len(artefact.biases)] = artefact.biases
    read = artefact.output.addresses(batch)
    write = artefact.input.addresses(batch)
    expected = []
    for start in range(0, len(x), batch):
        piece = x[start : start + batch]
        engine.work[write] = 0
        engine.work[write[: len(piece)]] = piece
        cycles = engine.run(0)
        assert sum(c.total for c in cycles) == artefact.cycles
        expected.append(engine.work[read[: len(piece)]])
    found = run_artefact(artefact, x)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, np.concatenate(expected))


def test_samples_do_not_see_each_other() -> None:
    artefact, x = compiled(1, 3)
    many = np.tile(x, (CHUNK // len(x) + 2, 1))
    calls: list[tuple[int, int]] = []
    found = run_artefact(artefact, many, progress=lambda done, total: calls.append((done, total)))
    alone = np.concatenate([run_artefact(artefact, sample[None]) for sample in x])
    np.testing.assert_array_equal(found, np.tile(alone, (CHUNK // len(x) + 2, 1)))
    assert calls[-1] == (len(many), len(many))
    assert len(calls) > 1
    assert run_artefact(artefact, x[:0]).shape == (0, artefact.output.features)
