"""Ranks under a budget: kept to, used up, and well spent."""

from __future__ import annotations

from math import log

import pytest
import torch
from torch import nn

from drawbar.gen.errors import FitError, InputError, NetworkError
from drawbar.gen.plan import plan_model
from drawbar.gen.presets import PRESETS
from drawbar.sw.compress.formats import Spec, get_format
from drawbar.sw.compress.layers import decompose, layer_spec
from drawbar.sw.compress.lowering import lower
from drawbar.sw.compress.rank_choice import Target, choose_ranks, engine_cycles

ENGINE = PRESETS["tiny"]
LAYERS = {
    "0": {"modes_out": (4, 5), "modes_in": (4, 6)},
    "2": {"modes_out": (2, 4), "modes_in": (5, 4)},
}


def model() -> nn.Sequential:
    """Of the first layer, four ranks hold nearly everything; the second is noise."""
    torch.manual_seed(4)
    found = nn.Sequential(
        nn.Linear(24, 20), nn.ReLU(), nn.Linear(20, 8), nn.ReLU(), nn.Linear(8, 3)
    )
    asked = {**LAYERS["0"], "max_rank": 4}
    layer = decompose(found, {"0": asked}).get_submodule("0")
    with torch.no_grad():
        found[0].weight.copy_(layer.reconstruct() + 1e-4 * torch.randn(20, 24))  # type: ignore[operator]
    return found


def rank(spec: Spec) -> int:
    return max(spec.ranks)


def at_rank(name: str, most: int) -> Spec:
    module = model().get_submodule(name)
    return layer_spec(module, name, **LAYERS[name], max_rank=most, grow=True)


def weights(specs: dict[str, Spec]) -> int:
    return sum(p.numel() for p in decompose(model(), specs).parameters())


def missed(specs: dict[str, Spec]) -> float:
    """Minus the logarithm of the product of the shares of energy that the layers keep."""
    total = 0.0
    for name, spec in specs.items():
        weight = model().get_submodule(name).weight.detach()
        assert isinstance(weight, torch.Tensor)
        rest = weight - get_format(spec.format).project(weight, spec)
        total -= log(1 - (rest.square().sum() / weight.square().sum()).item())
    return total


@pytest.mark.parametrize("compression", [1.5, 2.0, 2.5])
def test_weights_of_the_whole_model(compression: float) -> None:
    specs = choose_ranks(model(), LAYERS, Target(compression=compression))
    dense = sum(p.numel() for p in model().parameters())
    assert dense == 24 * 20 + 20 * 8 + 8 * 3 + 31
    assert dense / weights(specs) >= compression
    # Nothing more fits: one rank more in any layer is over the budget, or of no use.
    for name, spec in specs.items():
        wider = {**specs, name: at_rank(name, rank(spec) + 1)}
        if missed(wider) < missed(specs) - 1e-6:
            assert dense / weights(wider) < compression


def test_the_layer_that_gains_gets_the_ranks() -> None:
    specs = choose_ranks(model(), LAYERS, Target(compression=2.0))
    assert rank(specs["0"]) == 4
    same_weights = [
        {
            "0": at_rank("0", one),
            "2": at_rank("2", two),
        }
        for one in range(1, 11)
        for two in range(1, 7)
    ]
    best = min(missed(s) for s in same_weights if weights(s) <= weights(specs))
    assert missed(specs) <= best + 0.02


def test_cycles_of_the_engine() -> None:
    counts = []
    for cycles in (183, 204, 244):
        specs = choose_ranks(model(), LAYERS, Target(cycles=cycles, engine=ENGINE))
        planned = plan_model(lower(decompose(model(), specs)), ENGINE).total.total
        assert planned == engine_cycles(model(), specs, ENGINE) <= cycles
        counts.append(missed(specs))
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] < counts[0]


def test_ranks_that_cost_no_cycle_are_taken() -> None:
    """Another rank may cost nothing, or even less, where it ends a wait or fills a tile."""
    narrow = {name: at_rank(name, 1) for name in LAYERS}
    least = engine_cycles(model(), narrow, ENGINE)
    specs = choose_ranks(model(), LAYERS, Target(cycles=least, engine=ENGINE))
    assert rank(specs["2"]) == 6
    assert weights(specs) > weights(narrow)
    assert engine_cycles(model(), specs, ENGINE) <= least


def test_the_random_state_stays() -> None:
    network = model()
    state = torch.get_rng_state()
    choose_ranks(network, LAYERS, Target(cycles=400, engine=ENGINE))
    assert torch.equal(torch.get_rng_state(), state)


def test_errors() -> None:
    with pytest.raises(FitError, match="at rank 1: takes at most 51 weights; found 1"):
        choose_ranks(model(), LAYERS, Target(compression=13.5))
    with pytest.raises(FitError, match="takes at most 20 cycles on engine 'tiny'"):
        choose_ranks(model(), LAYERS, Target(cycles=20, engine=ENGINE))
    with pytest.raises(InputError, match=r"layer '0': names no ranks .*; found max_rank"):
        choose_ranks(model(), {"0": {**LAYERS["0"], "max_rank": 3}}, Target(compression=2))
    with pytest.raises(NetworkError, match="layer '9': is in the model"):
        choose_ranks(model(), {"9": LAYERS["0"]}, Target(compression=2))
    for bad in (
        {},
        {"compression": 2.0, "cycles": 5},
        {"compression": 1.0},
        {"cycles": 0},
        {"cycles": 9},
    ):
        with pytest.raises(InputError, match="target"):
            Target(**bad)
