"""Suites of whole networks: rows say truly what holds, and where a layer's cycles go."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from drawbar import network_suites
from drawbar.gen.limits import layer_limit
from drawbar.gen.plan import plan_model
from drawbar.network_suites import LENET_ENGINE, lenet5_suite, resnet20_suite
from drawbar.sw.compress import decompose, lower
from drawbar.sw.compress.data import Dataset
from drawbar.sw.compress.recipes import RECIPES, reference_model


def untrained(*_: Any) -> Any:
    """LeNet-5 with untrained cores: cycles and bits do not depend on training."""
    recipe = RECIPES["lenet-5-tt"]
    return decompose(reference_model(recipe.model), recipe.layers).eval()


def noise(*_: Any) -> Dataset:
    rng = np.random.default_rng(1)
    x = rng.uniform(size=(260, 784)).astype(np.float32)
    y = rng.integers(10, size=260)
    return Dataset("noise", x[:60], y[:60], x, y, 10)


def by_name(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    json.dumps(rows)
    found = {row["name"]: row for row in rows}
    assert len(found) == len(rows)
    return found


def test_lenet_on_the_golden_board(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_suites, "load_dataset", noise)
    monkeypatch.setattr(network_suites, "_trained", untrained)
    rows = by_name(lenet5_suite(device="golden"))
    (fewer,) = (row for name, row in rows.items() if name.startswith("LeNet-5, 16,960 weights"))
    assert fewer["passed"]
    cycles = rows["8 x 8, 16 bit, cycles an image"]
    assert cycles["cycles_measured"] == cycles["cycles_predicted"] < 40_000
    differ = rows["8 x 8, 16 bit, 200 images: differ"]
    assert (differ["value"], differ["passed"]) == (0, True)
    layers = [row for row in rows.values() if "layer" in row]
    assert [row["layer"] for row in layers if "pool" not in row["layer"]] == [
        "conv1", "conv2", "fc1", "fc2",
    ]  # fmt: skip
    assert sum(row["cycles"] for row in layers) == cycles["value"]
    assert all(0 < row["value"] <= 100 and row["limit"] for row in layers)


def test_a_difference_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    golden = network_suites.run_artefact
    monkeypatch.setattr(network_suites, "load_dataset", noise)
    monkeypatch.setattr(network_suites, "_trained", untrained)
    monkeypatch.setattr(network_suites, "run_artefact", lambda a, x: golden(a, x) + 1)
    differ = by_name(lenet5_suite(device="golden"))["8 x 8, 16 bit, 200 images: differ"]
    assert (differ["value"], differ["passed"]) == (2000, False)


def test_limits() -> None:
    """conv1 has 20 rows for 24, and its 25 steps are longer than a tile's rows take to drain; fc2
    is one column.
    """
    plan = plan_model(lower(untrained(), "lenet"), LENET_ENGINE)
    names = [network.name for network in plan.networks]
    assert layer_limit(plan, names.index("conv1")).text == "20 of 24 rows"
    assert layer_limit(plan, names.index("fc2")).text == "1 of 8 lanes"
    assert layer_limit(plan, names.index("pool1.w1")).text == "1 of 8 rows"


@pytest.mark.slow
def test_resnet_on_the_golden_board(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_suites, "COMPARED", 8)
    rows = by_name(resnet20_suite(device="golden"))
    for title in ("TT", "dense"):
        cycles = rows[f"{title}, 16 x 16, 16 bit, cycles an image"]
        assert cycles["passed"]
        assert rows[f"{title}, 16 x 16, 16 bit, 4 images: differ"]["value"] == 0
    assert rows["TT, core and work memory of the engine"]["passed"]
    assert rows["dense over TT, cycles on equal arrays"]["value"] > 2.5
