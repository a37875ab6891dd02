"""Stages: lane strides, and what the engine refuses."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_stages import random_config, random_stage

from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import FitError
from drawbar.gen.stage import Loop, Stage, check_stage, lane_skew, padded_stride

CONFIG = EngineConfig(rows=3, lanes=4, core_depth=20, work_depth=30, bias_depth=16)
STAGE = Stage(
    k_loops=(Loop(2, x=24), Loop(3, x=8)),
    row_loops=(Loop(4, y=9, bias=2),),
    column_loops=(Loop(1),),
    lane_count=7,
    lane_x=1,
    lane_y=1,
    lane_bias=1,
    x_base=60,
    y_base=4,
    core_base=2,
    bias_base=3,
    shift=5,
)
LANES = st.sampled_from([1, 2, 4, 8, 16, 32, 64])


@given(LANES, st.integers(0, 5000))
def test_the_padded_stride_is_the_least_that_moves(lanes: int, least: int) -> None:
    config = EngineConfig(lanes=lanes)
    stride = padded_stride(config, least)
    assert stride >= max(1, least)
    assert lane_skew(config, stride) is not None
    assert all(lane_skew(config, s) is None for s in range(max(1, least), stride))


@given(LANES, st.integers(-300, 5000))
def test_a_stride_moves_where_every_lane_meets_its_own_bank_in_order(
    lanes: int, stride: int
) -> None:
    config = EngineConfig(lanes=lanes)
    in_order = all((lane * stride) % lanes == lane for lane in range(lanes))
    skew = lane_skew(config, stride)
    assert (skew is not None) == (in_order and (stride >= 0 or lanes == 1))
    if skew is not None and lanes > 1:
        # Lane l of an access at address 0 lies in row l * skew of bank l.
        assert all(divmod(lane * stride, lanes) == (lane * skew, lane) for lane in range(lanes))


def test_sizes() -> None:
    assert (STAGE.k, STAGE.rows, STAGE.columns, STAGE.multiplications) == (6, 4, 7, 168)
    assert (STAGE.row_tiles(CONFIG), STAGE.lane_tiles(CONFIG), STAGE.core_vectors(CONFIG)) == (
        2,
        2,
        12,
    )


def test_sizes_of_a_batch_of_products() -> None:
    loops = (Loop(5, x=1, y=1, shared=True), Loop(2, shared=True), Loop(3))
    stage = replace(STAGE, column_loops=loops)
    assert (stage.shared, stage.columns, stage.multiplications) == (10, 210, 6 * 4 * 210)
    assert (stage.core_vectors(CONFIG), stage.lane_tiles(CONFIG)) == (120, 60)
    assert (STAGE.core_text, stage.core_text) == ("4 x 6", "10 x (4 x 6)")


def test_random_stages_are_accepted() -> None:
    rng = random.Random(1)
    for _ in range(100):
        config = random_config(rng)
        check_stage(random_stage(rng, config), config, "stage")


def test_the_limits_themselves_are_accepted() -> None:
    check_stage(STAGE, CONFIG, "stage")
    check_stage(replace(STAGE, core_base=8), CONFIG, "stage")
    # A loop that turns once is in no loop's way.
    once = (Loop(1), Loop(1, shared=True), Loop(1))
    check_stage(replace(STAGE, column_loops=once), CONFIG, "stage")
    check_stage(replace(STAGE, bias_base=8), CONFIG, "stage")
    check_stage(replace(STAGE, x_base=120 - 7 - 40), CONFIG, "stage")
    check_stage(replace(STAGE, y_base=26), CONFIG, "stage")
    check_stage(replace(STAGE, lane_count=1, lane_x=0, lane_y=6), CONFIG, "stage")


@pytest.mark.parametrize(
    ("change", "rule", "value", "fix"),
    [
        ({"k_loops": (Loop(1),) * 4}, "at most 3 k loops", "4", "k_loops"),
        ({"row_loops": (Loop(1),) * 4}, "at most 3 row loops", "4", "row_loops"),
        ({"column_loops": (Loop(1),) * 4}, "at most 3 column loops", "4", "column_loops"),
        ({"column_loops": (Loop(65537),)}, "1..65536", "65537", "modes"),
        ({"k_loops": (Loop(0),)}, "1..65536", "0", "modes"),
        (
            {"column_loops": (Loop(2), Loop(2, shared=True))},
            "only its outermost column loops",
            "shared=True",
            "outwards",
        ),
        ({"k_loops": (Loop(2, shared=True),)}, "only its outermost column", "Loop", "outwards"),
        ({"row_loops": (Loop(2, shared=True),)}, "only its outermost column", "Loop", "outwards"),
        ({"column_loops": (Loop(2, shared=True),)}, "20 core vectors", "26", "core_depth"),
        ({"lane_count": 0}, "1..65536 lanes", "0", "modes"),
        ({"lane_count": 65537}, "1..65536 lanes", "65537", "modes"),
        ({"lane_x": 2}, "1 mod 4", "lane_x 2", "pad"),
        ({"lane_y": 4}, "1 mod 4", "lane_y 4", "pad"),
        ({"lane_y": -3}, "1 mod 4", "lane_y -3", "pad"),
        ({"core_base": 9}, "20 core vectors", "21", "core_depth"),
        ({"core_base": -1}, "negative", "-1", "loop"),
        ({"x_base": -1}, "negative", "-1", "loop"),
        ({"y_base": -1}, "negative", "-1", "loop"),
        ({"k_loops": (Loop(2, x=-8),)}, "negative", "-8", "loop"),
        ({"bias_base": 9}, "16 bias vectors", "17", "bias_depth"),
        ({"bias_base": -1}, "negative", "-1", "loop"),
        ({"x_base": 74}, "x within 120", "121", "work_depth"),
        ({"x_base": 0, "y_base": 87}, "y within 120", "121", "work_depth"),
        ({"y_base": 27}, "overwritten", "(27, 60)", "apart"),
        ({"shift": -1}, "shifts by 0..40", "-1", "rescale"),
        ({"shift": 41}, "shifts by 0..40", "41", "rescale"),
    ],
)
def test_refusals(change: dict, rule: str, value: str, fix: str) -> None:
    with pytest.raises(FitError) as caught:
        check_stage(replace(STAGE, **change), CONFIG, "stage 7")
    error = caught.value
    assert error.subject == "stage 7"
    assert rule in error.rule
    assert value in str(error.value)
    assert fix in error.fix


GATES = CONFIG.replace(products=1)
PRODUCTS = Stage(
    k_loops=(Loop(2, x=20),),
    row_loops=(Loop(1),),
    column_loops=(Loop(2, x=9, y=9),),
    lane_count=9,
    lane_x=1,
    lane_y=1,
    x_base=5,
    y_base=50,
    products=True,
)


def test_products() -> None:
    check_stage(PRODUCTS, GATES, "stage")
    assert PRODUCTS.core_vectors(GATES) == 0
    assert PRODUCTS.multiplications == 18
    assert PRODUCTS.core_text == "1 products"
    for change, config, rule in (
        ({}, CONFIG, "multiplies with cores only"),
        ({"k_loops": (Loop(3, x=9),)}, GATES, "even number of steps"),
        ({"row_loops": (Loop(2, y=1),)}, GATES, "one row"),
        ({"column_loops": (Loop(2, x=9, y=9, shared=True),)}, GATES, "no shared loops"),
    ):
        with pytest.raises(FitError, match=rule):
            check_stage(replace(PRODUCTS, **change), config, "stage")


def test_what_a_stage_may_overwrite() -> None:
    """Its own tile's operands, and what tiles before it have read; nothing that is still read."""
    for y_base in (5, 25):  # either factor
        check_stage(replace(PRODUCTS, y_base=y_base), GATES, "stage")
    # Four elements ahead are the next tile's.
    with pytest.raises(FitError, match="reads nothing that it has overwritten"):
        check_stage(replace(PRODUCTS, y_base=9), GATES, "stage")
    check_stage(replace(PRODUCTS, y_base=1), GATES, "stage")
    # All row tiles of a column read the same operands.
    square = replace(STAGE, column_loops=(), lane_bias=0, bias_base=None, core_base=0)
    tall = replace(
        square, k_loops=(Loop(1),), row_loops=(Loop(4, y=8),), x_base=60, y_base=60, lane_count=7
    )
    with pytest.raises(FitError, match="overwritten"):
        check_stage(tall, CONFIG, "stage")
    check_stage(replace(tall, row_loops=(Loop(1),)), CONFIG, "stage")


