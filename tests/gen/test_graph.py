"""Graphs of image layers: plans, their cycles, and the golden model against float."""

from __future__ import annotations

import random

import numpy as np
import pytest

from drawbar.fuzz_graphs import random_graph
from drawbar.gen.config import EngineConfig
from drawbar.gen.cycles import program_cycles
from drawbar.gen.errors import FitError
from drawbar.gen.formats.convolution import convolution_network, dense_convolution, sum_network
from drawbar.gen.network import Core, Model, Source
from drawbar.gen.phases import with_copies
from drawbar.gen.plan import plan_model
from drawbar.gen.program import encode
from drawbar.sim.golden import GoldenEngine, run_artefact
from drawbar.sw.compress.quantise import quantise

ENGINE = EngineConfig(
    name="graphs",
    rows=4,
    lanes=4,
    core_depth=8192,
    work_depth=8192,
    bias_depth=512,
    program_depth=4096,
)


@pytest.mark.parametrize("seed", range(120))
def test_golden_is_float(seed: int) -> None:
    rng = random.Random(seed)
    model = random_graph(rng)
    config = ENGINE.replace(lanes=rng.choice((1, 2, 4, 8)), rows=rng.choice((1, 3, 4, 8)))
    config = config.replace(work_depth=32768 // config.lanes)
    batch = rng.choice((1, 1, 1, 2))
    plan = plan_model(model, config, batch=batch)
    stages = [stage for _, stage in plan.program]
    assert plan.cycles == tuple(program_cycles(stages, config))
    assert len(encode(stages, config)) <= config.program_depth
    x = np.random.default_rng(seed).standard_normal((6, model.inputs))
    artefact = quantise(plan, x)
    found = artefact.dequantise_output(run_artefact(artefact, artefact.quantise_input(x)))
    wanted = model.forward(x)
    np.testing.assert_allclose(found, wanted, atol=2e-3 * max(1.0, np.abs(wanted).max()))


@pytest.mark.parametrize("seed", range(20))
def test_memory_may_hold_anything_before(seed: int) -> None:
    """Zeros around images are the program's own work: what runs before leaves no trace."""
    model = random_graph(random.Random(100 + seed))
    plan = plan_model(model, ENGINE)
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, model.inputs))
    artefact = quantise(plan, x)
    integers = artefact.quantise_input(x)
    engine = GoldenEngine(ENGINE)
    engine.program[: len(artefact.program)] = artefact.program
    engine.core[: len(artefact.cores)] = artefact.cores
    engine.bias[: len(artefact.biases)] = artefact.biases
    engine.work[:] = rng.integers(ENGINE.data_min, ENGINE.data_max, len(engine.work))
    for sample, wanted in zip(integers, run_artefact(artefact, integers), strict=True):
        engine.work[artefact.input.addresses(1)[0]] = sample
        engine.run(0)
        assert np.array_equal(engine.work[artefact.output.addresses(1)[0]], wanted)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("lanes", [1, 8])
def test_phases_change_nothing(seed: int, lanes: int) -> None:
    model = random_graph(random.Random(seed))
    x = np.random.default_rng(seed).standard_normal((3, model.inputs))
    np.testing.assert_allclose(with_copies(model, lanes).forward(x), model.forward(x), atol=1e-12)


def maximum() -> Model:
    """Of pairs along a row."""
    shape = (3, 6, 8)
    parts = {"starts": (0, 0, 0), "steps": (1, 1, 2)}
    other = {"starts": (0, 0, 1), "steps": (1, 1, 2)}
    made = (3, 6, 4)
    return Model(
        "max",
        (
            sum_network("excess", made, (1.0, -1.0), activation="relu", keeps_scale=True),
            sum_network("max", made, (1.0, 1.0), keeps_scale=True),
        ),
        ((Source(0, **parts), Source(0, **other)), (Source(1), Source(0, **other))),
        (shape, made, made),
    )


def test_a_maximum_is_exact() -> None:
    """Differences and sums keep their scale: the integers are the largest of the inputs'."""
    model = maximum()
    x = np.random.default_rng(0).random((5, model.inputs))
    artefact = quantise(plan_model(model, ENGINE), x)
    integers = artefact.quantise_input(x)
    wanted = integers.reshape(5, 3, 6, 4, 2).max(axis=-1).reshape(5, -1)
    assert np.array_equal(run_artefact(artefact, integers), wanted)


