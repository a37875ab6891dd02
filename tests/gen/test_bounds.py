"""Operand bounds: by every order there is, and under every plan."""

from __future__ import annotations

import random
from collections.abc import Iterator
from math import ceil

import pytest
from random_models import random_tt_layer

from drawbar.gen.bounds import operand_bound
from drawbar.gen.config import EngineConfig
from drawbar.gen.network import Model
from drawbar.gen.order import OrderSearch, Step
from drawbar.gen.plan import plan_model
from drawbar.gen.presets import PRESETS
from drawbar.layer_suites import ETTE_LAYERS, RANK_LAYERS, TIE_LAYERS

LARGE = PRESETS["large"]


def every_order(search: OrderSearch, absorbed: int = 0) -> Iterator[list[Step]]:
    if absorbed == search.all:
        yield []
    for move in search.moves(absorbed):
        for rest in every_order(search, move.after):
            yield [search.step(absorbed, move.group), *rest]


def cycles(search: OrderSearch, order: list[Step], rows: int, lanes: int) -> float:
    total = 0.0
    for step in order:
        m, k, n = (search.size(i) for i in (step.rows, step.k, step.columns))
        total += max(m * k * n / (rows * lanes), k * n / lanes, m * k / rows, m * n / lanes)
    return total


@pytest.mark.parametrize("seed", range(6))
def test_the_best_of_every_order(seed: int) -> None:
    rng = random.Random(seed)
    modes = tuple(rng.choice((2, 3, 4)) for _ in range(rng.randint(1, 4)))
    layer = random_tt_layer(rng, "fc", modes, modes[::-1], bias=False, activation="none")
    rows, lanes, batch = rng.choice((2, 3, 8)), rng.choice((1, 4, 8)), rng.choice((1, 3))
    config = EngineConfig(rows=rows, lanes=lanes, core_depth=1 << 16, work_depth=1 << 16)
    search = OrderSearch(layer, config, batch)
    best = min(cycles(search, order, rows, lanes) for order in every_order(search))
    assert operand_bound(search) == ceil(best - 1e-9)
    plan = plan_model(Model("m", (layer,)), config, batch=batch)
    assert operand_bound(search) <= plan.bound


@pytest.mark.parametrize(
    ("name", "bound"),
    [
        ("VGG-FC6", 12_544),
        ("VGG-FC7", 4_096),
        ("LSTM-UCF11", 7_440),
        ("VGG-FC6, rank 2", 6_272),
        ("VGG-FC7, rank 2", 2_048),
        ("VGG-FC7, ETTE", 560),
    ],
)
def test_published_layers(name: str, bound: int) -> None:
    layers = {layer.name: layer for layer in (*TIE_LAYERS, *RANK_LAYERS, *ETTE_LAYERS)}
    assert operand_bound(OrderSearch(layers[name].model().layers[0], LARGE, 1)) == bound
