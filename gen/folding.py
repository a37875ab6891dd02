"""Ways to fold the array for a stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import NamedTuple

from drawbar.gen.config import EngineConfig
from drawbar.gen.layout import Block, Fold, lane_tiles
from drawbar.gen.order import Step
from drawbar.gen.slicing import stage_cycles
from drawbar.gen.stage import whole_vectors


class Way(NamedTuple):
    """How a step folds the array, its cycles then, and the core vectors that it takes."""

    fold: Fold
    cycles: int
    core_vectors: int


def ways_to_fold(
    step: Step,
    block: Block,
    sizes: Mapping[str, int],
    ends_layer: bool,
    core_limit: int,
    config: EngineConfig,
) -> Iterator[Way]:
    """Ways to fold for a step whose lanes run over ``block``: not at all first, then what takes
    fewer and fewer cycles, within so many core vectors; along any of its row indices that divides.
    """
    k, rows, shared = (prod(sizes[i] for i in group) for group in (step.k, step.rows, step.shared))
    best: int | None = None
    for count in config.folds:
        lanes = config.lanes // count
        tiles = shared * lane_tiles(block, step.columns, sizes, lanes)
        vectors = -(-rows // count)
        cycles = stage_cycles(step, vectors, k, tiles, ends_layer, config)
        if best is None:
            yield Way(Fold(), cycles, step.core_vectors)
        elif step.group and cycles < best:
            core = whole_vectors(shared * -(-vectors // config.rows) * k * count, config)
            for index in step.rows:
                if core <= core_limit and sizes[index] % count == 0:
                    yield Way(Fold(count, index, lanes), cycles, core)
        best = min(cycles, best or cycles)
