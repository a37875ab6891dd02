"""Random models and engines for the fuzzer, each from the seed and its number alone."""

from __future__ import annotations

import random
from dataclasses import dataclass
from math import prod

import numpy as np

from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import FitError
from drawbar.gen.formats import dense_network, tt_network
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
#: Draws of a model before the bounds are halved.
PATIENCE = 4

#: The largest mode; the modes and ranks that are drawn.
MOST_MODE = 64
_MODES = (1, 2, 2, 3, 3, 4, 4, 4, 5, 6, 7, 8, 8, 9, 12, 16, 20, 28, 32, 49, 64)
_RANKS = (1, 1, 2, 2, 3, 4, 4, 4, 5, 6, 7, 8, 8, 12, 16, 24, 32)


def _generator(*parts: object) -> random.Random:
    """Randomness that depends on nothing but these parts."""
    return random.Random("/".join(map(str, parts)))


@dataclass(frozen=True)
class Turn:
    """An engine, and the cases that it runs: up to ``end``, which is not among them."""

    config: EngineConfig
    end: int


def draw_engine(seed: int, case: int, per_engine: int) -> Turn:
    """The engine of a case."""
    number, end = 0, 0
    while True:
        config = _engine(_generator(seed, "engine", number), f"fuzz-{seed}-{number}")
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
    return EngineConfig(
        name=name,
        rows=rng.randint(1, most),
        lanes=lanes,
        data_width=data_width,
        acc_width=rng.choice((2 * data_width + 4, 2 * data_width + 8, 40)),
        core_depth=rng.choice((24, 100, 500, 2000, 8000)),
        work_depth=max(2, work // lanes + rng.randint(0, 7)),
        bias_depth=rng.choice((8, 64, 512)),
        program_depth=rng.choice((64, 200, 1024)),
        k_loops=rng.choice((1, 2, 3, 4)),
        row_loops=rng.choice((1, 2, 3, 4)),
        column_loops=rng.choice((1, 2, 3, 4, 6)),
    )


@dataclass(frozen=True)
class Case:
    """One case: everything that is needed to run it.

    Members
    -------
    calibration:
        ``(samples, inputs)`` real numbers.
    x:
        ``(RUNS * batch, inputs)`` integers; the last run's batch may be short.
    """

    seed: int
    number: int
    config: EngineConfig
    model: Model
    batch: int
    calibration: np.ndarray
    x: np.ndarray

    @property
    def name(self) -> str:
        return f"case-{self.seed}-{self.number}"

    @classmethod
    def draw(cls, seed: int, number: int, config: EngineConfig) -> tuple[Case, int]:
        """The case of a number, and how many models were drawn before one fitted the engine."""
        rng = _generator(seed, "case", number)
        tries = 0
        while True:
            scale = 2.0 ** -(tries // PATIENCE)
            case = _draw(seed, number, config, rng, scale)
            try:
                plan = plan_model(case.model, config, batch=case.batch)
                if plan.total.total <= MOST_CYCLES:
                    quantise(plan, case.calibration)
                    return case, tries
            except FitError:
                pass
            except Exception:
                # Not a model that does not fit: a finding, which the check will make again.
                return case, tries
            tries += 1


def _draw(seed: int, number: int, config: EngineConfig, rng: random.Random, scale: float) -> Case:
    batch = rng.choice((1, 1, 1, 2, 3, 4, 5, 8, 16, 17, 33, 40))
    elements = int(min(MOST_ELEMENTS, config.work_elements // 2) * scale)
    batch = max(1, min(batch, elements))
    features = max(1, elements // batch)
    most_weights = int(min(MOST_WEIGHTS, config.core_depth * config.rows) * scale)
    model = _model(rng, features, max(1, most_weights), config.data_width)
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
        calibration=calibration,
        # Now and then the last batch is not full.
        x=x.astype(np.int64)[: len(x) - rng.choice((0, 0, batch // 2))],
    )


def _modes(rng: random.Random, count: int, most: int) -> tuple[int, ...]:
    """Modes of 1 to 64 with a product of at most ``most``."""
    modes = [1] * count
    for place in rng.sample(range(count), count):
        room = most // prod(modes)
        modes[place] = rng.choice([mode for mode in _MODES if mode <= room])
    return tuple(modes)


def _factors(rng: random.Random, number: int, count: int) -> tuple[int, ...]:
    """``number`` as a product of ``count`` modes of 1 to 64, or of more where it takes more."""
    modes = [1] * count
    rest, divisor = number, 2
    while rest > 1:
        while rest % divisor:
            divisor += 1
        places = [n for n, mode in enumerate(modes) if mode * divisor <= MOST_MODE]
        if places:
            modes[rng.choice(places)] *= divisor
        else:
            modes.append(divisor)
        rest //= divisor
    return tuple(modes)


def _model(rng: random.Random, features: int, weights: int, data_width: int) -> Model:
    """One to three layers; neighbours' factorisations agree, differ, or have no refinement."""
    layers: list[ContractionNetwork] = []
    modes: tuple[int, ...] = ()
    for number in range(rng.choice((1, 1, 2, 3))):
        depth = rng.randint(1, 5)
        if number == 0:
            modes_in = _modes(rng, depth, features)
        elif rng.random() < 0.5:
            modes_in = modes
        else:
            modes_in = _factors(rng, prod(modes), depth)
        values = np.random.default_rng(rng.getrandbits(64))
        if rng.random() < 0.2:
            modes = (rng.randint(1, max(1, min(MOST_MODE, features, weights // prod(modes_in)))),)
            shape = (modes[0], prod(modes_in))
            weight = values.standard_normal(shape) / np.sqrt(shape[1])
            bias, activation = _ending(rng, values, modes[0])
            layers.append(dense_network(f"layer{number}", weight, bias=bias, activation=activation))
            continue
        modes = _modes(rng, len(modes_in), features)
        ranks = _ranks(rng, modes_in, modes, weights)
        cores = [
            values.standard_normal((left, m, n, right)) / np.sqrt(n * right)
            for left, m, n, right in zip(ranks, modes, modes_in, ranks[1:], strict=False)
        ]
        bias, activation = _ending(rng, values, prod(modes))
        layers.append(tt_network(f"layer{number}", cores, bias=bias, activation=activation))
    return Model("fuzz", tuple(layers))


def _ranks(
    rng: random.Random, modes_in: tuple[int, ...], modes_out: tuple[int, ...], weights: int
) -> list[int]:
    """Ranks of 1 to 32, such that no core has more than ``weights`` weights where that can be."""
    ranks = [1]
    for m, n in zip(modes_out[:-1], modes_in[:-1], strict=True):
        room = max(1, weights // (ranks[-1] * m * n))
        ranks.append(rng.choice([rank for rank in _RANKS if rank <= room]))
    return [*ranks, 1]


def _ending(
    rng: random.Random, values: np.random.Generator, outputs: int
) -> tuple[np.ndarray | None, str]:
    """A layer's bias, or none, and its activation."""
    bias = values.standard_normal(outputs) * 0.5 if rng.random() < 0.5 else None
    return bias, rng.choice(("none", "relu"))
