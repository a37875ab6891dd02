"""Stages of products: where their factors lie, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import FitError, NetworkError
from drawbar.gen.formats import dense_network
from drawbar.gen.formats.tables import product_network
from drawbar.gen.network import ContractionNetwork, Model, Source
from drawbar.gen.plan import plan_model
from drawbar.sim.golden import run_artefact
from drawbar.sw.compress.quantise import quantise

CONFIG = EngineConfig(rows=4, lanes=4, products=1)
SIZE = 6


def model(*pairs: tuple[int, int], apart: bool = False) -> Model:
    """Products of parts of what a layer makes of the input: part n of one tensor, or tensor n."""
    rng = np.random.default_rng(1)
    parts = 1 + max(n for pair in pairs for n in pair)
    order = [n for pair in pairs for n in pair]
    sizes = [SIZE] * parts if apart else [SIZE * parts]
    made = [
        dense_network(f"fc{n}", rng.standard_normal((size, 5)) / 2) for n, size in enumerate(sizes)
    ]
    product = product_network("product", SIZE, len(pairs))
    if apart:
        factors = tuple(Source(n + 1) for n in order)
    else:
        factors = tuple(Source(1, (n * SIZE,), (1,)) for n in order)
    last = dense_network("last", rng.standard_normal((3, SIZE)))
    sources = (*((Source(0),) for _ in made), factors, (Source(len(made) + 1),))
    shapes = ((5,), *((size,) for size in sizes), (SIZE,), (3,))
    return Model("products", (*made, product, last), sources, shapes)


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize(
    "pairs", [((0, 1),), ((1, 0),), ((0, 0),), ((0, 2), (3, 1)), ((0, 1), (2, 3), (4, 5))]
)
def test_products_run(pairs: tuple[tuple[int, int], ...], apart: bool) -> None:
    whole = model(*pairs, apart=apart)
    x = np.random.default_rng(2).standard_normal((40, 5))
    plan = plan_model(whole, CONFIG)
    (stage,) = (stage for _, stage in plan.program if stage.products)
    assert stage.k == 2 * len(pairs)
    artefact = quantise(plan, x)
    integers = artefact.quantise_input(x)
    found = artefact.dequantise_output(run_artefact(artefact, integers))
    wanted = whole.forward(x)
    np.testing.assert_allclose(found, wanted, atol=2e-4 * np.abs(wanted).max())


def test_factors_in_no_affine_order() -> None:
    with pytest.raises(FitError, match="lie equally far apart"):
        plan_model(model((0, 1), (2, 4)), CONFIG)
    with pytest.raises(FitError, match="lie equally far apart"):
        plan_model(model((0, 1), (2, 3), (5, 6)), CONFIG)


def test_accumulators_that_could_overflow() -> None:
    x = np.random.default_rng(2).standard_normal((40, 5))
    narrow = CONFIG.replace(data_width=8, acc_width=20)
    plan = plan_model(model(*[(2 * n, 2 * n + 1) for n in range(32)]), narrow)
    with pytest.raises(FitError, match=r"32 pairs.*raise acc_width"):
        quantise(plan, x)


def test_networks_that_are_no_products() -> None:
    with pytest.raises(NetworkError, match="multiplies pairs"):
        ContractionNetwork(
            "odd", "products", {"b": 3, "lane": 4}, (), ("b", "lane"), ("lane",), paired=True
        )
