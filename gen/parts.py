"""Parts of a stage: cores that are too large to take turns are cut along their shared loops or
their rows, at whole row tiles. A part is a stage that makes some of the results, and its core a
part of the whole core's image.
"""

from __future__ import annotations

from dataclasses import replace
from math import gcd, prod

from drawbar.gen.config import EngineConfig
from drawbar.gen.stage import Stage


def _halves(stage: Stage, config: EngineConfig) -> tuple[Stage, Stage] | None:
    """A stage as two that do the same, each with a part of the core; None where there is no whole
    row tile to cut at.
    """
    for n, loop in enumerate(stage.column_loops):
        if loop.shared and loop.count > 1:
            first = loop.count // 2
            found = [
                replace(
                    stage,
                    column_loops=(
                        *stage.column_loops[:n],
                        replace(loop, count=count),
                        *stage.column_loops[n + 1 :],
                    ),
                )
                for count in (first, loop.count - first)
            ]
            moved = replace(
                found[1],
                x_base=stage.x_base + first * loop.x,
                y_base=stage.y_base + first * loop.y,
                bias_base=_moved(stage.bias_base, first * loop.bias),
                core_base=stage.core_base + found[0].core_vectors(config),
            )
            return found[0], moved
    for n, loop in enumerate(stage.row_loops):
        if loop.count > 1:
            inner = prod(other.count for other in stage.row_loops[n + 1 :])
            unit = config.rows // gcd(config.rows, inner)
            first = max(unit, loop.count // 2 // unit * unit)
            if first >= loop.count:
                return None
            found = [
                replace(
                    stage,
                    row_loops=(
                        *stage.row_loops[:n],
                        replace(loop, count=count),
                        *stage.row_loops[n + 1 :],
                    ),
                )
                for count in (first, loop.count - first)
            ]
            moved = replace(
                found[1],
                y_base=stage.y_base + first * loop.y,
                bias_base=_moved(stage.bias_base, first * loop.bias),
                core_base=stage.core_base + found[0].core_vectors(config),
            )
            return found[0], moved
    return None


def _moved(base: int | None, by: int) -> int | None:
    return None if base is None else base + by


def parts(stage: Stage, most: int, config: EngineConfig) -> list[Stage]:
    """A stage as stages whose cores take at most ``most`` vectors, or as few as can be."""
    if stage.core_vectors(config) <= most:
        return [stage]
    halves = _halves(stage, config)
    if halves is None:
        return [stage]
    return [part for half in halves for part in parts(half, most, config)]
