"""Random models through the whole chain to the generated hardware: the same bits, the same cycles.

Three engines, each built once; many artefacts, loaded one after the other on the same open device.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice

import numpy as np
import pytest
from random_models import random_model
from random_networks import GENERAL, small_model
from small_engines import ENGINES

import drawbar
from drawbar.gen.artefact import Artefact
from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import FitError
from drawbar.gen.network import Model
from drawbar.gen.plan import Plan
from drawbar.sim.golden import run_artefact
from drawbar.sw.driver import Device

MODELS = 14
#: A model that takes more cycles is left to the faster tests.
CYCLES = 30_000


def planned(
    draw: Callable[[random.Random], Model], rng: random.Random, config: EngineConfig
) -> Iterator[tuple[Plan, Artefact, np.random.Generator]]:
    """Random models that fit, as plan and artefact, and randomness for their inputs."""
    while True:
        model, batch = draw(rng), rng.choice((1, 1, 2, 3, 5))
        values = np.random.default_rng(rng.getrandbits(32))
        try:
            plan = drawbar.plan(model, config, batch=batch)
            if plan.total.total <= CYCLES:
                calibration = values.standard_normal((16, model.inputs))
                yield (
                    plan,
                    drawbar.compile(model, config, calibration=calibration, batch=batch),
                    values,
                )
        except FitError:
            continue


def check_on_board(
    device: Device, plan: Plan, artefact: Artefact, values: np.random.Generator
) -> None:
    """The golden model's bits and the plan's cycles, back to back."""
    batch = plan.batch
    device.load(artefact)
    # Two whole batches and a part of one, some inputs far outside of the calibration.
    x = values.standard_normal((2 * batch + (batch + 1) // 2, plan.model.inputs)) * 1.5
    x[-1] *= 100
    integers = artefact.quantise_input(x)
    expected = run_artefact(artefact, integers)
    np.testing.assert_array_equal(device.run_integers(integers), expected)
    report = device.last_run
    assert report is not None
    assert report.counters is not None
    assert report.counters.cycles == artefact.cycles == plan.total.total
    assert report.counters.busy == plan.total.busy
    assert report.counters.stall_drain == plan.total.stall_drain
    assert report.counters.stall_fetch == plan.total.stall_fetch
    assert report.counters.flush == plan.total.flush
    assert report.runs == 3
    # Once more, the other way round: no state of an earlier run shows.
    np.testing.assert_array_equal(device.run_integers(integers[::-1]), expected[::-1])
    assert device.verify().passed


@pytest.mark.parametrize("config", ENGINES, ids=lambda c: c.name)
def test_random_models_on_the_simulated_board(config: EngineConfig) -> None:
    models = planned(random_model, random.Random(config.name), config)
    batches = []
    with drawbar.open("sim", engine=config) as device:
        for plan, artefact, values in islice(models, MODELS):
            check_on_board(device, plan, artefact, values)
            batches.append(plan.batch)
    assert sum(batch > 1 for batch in batches) > 1


@pytest.mark.parametrize("form", GENERAL)
def test_networks_that_are_no_chains_on_the_simulated_board(form: str) -> None:
    config = ENGINES[0]
    models = planned(partial(small_model, form=form), random.Random(form), config)
    stages = []
    with drawbar.open("sim", engine=config) as device:
        for plan, artefact, values in islice(models, MODELS):
            check_on_board(device, plan, artefact, values)
            stages += [stage for _, stage in plan.program]
    if form in ("cp", "block-term"):
        assert sum(stage.shared > 1 and stage.k > 1 and stage.rows > 1 for stage in stages) > 1
