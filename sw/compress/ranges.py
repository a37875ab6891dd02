"""What the integers of a model that comes quantised can become, and whether the engine's are the
same.

Such a model says where its results are clipped. The engine clips to its own width: to the same
numbers, or, if no input makes a sum so large, nowhere. Anything else is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import FitError
from drawbar.gen.network import ContractionNetwork, Model, Quantised

#: Least and greatest value of a tensor; None where that is not known.
Range = tuple[float, float] | None


def check_ranges(model: Model, config: EngineConfig) -> None:
    """Find out that a quantised model is for another width than the engine's.

    Raises
    ------
    FitError:
        a tensor has integers that the engine does not have, or is clipped where the engine does
        not; the error names its layer.
    """
    if not any(model.quantised):
        return
    ranges: list[Range] = [None]
    given = model.quantised[0]
    if given is not None:
        low, high = given.low, given.high
        if low < config.data_min or high > config.data_max:
            raise _misfit(f"input of model {model.name!r}", given, (low, high), config)
        ranges = [(low / 2.0**given.fraction_bits, high / 2.0**given.fraction_bits)]
    for number, layer in enumerate(model.layers):
        own = [ranges[source.tensor] for source in model.sources[number]]
        known = model.quantised[number + 1]
        found = _joined(own) if layer.joined else _result(layer, own)
        if known is not None:
            found = _clipped(layer, known, found, config)
        elif layer.keeps_scale and not layer.joined and len(own) > 1 and found is not None:
            found = _maximum(model, number, own, found, config)
        ranges.append(found)


def _joined(sources: Sequence[Range]) -> Range:
    """The range of a concatenation."""
    known = [source for source in sources if source is not None]
    if len(known) < len(sources):
        return None
    return min(low for low, _ in known), max(high for _, high in known)


def _result(layer: ContractionNetwork, sources: Sequence[Range]) -> Range:
    """What a layer of one core makes of ranges."""
    if len(layer.cores) != 1 or not all(sources):
        return None
    core = layer.cores[0]
    size = layer.inputs // len(sources)
    low, high = (
        np.concatenate([np.full(size, r[side]) for r in sources if r])[None] for side in (0, 1)
    )
    parts = [
        replace(layer, cores=(replace(core, values=values),), bias=None, activation="none")
        for values in (np.maximum(core.values, 0), np.minimum(core.values, 0))
    ]
    bias = layer.spread_bias()
    least = float((parts[0].forward(low) + parts[1].forward(high) + bias).min())
    most = float((parts[0].forward(high) + parts[1].forward(low) + bias).max())
    return (max(least, 0.0), max(most, 0.0)) if layer.activation == "relu" else (least, most)


def _clipped(
    layer: ContractionNetwork, given: Quantised, found: Range, config: EngineConfig
) -> Range:
    """The range of a quantised result, which the engine clips as the model does."""
    positive = layer.activation == "relu"
    wanted = (max(given.low, 0) if positive else given.low, given.high)
    own = (0 if positive else config.data_min, config.data_max)
    scale = 2.0**given.fraction_bits
    if found is None:
        reached = None if wanted == own else (-np.inf, np.inf)
    else:
        reached = (round(found[0] * scale), round(found[1] * scale))
    if wanted != own and reached is not None:
        inside = max(wanted[0], own[0]) <= reached[0] and reached[1] <= min(wanted[1], own[1])
        if not inside:
            raise _misfit(f"layer {layer.name!r}", given, reached, config)
    low, high = wanted if reached is None else (max(reached[0], own[0]), min(reached[1], own[1]))
    return low / scale, high / scale


def _maximum(
    model: Model, number: int, sources: Sequence[Range], found: Range, config: EngineConfig
) -> Range:
    """Half of a maximum: a difference, which must not be clipped, or the sum after it, which is
    the greater one of what was there before.
    """
    layer = model.layers[number]
    if layer.activation != "relu":
        return sources[-1]
    given = {model.quantised[source.tensor] for source in model.sources[number]}
    for known in given - {None}:
        assert known is not None
        assert found is not None
        if found[1] * 2.0**known.fraction_bits > config.data_max:
            raise FitError(
                f"layer {layer.name!r}",
                f"takes differences of at most {config.data_max} to find a maximum, the largest "
                f"integer of engine {config.name!r}",
                f"{found[1] * 2.0**known.fraction_bits:g}",
                "put the ReLU before the maximum, or use an engine with more bits",
            )
    return found


def _misfit(
    where: str, given: Quantised, reached: tuple[float, float], config: EngineConfig
) -> FitError:
    return FitError(
        where,
        f"is clipped to {given.low}..{given.high}, as the engine clips to {config.data_min}.."
        f"{config.data_max}, or never reaches either",
        f"sums from {reached[0]:g} to {reached[1]:g} on engine {config.name!r} "
        f"({config.data_width} bit)",
        "use an engine whose data_width is the model's, or quantise to its signed integers",
    )


def check_exact(core: np.ndarray, wanted: np.ndarray, config: EngineConfig, where: str) -> None:
    """Raise FitError where integer weights had to be rounded."""
    if not np.array_equal(core, wanted):
        raise FitError(
            where,
            f"has integer weights that a core holds, at most {config.data_max}",
            f"{np.abs(wanted).max():g} in units of the core's scale",
            "use an engine with a larger data_width, or weights of fewer bits",
        )