def image_model(shape: tuple[int, int, int], outputs: int) -> Model:
    weight = np.ones((outputs, shape[0], 3, 3)) / 9
    layer = dense_convolution("conv", weight, shape=shape[1:], padding=(1, 1))
    return Model("image", (layer,), ((Source(0),),), (shape, (outputs, *shape[1:])))


def test_a_channel_is_one_run_of_lanes() -> None:
    """Rows of 7 and a gap of 1 are 55 columns of 4 lanes, 14 tiles, in place of 7 x 2."""
    plan = plan_model(image_model((4, 7, 7), 4), ENGINE)
    (conv,) = (p for p in plan.stages if not p.fills)
    assert conv.stage.lane_count == 7 * 8 - 1
    assert conv.stage.k == 36


def test_a_tap_may_wait_as_rows() -> None:
    """Rank 1 and three taps: the kernel's columns fill rows that the rank alone leaves empty."""
    rng = np.random.default_rng(0)
    sizes = {"m": 4, "n": 4, "r": 1, "s": 1, "kh": 3, "kw": 3}
    cores = [
        Core(indices, rng.standard_normal([sizes[i] for i in indices]))
        for indices in (("m", "r"), ("r", "kh", "kw", "s"), ("s", "n"))
    ]
    layer = convolution_network(
        "conv", "tt", sizes=sizes, cores=cores, input=("n",), output=("m",), shape=(30, 30)
    )
    model = Model("tap", (layer,), ((Source(0),),), ((4, 30, 30), (4, 28, 28)))
    plan = plan_model(model, ENGINE)
    assert plan.text == "X G3 G2 (G1G4)"
    last = plan.stages[-1].stage
    # The tap's own stride and the columns' are one.
    assert last.k == 3
    assert [loop.count for loop in last.k_loops] == [3]
    tiles = -(-(27 * 30 + 28) // 4)
    assert plan.total.busy == -(-900 // 4) * 4 + -(-(27 * 30 + 30) // 4) * 3 + tiles * 3
    x = rng.standard_normal((4, model.inputs))
    artefact = quantise(plan, x)
    found = artefact.dequantise_output(run_artefact(artefact, artefact.quantise_input(x)))
    wanted = model.forward(x)
    np.testing.assert_allclose(found, wanted, atol=1e-3 * np.abs(wanted).max())


def test_what_does_not_fit_says_so() -> None:
    small = ENGINE.replace(work_depth=64)
    with pytest.raises(FitError, match="bytes of work memory"):
        plan_model(image_model((4, 16, 16), 4), small)
    with pytest.raises(FitError, match="two buffers: needs at most"):
        plan_model(image_model((4, 7, 7), 4), ENGINE.replace(work_depth=192), buffers=2)
    with pytest.raises(FitError, match="least work memory"):
        plan_model(image_model((4, 7, 7), 4), ENGINE, minimise="memory")
    with pytest.raises(FitError, match="a maximum of the input"):
        plan_model(maximum(), ENGINE, buffers=2)


def test_the_zeros_around_an_image_take_a_core_vector() -> None:
    model = image_model((4, 7, 7), 4)
    assert plan_model(model, ENGINE.replace(core_depth=37)).core_vectors == 37
    with pytest.raises(FitError, match=r"8 too many.*core_depth to at least 37"):
        plan_model(model, ENGINE.replace(core_depth=36))


def test_two_buffers_touch_nothing_of_each_other() -> None:
    """A run leaves the other buffer's input and output alone."""
    model = image_model((4, 7, 7), 4)
    plan = plan_model(model, ENGINE)
    assert len(plan.bases) == 2
    for number in (0, 1):
        encode([stage for _, stage in plan.buffer_program(number)], ENGINE)
    assert plan.total == plan_model(model, ENGINE, buffers=1).total
    sizes = [plan.tensors[0].size, plan.tensors[-1].size]
    for mine, other in ((0, 1), (1, 0)):
        used = set()
        for number, stage in plan.buffer_program(mine):
            used |= {*stage.addresses("y").tolist()}
            if not plan.stages[number].fills:  # they multiply by zero whatever they read
                used |= {*stage.addresses("x").tolist()}
        for tensor, size in zip((0, -1), sizes, strict=True):
            base = plan.bases[other][tensor]
            assert not used & set(range(base, base + size))
