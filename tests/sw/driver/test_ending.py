"""Programs that end early: any tensor can be read, and the artefact is whole again afterwards."""

from __future__ import annotations

import random

import numpy as np
import pytest
from random_models import random_tt_layer
from small_engines import ENGINES

import drawbar
from drawbar.gen.errors import InputError
from drawbar.gen.formats import dense_network
from drawbar.gen.network import Model
from drawbar.gen.results import layer_results
from drawbar.sim.golden import run_artefact
from drawbar.sw.compress.quantise import quantise
from drawbar.sw.driver import Device

CONFIG = ENGINES[0]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("url", ["golden", "sim"])
def test_every_layer_can_be_read(url: str, batch: int) -> None:
    rng = random.Random(5)
    layers = (
        random_tt_layer(rng, "first", (4, 5, 3), (3, 4, 4), bias=True, activation="relu"),
        random_tt_layer(rng, "second", (3, 4, 4), (2, 2, 2), bias=False, activation="none"),
    )
    plan = drawbar.plan(Model("m", layers), CONFIG, batch=batch)
    data = np.random.default_rng(5).standard_normal((7, 60))
    artefact = quantise(plan, data)
    x = artefact.quantise_input(data)
    first, last = layer_results(plan)
    seen: dict[int, np.ndarray] = {}

    def observe(stage: int, work: np.ndarray) -> None:
        seen[stage] = work[:, first.layout.addresses(batch)].reshape(-1, 48)[: len(x)].copy()

    whole = run_artefact(artefact, x, observe=observe)
    assert sorted(seen) == list(range(len(plan.program)))
    with drawbar.open(url, engine=CONFIG) as device:
        device.load(artefact)
        for _ in range(2):
            assert np.array_equal(device.run_until(x, first.stage, first.layout), seen[first.stage])
            assert device.last_run is not None
            assert device.last_run.cycles < artefact.cycles
            assert np.array_equal(device.run_until(x, last.stage, last.layout), whole)
            assert np.array_equal(device.run_integers(x), whole)
            assert device.last_run.cycles == artefact.cycles
        assert device.artefact is artefact


def test_nothing_is_loaded() -> None:
    layout = drawbar.compile(
        Model("m", (dense_network("a", np.ones((3, 4))),)),
        CONFIG,
        calibration=np.ones((2, 4)),
    ).output
    with drawbar.open("golden", engine=CONFIG) as device:
        assert isinstance(device, Device)
        with pytest.raises(InputError, match="nothing loaded"):
            device.run_until(np.zeros((1, 4), np.int64), 0, layout)
