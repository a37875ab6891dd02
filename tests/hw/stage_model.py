"""What the issue and the drain side of a stage do in which cycle, from its loops and strides."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

from cocotb_bench import pack
from random_stages import random_stage

from drawbar.gen.config import EngineConfig
from drawbar.gen.program import descriptor_fields, descriptor_values
from drawbar.gen.stage import Loop, Stage, check_stage, padded_stride

#: Engines for the unit tests: one row, one lane, ragged rows, few loops and many.
CONFIGS = {
    "1x1": EngineConfig(
        rows=1, lanes=1, k_loops=1, row_loops=1, column_loops=1, work_depth=600, core_depth=200
    ),
    "1x8": EngineConfig(rows=1, lanes=8, k_loops=2, row_loops=2, column_loops=1, work_depth=300),
    "3x4": EngineConfig(rows=3, lanes=4, work_depth=500, core_depth=200, bias_depth=100),
    "8x1": EngineConfig(rows=8, lanes=1, k_loops=1, row_loops=3, work_depth=900, core_depth=200),
    "8x2": EngineConfig(rows=8, lanes=2, k_loops=2, row_loops=2, work_depth=512, bias_depth=64),
    "2x4p": EngineConfig(rows=2, lanes=4, work_depth=512, core_depth=200, products=1),
    "2x8f": EngineConfig(rows=2, lanes=8, work_depth=400, core_depth=200, bias_depth=99, fold=4),
    "3x8s": EngineConfig(rows=3, lanes=8, work_depth=400, core_depth=200, short_pipeline=1),
}


def descriptor_bits(stage: Stage, config: EngineConfig) -> int:
    """The packed descriptor of a stage."""
    values = descriptor_values(stage, config, last=True)
    packed = offset = 0
    for name, width in descriptor_fields(config):
        packed |= (values.get(name, 0) & ((1 << width) - 1)) << offset
        offset += width
    return packed


def plain_stage(config: EngineConfig, *, k: int, rows: int, columns: int, lane_count: int) -> Stage:
    """One loop of each kind, operands from address 0 on and results after them."""
    lane_x = padded_stride(config, k)
    lane_y = padded_stride(config, rows)
    x_span, y_span = lane_x * lane_count, lane_y * lane_count
    stage = Stage(
        k_loops=(Loop(k, x=1),),
        row_loops=(Loop(rows, y=1, bias=1),),
        column_loops=(Loop(columns, x=x_span, y=y_span),),
        lane_count=lane_count,
        lane_x=lane_x,
        lane_y=lane_y,
        # In another block, if there is more than one.
        y_base=-(-x_span * columns // config.work_block) * config.work_block
        if config.work_blocks
        else x_span * columns,
        bias_base=0,
    )
    check_stage(stage, config, "a plain stage")
    return stage


def stages(config: EngineConfig, rng: random.Random, count: int) -> Iterator[Stage]:
    """The edges of tiling first, then random ones."""
    rows, lanes = config.rows, config.lanes
    for k in sorted({1, max(1, rows - 1), rows, rows + 1}):
        for result_rows in sorted({1, rows, rows + 1, 2 * rows}):
            for lane_count in sorted({1, lanes, lanes + 1, 2 * lanes}):
                yield plain_stage(
                    config, k=k, rows=result_rows, columns=rng.choice((1, 2)), lane_count=lane_count
                )
    for _ in range(count):
        yield random_stage(rng, config)


def offsets(loops: tuple[Loop, ...], name: str) -> list[int]:
    """Address offset of each iteration of a nest, outermost loop first."""
    return [
        sum(at * getattr(loop, name) for at, loop in zip(counters, loops, strict=True))
        for counters in itertools.product(*(range(loop.count) for loop in loops))
    ]


@dataclass
class Step:
    """One reduction step: cycles after the load, and what is issued."""

    cycle: int
    last: bool
    row_tile_last: bool
    live_address: int
    core_address: int
    core_fold: int = 0
    holds: bool = False


def issue_steps(stage: Stage, config: EngineConfig, free: int = 0) -> list[Step]:
    """All reduction steps. The first is two cycles after the load.

    The last step of a tile comes as many cycles after that of the tile before as that one has rows;
    that of the first tile not before the cycle ``free``.
    """
    steps: list[Step] = []
    cycle = 1
    lane_tiles = -(-stage.lane_count // stage.lanes(config))
    row_tiles = stage.row_tiles(config)
    columns = offsets(stage.column_loops, "x")
    for number, column in enumerate(columns):
        # Columns go through the core matrices one after the other.
        matrix = number * stage.shared // len(columns)
        for lane_tile in range(lane_tiles):
            for row_tile in range(row_tiles):
                for k, inner in enumerate(offsets(stage.k_loops, "x")):
                    last = k == stage.k - 1
                    cycle = max(cycle + 1, free) if last else cycle + 1
                    lane = lane_tile * stage.lanes(config) * stage.lane_x
                    steps.append(
                        Step(
                            cycle=cycle,
                            last=last,
                            row_tile_last=row_tile == row_tiles - 1,
                            live_address=stage.x_base + column + lane + inner,
                            core_address=stage.core_base
                            + ((matrix * row_tiles + row_tile) * stage.k + k) * stage.fold,
                            core_fold=stage.fold.bit_length() - 1,
                            holds=stage.products and k % 2 == 0,
                        )
                    )
                rows = min(config.rows, stage.row_vectors - row_tile * config.rows)
                free = cycle + rows
    return steps


@dataclass
class Row:
    """One row vector of one tile: where it goes, and which of its lanes."""

    bias_address: int
    result_address: int
    mask: int


def drain_tiles(stage: Stage, config: EngineConfig) -> list[list[Row]]:
    """Rows of every tile, in the order in which tiles are issued."""
    tiles = []
    own = stage.lanes(config)
    lane_tiles = -(-stage.lane_count // own)
    columns = zip(
        offsets(stage.column_loops, "y"), offsets(stage.column_loops, "bias"), strict=True
    )
    for column_y, column_bias in columns:
        for lane_tile in range(lane_tiles):
            lanes = min(own, stage.lane_count - lane_tile * own)
            rows = [
                Row(
                    bias_address=(
                        (stage.bias_base or 0) + column_bias + lane_tile * stage.lane_bias + bias
                    )
                    % (1 << config.bias_address_bits),
                    result_address=stage.y_base + column_y + lane_tile * own * stage.lane_y + y,
                    mask=pack(([1] * lanes + [0] * (own - lanes)) * stage.fold, 1),
                )
                for y, bias in zip(
                    offsets(stage.row_loops, "y"), offsets(stage.row_loops, "bias"), strict=True
                )
            ]
            tiles += [rows[n : n + config.rows] for n in range(0, len(rows), config.rows)]
    return tiles
