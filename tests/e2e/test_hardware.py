"""Random models through the whole chain to the generated hardware: the same bits, the same cycles.

Three engines, each built once; many artefacts, loaded one after the other on the same open device.
"""

from __future__ import annotations

import random

import numpy as np
import pytest
from random_models import random_model
from small_engines import ENGINES

import drawbar
from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import FitError
from drawbar.sim.golden import run_artefact

MODELS = 14
#: A model that takes more cycles is left to the faster tests.
CYCLES = 30_000


@pytest.mark.parametrize("config", ENGINES, ids=lambda c: c.name)
def test_random_models_on_the_simulated_board(config: EngineConfig) -> None:
    rng = random.Random(config.name)
    ran = batched = 0
    with drawbar.open("sim", engine=config) as device:
        while ran < MODELS:
            model, batch = random_model(rng), rng.choice((1, 1, 2, 3, 5))
            values = np.random.default_rng(rng.getrandbits(32))
            try:
                plan = drawbar.plan(model, config, batch=batch)
                if plan.total.total > CYCLES:
                    continue
                artefact = drawbar.compile(
                    model,
                    config,
                    calibration=values.standard_normal((16, model.inputs)),
                    batch=batch,
                )
            except FitError:
                continue
            device.load(artefact)
            # Two whole batches and a part of one, some inputs far outside of the calibration.
            x = values.standard_normal((2 * batch + (batch + 1) // 2, model.inputs)) * 1.5
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
            ran += 1
            batched += batch > 1
    assert batched > 1
