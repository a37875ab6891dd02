"""Quantisation-aware tuning: its forward pass is the golden model, to the bit, also while the cores
train, at 16 and 8 bits and mixed; and it gains.
"""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from random_models import planner_config, random_model

from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import FitError, InputError
from drawbar.gen.formats import dense_network, tt_network
from drawbar.gen.network import Model
from drawbar.gen.plan import Plan, plan_model
from drawbar.sim.golden import run_artefact
from drawbar.sw.compress.data import load_dataset
from drawbar.sw.compress.qat import QuantisedModel, tune_quantised
from drawbar.sw.compress.quantise import calibrate, quantise

SIXTEEN = EngineConfig(name="sixteen", rows=4, lanes=4, core_depth=4096, work_depth=2048)
EIGHT = SIXTEEN.replace(name="eight", data_width=8, acc_width=32)


def golden(model: QuantisedModel, calibration: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Outputs of the compiled artefact in the golden model."""
    artefact = quantise(model.plan(), calibration, scales=model.scales, core_bits=model.core_bits)
    return artefact.dequantise_output(run_artefact(artefact, artefact.quantise_input(x)))


def same(model: QuantisedModel, calibration: np.ndarray, x: np.ndarray) -> bool:
    with torch.no_grad():
        found = model(torch.from_numpy(x)).numpy()
    return np.array_equal(found, golden(model, calibration, x))


def step(model: QuantisedModel, x: np.ndarray, lr: float) -> None:
    """A step of gradient descent towards random outputs."""
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    y = model(torch.from_numpy(x))
    (
        y - torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    ).square().mean().backward()
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in model.cores)
    optimiser.step()


@pytest.mark.parametrize("block", range(4))
def test_forward_is_the_golden_model_before_and_after_training(block: int) -> None:
    done = 0
    for seed in range(12 * block, 12 * block + 12):
        rng = random.Random(seed)
        model, config = random_model(rng), planner_config(rng)
        try:
            plan = plan_model(model, config, batch=rng.choice((1, 2)))
        except FitError:
            continue
        x = np.random.default_rng(seed).standard_normal((20, model.inputs))
        layer = rng.choice(model.layers).name
        core_bits = {layer: rng.randint(3, config.data_width)}
        quantised = QuantisedModel(plan, calibrate(plan, x), core_bits)
        wide = 1.5 * x  # saturates here and there
        assert same(quantised, x, wide), seed
        for lr in (1e-3, 0.1):
            step(quantised, x, lr)
            assert same(quantised, x, wide), (seed, lr)
        done += 1
    assert done >= 4


def digits() -> tuple[Model, np.ndarray]:
    """A small float classifier of the digits, its first layer a tensor train, and its inputs."""
    from torch import nn

    from drawbar.sw.compress.layers import decompose
    from drawbar.sw.compress.lowering import lower
    from drawbar.sw.compress.train import train_classifier

    data = load_dataset("digits")
    torch.manual_seed(2)
    dense = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    made = decompose(dense, {"0": {"modes_out": (4, 4, 4), "modes_in": (4, 4, 4), "max_rank": 5}})
    train_classifier(made, data.train_x, data.train_y, 12, 1e-2, 64)
    return lower(made, "digits"), data.train_x


def right(model: QuantisedModel, x: np.ndarray) -> float:
    data = load_dataset("digits")
    return float(100 * np.mean(golden(model, x, data.test_x).argmax(axis=1) == data.test_y))


def test_tuning_gains_where_few_bits_lose() -> None:
    """Cores of 3 bits: what the digits lose comes back, in the integers that run."""
    model, x = digits()
    plan = plan_model(model, EIGHT)
    bits = {"0": 3, "2": 3}
    before = QuantisedModel(plan, calibrate(plan, x), bits)
    seen: list[str] = []
    tuned = tune_quantised(
        plan,
        load_dataset("digits"),
        calibration=x,
        core_bits=bits,
        epochs=2,
        lr=5e-3,
        batch_size=64,
        progress=lambda _done, _total, text: seen.append(text),
    )
    assert len(seen) == 2
    test_x = load_dataset("digits").test_x.astype(np.float64)
    assert same(tuned, x, test_x)
    assert right(tuned, x) > right(before, x) + 2


def test_mixed_widths_are_kept() -> None:
    """Cores of one layer in 8 bits on an engine of 16; the rest fills 16."""
    rng = np.random.default_rng(6)
    cores = [rng.standard_normal((1, 4, 4, 3)), rng.standard_normal((3, 2, 3, 1))]
    layers = (tt_network("a", cores), dense_network("b", rng.standard_normal((5, 8))))
    plan = plan_model(Model("m", layers), SIXTEEN)
    x = rng.standard_normal((40, 12))
    artefact = quantise(plan, x, core_bits={"a": 8})
    widths = {}
    for planned, vectors in zip(plan.stages, np.split(artefact.cores, _ends(plan)), strict=True):
        name = plan.networks[planned.layer].name
        widths[name] = max(widths.get(name, 0), int(np.abs(vectors).max()))
    assert 63 <= widths["a"] <= 127
    assert widths["b"] > 16000


def _ends(plan: Plan) -> list[int]:
    """Where each stage's core vectors end, but for the last."""
    return [stage.stage.core_base for stage in plan.stages[1:]]


@pytest.mark.parametrize(
    ("core_bits", "match"),
    [
        ({"c": 8}, "is given for one of a; found c"),
        ({"a": 1}, "is 2 to the 8 bits of engine 'eight'; found 1"),
        ({"a": 16}, "is 2 to the 8 bits"),
    ],
)
def test_bad_widths(core_bits: dict[str, int], match: str) -> None:
    plan = plan_model(Model("m", (dense_network("a", np.eye(4)),)), EIGHT)
    with pytest.raises(InputError, match=match):
        quantise(plan, np.ones((3, 4)), core_bits=core_bits)


def test_bad_settings() -> None:
    plan = plan_model(Model("m", (dense_network("a", np.eye(64)),)), EIGHT)
    data = load_dataset("digits")
    with pytest.raises(InputError, match="lr: is more than 0"):
        tune_quantised(plan, data, calibration=data.train_x, lr=0.0)
