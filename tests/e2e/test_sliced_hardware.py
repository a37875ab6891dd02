"""Plans in slices on the generated hardware: the same bits, the same cycles."""

from __future__ import annotations

import random

import numpy as np
import pytest
from random_models import random_tt_layer
from small_engines import ENGINES

import drawbar
from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import FitError
from drawbar.gen.network import Model
from drawbar.sim.golden import run_artefact

#: Those of 3 x 4 and 4 x 2.
SLICED_ON = ENGINES[:2]
MODELS = 10


def model(rng: random.Random) -> Model:
    """One or two layers of cores that slices pay for: input modes larger than ranks."""
    layers = []
    modes: tuple[int, ...] = tuple(rng.choice((2, 3, 4, 5)) for _ in range(rng.randint(3, 5)))
    for number in range(rng.choice((1, 2))):
        modes_out = tuple(rng.choice((2, 3, 4)) for _ in modes)
        layers.append(
            random_tt_layer(
                rng,
                f"layer{number}",
                modes,
                modes_out,
                bias=rng.random() < 0.5,
                activation=rng.choice(("none", "relu")),
                most_rank=4,
            )
        )
        modes = modes_out
    return Model("sliced", tuple(layers))


@pytest.mark.parametrize("config", SLICED_ON, ids=lambda c: c.name)
def test_sliced_plans_on_the_simulated_board(config: EngineConfig) -> None:
    rng = random.Random(f"sliced {config.name}")
    ran = 0
    with drawbar.open("sim", engine=config) as device:
        while ran < MODELS:
            network, batch = model(rng), rng.choice((1, 1, 2, 3))
            values = np.random.default_rng(rng.getrandbits(32))
            try:
                plan = drawbar.plan(network, config, batch=batch, minimise="memory", stream=False)
            except FitError:
                continue
            if len(plan.program) == len(plan.stages) or plan.total.total > 30_000:
                continue
            artefact = drawbar.compile(
                network,
                config,
                calibration=values.standard_normal((16, network.inputs)),
                batch=batch,
                minimise="memory",
                stream=False,
            )
            assert artefact.meta["minimise"] == "memory"
            device.load(artefact)
            x = values.standard_normal((2 * batch + (batch + 1) // 2, network.inputs))
            integers = artefact.quantise_input(x)
            expected = run_artefact(artefact, integers)
            np.testing.assert_array_equal(device.run_integers(integers), expected)
            report = device.last_run
            assert report is not None
            counters = report.counters
            assert counters is not None
            assert counters.cycles == artefact.cycles == plan.total.total
            assert counters.busy == plan.total.busy
            assert counters.stall_drain == plan.total.stall_drain
            assert counters.stall_fetch == plan.total.stall_fetch
            assert counters.flush == plan.total.flush
            assert counters.stages == len(plan.program)
            # No state of an earlier run shows.
            np.testing.assert_array_equal(device.run_integers(integers[::-1]), expected[::-1])
            ran += 1
