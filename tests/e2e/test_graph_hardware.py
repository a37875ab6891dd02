"""Graphs of images on the generated hardware: the same bits, the same cycles, run after run."""

from __future__ import annotations

import random

import numpy as np
import pytest
from small_engines import ENGINES

import drawbar
from drawbar.fuzz import check_case
from drawbar.fuzz_graphs import random_graph
from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import FitError

#: Those of 3 x 4 and 4 x 2.
IMAGES_ON = ENGINES[:2]
MODELS = 10


@pytest.mark.parametrize("config", IMAGES_ON, ids=lambda c: c.name)
def test_graphs_on_the_simulated_board(config: EngineConfig) -> None:
    rng = random.Random(f"graphs {config.name}")
    ran = zeros = joined = 0
    with drawbar.open("sim", engine=config) as device:
        while ran < MODELS:
            model, batch = random_graph(rng, most=7), rng.choice((1, 1, 2))
            values = np.random.default_rng(rng.getrandbits(32))
            try:
                plan = drawbar.plan(model, config, batch=batch)
                x = values.standard_normal((3 * batch, model.inputs))
                artefact = drawbar.compile(model, config, calibration=x, batch=batch)
            except FitError:
                continue
            if plan.total.total > 20_000:
                continue
            assert check_case(device, artefact, artefact.quantise_input(x)) is None
            zeros += sum(planned.fills for planned in plan.stages)
            joined += len(plan.joins)
            ran += 1
    assert zeros > 0
    assert joined > 0
