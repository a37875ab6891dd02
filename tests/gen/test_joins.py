"""Concatenations: parts that lie in place take no stage, all others have a copy that does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import FitError, NetworkError
from drawbar.gen.formats import dense_network, tt_network
from drawbar.gen.formats.convolution import dense_convolution, joined_network, sum_network
from drawbar.gen.formats.tables import product_network
from drawbar.gen.joins import settled
from drawbar.gen.network import ContractionNetwork, Core, Model, Quantised, Source
from drawbar.gen.plan import plan_model
from drawbar.sim.golden import GoldenEngine, run_artefact
from drawbar.sw.compress.quantise import calibrate, quantise, stage_integers

ENGINE = EngineConfig(
    name="joins",
    rows=4,
    lanes=4,
    core_depth=8192,
    work_depth=8192,
    bias_depth=512,
    program_depth=4096,
)
#: One lane and single-port blocks of work memory.
SMALL = ENGINE.replace(lanes=1, work_depth=32768, work_blocks=4, stages_held=1, count_bits=16)
SIZE = (6, 5)
RNG = np.random.default_rng(0)


def conv(name: str, inputs: int, outputs: int, kernel: int = 3, **options) -> ContractionNetwork:
    weight = RNG.standard_normal((outputs, inputs, kernel, kernel)) / np.sqrt(inputs * kernel**2)
    pad = (kernel // 2, kernel // 2)
    return dense_convolution(name, weight, shape=SIZE, padding=pad, **options)


def graph(*steps: tuple[ContractionNetwork, tuple[int, ...]], channels: int = 2) -> Model:
    """Layers and the tensors that they read; results are images, or vectors where a layer has
    no others.
    """
    shapes: list[tuple[int, ...]] = [(channels, *SIZE)]
    for layer, _ in steps:
        size = layer.outputs // (SIZE[0] * SIZE[1])
        image = layer.outputs % (SIZE[0] * SIZE[1]) == 0
        shapes.append((size, *SIZE) if image else (layer.outputs,))
    sources = tuple(tuple(Source(t) for t in own) for _, own in steps)
    return Model("joins", tuple(layer for layer, _ in steps), sources, tuple(shapes))


def join(name: str, channels: int) -> ContractionNetwork:
    return joined_network(name, (channels, *SIZE))


def dense_block(last: tuple[ContractionNetwork, tuple[int, ...]]) -> Model:
    """As in DenseNet: each convolution reads all before it, nested in the next concatenation."""
    return graph(
        (conv("first", 2, 3, activation="relu"), (0,)),
        (conv("second", 3, 2), (1,)),
        (join("two", 5), (1, 2)),
        (conv("third", 5, 4, 1), (3,)),
        (join("three", 9), (3, 4)),
        last,
    )


MODELS = {
    "image": lambda: dense_block((conv("last", 9, 2), (5,))),
    "vector": lambda: dense_block((dense_network("last", RNG.standard_normal((7, 270))), (5,))),
    "output": lambda: graph(
        (conv("one", 2, 3), (0,)), (conv("two", 2, 1, 1), (0,)), (join("both", 4), (2, 1))
    ),
}


def golden_is_float(model: Model, config: EngineConfig, batch: int, buffers: int) -> None:
    """The golden model computes what float does, in each buffer, whatever was in memory before."""
    plan = plan_model(model, config, batch=batch, buffers=buffers)
    x = np.random.default_rng(1).standard_normal((2 * batch, model.inputs))
    artefact = quantise(plan, x)
    integers = artefact.quantise_input(x)
    wanted = model.forward(x)
    found = run_artefact(artefact, integers)
    np.testing.assert_allclose(
        artefact.dequantise_output(found), wanted, atol=2e-3 * np.abs(wanted).max()
    )
    engine = GoldenEngine(config)
    engine.program[: len(artefact.program)] = artefact.program
    engine.core[: len(artefact.cores)] = artefact.cores
    engine.bias[: len(artefact.biases)] = artefact.biases
    engine.work[:] = 77
    assert len(artefact.buffers) == buffers
    for number, buffer in enumerate(artefact.buffers):
        rows = slice(number * batch, (number + 1) * batch)
        engine.work[buffer.input.addresses(batch)] = integers[rows].reshape(
            buffer.input.addresses(batch).shape
        )
        engine.run(buffer.passes[0].address)
        y = engine.work[buffer.output.addresses(batch)]
        assert np.array_equal(y.reshape(batch, -1), found[rows])


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("config", [ENGINE, SMALL], ids=["4x4", "one lane"])
@pytest.mark.parametrize("buffers", [1, 2])
@pytest.mark.parametrize("name", MODELS)
def test_golden_is_float(name: str, config: EngineConfig, buffers: int, batch: int) -> None:
    golden_is_float(MODELS[name](), config, batch, buffers)


@pytest.mark.parametrize("name", MODELS)
def test_parts_lie_in_place(name: str) -> None:
    """No copies; each part is written where the whole has it, and no cycle goes to joining."""
    model = MODELS[name]()
    plan = plan_model(model, ENGINE)
    assert plan.model.layers == model.layers
    assert all(p.fills for p in plan.stages if model.layers[p.layer].joined)
    for n, layer in enumerate(model.layers):
        if layer.joined:
            assert plan.layer_text(n).startswith("in place")
            assert plan.layer_multiplications(n) == 0
    for made in plan.joins:
        base = plan.bases[0][made.tensor]
        whole = base + made.place.addresses()
        parts = []
        for tensor in made.parts:
            origin = plan.bases[0][tensor] + made.place.origin
            channels = plan.model.shapes[model.sources[made.layer][len(parts)].tensor][0]
            inside = made.place.addresses()[: channels * SIZE[0] * SIZE[1]]
            parts.append(inside - made.place.origin + origin)
        assert np.array_equal(np.concatenate(parts), whole)


def copies(model: Model, config: EngineConfig = ENGINE) -> list[str]:
    return [y.name for y in settled(model, config).layers if y.format == "copy"]


def test_what_cannot_lie_in_place_is_copied() -> None:
    first, second = conv("first", 2, 3), conv("second", 3, 2)
    twice = graph((first, (0,)), (join("both", 6), (1, 1)))
    assert copies(twice) == ["both.1"]
    with_input = graph((first, (0,)), (join("both", 5), (0, 1)))
    assert copies(with_input) == ["both.0"]
    # Of two concatenations the first has it.
    two = graph(
        (first, (0,)),
        (second, (1,)),
        (join("one", 5), (1, 2)),
        (join("other", 5), (2, 1)),
        (sum_network("sum", (5, *SIZE)), (3, 4)),
    )
    assert copies(two) == ["other.0", "other.1"]
    # The whole is read as a vector, so it has no gaps between rows; what others read has.
    flat = tt_network(
        "flat", [RNG.standard_normal((1, 2, 6, 2)), RNG.standard_normal((2, 2, 25, 1))]
    )
    vector = graph((first, (0,)), (second, (1,)), (join("both", 5), (1, 2)), (flat, (3,)))
    assert copies(vector) == ["both.0"]
    # Single-port memory: second would read beside what it writes.
    assert copies(dense_block((conv("last", 9, 2), (5,)))) == []
    assert copies(dense_block((conv("last", 9, 2), (5,))), SMALL) == ["two.0", "three.0"]
    for model in (twice, with_input, two, vector):
        for batch in (1, 2):
            golden_is_float(model, ENGINE, batch, 1)


def test_one_scale_for_all_parts() -> None:
    """Parts of very different values have the scale of the largest ones; zeros have no say."""
    small, large = (conv(name, 2, 3) for name in ("small", "large"))
    nothing = dense_convolution("zero", np.zeros((1, 2, 1, 1)), shape=SIZE)
    scaled = [
        replace(y, cores=tuple(Core(c.indices, c.values * factor) for c in y.cores))
        for y, factor in ((small, 1e-2), (large, 30.0))
    ]
    model = graph(
        (scaled[0], (0,)),
        (scaled[1], (0,)),
        (nothing, (0,)),
        (join("all", 7), (1, 2, 3)),
        (conv("last", 7, 2), (4,)),
    )
    plan = plan_model(model, ENGINE)
    x = np.random.default_rng(2).standard_normal((4, model.inputs))
    made = stage_integers(plan, calibrate(plan, x))
    ends = {p.layer: made[n].scale_out for n, p in enumerate(plan.stages) if p.ends_layer}
    assert ends[0] == ends[1] == ends[2]
    largest = np.abs(scaled[1].forward(x)).max()
    assert 0.3 * ENGINE.data_max < largest * ends[1] <= ENGINE.data_max
    golden_is_float(model, ENGINE, 1, 1)


def test_a_scale_that_one_part_cannot_have_is_nobodys() -> None:
    """A result is at most so fine that its weights are still integers of the engine: a difference
    of large numbers that are nearly the same is coarser than its values ask for.
    """
    weight = np.array([3000.0, -3000.0]).reshape(1, 2, 1, 1)
    large = dense_convolution("large", weight, shape=SIZE)
    small = dense_convolution("small", weight * 1e-9, shape=SIZE)
    small = replace(small, bias=np.array([0.03]))
    model = graph((large, (0,)), (small, (0,)), (join("both", 2), (1, 2)), (conv("c", 2, 1), (3,)))
    plan = plan_model(model, ENGINE)
    x = np.random.default_rng(2).standard_normal((4, 2, 30)) * 1e-5
    x = (x + 1).reshape(4, -1)
    scales = calibrate(plan, x)
    made = stage_integers(plan, scales)
    ends = [n for n, p in enumerate(plan.stages) if p.ends_layer and p.layer in (0, 1)]
    assert made[ends[0]].scale_out == made[ends[1]].scale_out < 0.9 * scales.results[ends[0]]


def test_given_scales_are_kept() -> None:
    """Of a model that is quantised already: a part of another scale is rounded where it is
    copied.
    """
    model = graph((conv("a", 2, 1), (0,)), (conv("b", 2, 2), (0,)), (join("both", 3), (1, 2)))
    low, high = ENGINE.data_min, ENGINE.data_max
    given = (None, Quantised(10, low, high), Quantised(8, low, high), Quantised(8, low, high))
    model = Model(model.name, model.layers, model.sources, model.shapes, given)
    assert copies(model) == ["both.0"]
    x = np.random.default_rng(2).standard_normal((4, model.inputs))
    artefact = quantise(plan_model(model, ENGINE), x)
    assert artefact.output.fraction_bits == 8


def test_two_buffers_and_a_part_of_the_output() -> None:
    """A sum's sources lie at one distance, so neither may lie elsewhere in the other buffer."""
    model = graph(
        (conv("a", 2, 2), (0,)),
        (conv("b", 2, 2), (0,)),
        (sum_network("sum", (2, *SIZE)), (1, 2)),
        (join("both", 4), (3, 1)),
    )
    assert len(plan_model(model, ENGINE).bases) == 1
    with pytest.raises(FitError, match="parts of whose output, are read one at a time"):
        plan_model(model, ENGINE, buffers=2)
    golden_is_float(model, ENGINE, 1, 1)


def test_errors() -> None:
    with pytest.raises(NetworkError, match=r"layer 'both': takes the 90 outputs of layer 'a'"):
        graph((conv("a", 2, 3), (0,)), (join("both", 7), (1, 1)))
    vectors = Model(
        "products",
        (
            dense_network("a", np.ones((4, 4))),
            joined_network("both", (8,)),
            product_network("product", 4, 1),
        ),
        ((Source(0),), (Source(1), Source(1)), (Source(2, (0,), (1,)), Source(2, (4,), (1,)))),
        ((4,), (4,), (8,), (4,)),
    )
    with pytest.raises(FitError, match="layer 'product': multiplies results of layers"):
        plan_model(vectors, ENGINE.replace(products=1))
