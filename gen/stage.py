"""A stage: one matrix product of a core with the live tensor, as sizes, addresses and strides. It
knows no format.

``y[row, column] = requantise(sum over k of core[row, k] * x[k, column])``

Every one of the three index groups is a nest of loops (outermost first), and an address is affine
in the loop counters. Columns are ``column_loops`` around one run of ``lane_count`` columns that the
engine's lanes take side by side, a tile of ``lanes`` at a time.

The outermost column loops may be *shared* with the core, which then has a matrix of its own for
each of their columns: a batch of products,
``y[shared, row, column] = requantise(sum over k of core[shared, row, k] * x[shared, k, column])``.

A stage may *fold* the array: the engine's lanes are then ``fold`` groups of ``lanes / fold`` each,
and every group makes rows of its own of the same columns. What the drain writes at a time, a *row
vector*, are ``fold`` neighbouring rows of all columns of a lane tile.

A stage of *products* has no core: it multiplies the live tensor with itself, two and two along k,
``y[column] = requantise(sum over k of x[2k, column] * x[2k + 1, column])``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import FitError


@dataclass(frozen=True)
class Loop:
    """``count`` repetitions; strides in elements (x, y) or bias vectors (bias). Each repetition of
    a ``shared`` column loop has a core matrix of its own.
    """

    count: int
    x: int = 0
    y: int = 0
    bias: int = 0
    shared: bool = False


@dataclass(frozen=True)
class Stage:
    """One stage, ready to encode.

    Arguments
    ---------
    k_loops:
        Reduction loops: use ``x``.
    row_loops:
        Row vectors: use ``y`` and ``bias``.
    column_loops:
        Columns besides the lane run: use ``x``, ``y`` and ``bias``; the shared ones first.
    lane_count, lane_x, lane_y:
        Length of the lane run, and the distance in elements between neighbouring lanes when read
        and written.
    lane_bias:
        Bias vectors from one lane tile to the next.
    x_base, y_base:
        Element addresses of the live tensor and of the result.
    core_base:
        First vector of the core, a multiple of ``fold``: ``core[((shared * row_tiles + row_tile) *
        k + step) * fold + group]``, row tiles of ``rows`` row vectors, zero padded.
    bias_base:
        First bias vector, or None for no bias.
    shift:
        Requantisation shift, in bits.
    activation:
        "none" or "relu".
    wait:
        Cycles, 0..255, that the first step waits for results of the stage before.
    layer:
        Number of the layer that this stage belongs to, for reports.
    products:
        A stage of products: one row, an even number of steps, no core.
    fold:
        Rows of a row vector; the innermost of the row index.
    fold_y:
        Elements from one of them to the next: ``lanes / fold`` modulo ``lanes``, so that no two
        elements of a row vector lie in the same bank of work memory.
    """

    k_loops: tuple[Loop, ...]
    row_loops: tuple[Loop, ...]
    column_loops: tuple[Loop, ...]
    lane_count: int
    lane_x: int
    lane_y: int
    lane_bias: int = 0
    x_base: int = 0
    y_base: int = 0
    core_base: int = 0
    bias_base: int | None = None
    shift: int = 0
    activation: str = "none"
    wait: int = 0
    layer: int = 0
    products: bool = False
    fold: int = 1
    fold_y: int = 0

    @property
    def k(self) -> int:
        """Reduction length."""
        return prod(loop.count for loop in self.k_loops)

    @property
    def row_vectors(self) -> int:
        """Row vectors of each lane tile."""
        return prod(loop.count for loop in self.row_loops)

    @property
    def rows(self) -> int:
        return self.row_vectors * self.fold

    @property
    def result_loops(self) -> tuple[Loop, ...]:
        """The row loops, and the rows of a row vector."""
        return (*self.row_loops, Loop(self.fold, y=self.fold_y))

    @property
    def columns(self) -> int:
        return prod(loop.count for loop in self.column_loops) * self.lane_count

    @property
    def shared(self) -> int:
        """Core matrices, one for each repetition of the shared loops."""
        return prod(loop.count for loop in self.column_loops if loop.shared)

    @property
    def core_text(self) -> str:
        """The core's sizes: ``rows x k``, or ``shared x (rows x k)``."""
        if self.products:
            return f"{self.k // 2} products"
        matrix = f"{self.rows} x {self.k}"
        return matrix if self.shared == 1 else f"{self.shared} x ({matrix})"

    @property
    def multiplications(self) -> int:
        return self.k * self.rows * self.columns // (2 if self.products else 1)

    def span(self, side: str) -> tuple[int, int]:
        """First and last element address of what the stage reads ("x") or writes ("y")."""
        own = self.k_loops if side == "x" else self.result_loops
        base = getattr(self, f"{side}_base")
        end = base + sum((c.count - 1) * getattr(c, side) for c in (*own, *self.column_loops))
        return base, end + (self.lane_count - 1) * getattr(self, f"lane_{side}")

    def addresses(self, side: str) -> np.ndarray:
        """Element addresses of what the stage reads ("x") or writes ("y"), column by column."""
        own = self.k_loops if side == "x" else self.result_loops
        lane = Loop(self.lane_count, x=self.lane_x, y=self.lane_y)
        found = np.array(getattr(self, f"{side}_base"), np.int64)
        for loop in (*self.column_loops, lane, *own):
            steps = np.arange(loop.count, dtype=np.int64) * getattr(loop, side)
            found = found[..., None] + steps
        return found.reshape(-1)

    def row_tiles(self, config: EngineConfig) -> int:
        return -(-self.row_vectors // config.rows)

    def lanes(self, config: EngineConfig) -> int:
        """Columns that a lane tile has room for."""
        return config.lanes // self.fold

    def run_tiles(self, config: EngineConfig) -> int:
        """Lane tiles of one lane run."""
        return -(-self.lane_count // self.lanes(config))

    def lane_tiles(self, config: EngineConfig) -> int:
        """Lane tiles of all columns: tiles of a run, times the column loops."""
        return self.run_tiles(config) * prod(c.count for c in self.column_loops)

    def core_vectors(self, config: EngineConfig) -> int:
        """Vectors of core memory that the stage's core takes."""
        if self.products:
            return 0
        return self.shared * self.row_tiles(config) * self.k * self.fold


def fuse(loops: Iterable[tuple[Loop, bool]]) -> tuple[list[Loop], list[bool]]:
    """Merge neighbouring loops, outermost first, that count as one; those that take other biases
    (the flag) and those that do not stay apart, and so do shared ones and others.
    """
    fused: list[Loop] = []
    flags: list[bool] = []
    for loop, flag in loops:
        if fused:
            outer = fused[-1]
            if (outer.x, outer.y, outer.shared, flags[-1]) == (
                loop.count * loop.x,
                loop.count * loop.y,
                loop.shared,
                flag,
            ):
                fused[-1] = replace(loop, count=outer.count * loop.count)
                continue
        fused.append(loop)
        flags.append(flag)
    return fused, flags


def lane_skew(config: EngineConfig, stride: int) -> int | None:
    """Rows that each further lane adds when lanes lie ``stride`` elements apart, or None if that
    stride is refused.

    Work memory is ``lanes`` banks, bank = address mod lanes, behind rotators: it moves one vector a
    cycle for every stride that is 1 mod ``lanes``, and refuses the others. With one lane there is
    nothing to rotate.
    """
    if config.lanes == 1:
        return 0
    if stride < 0 or stride % config.lanes != 1:
        return None
    return stride // config.lanes


def padded_stride(config: EngineConfig, least: int) -> int:
    """The smallest stride of at least ``least`` elements that moves at one vector a cycle."""
    if config.lanes == 1:
        return max(1, least)
    return max(0, -(-(least - 1) // config.lanes)) * config.lanes + 1


def whole_vectors(count: int, config: EngineConfig) -> int:
    """So many core vectors, filled up to whole wide ones: what a core takes where the array folds,
    so that each begins at one.
    """
    return -(-count // config.fold) * config.fold


def repeats_fit(loops: Iterable[Loop], lane_count: int, config: EngineConfig) -> bool:
    """Whether the engine's counters are wide enough for these loops and this lane run."""
    most = max((*(loop.count for loop in loops), -(-lane_count // config.lanes)))
    return most <= 1 << config.count_bits


def check_stage(stage: Stage, config: EngineConfig, where: str) -> None:
    """Reject a stage that the engine cannot run. ``where`` names it in the error."""

    def need(ok: bool, rule: str, value: object, fix: str) -> None:
        if not ok:
            raise FitError(where, rule, value, fix)

    repeats = 1 << config.count_bits
    for name, loops in (
        ("k", stage.k_loops),
        ("row", stage.row_loops),
        ("column", stage.column_loops),
    ):
        most = getattr(config, f"{name}_loops")
        need(
            len(loops) <= most,
            f"nests at most {most} {name} loops",
            len(loops),
            f"raise {name}_loops of the engine",
        )
        need(
            all(0 < loop.count <= repeats for loop in loops),
            f"loops 1..{repeats} times",
            loops,
            "use smaller modes, or raise count_bits of the engine",
        )
    inside = [loop.shared for loop in (*stage.k_loops, *stage.row_loops)]
    outside = [loop.shared for loop in stage.column_loops if loop.count > 1]
    need(
        not any(inside) and outside == sorted(outside, reverse=True),
        "shares with its core only its outermost column loops",
        stage.column_loops,
        "move the shared loops outwards",
    )
    lanes = min(1 << 16, repeats * config.lanes)
    need(
        0 < stage.lane_count <= lanes,
        f"has 1..{lanes} lanes",
        stage.lane_count,
        "use smaller modes, or raise count_bits of the engine",
    )
    tiles = stage.row_tiles(config)
    need(tiles <= repeats, f"has at most {repeats} row tiles", tiles, "use smaller modes")
    for name in ("lane_x", "lane_y"):
        stride = getattr(stage, name)
        need(
            stage.lane_count == 1 or lane_skew(config, stride) is not None,
            f"has a lane stride of 1 mod {config.lanes}",
            f"{name} {stride}",
            "pad the layout",
        )
    need(
        0 < stage.fold <= config.fold and not stage.fold & (stage.fold - 1),
        f"folds the array 1..{config.fold} times, a power of two",
        stage.fold,
        "raise fold of the engine",
    )
    if stage.fold > 1:
        lanes = stage.lanes(config)
        need(
            stage.fold_y % config.lanes == lanes and not stage.products,
            f"folds only if it has a core, with rows {lanes} elements apart, modulo {config.lanes}",
            f"{stage.fold_y} elements, products = {stage.products}",
            "pad the layout, or do not fold it",
        )
        need(
            stage.core_base % stage.fold == 0,
            f"folds with a core at a multiple of {stage.fold} vectors",
            stage.core_base,
            "move the core",
        )
    if stage.products:
        need(
            bool(config.products),
            "multiplies with cores only",
            "a stage of products",
            "set products = 1 in the engine",
        )
        need(
            stage.rows == 1 and stage.k % 2 == 0 and stage.shared == 1,
            "multiplies pairs: one row, an even number of steps, no shared loops",
            f"{stage.rows} rows, {stage.k} steps, {stage.shared} shared",
            "make it a product of pairs",
        )
    numbers = [stage.x_base, stage.y_base, stage.core_base, stage.bias_base or 0, stage.lane_bias]
    for loop in (*stage.k_loops, *stage.row_loops, *stage.column_loops):
        numbers += [loop.x, loop.y, loop.bias]
    need(
        min(numbers) >= 0,
        "has no negative base or stride",
        min(numbers),
        "turn that loop round",
    )
    last = stage.core_base + stage.core_vectors(config)
    need(
        last <= config.core_depth,
        f"ends within {config.core_depth} core vectors",
        last,
        "raise core_depth",
    )
    if stage.bias_base is not None:
        last = stage.bias_base + (stage.run_tiles(config) - 1) * stage.lane_bias + 1
        last += sum((c.count - 1) * c.bias for c in (*stage.row_loops, *stage.column_loops))
        need(
            last <= config.bias_depth,
            f"ends within {config.bias_depth} bias vectors",
            last,
            "raise bias_depth",
        )
    spans = {side: stage.span(side) for side in ("x", "y")}
    for side, (_, end) in spans.items():
        need(
            0 <= end < config.work_elements,
            f"keeps {side} within {config.work_elements} work elements",
            end + 1,
            "raise work_depth",
        )
    need(
        spans["x"][1] < spans["y"][0]
        or spans["y"][1] < spans["x"][0]
        or not _overwrites(stage, config),
        "reads nothing that it has overwritten, as results are written while operands are still "
        "read",
        f"reads {spans['x']}, writes {spans['y']}",
        "place them apart",
    )
    if config.work_blocks:
        blocks = {
            side: range(first // config.work_block, end // config.work_block + 1)
            for side, (first, end) in spans.items()
        }
        need(
            not set(blocks["x"]) & set(blocks["y"]),
            f"reads and writes different blocks of {config.work_block} work elements",
            f"reads {spans['x']}, writes {spans['y']}",
            "place them apart",
        )
    longest = 255 if config.stages_held > 1 else 0
    need(0 <= stage.wait <= longest, f"waits 0..{longest} cycles", stage.wait, "reorder its loops")
    need(
        0 <= stage.shift <= config.acc_width,
        f"shifts by 0..{config.acc_width}",
        stage.shift,
        "rescale the cores",
    )


def _overwrites(stage: Stage, config: EngineConfig) -> bool:
    """Whether a tile may read what one before it has written. A tile's own operands are all read
    before its results are written.
    """
    x, y = stage.addresses("x"), stage.addresses("y")
    if not np.intersect1d(x, y).size:
        return False
    if stage.row_tiles(config) > 1:
        return True
    # The number of each column's lane tile, in the order of their issue.
    lanes = np.arange(stage.lane_count) // stage.lanes(config)
    outer = stage.columns // stage.lane_count
    tile = (np.arange(outer)[:, None] * (lanes[-1] + 1) + lanes).reshape(-1)
    written = np.full(int(max(x.max(), y.max())) + 1, len(tile))
    np.minimum.at(written, y, np.repeat(tile, stage.rows))
    return bool((written[x] < np.repeat(tile, stage.k)).any())
