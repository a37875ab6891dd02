"""Plans of networks that are no chains: rings, stars, sums of terms."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest
from plan_checks import check_plan, run_in_float
from random_models import planner_config
from random_networks import GENERAL, small_model

from drawbar.gen.errors import FitError
from drawbar.gen.formats import cp_network, tensor_ring_network
from drawbar.gen.network import Model
from drawbar.gen.plan import plan_model
from drawbar.gen.presets import PRESETS
from drawbar.sim.golden import run_artefact
from drawbar.sw.compress.quantise import quantise

LARGE = PRESETS["large"]


@pytest.mark.parametrize("form", GENERAL)
def test_random_models(form: str) -> None:
    """At their addresses in float, and in integers to within quantisation."""
    done = batched = 0
    for seed in range(40):
        rng = random.Random(f"{form} {seed}")
        model, config, batch = small_model(rng, form), planner_config(rng), rng.choice((1, 1, 2, 5))
        minimise = rng.choice(("cycles", "cycles", "memory"))
        try:
            plan = plan_model(model, config, batch=batch, minimise=minimise)
        except FitError:
            continue
        check_plan(plan)
        values = np.random.default_rng(seed)
        x = values.standard_normal((batch, model.inputs))
        expected = model.forward(x)
        np.testing.assert_allclose(run_in_float(plan, x), expected, rtol=1e-7, atol=1e-9)
        x = values.standard_normal((32, model.inputs))
        artefact = quantise(plan, x)
        y = artefact.dequantise_output(run_artefact(artefact, artefact.quantise_input(x)))
        noise, signal = np.mean((y - model.forward(x)) ** 2), np.mean(model.forward(x) ** 2)
        assert noise <= signal * (10**-5.5 if config.data_width == 16 else 10**-1.2), seed
        done += 1
        batched += any(stage.shared > 1 for _, stage in plan.program)
    assert done >= 15
    assert batched or form in ("tensor-ring", "tucker")


def test_a_batched_stage_has_a_core_matrix_for_each_value() -> None:
    """In the least core memory that there is for this layer."""
    rng = np.random.default_rng(1)
    out, into = [rng.normal(size=(4, 8))] * 2, [rng.normal(size=(8, 8)), rng.normal(size=(6, 8))]
    model = Model("cp", (cp_network("cp", out, into),))
    config = LARGE.replace(rows=4, lanes=4, core_depth=72)
    plan = plan_model(model, config)
    check_plan(plan)
    assert plan.layer_text(0) == "X G1 (G2G3) G4"
    # The rank is made by the first stage, shared by the second, and summed by the last.
    stages = [planned.stage for planned in plan.stages]
    sizes = [(stage.core_text, stage.columns) for stage in stages]
    assert sizes == [("8 x 8", 6), ("8 x (4 x 6)", 8), ("4 x 8", 4)]
    assert [stage.core_vectors(config) for stage in stages] == [16, 48, 8]
    with pytest.raises(FitError, match="raise core_depth to at least 72"):
        plan_model(model, config.replace(core_depth=71))


@pytest.mark.parametrize("form", ["cp", "tensor-ring"])
def test_planning_eight_cores_takes_little_time(form: str) -> None:
    rng = np.random.default_rng(2)
    modes = (4, 8, 8, 4)
    if form == "cp":
        factors = [rng.normal(size=(mode, 16)) for mode in modes]
        layer = cp_network("cp", factors, factors)
    else:
        cores = [rng.normal(size=(4, mode, 4)) for mode in (*modes, *modes)]
        layer = tensor_ring_network("ring", cores, inputs=4)
    started = time.process_time()
    plan = plan_model(Model("m", (layer,)), LARGE)
    assert time.process_time() - started < 5  # well below a second on an idle machine
    check_plan(plan)
    assert plan.layer_text(0) == "X (G2G3) (G1G8) (G4G5) (G6G7)"
