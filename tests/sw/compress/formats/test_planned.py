"""Layers of every format, lowered, planned and quantised: the golden model computes what the layer
computes, to the rounding of 16 bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from plan_checks import run_in_float
from torch import nn

import drawbar
from drawbar.gen.config import EngineConfig
from drawbar.gen.plan import plan_model
from drawbar.sw.compress import decompose, format_names, lower

MODES: dict[str, Any] = {"modes_out": (4, 6), "modes_in": (4, 8)}
ASKED: dict[str, dict[str, Any]] = {
    "tt": {**MODES, "max_rank": 4},
    "tensor_train": {**MODES, "max_rank": 4},
    "tensor_ring": {**MODES, "max_rank": 3},
    "tucker": {**MODES, "max_rank": 3},
    "cp": {**MODES, "max_rank": 4},
    "block_term": {**MODES, "max_rank": 3},
    "svd": {"max_rank": 4},
    "stt": {**MODES, "max_rank": 4},
    "str": {**MODES, "max_rank": 4},
    "sttu": {**MODES, "max_rank": 4},
    "ada_tucker": {"max_rank": 3},
}
ENGINE = EngineConfig(name="small", rows=4, lanes=4)


@pytest.mark.parametrize("format", format_names())
def test_a_layer_on_the_engine(format: str) -> None:
    torch.manual_seed(7)
    inputs = 31 if format == "ada_tucker" else 32  # padded
    dense = nn.Sequential(nn.Linear(inputs, 24), nn.ReLU(), nn.Linear(24, 5))
    model = decompose(dense, {"0": {"format": format, **ASKED[format]}}).double().eval()
    x = np.random.default_rng(8).normal(size=(6, inputs))
    wanted = model(torch.from_numpy(x)).detach().numpy()
    plan = plan_model(lower(model, "net"), ENGINE)
    np.testing.assert_allclose(run_in_float(plan, x[:1]), wanted[:1], rtol=0, atol=1e-12)
    artefact = drawbar.compile(model, engine=ENGINE, calibration=x)
    with drawbar.open("golden") as device:
        device.load(artefact)
        found = device.run(x)
    assert np.abs(found - wanted).max() < 4e-3 * np.abs(wanted).max()
