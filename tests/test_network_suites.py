"""Suites of whole networks: rows say truly what holds, and where a layer's cycles go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_recipes import noise_images, tiny

from drawbar import compress_suite, network_suites
from drawbar.compress_suite import run_arms
from drawbar.gen.limits import layer_limit
from drawbar.gen.plan import plan_model
from drawbar.network_suites import LENET_ENGINE, RESNET_RECIPE, lenet5_suite, resnet20_suite
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
    cycles = rows["8 x 8, 16 bit, cycles of each image"]
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
    for title in ("TT", "dense", "dense, streamed"):
        cycles = rows[f"{title}, 16 x 16, 16 bit, cycles of each image"]
        assert cycles["passed"]
        assert rows[f"{title}, 16 x 16, 16 bit, 4 images: differ"]["value"] == 0
    assert rows["TT, core and work memory of the engine"]["passed"]
    where = "dense, streamed, 16 x 16, 16 bit"
    cores = rows["dense, streamed, cores"]["value"]
    assert 0.7 * cores < rows[f"{where}, cores that stream in"]["value"] < cores
    assert rows[f"{where}, passes"]["value"] > 4
    assert rows["dense over TT, cycles on equal arrays"]["value"] > 2.5


@pytest.mark.parametrize("name", [RESNET_RECIPE, "resnet-20-tt-4.5x"])
def test_resnet_takes_the_weights_that_compress_resnet_leaves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """A tiny run of the recipe: its checkpoints are the dense network's and the cores', and are
    judged by the test images' classes.
    """
    dataset = noise_images()
    monkeypatch.setitem(RECIPES, name, tiny(RECIPES[name]))
    monkeypatch.setattr(compress_suite, "load_dataset", lambda *_: dataset)
    monkeypatch.setattr(network_suites, "load_dataset", lambda *_: dataset)
    arms = run_arms(name, dataset, (0,), tmp_path, None)[0]
    seen: list[tuple[Any, bool]] = []

    def rows(title: str, module: Any, *rest: Any) -> tuple[list[dict[str, Any]], int]:
        seen.append((module, rest[-1] is not None))
        return [], 1

    monkeypatch.setattr(network_suites, "_resnet_rows", rows)
    named = resnet20_suite(folder=tmp_path, device="golden")
    assert "trained; images of CIFAR-10" in named[0]["name"]
    # Nothing is trained again, and all are judged: cores, the dense network whole and in passes.
    wanted_of_each = (arms.compressed, arms.dense, arms.dense)
    for (module, judged), wanted in zip(seen, wanted_of_each, strict=True):
        assert judged
        for one, other in zip(module.parameters(), wanted.model.parameters(), strict=True):
            assert torch.equal(one, other)
    seen.clear()
    assert "random weights" in resnet20_suite(device="golden")[0]["name"]
    assert [judged for _, judged in seen] == [False] * 3


def test_classes_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a small network in ResNet's place: what float and golden model get right."""
    torch.manual_seed(1)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, stride=4), torch.nn.ReLU())
    module.append(torch.nn.Flatten()).append(torch.nn.Linear(256, 10))
    lowering = network_suites.import_module("drawbar.sw.compress.lowering")
    lower_image = lowering.lower
    monkeypatch.setattr(
        lowering, "lower", lambda m, name: lower_image(m, name, input_shape=(3, 32, 32))
    )
    x = np.random.default_rng(2).uniform(size=(170, 3072)).astype(np.float32)
    y = module(torch.from_numpy(x).reshape(-1, 3, 32, 32)).argmax(dim=1).numpy()
    y[::4] = (y[::4] + 1) % 10
    rows, _ = network_suites._resnet_rows(
        "TT, ", module, LENET_ENGINE, x, "golden", None, None, (x, y)
    )
    found = by_name(rows)
    right = found["TT, float, 170 test images: right"]["value"]
    assert right == pytest.approx(100 * 127 / 170)
    golden = found["TT, golden model, 170 test images: right"]["value"]
    assert found["TT, golden model, below float"]["value"] == right - golden
    assert abs(right - golden) < 5
