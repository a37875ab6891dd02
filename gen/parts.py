"""Parts of a stage: cores that are too large to take turns are cut along their shared loops or
their rows, at whole row tiles and whole wide vectors of core memory. A part is a stage that makes
some of the results, and its core a part of the whole core's image.
"""

from __future__ import annotations

from dataclasses import replace
from math import gcd, prod

from drawbar.gen.config import EngineConfig
from drawbar.gen.stage import Stage


def _halves(stage: Stage, config: EngineConfig) -> tuple[Stage, Stage] | None:
    """A stage as two that do the same, each with a part of the core; None where there is no place
    to cut at.
    """
    tile = stage.k * stage.fold
    for n, loop in enumerate(stage.column_loops):
        if loop.shared and loop.count > 1:
            inside = prod(c.count for c in stage.column_loops[n + 1 :] if c.shared)
            vectors = inside * stage.row_tiles(config) * tile
            return _cut(stage, "column_loops", n, config.fold // gcd(config.fold, vectors), config)
    for n, loop in enumerate(stage.row_loops):
        if loop.count > 1:
            inner = prod(other.count for other in stage.row_loops[n + 1 :])
            tiles = config.fold // gcd(config.fold, tile)
            unit = config.rows * tiles // gcd(config.rows * tiles, inner)
            return _cut(stage, "row_loops", n, unit, config)
    return None


def _cut(
    stage: Stage, loops: str, n: int, unit: int, config: EngineConfig
) -> tuple[Stage, Stage] | None:
    """A stage cut in the middle of the ``n``-th of its column or row loops, at a multiple of
    ``unit`` repetitions; None where there is none.
    """
    every = getattr(stage, loops)
    loop = every[n]
    first = max(unit, loop.count // 2 // unit * unit)
    if first >= loop.count:
        return None
    one, other = (
        replace(stage, **{loops: (*every[:n], replace(loop, count=count), *every[n + 1 :])})
        for count in (first, loop.count - first)
    )
    moved = replace(
        other,
        x_base=stage.x_base + first * loop.x,
        y_base=stage.y_base + first * loop.y,
        bias_base=None if stage.bias_base is None else stage.bias_base + first * loop.bias,
        core_base=stage.core_base + one.core_vectors(config),
    )
    return one, moved


def parts(stage: Stage, most: int, config: EngineConfig) -> list[Stage]:
    """A stage as stages whose cores take at most ``most`` vectors, or as few as can be."""
    if stage.core_vectors(config) <= most:
        return [stage]
    halves = _halves(stage, config)
    if halves is None:
        return [stage]
    return [part for half in halves for part in parts(half, most, config)]
