"""Bond freedom: the map stays, powers are equal, and the quantised output gets closer."""

from __future__ import annotations

import random

import numpy as np
import pytest
from random_models import planner_config, random_model

from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import FitError
from drawbar.gen.formats import tt_network
from drawbar.gen.network import Model
from drawbar.gen.plan import Plan, plan_model
from drawbar.sim.golden import run_artefact
from drawbar.sw.compress.bonds import balance_bonds, rotation, scaling
from drawbar.sw.compress.qat import output_error
from drawbar.sw.compress.quantise import quantise

EIGHT = EngineConfig(
    name="eight", rows=4, lanes=4, core_depth=4096, work_depth=2048, data_width=8, acc_width=32
)


@pytest.mark.parametrize("size", [1, 2, 3, 6, 7, 16])
def test_rotation_gives_equal_powers(size: int) -> None:
    rng = np.random.default_rng(size)
    channels = rng.standard_normal((200, size)) @ rng.standard_normal((size, size))
    channels *= np.logspace(-3, 1, size)
    matrix = rotation(channels)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(size), atol=1e-12)
    power = np.square(channels @ matrix).mean(axis=0)
    np.testing.assert_allclose(power, power.mean(), rtol=1e-9)


def test_rotation_of_what_needs_none() -> None:
    np.testing.assert_array_equal(rotation(np.zeros((5, 3))), np.eye(3))
    np.testing.assert_array_equal(rotation(np.tile(np.eye(3), (4, 1))), np.eye(3))


def test_scaling_halves_the_spread() -> None:
    channels = np.array([[1.0, -8.0], [0.5, 100.0], [-2.0, 4.0]])
    matrix = scaling(channels)
    most = np.abs(channels @ matrix).max(axis=0)
    assert most[1] / most[0] == pytest.approx(50**0.5)
    assert np.linalg.det(matrix) == pytest.approx(1)


def lopsided() -> tuple[Plan, np.ndarray]:
    """A tensor train whose bond has channels of very unequal power, as after a TT-SVD."""
    rng = np.random.default_rng(2)
    left, right = rng.standard_normal((1, 4, 4, 6)), rng.standard_normal((6, 4, 4, 1))
    left *= np.logspace(0, -2.5, 6)
    right *= np.logspace(0, 1.5, 6)[:, None, None, None]
    model = Model("m", (tt_network("fc", [left, right], bias=rng.standard_normal(16)),))
    return plan_model(model, EIGHT), rng.standard_normal((300, 16))


def golden_error(plan: Plan, x: np.ndarray) -> float:
    artefact = quantise(plan, x)
    y = artefact.dequantise_output(run_artefact(artefact, artefact.quantise_input(x)))
    return float(np.mean((y - plan.model.forward(x)) ** 2))


def test_the_quantised_output_gets_closer() -> None:
    plan, x = lopsided()
    better, changes = balance_bonds(plan, x, lambda p: output_error(p, x))
    assert [change.layer for change in changes] == ["fc"]
    assert changes[0].after < changes[0].before
    # Less than half of the error, in the integers that run.
    assert golden_error(better, x) < 0.5 * golden_error(plan, x)
    assert golden_error(better, x) == pytest.approx(changes[-1].after)


def test_the_map_stays() -> None:
    done = 0
    for seed in range(25):
        rng = random.Random(seed)
        model, config = random_model(rng), planner_config(rng)
        try:
            plan = plan_model(model, config)
        except FitError:
            continue
        x = np.random.default_rng(seed).standard_normal((30, model.inputs))
        better, changes = balance_bonds(plan, x, lambda p, x=x: output_error(p, x))
        for before, after in zip(plan.networks, better.networks, strict=True):
            np.testing.assert_allclose(after.forward(x[:, :1].repeat(before.inputs, 1)),
                                       before.forward(x[:, :1].repeat(before.inputs, 1)),
                                       rtol=1e-8, atol=1e-8)  # fmt: skip
        for change in changes:
            assert change.after < change.before
        done += bool(changes)
    assert done >= 3
