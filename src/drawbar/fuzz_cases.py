"""Random models and engines for the fuzzer, each from the seed and its number alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drawbar.fuzz_formats import STEPS, random_kind
from drawbar.fuzz_graphs import random_graph
from drawbar.fuzz_layers import (
    FORMATS,
    MOST_DEPTH,
    PAIRED,
    factor_modes,
    random_layer,
    random_modes,
)
from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import FitError
from drawbar.gen.network import ContractionNetwork, Model
from drawbar.gen.plan import plan_model
from drawbar.sw.compress.quantise import quantise

#: Bounds that keep a case far below a second of simulation: elements of an operand (samples
#: included), weights of a core, and cycles of a run.
MOST_ELEMENTS = 4096
MOST_WEIGHTS = 4096
MOST_CYCLES = 60_000
#: Samples that scales are chosen from; runs of the program, back to back.
CALIBRATION = 8
RUNS = 2
#: The part of the cases that is planned for the least memory: slices, mostly.
FOR_MEMORY = 1 / 4
#: The part of the cases that are graphs of images; their edge at most, and samples side by side.
GRAPHS = 1 / 4
MOST_EDGE, GRAPH_BATCHES = 10, (1, 1, 1, 2, 3)
#: The part of the engines that can be folded.
FOLDING = 0.4
#: The part of the engines whose pipeline is short.
SHORT = 0.4
#: The part of the engines that have some of what is for small chips.
SMALL_CHIPS = 1 / 3
#: The part of the cases that may be too large for their engine's core, bias and program memory, so
#: that these stream in; and by how much.
LARGER, LARGER_BY = 1 / 5, 6
#: Draws of a model before the bounds are halved, and before there is none for an engine.
PATIENCE = 4
MOST_DRAWS = 200

#: Formats, more often than once where most models have them.
DRAWN_FORMATS = (*FORMATS, "tt", "tt")


def _generator(*parts: object) -> random.Random:
    """Randomness that depends on nothing but these parts."""
    return random.Random("/".join(map(str, parts)))


@dataclass(frozen=True)
class Turn:
    """An engine, and the cases that it runs: up to ``end``, which is not among them."""

    config: EngineConfig
    end: int


def draw_engine(seed: int, case: int, per_engine: int, *, formats: bool = False) -> Turn:
    """The engine of a case; for ``formats`` one that has room for a small model of any kind."""
    number, end = 0, 0
    while True:
        config = _engine(_generator(seed, "engine", number), f"fuzz-{seed}-{number}")
        if formats:
            config = _roomy(config)
        end += per_engine if config.multipliers > 16 else max(1, per_engine // 4)
        if case < end:
            return Turn(config, end)
        number += 1


def _engine(rng: random.Random, name: str) -> EngineConfig:
    """From 1 x 1 to 16 x 16, most of them small; memories from tight to ample."""
    most = rng.choice((4, 4, 4, 8, 8, 16))
    lanes = rng.choice([n for n in (1, 2, 4, 8, 16) if n <= most])
    data_width = rng.choice((8, 16))
    work = rng.choice((200, 600, 2000, 8000, 30000))
    config = EngineConfig(
        name=name,
        rows=rng.randint(1, most),
        lanes=lanes,
        data_width=data_width,
        acc_width=rng.choice((2 * data_width + 4, 2 * data_width + 8, 40)),
        core_depth=rng.choice((24, 60, 120, 300, 1000, 8000)),
        work_depth=max(2, work // lanes + rng.randint(0, 7)),
        bias_depth=rng.choice((8, 64, 512)),
        program_depth=rng.choice((64, 200, 1024, 4096)),
        k_loops=rng.choice((1, 2, 3, 4)),
        row_loops=rng.choice((1, 2, 3, 4)),
        column_loops=rng.choice((1, 2, 3, 4, 6)),
        short_pipeline=int(rng.random() < SHORT),
    )
    if rng.random() < FOLDING:
        fold = rng.choice([n for n in (1, 2, 4, 8) if n <= lanes])
        config = config.replace(
            fold=fold,
            core_depth=-(-config.core_depth // fold) * fold,
            fetch_words=rng.choice((1, 2, 8)),
        )
    # Now and then with what saves area on small chips.
    if rng.random() >= SMALL_CHIPS:
        return config
    held = rng.choice((1, 3))
    config = config.replace(
        stages_held=held,
        fetch_words=config.fetch_words if held > 1 else 1,
        tile_gap=rng.choice((0, 1)),
        count_bits=rng.choice((12, 16)),
        counter_bits=rng.choice((24, 32)),
    )
    if lanes == 1 and config.stages_held == 1:
        blocks = rng.choice((0, 2, 4))
        depth = config.work_depth
        config = config.replace(
            work_blocks=blocks, work_depth=max(blocks, depth - depth % max(1, blocks))
        )
    return config


def _roomy(config: EngineConfig) -> EngineConfig:
    """The engine with products, and with the least of memories and loops that cells take."""
    return config.replace(
        acc_width=40,
        core_depth=max(1000, config.core_depth),
        work_depth=max(8000 // config.lanes, config.work_depth),
        work_blocks=0,
        bias_depth=max(512, config.bias_depth),
        program_depth=4096,
        tile_gap=0,
        products=1,
        k_loops=max(3, config.k_loops),
        row_loops=max(3, config.row_loops),
        column_loops=max(3, config.column_loops),
    )


@dataclass(frozen=True)
class Case:
    """One case: everything that is needed to run it.

    Members
    -------
    minimise:
        What its plan is made for, as in ``gen.plan``.
    calibration:
        ``(samples, inputs)`` real numbers.
    x:
        ``(RUNS * batch, inputs)`` integers; the last run's batch may be short.
    kind:
        Of ``fuzz_formats``, where the run is of formats.

    Of a model with states, calibration and x are sequences: ``(samples, steps, inputs)``.
    """

    seed: int
    number: int
    config: EngineConfig
    model: Model
    batch: int
    minimise: str
    calibration: np.ndarray
    x: np.ndarray
    kind: str = ""

    @property
    def name(self) -> str:
        return f"{self.kind or 'case'}-{self.seed}-{self.number}"

    @classmethod
    def draw(
        cls, seed: int, number: int, config: EngineConfig, formats: Sequence[str] = ()
    ) -> tuple[Case, int]:
        """The case of a number, and how many models were drawn before one fitted the engine.
        ``formats`` are kinds that take turns.
        """
        rng = _generator(seed, "case", number)
        larger = _generator(seed, "larger", number).random() < LARGER
        tries = 0
        while True:
            scale = 2.0 ** -(tries // PATIENCE)
            if formats:
                kind = formats[number % len(formats)]
                case = _draw_kind(seed, number, config, kind, scale, tries)
            else:
                case = _draw(
                    *(seed, number, config, rng, scale, tries),
                    larger=LARGER_BY if larger else 1,
                )
            try:
                plan = plan_model(
                    case.model,
                    config,
                    batch=case.batch,
                    minimise=case.minimise,
                    stream=larger,
                )
                if plan.total.total <= MOST_CYCLES:
                    quantise(plan, case.calibration)
                    return case, tries
            except FitError:
                if formats and tries == MOST_DRAWS:
                    # Its error is what the check will find.
                    return case, tries
            except Exception:
                # Not a model that does not fit: a finding, which the check will make again.
                return case, tries
            tries += 1


def _draw(
    seed: int,
    number: int,
    config: EngineConfig,
    rng: random.Random,
    scale: float,
    tries: int,
    larger: int,
) -> Case:
    batch = rng.choice((1, 1, 1, 2, 3, 4, 5, 8, 16, 17, 33, 40))
    # With an operand of most of work memory only slices fit.
    elements = int(min(MOST_ELEMENTS, config.work_elements * rng.choice((0.3, 0.5, 0.8))) * scale)
    batch = max(1, min(batch, elements))
    features = max(1, elements // batch)
    most_weights = int(min(MOST_WEIGHTS, larger * config.core_depth * config.rows) * scale)
    model = _model(rng, features, max(1, most_weights))
    minimise = "memory" if rng.random() < FOR_MEMORY else "cycles"
    # From generators of their own; where none fits, it is layers after all.
    if scale > 1 / 8 and _generator(seed, "graph", number).random() < GRAPHS:
        other = _generator(seed, "graph", number, tries)
        model = random_graph(other, most=max(5, int(MOST_EDGE * scale)))
        batch, minimise = other.choice(GRAPH_BATCHES), "cycles"
    values = np.random.default_rng(rng.getrandbits(64))
    calibration = values.standard_normal((CALIBRATION, model.inputs))
    low, high = config.data_min, config.data_max
    shape = (RUNS * batch, model.inputs)
    kind = rng.choice(("normal", "normal", "uniform", "extreme"))
    if kind == "normal":
        x = np.clip(np.rint(values.standard_normal(shape) * high / 3), low, high)
    elif kind == "uniform":
        x = values.integers(low, high, shape, endpoint=True)
    else:
        x = values.choice([low, high], shape)
    return Case(
        seed=seed,
        number=number,
        config=config,
        model=model,
        batch=batch,
        minimise=minimise,
        calibration=calibration,
        # Now and then the last batch is not full.
        x=x.astype(np.int64)[: len(x) - rng.choice((0, 0, batch // 2))],
    )


def _draw_kind(
    seed: int, number: int, config: EngineConfig, kind: str, scale: float, tries: int
) -> Case:
    """A case of a kind of ``fuzz_formats``."""
    rng = _generator(seed, kind, number, tries)
    model = random_kind(rng, kind, scale)
    values = np.random.default_rng(rng.getrandbits(64))
    # Products and states are of one sample.
    alone = bool(model.states) or any(layer.paired for layer in model.layers)
    batch = 1 if alone else rng.choice((1, 1, 2, 3))
    memory = model.chain and rng.random() < FOR_MEMORY
    steps = (rng.choice(STEPS),) if model.states else ()
    calibration = values.standard_normal((CALIBRATION, *steps, model.inputs))
    x = values.standard_normal((RUNS * batch, *steps, model.inputs)) * config.data_max / 3
    return Case(
        seed=seed,
        number=number,
        config=config,
        model=model,
        batch=batch,
        minimise="memory" if memory else "cycles",
        calibration=calibration,
        x=np.clip(np.rint(x), config.data_min, config.data_max).astype(np.int64),
        kind=kind,
    )


def _model(rng: random.Random, features: int, weights: int) -> Model:
    """One to three layers, each of its own format; neighbours' factorisations agree, differ, or
    have no refinement.
    """
    layers: list[ContractionNetwork] = []
    for number in range(rng.choice((1, 1, 2, 3))):
        form = rng.choice(DRAWN_FORMATS)
        depth = rng.randint(1, MOST_DEPTH if form in PAIRED else MOST_DEPTH - 1)
        if not layers:
            modes = random_modes(rng, depth, features)
        elif rng.random() < 0.5:
            modes = layers[-1].modes_out
        else:
            modes = factor_modes(rng, layers[-1].outputs, depth)
        name = f"layer{number}"
        layers.append(random_layer(rng, name, form, modes, features=features, weights=weights))
    return Model("fuzz", tuple(layers))
