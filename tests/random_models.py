"""Random models of tensor-train and dense layers, and engines from tight to ample."""

from __future__ import annotations

import random
from math import prod

import numpy as np

from drawbar.gen.config import EngineConfig
from drawbar.gen.formats import dense_network, tt_network
from drawbar.gen.network import ContractionNetwork, Model

#: No layer of a random model has more inputs or outputs.
FEATURES = 400


def random_modes(rng: random.Random, count: int, most: int = 16) -> tuple[int, ...]:
    """Modes of 1 to ``most``, with at most ``FEATURES`` features in all."""
    while True:
        modes = tuple(min(most, rng.choice((1, 2, 2, 3, 4, 4, 5, 7, 8, 16))) for _ in range(count))
        if prod(modes) <= FEATURES:
            return modes


def factorisation(rng: random.Random, number: int, count: int) -> tuple[int, ...]:
    """``number`` as a product of ``count`` factors, drawn at random; some are 1."""
    modes = [1] * count
    rest, divisor = number, 2
    while rest > 1:
        while rest % divisor:
            divisor += 1
        modes[rng.randrange(count)] *= divisor
        rest //= divisor
    return tuple(modes)


def random_tt_layer(
    rng: random.Random,
    name: str,
    modes_in: tuple[int, ...],
    modes_out: tuple[int, ...],
    *,
    bias: bool,
    activation: str,
    most_rank: int = 8,
) -> ContractionNetwork:
    """A TT layer with random ranks, and values such that outputs are about as large as inputs."""
    values = np.random.default_rng(rng.getrandbits(32))
    ranks = [1, *(rng.randint(1, most_rank) for _ in modes_in[1:]), 1]
    cores = [
        values.standard_normal((left, m, n, right)) / np.sqrt(n * right)
        for left, m, n, right in zip(ranks, modes_out, modes_in, ranks[1:], strict=False)
    ]
    biases = values.standard_normal(prod(modes_out)) * 0.5 if bias else None
    return tt_network(name, cores, bias=biases, activation=activation)


def random_model(rng: random.Random, *, most_layers: int = 3, most_depth: int = 5) -> Model:
    """One to ``most_layers`` layers whose factorisations agree, differ, or have no refinement."""
    layers: list[ContractionNetwork] = []
    modes: tuple[int, ...] = ()
    for number in range(rng.randint(1, most_layers)):
        activation, bias = rng.choice(("none", "relu")), rng.random() < 0.5
        name = f"layer{number}"
        if number == 0:
            modes_in = random_modes(rng, rng.randint(1, most_depth))
        elif rng.random() < 0.5:
            modes_in = modes
        else:
            modes_in = factorisation(rng, prod(modes), rng.randint(1, most_depth))
        if rng.random() < 0.15:
            modes = (rng.choice((1, 3, 10)),)
            values = np.random.default_rng(rng.getrandbits(32))
            weight = values.standard_normal((modes[0], prod(modes_in))) / np.sqrt(prod(modes_in))
            biases = values.standard_normal(modes[0]) if bias else None
            layers.append(dense_network(name, weight, bias=biases, activation=activation))
            continue
        modes = random_modes(rng, len(modes_in))
        layers.append(random_tt_layer(rng, name, modes_in, modes, bias=bias, activation=activation))
    return Model("random", tuple(layers))


def planner_config(rng: random.Random) -> EngineConfig:
    """An engine of 1 x 1 to 8 x 8, its memories from tight to ample."""
    data_width = rng.choice((8, 16))
    lanes = rng.choice((1, 2, 4, 8))
    work = rng.choice((300, 1000, 4000, 16000))
    config = EngineConfig(
        name="random",
        rows=rng.choice((1, 2, 3, 4, 5, 8)),
        lanes=lanes,
        data_width=data_width,
        acc_width=rng.choice((2 * data_width + 4, 40)),
        core_depth=rng.choice((64, 304, 2000, 20000)),
        work_depth=max(2, work // lanes + rng.randint(0, 5)),
        bias_depth=rng.choice((16, 100, 1000)),
        program_depth=rng.choice((200, 2048)),
        k_loops=rng.choice((2, 3, 4)),
        row_loops=rng.choice((2, 3, 4)),
        column_loops=rng.choice((2, 3, 4)),
        short_pipeline=rng.choice((0, 1)),
    )
    if rng.random() < 0.5:
        return config
    return config.replace(
        fold=rng.choice([n for n in (2, 4, 8) if n <= lanes] or [1]), fetch_words=8
    )
