"""Ranks for each layer under a budget: of weights, or of the engine's exact cycles.

Greedy. Every layer starts at rank 1, and whatever step up gains most for what it costs is taken,
until nothing more fits. What counts is the product over the layers of the share of the weight's
energy that the cores keep, as a layer that keeps next to nothing spoils the others' work. The
planner's cycles are not smooth in the ranks: a rank that fills a tile costs nothing. So steps of
several ranks are looked at, and a step that costs no cycle comes first.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import log
from typing import Any

from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import FitError, InputError, NetworkError, RankWarning
from drawbar.gen.network import Model
from drawbar.gen.plan import plan_model
from drawbar.sw.compress.backend import nn, torch
from drawbar.sw.compress.formats import Spec, get_format
from drawbar.sw.compress.layers import layer_spec
from drawbar.sw.compress.lowering import lower
from drawbar.sw.compress.train import seeded

#: Ranks that are tried, while the cores are smaller than the dense layer.
RANKS = (*range(1, 17), *range(18, 33, 2), *range(36, 65, 4), *range(80, 257, 16))
#: How many ranks ahead a step may go.
STEPS = 4


@dataclass(frozen=True)
class Target:
    """What a compressed model has to reach; exactly one of two.

    Members
    -------
    compression:
        Weights of the dense model for each weight of the compressed one, biases and layers that
        stay dense included.
    cycles, engine:
        Cycles of one inference at batch 1, at most, as the planner counts them for the engine.

    Raises
    ------
    InputError:
        not exactly one of the two, a value out of range, or cycles without an engine.
    """

    compression: float | None = None
    cycles: int | None = None
    engine: EngineConfig | None = None

    def __post_init__(self) -> None:
        if (self.compression is None) == (self.cycles is None):
            raise InputError(
                "compression target",
                "is a compression or a number of cycles",
                f"compression={self.compression}, cycles={self.cycles}",
                "give one of the two",
            )
        if self.compression is not None and not self.compression > 1:
            raise InputError("target compression", "is more than 1", self.compression, "raise it")
        if self.cycles is not None and (self.cycles < 1 or self.engine is None):
            raise InputError(
                "target cycles",
                "are at least 1, on an engine",
                f"{self.cycles} on {self.engine.name if self.engine else 'no engine'}",
                "give a number of cycles and the engine that counts them",
            )


@dataclass(frozen=True)
class _Rung:
    """A layer at one rank, and the logarithm of the share of its weight's energy that the cores
    keep.
    """

    spec: Spec
    kept: float


def choose_ranks(
    model: nn.Module, layers: Mapping[str, Mapping[str, Any]], target: Target
) -> dict[str, Spec]:
    """The structure of each layer.

    Arguments
    ---------
    model:
        Trained, dense.
    layers:
        For each layer to compress what ``layers.layer_spec`` takes, without ranks.

    Raises
    ------
    FitError:
        even rank 1 everywhere misses the target.
    InputError, NetworkError:
        an entry that names ranks; a layer or modes that do not fit.
    """
    ladders = {name: _ladder(model, name, asked) for name, asked in layers.items()}
    cost, budget, unit = _budget(model, target)
    level = dict.fromkeys(ladders, 0)
    known: dict[tuple[int, ...], int] = {}

    def price(levels: Mapping[str, int]) -> int:
        key = tuple(levels.values())
        if key not in known:
            known[key] = cost({name: ladders[name][n].spec for name, n in levels.items()})
        return known[key]

    spent = price(level)
    if spent > budget:
        raise FitError(
            "compressed model at rank 1",
            f"takes at most {budget} {unit}",
            spent,
            "lower the target, compress more layers, or choose other modes",
        )
    while True:
        steps = []
        for name, ladder in ladders.items():
            for ahead in range(level[name] + 1, min(level[name] + STEPS + 1, len(ladder))):
                wanted = {**level, name: ahead}
                gain = ladder[ahead].kept - ladder[level[name]].kept
                extra = price(wanted) - spent
                if spent + extra <= budget and gain > 0:
                    steps.append((extra <= 0, gain / max(extra, 1), wanted))
        if not steps:
            return {name: ladder[level[name]].spec for name, ladder in ladders.items()}
        level = max(steps, key=lambda step: step[:2])[2]
        spent = price(level)


def _ladder(model: nn.Module, name: str, asked: Mapping[str, Any]) -> list[_Rung]:
    """The layer at every rank that is of use, from rank 1 up."""
    for key in ("ranks", "max_rank"):
        if key in asked:
            raise InputError(
                f"layer {name!r}", "names no ranks where a target chooses them", key, f"drop {key}"
            )
    modules = dict(model.named_modules())
    if name not in modules:
        raise NetworkError(f"layer {name!r}", "is in the model", "no such layer", "mend the name")
    module = modules[name]
    rungs: list[_Rung] = []
    for rank in RANKS:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RankWarning)  # the ladder ends where ranks do
                spec = layer_spec(module, name, **{**asked, "max_rank": rank})
        except NetworkError:
            if not rungs:
                raise
            break  # the layer would grow
        if rungs and spec.parameters <= rungs[-1].spec.parameters:
            break
        weight = module.weight
        assert isinstance(weight, torch.Tensor)
        weight = weight.detach()
        missed = (weight - get_format(spec.format).project(weight, spec)).square().sum()
        share = 1 - (missed / weight.square().sum().clamp_min(1e-30)).item()
        rungs.append(_Rung(spec, log(max(share, 1e-9))))
    return rungs


def _budget(
    model: nn.Module, target: Target
) -> tuple[Callable[[Mapping[str, Spec]], int], int, str]:
    """What a choice of specs costs, how much it may, and of what."""
    weights = {name: weight.numel() for name, weight in model.named_parameters()}
    total = sum(weights.values())
    if target.compression is not None:

        def kept(specs: Mapping[str, Spec]) -> int:
            saved = [weights[f"{name}.weight"] - spec.parameters for name, spec in specs.items()]
            return total - sum(saved)

        return kept, int(total / target.compression), "weights"

    engine, most = target.engine, target.cycles
    assert engine is not None
    assert most is not None

    def cycles(specs: Mapping[str, Spec]) -> int:
        return engine_cycles(model, specs, engine)

    return cycles, most, f"cycles on engine {engine.name!r}"


def engine_cycles(model: nn.Module, specs: Mapping[str, Spec], engine: EngineConfig) -> int:
    """Exact cycles of one inference with layers of these structures; values do not matter.

    Raises
    ------
    FitError:
        the model does not fit the engine.
    """
    layers = []
    with seeded(0):  # values are drawn, and mean nothing
        for layer in lower(model).layers:
            if layer.name in specs:
                format_ = get_format(specs[layer.name].format)
                made = format_.network(format_.layer(specs[layer.name], bias=False), layer.name)
                layer = replace(made, bias=layer.bias, activation=layer.activation)
            layers.append(layer)
    return plan_model(Model("candidate", tuple(layers)), engine).total.total
