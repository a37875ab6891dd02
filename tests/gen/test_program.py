"""Program encoding: what the engine reads is what was meant."""

from __future__ import annotations

import random
from dataclasses import replace

import naive
import numpy as np
import pytest
from random_stages import random_config, random_stage

from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import ArtefactError, FitError
from drawbar.gen.program import (
    decode,
    descriptor_fields,
    descriptor_values,
    descriptor_words,
    encode,
    end_after,
)
from drawbar.gen.stage import Stage

CASES = [pytest.param(seed, id=f"seed{seed}") for seed in range(60)]


def accesses(stage: Stage, config: EngineConfig) -> tuple[list[int], ...]:
    """Every address of a stage in the order of its loops, modulo the memories' address spaces."""
    rows = naive.addresses(stage.y_base, (*naive.columns(stage, "y"), *stage.result_loops), "y")
    reads = naive.addresses(stage.x_base, (*naive.columns(stage, "x"), *stage.k_loops), "x")
    bias = []
    if stage.bias_base is not None:
        loops = (*stage.column_loops, *stage.row_loops)
        for lane in range(stage.lane_count):
            start = stage.bias_base + lane // stage.lanes(config) * stage.lane_bias
            bias += list(naive.addresses(start, loops, "bias") % (1 << config.bias_address_bits))
    work = 1 << config.work_address_bits
    return list(reads % work), list(rows % work), bias


@pytest.mark.parametrize("seed", CASES)
def test_decode_is_the_inverse_of_encode(seed: int) -> None:
    rng = random.Random(seed)
    config = random_config(rng)
    stages = [random_stage(rng, config) for _ in range(rng.randint(1, 4))]
    words = encode(stages, config)
    assert words.dtype == np.uint32
    assert len(words) == len(stages) * descriptor_words(config)
    # What comes after the end flag is not looked at.
    found = decode(np.append(words, words), config)
    assert len(found) == len(stages)
    for stage, again in zip(stages, found, strict=True):
        assert accesses(again, config) == accesses(stage, config)
        for field in (
            "k",
            "rows",
            "columns",
            "shared",
            "lane_count",
            "shift",
            "activation",
            "core_base",
            "products",
            "fold",
            "fold_y",
        ):
            assert getattr(again, field) == getattr(stage, field)
        assert (again.bias_base is None) == (stage.bias_base is None)
    # Strides of loops that turn once are free; all else comes back.
    assert decode(encode(found, config), config) == found


def test_the_address_generators_walk_by_deltas() -> None:
    """The deltas, added as the hardware adds them, visit every address in order."""
    rng = random.Random(7)
    for _ in range(20):
        config = random_config(rng)
        stage = random_stage(rng, config)
        values = descriptor_values(stage, config, last=True)
        levels = config.row_loops + 1 + config.column_loops
        last = [values[f"drain_count_{j}"] for j in range(levels)]
        counters, address, walked = [0] * levels, values["y_base"], []
        while True:
            walked.append(address)
            for level in range(levels):
                if counters[level] < last[level]:
                    counters[level] += 1
                    address += values[f"y_delta_{level}"]
                    break
                counters[level] = 0
            else:
                break
        tiles = range(0, stage.lane_count, stage.lanes(config))
        expected = [
            stage.y_base
            + naive.offset(stage.column_loops, column, "y")
            + tile * stage.lane_y
            + naive.offset(stage.row_loops, row, "y")
            for column in naive.counts(stage.column_loops)
            for tile in tiles
            for row in naive.counts(stage.row_loops)
        ]
        assert walked == expected


def test_every_value_fits_its_field() -> None:
    rng = random.Random(3)
    for _ in range(50):
        config = random_config(rng)
        stage = random_stage(rng, config)
        values = descriptor_values(stage, config, last=False)
        fields = [field for field in descriptor_fields(config) if "unused" not in field[0]]
        skewed, overlap = config.lanes > 1, config.stages_held > 1
        wanted = {n for n in values if (skewed or "skew" not in n) and (overlap or n != "wait")}
        wanted -= {"fold_skew"} if config.fold == 1 else set()
        assert sorted(name for name, _ in fields) == sorted(wanted)
        for name, width in fields:
            if "delta" not in name:
                assert 0 <= values[name] < 1 << max(width, 1), name


def test_a_program_without_an_end_is_refused() -> None:
    rng = random.Random(5)
    config = random_config(rng)
    words = encode([random_stage(rng, config) for _ in range(3)], config)
    size = descriptor_words(config)
    for short in (words[: 2 * size], words[:-1], words[:0]):
        with pytest.raises(ArtefactError, match="end flag"):
            decode(short, config)


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_end_after(stage: int) -> None:
    rng = random.Random(6)
    config = random_config(rng)
    stages = [random_stage(rng, config) for _ in range(3)]
    words = encode(stages, config)
    before = words.copy()
    ended = end_after(words, stage, config)
    np.testing.assert_array_equal(words, before)
    size = descriptor_words(config) * (stage + 1)
    np.testing.assert_array_equal(ended[:size], encode(stages[: stage + 1], config))
    np.testing.assert_array_equal(ended[size:], words[size:])
    assert len(decode(ended, config)) == stage + 1


def test_contradictory_descriptors_are_refused() -> None:
    config = EngineConfig(rows=2, lanes=2)
    words = np.zeros(descriptor_words(config), np.uint32)
    offset = 0
    for name, width in descriptor_fields(config):
        if name == f"issue_count_{config.k_loops}":
            words[offset // 32] |= np.uint32(1 << (offset % 32))  # two row tiles of one row
        offset += width
    words[0] |= np.uint32(1)
    with pytest.raises(ArtefactError, match="1 row vectors"):
        decode(words, config)


def test_a_stage_that_cannot_run_is_named() -> None:
    rng = random.Random(8)
    config = random_config(rng)
    good = random_stage(rng, config)
    with pytest.raises(FitError, match="stage 1"):
        encode([good, replace(good, shift=99)], config)
