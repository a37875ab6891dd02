"""Layouts: each that is offered serves both of its blocks, and no two elements share a place."""

from __future__ import annotations

import random

import pytest

from drawbar.gen.config import EngineConfig
from drawbar.gen.layout import (
    BLOCKS,
    Block,
    Fold,
    block_stride,
    lane_blocks,
    lane_tiles,
    layouts,
    nest,
    serves,
)

CONFIG = EngineConfig(rows=4, lanes=4)
SIZES = {"a": 2, "b": 3, "c": 4, "d": 5}


def anything(_: Block) -> bool:
    return True


def places(strides, sizes) -> list[int]:
    found = [0]
    for index, stride in strides.items():
        found = [at + n * stride for at in found for n in range(sizes[index])]
    return found


def test_nest_is_row_major() -> None:
    layout = nest(("b", "a", "d"), SIZES)
    assert layout.strides == {"b": 10, "a": 5, "d": 1}
    assert layout.size == 30
    assert nest((), SIZES).size == 1


def test_block_stride_by_hand() -> None:
    layout = nest(("b", "a", "d"), SIZES)
    assert block_stride(("a", "d"), SIZES, layout) == 1
    assert block_stride(("b", "a"), SIZES, layout) == 5
    assert block_stride(("d", "a"), SIZES, layout) is None
    assert block_stride(("b", "d"), SIZES, layout) is None
    assert block_stride((), SIZES, layout) == 1
    # 5 is 1 mod 4, 10 is not.
    assert serves(("b", "a"), SIZES, layout, CONFIG)
    assert not serves(("b",), SIZES, layout, CONFIG)


def test_lane_tiles() -> None:
    assert lane_tiles(("d",), ("b", "d"), SIZES, 4) == 6
    assert lane_tiles(("b", "d"), ("b", "d"), SIZES, 4) == 4
    assert lane_tiles((), ("b", "d"), SIZES, 4) == 15


@pytest.mark.parametrize("seed", range(30))
def test_layouts_serve_both_blocks(seed: int) -> None:
    rng = random.Random(seed)
    config = EngineConfig(lanes=rng.choice((1, 2, 4, 8)))
    names = tuple("abcdef"[: rng.randint(1, 6)])
    sizes = {name: rng.randint(2, 6) for name in names}
    columns = tuple(n for n in names if rng.random() < 0.7)
    written = tuple(rng.sample(columns, rng.randint(0, len(columns))))
    k = tuple(n for n in names if n not in columns)
    offered = 0
    for block in lane_blocks(columns, sizes, config, written, anything):
        assert set(block) <= set(columns)
        assert len(set(block)) == len(block)
        for layout in layouts(names, sizes, config, written, block, k):
            offered += 1
            assert set(layout.strides) == set(names)
            assert serves(written, sizes, layout, config)
            assert serves(block, sizes, layout, config)
            found = places(layout.strides, sizes)
            assert len(set(found)) == len(found)
            assert (min(found), max(found) + 1) == (0, layout.size)
    assert offered


@pytest.mark.parametrize("seed", range(10))
def test_blocks_come_best_first_and_each_once(seed: int) -> None:
    rng = random.Random(seed)
    names = tuple("abcde")
    sizes = {name: rng.randint(2, 6) for name in names}
    blocks = list(lane_blocks(names, sizes, CONFIG, None, anything))
    assert len(set(blocks)) == len(blocks)
    tiles = [lane_tiles(block, names, sizes, CONFIG.lanes) for block in blocks]
    assert tiles == sorted(tiles)
    assert len(blocks) >= min(BLOCKS, 2 ** len(names))


def test_blocks_that_are_not_accepted_do_not_count() -> None:
    names = tuple("abcdefgh")
    sizes = dict.fromkeys(names, 2)
    assert list(lane_blocks(names, sizes, CONFIG, None, lambda block: not block)) == [()]


@pytest.mark.parametrize("seed", range(60))
def test_layouts_of_folded_results(seed: int) -> None:
    """Those that hold what the writer needs exist, and no two elements of a row vector share a
    bank there.
    """
    rng = random.Random(seed)
    lanes = rng.choice((4, 8, 16))
    config = EngineConfig(lanes=lanes, fold=lanes, core_depth=1024)
    names = tuple("abcdef"[: rng.randint(2, 6)])
    sizes = {name: rng.choice((2, 3, 4, 5, 6)) for name in names}
    index, columns = names[0], names[1:]
    count = rng.choice((2, 4))
    sizes[index] = count * rng.randint(1, 3)
    fold = Fold(count, index, lanes // count)
    written = tuple(rng.sample(columns, rng.randint(0, len(columns))))
    k = tuple(n for n in columns if n not in written and rng.random() < 0.5)
    kept = tuple(n for n in names if n not in k)
    offered = 0
    for block in lane_blocks(kept, sizes, config, fold.with_block(written, sizes), anything):
        for layout in layouts(names, sizes, config, written, block, k, fold):
            if layout.strides[index] % lanes != fold.lanes:
                continue
            offered += 1
            assert serves(written, sizes, layout, config)
            found = places(layout.strides, sizes)
            assert len(set(found)) == len(found)
            stride = block_stride(written, sizes, layout)
            assert stride is not None
            banks = {
                (group * layout.strides[index] + lane * (stride if written else 1)) % lanes
                for group in range(count)
                for lane in range(fold.lanes)
            }
            assert len(banks) == lanes
    assert offered


def test_the_fold_of_a_full_run_goes_on_with_it() -> None:
    sizes = {"a": 4, "b": 4, "c": 5, "d": 4}
    fold = Fold(4, "a", 4)
    assert fold.with_block(("b",), sizes) == ("a", "b")
    assert fold.with_block(("c", "b"), sizes) == ("a", "c", "b")  # 20 is 4 mod 16
    assert fold.with_block(("b", "d"), sizes) == ("b", "d")
    assert Fold().with_block(("b",), sizes) == ("b",)
    layout = next(
        layouts("abcd", sizes, EngineConfig(lanes=16, fold=4), ("b",), ("a", "b"), ("c",), fold)
    )
    assert (layout.strides["b"], layout.strides["a"]) == (1, 4)
