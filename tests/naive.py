"""Stages element by element, in Python's own integers: the slow twin of the golden model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import product

import numpy as np

from drawbar.gen.config import EngineConfig
from drawbar.gen.stage import Loop, Stage


def counts(loops: Sequence[Loop]) -> Iterator[tuple[int, ...]]:
    """Counters of a nest of loops, the last one fastest."""
    return product(*(range(loop.count) for loop in loops))


def offset(loops: Sequence[Loop], counters: Sequence[int], field: str) -> int:
    return sum(getattr(loop, field) * n for loop, n in zip(loops, counters, strict=True))


def row_tiles(stage: Stage, config: EngineConfig) -> int:
    return len(range(0, len(list(counts(stage.row_loops))), config.rows))


def wrap(value: int, width: int) -> int:
    """``value`` as a signed number of ``width`` bits."""
    return (value + (1 << (width - 1))) % (1 << width) - (1 << (width - 1))


def requantise(value: int, shift: int, data_width: int, activation: str) -> int:
    """Rounded half to even as a fraction, then clipped."""
    most = (1 << (data_width - 1)) - 1
    rounded = round(Fraction(value, 1 << shift))
    return max(0 if activation == "relu" else -most - 1, min(most, rounded))


def run_stage(
    stage: Stage,
    config: EngineConfig,
    core: Sequence[Sequence[int]],
    bias: Sequence[Sequence[int]],
    work: list[int],
) -> None:
    """The stage as its docstring says it: one result element after the other."""
    results = {}
    matrices = counts([loop if loop.shared else Loop(1) for loop in stage.column_loops])
    number = {counters: n for n, counters in enumerate(matrices)}
    for column in counts(stage.column_loops):
        own = (at * loop.shared for at, loop in zip(column, stage.column_loops, strict=True))
        matrix = number[tuple(own)] * row_tiles(stage, config) * stage.k * stage.fold
        core_base = stage.core_base + matrix
        part = config.lanes // stage.fold
        for lane in range(stage.lane_count):
            x_lane = stage.x_base + offset(stage.column_loops, column, "x") + lane * stage.lane_x
            y_lane = stage.y_base + offset(stage.column_loops, column, "y") + lane * stage.lane_y
            folded = (*stage.row_loops, Loop(stage.fold, y=stage.fold_y))
            for row, counters in enumerate(counts(folded)):
                vector_number, group = divmod(row, stage.fold)
                total = 0
                held = 0
                for step, reduced in enumerate(counts(stage.k_loops)):
                    operand = work[x_lane + offset(stage.k_loops, reduced, "x")]
                    if stage.products:
                        total += held * operand * (step % 2)
                        held = operand
                        continue
                    tile = vector_number // config.rows
                    place = core_base + (tile * stage.k + step) * stage.fold + group
                    weight = core[place][vector_number % config.rows]
                    total += weight * operand
                total = wrap(total, config.acc_width)
                if stage.bias_base is not None:
                    vector = stage.bias_base + offset(stage.column_loops, column, "bias")
                    vector += offset(folded, counters, "bias")
                    vector += lane // part * stage.lane_bias
                    total += bias[vector][group * part + lane % part]
                address = y_lane + offset(folded, counters, "y")
                results[address] = requantise(
                    total, stage.shift, config.data_width, stage.activation
                )
    for address, value in results.items():
        work[address] = value


def addresses(base: int, loops: Sequence[Loop], field: str) -> np.ndarray:
    """Addresses of a nest of loops, flat, the last loop fastest."""
    return np.array([base + offset(loops, n, field) for n in counts(loops)], np.int64)


def columns(stage: Stage, field: str) -> tuple[Loop, ...]:
    """The column loops, the lane run as the innermost one."""
    stride = {"x": stage.lane_x, "y": stage.lane_y}[field]
    return (*stage.column_loops, Loop(stage.lane_count, **{field: stride}))