FOLDS = CONFIG.replace(fold=4)
#: Eight rows as two row vectors of four; each lane has rows of its own.
FOLDED = replace(
    STAGE,
    row_loops=(Loop(2, y=30, bias=7),),
    lane_count=3,
    x_base=0,
    k_loops=(Loop(2, x=3),),
    y_base=20,
    fold=4,
    fold_y=5,
    core_base=4,
)


def test_sizes_of_a_stage_that_folds() -> None:
    check_stage(FOLDED, FOLDS, "stage")
    assert (FOLDED.rows, FOLDED.row_vectors, FOLDED.lanes(FOLDS)) == (8, 2, 1)
    assert (FOLDED.row_tiles(FOLDS), FOLDED.lane_tiles(FOLDS)) == (1, 3)
    assert FOLDED.core_vectors(FOLDS) == 2 * 4
    assert FOLDED.span("y") == (20, 20 + 30 + 3 * 5 + 2)
    assert sorted(set(FOLDED.addresses("y")))[:4] == [20, 21, 22, 25]


@pytest.mark.parametrize(
    ("change", "config", "rule", "value", "fix"),
    [
        ({}, CONFIG, "1..1 times", "4", "raise fold"),
        ({"fold": 3}, FOLDS, "a power of two", "3", "raise fold"),
        ({"fold": 8}, FOLDS, "1..4 times", "8", "raise fold"),
        ({"fold_y": 4}, FOLDS, "rows 1 elements apart, modulo 4", "4 elements", "pad"),
        ({"core_base": 5}, FOLDS, "a multiple of 4", "5", "move the core"),
        ({"core_base": 16}, FOLDS, "20 core vectors", "24", "core_depth"),
    ],
)
def test_refusals_of_folds(
    change: dict, config: EngineConfig, rule: str, value: str, fix: str
) -> None:
    with pytest.raises(FitError) as caught:
        check_stage(replace(FOLDED, **change), config, "stage")
    assert rule in caught.value.rule
    assert value in str(caught.value.value)
    assert fix in caught.value.fix
