"""Random programs of stages, within an engine's limits and anywhere in its memories; not from the
planner.
"""

from __future__ import annotations

import random

import numpy as np

from drawbar.gen.config import EngineConfig
from drawbar.gen.schedule import schedule
from drawbar.gen.stage import Loop, Stage, padded_stride


def random_config(rng: random.Random) -> EngineConfig:
    """A small engine of any shape."""
    data_width = rng.choice((8, 16))
    lanes = rng.choice((1, 2, 4, 8))
    held = rng.choice((1, 3))
    return EngineConfig(
        name="random",
        rows=rng.choice((1, 2, 3, 4, 5, 8)),
        lanes=lanes,
        fold=rng.choice([n for n in (1, 1, 2, 4, 8) if n <= lanes]),
        data_width=data_width,
        acc_width=rng.choice((2 * data_width + 4, 40)),
        core_depth=rng.choice((128, 200)),
        work_depth=rng.choice((300, 512)),
        bias_depth=rng.choice((64, 100)),
        program_depth=rng.choice((248, 256)),
        fetch_words=rng.choice((1, 2, 8)) if held > 1 else 1,
        k_loops=rng.choice((1, 2, 3)),
        row_loops=rng.choice((1, 2, 3)),
        column_loops=rng.choice((1, 2, 3)),
        stages_held=held,
        tile_gap=(gap := rng.choice((0, 1))),
        products=0 if gap else rng.choice((0, 1)),
        short_pipeline=rng.choice((0, 1)),
    )


def _layout(
    rng: random.Random, config: EngineConfig, lane_count: int, others: list[int]
) -> tuple[int, list[int], int]:
    """Strides of a lane run and other loops in a random nesting: (lane stride, strides, span)."""
    inner = rng.randrange(len(others) + 1)
    order = rng.sample(range(len(others)), len(others))
    strides = [0] * len(others)
    span = 1
    for position in order[:inner]:
        strides[position] = span
        span *= others[position]
    lane = padded_stride(config, span)
    span = lane * lane_count
    for position in order[inner:]:
        strides[position] = span
        span *= others[position]
    return lane, strides, span


def random_stage(rng: random.Random, config: EngineConfig) -> Stage:
    """One stage; its operands and its result lie apart, on random places."""
    while True:
        k = [rng.choice((1, 2, 3, 5)) for _ in range(rng.randint(1, config.k_loops))]
        rows = [rng.choice((1, 2, 3, 4)) for _ in range(rng.randint(1, config.row_loops))]
        columns = [rng.choice((1, 2, 3)) for _ in range(rng.randint(0, config.column_loops))]
        products = bool(config.products) and rng.random() < 0.3
        if products:
            k[rng.randrange(len(k))] *= 2
            rows = [1]
        lanes = rng.choice((1, 2, config.lanes, config.lanes + 1, 2 * config.lanes, 11))
        fold = 1 if products else rng.choice((1, 1 << rng.randint(0, config.fold_bits)))
        own = config.lanes // fold
        lane_x, x, x_span = _layout(rng, config, lanes, k + columns)
        # The rows of a row vector may lie side by side, where there is one lane tile.
        close = fold > 1 and lanes <= own and rng.random() < 0.5
        lane_y, y, y_span = _layout(rng, config, config.lanes if close else lanes, rows + columns)
        fold_y = 0
        if close:
            fold_y = own * lane_y
        elif fold > 1:
            fold_y = -(-(y_span - own) // config.lanes) * config.lanes + own
            y_span += (fold - 1) * fold_y
        lane_tiles = -(-lanes // own)
        bias = []
        span = 1
        for count in (lane_tiles, *rows, *columns):
            bias.append(span)
            span *= count
        with_bias = rng.random() < 0.5
        shared = 0 if products else rng.choice((0, 0, rng.randint(0, len(columns))))
        matrices = int(np.prod(columns[:shared]))
        core_vectors = matrices * -(-int(np.prod(rows)) // config.rows) * int(np.prod(k)) * fold
        room = config.work_elements - x_span - y_span
        core_vectors = 0 if products else core_vectors
        if room < 0 or core_vectors > config.core_depth:
            continue
        if with_bias and span > config.bias_depth:
            continue
        first = rng.randint(0, room)
        second = rng.randint(first, room)
        x_base, y_base = (first, second + x_span)
        if rng.random() < 0.5:
            x_base, y_base = second + y_span, first
        block = config.work_block
        if config.work_blocks and not (
            (x_base + x_span - 1) // block < y_base // block
            or (y_base + y_span - 1) // block < x_base // block
        ):
            continue
        n = len(rows)
        return Stage(
            k_loops=tuple(Loop(c, x=s) for c, s in zip(k, x, strict=False)),
            row_loops=tuple(
                Loop(c, y=s, bias=b) for c, s, b in zip(rows, y, bias[1:], strict=False)
            ),
            column_loops=tuple(
                Loop(c, x=sx, y=sy, bias=b, shared=j < shared)
                for j, (c, sx, sy, b) in enumerate(
                    zip(columns, x[len(k) :], y[n:], bias[1 + n :], strict=True)
                )
            ),
            lane_count=lanes,
            lane_x=lane_x,
            lane_y=lane_y,
            lane_bias=bias[0],
            x_base=x_base,
            y_base=y_base,
            core_base=rng.randint(0, (config.core_depth - core_vectors) // fold) * fold,
            bias_base=rng.randint(0, config.bias_depth - span) if with_bias else None,
            shift=rng.randint(0, config.acc_width),
            activation=rng.choice(("none", "relu")),
            products=products,
            fold=fold,
            fold_y=fold_y,
        )


def random_program(rng: random.Random, config: EngineConfig, count: int) -> list[Stage]:
    """Stages in sequence, any of which may read what others wrote: the waits are scheduled."""
    return schedule([random_stage(rng, config) for _ in range(count)], config)[0]


def random_memories(
    rng: np.random.Generator, config: EngineConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Core, bias and work memory images: full-range values, with runs of the extreme ones."""

    def values(width: int, shape: tuple[int, ...]) -> np.ndarray:
        most = (1 << (width - 1)) - 1
        drawn = rng.integers(-most - 1, most + 1, shape)
        extreme = rng.choice([-most - 1, most], shape)
        return np.where(rng.random(shape) < 0.2, extreme, drawn)

    return (
        values(config.data_width, (config.core_depth, config.rows)),
        values(config.acc_width - 2, (config.bias_depth, config.lanes)),
        values(config.data_width, (config.work_elements,)),
    )
