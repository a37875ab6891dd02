"""What an engine takes of a chip, before anything is built: multipliers and block RAM exactly,
look-up tables and flip-flops by a model that is calibrated on real netlists.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from drawbar.gen.config import EngineConfig, clog2
from drawbar.gen.errors import FitError
from drawbar.gen.fpga.family import RESOURCES, Family, Part
from drawbar.gen.pipeline import pipeline
from drawbar.gen.program import descriptor_words, drain_levels, head_fields, issue_levels
from drawbar.gen.protocol import MAX_PAYLOAD

#: Where the calibration lives, beside this module: a row for each netlist. ``drawbar bench --suite
#: cells`` makes it.
TABLE_NAME = "cells.json"
#: Bits of a request in the link's queue, and bytes of its header that are kept.
_REQUEST_BITS = 4
_HEADER_BYTES = 8
#: For people.
TITLES = {
    "luts": "LUTs",
    "ffs": "flip-flops",
    "dsps": "multipliers",
    "brams": "block RAMs",
    "spram": "single-port RAMs",
}


@dataclass(frozen=True)
class MemoryShape:
    """Memories of one kind: how many, bits and words of each, and whether one port is enough."""

    name: str
    count: int
    width: int
    depth: int
    single_port: bool = False


def memories(config: EngineConfig) -> list[MemoryShape]:
    """Every memory of an engine and its link, as ``hw`` makes them."""
    work = MemoryShape("work", config.lanes, config.data_width, config.work_depth)
    if config.work_blocks:
        work = MemoryShape("work", config.work_blocks, config.data_width, config.work_block, True)
    return [
        MemoryShape("program", config.fetch_words, 32, config.program_depth // config.fetch_words),
        MemoryShape(
            "core", config.rows * config.fold, config.data_width, config.core_depth // config.fold
        ),
        work,
        MemoryShape("bias", config.lanes, config.acc_width, config.bias_depth),
        MemoryShape("link", 1, 8, config.link_window * MAX_PAYLOAD),
        MemoryShape("requests", 1, _REQUEST_BITS, 2 * config.link_window + 1),
        MemoryShape("headers", 1, 8, 2 * config.link_window * _HEADER_BYTES),
    ]


def brams(config: EngineConfig, family: Family) -> dict[str, int]:
    """Blocks of RAM that each kind of memory takes; exact."""
    found = {
        m.name: 0
        if m.single_port and family.spram_of(m.width, m.depth)
        else m.count * family.brams_of(m.width, m.depth)
        for m in memories(config)
    }
    return found | family.other_brams(config)


def spram(config: EngineConfig, family: Family) -> int:
    """Blocks of single-port RAM that an engine takes; exact."""
    return sum(
        m.count * family.spram_of(m.width, m.depth) for m in memories(config) if m.single_port
    )


def features(config: EngineConfig) -> np.ndarray:
    """What look-up tables and flip-flops grow with, as bits: one each for the fixed part, the
    descriptors held and the loops' counters, the array, the requantisers, the banks' addresses, and
    the choices among elements of vectors, by the host and by the fold. More terms were tried: they
    are nearer to the calibration, and farther from engines that are not in it.
    """
    lanes, width, acc = config.lanes, config.data_width, config.acc_width
    if config.stages_held == 1:
        # Its deltas are in tables.
        descriptors = sum(bits for _, bits in head_fields(config))
    else:
        descriptors = config.stages_held * 32 * descriptor_words(config)
    descriptors += config.count_bits * (issue_levels(config) + drain_levels(config))
    # Elements that depend on the fold: of the core, and of the live vector.
    folded = config.rows * config.fold + lanes
    # Accumulators may be in the multipliers' blocks, drain registers are not.
    sums = acc // 2 if config.tile_gap else acc + width
    return np.array(
        [
            1000,
            descriptors,
            config.multipliers * sums,
            lanes * acc * clog2(acc),
            lanes * config.work_row_bits * (1 + clog2(lanes)),
            width * (config.rows * config.row_bits + config.fold_bits * folded),
        ],
        dtype=float,
    )


def _table() -> list[dict[str, Any]]:
    text = (resources.files("drawbar.gen.fpga") / TABLE_NAME).read_text(encoding="utf-8")
    return json.loads(text)


@cache
def calibration(family: str) -> tuple[tuple[EngineConfig, dict[str, int]], ...]:
    """The engines that the family's model is calibrated on, and what their netlists take."""
    return tuple(
        (EngineConfig(**row["engine"]), {kind: row[kind] for kind in RESOURCES})
        for row in _table()
        if row["family"] == family
    )


def non_negative_fit(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``x >= 0`` of least ``|a x - b|``, by Lawson and Hanson's active sets (Solving Least Squares
    Problems, 1974, chapter 23).
    """
    x = np.zeros(a.shape[1])
    active = np.zeros(a.shape[1], dtype=bool)
    for _ in range(3 * a.shape[1]):
        gradient = a.T @ (b - a @ x)
        gradient[active] = 0
        if gradient.max() <= 1e-9 * np.abs(a.T @ b).max():
            break
        active[gradient.argmax()] = True
        while True:
            trial = np.zeros_like(x)
            trial[active] = np.linalg.lstsq(a[:, active], b, rcond=None)[0]
            falling = active & (trial <= 0)
            if not falling.any():
                break
            step = (x[falling] / (x[falling] - trial[falling])).min()
            x += step * (trial - x)
            active &= x > 1e-12
            x[~active] = 0
        x = trial
    return x


def _coefficients(rows: Sequence[tuple[EngineConfig, dict[str, int]]], kind: str) -> np.ndarray:
    """Cells for each bit of ``features``: least relative error over the rows."""
    a = np.array([features(config) / used[kind] for config, used in rows])
    return non_negative_fit(a, np.ones(len(rows)))


@cache
def coefficients(family: str, kind: str) -> tuple[float, ...]:
    """Cells for each bit of ``features``, from the family's whole calibration."""
    return tuple(float(c) for c in _coefficients(calibration(family), kind))


def left_out(config: EngineConfig) -> int:
    """Flip-flops that a short pipeline goes without, counted where data are in the hardware: before
    sums, between lane groups, in rotations of elements and rows, in requantisers, behind memories.
    """
    if not config.short_pipeline:
        return 0
    rows, lanes, width, acc = config.rows, config.lanes, config.data_width, config.acc_width
    long = pipeline(config.replace(short_pipeline=0))
    before_sums = 0 if config.tile_gap else 2 * width * rows * lanes
    # Core vectors go on to half of the folds' groups on the average.
    groups = long.group_skew * width * (lanes + rows * config.fold // 2)
    rotations = lanes * (4 * width + 4 * config.work_row_bits)
    requantisers = lanes * (2 * acc + width + acc // 8)
    behind = rows * config.fold * width + lanes * acc + 32 * config.fetch_words
    return before_sums + groups + rotations + requantisers + behind


def usage(config: EngineConfig, family: Family) -> dict[str, int]:
    """What an engine with its link takes, by ``RESOURCES``; and single-port RAM as ``spram``.

    Look-up tables and flip-flops are from the family's calibration, whose engines have long
    pipelines; for a short one the flip-flops are less by those that it goes without.
    """
    model = {
        kind: round(float(features(config) @ np.array(coefficients(family.name, kind))))
        for kind in ("luts", "ffs")
    }
    model["ffs"] -= left_out(config)
    dsps = family.dsps_of(config.multipliers, config.data_width)
    return {
        **model,
        "dsps": dsps,
        "brams": sum(brams(config, family).values()),
        "spram": spram(config, family),
    }


@cache
def model_errors(family: str) -> dict[str, float]:
    """Greatest relative error of the model, for LUTs and flip-flops: on each engine of the
    calibration, when calibrated on the others.
    """
    rows = calibration(family)
    errors = {}
    for kind in ("luts", "ffs"):
        found = []
        for number, (config, used) in enumerate(rows):
            others = _coefficients([*rows[:number], *rows[number + 1 :]], kind)
            found.append(abs(float(features(config) @ others) / used[kind] - 1))
        errors[kind] = max(found)
    return errors


def excess(used: dict[str, int], part: Part) -> dict[str, int]:
    """By how much an engine is too large for a chip; empty where it fits."""
    over = {kind: amount - getattr(part, kind) for kind, amount in used.items()}
    return {kind: amount for kind, amount in over.items() if amount > 0}


def smaller_engine(config: EngineConfig, family: Family, part: Part) -> EngineConfig | None:
    """The engine with the most multipliers of those that fit and differ in rows, lanes and, if
    nothing else helps, in halved memories; None where none fits.
    """
    for halvings in range(6):
        fitting = []
        depths = {
            name: max(64, getattr(config, name) >> halvings)
            for name in ("core_depth", "work_depth", "bias_depth", "program_depth")
        }
        if config.work_blocks:
            depths["work_depth"] = config.work_blocks * max(1, config.work_block >> halvings)
        for lanes in (config.lanes >> n for n in range(config.lanes.bit_length())):
            for rows in range(config.rows, 0, -1):
                smaller = config.replace(rows=rows, lanes=lanes, **depths)
                if not excess(usage(smaller, family), part):
                    fitting.append(smaller)
                    break
        if fitting:
            return max(fitting, key=lambda c: c.multipliers)
    return None


def check_fit(config: EngineConfig, family: Family, part: Part) -> dict[str, int]:
    """``usage``, where that fits the chip.

    Raises
    ------
    FitError:
        it does not; the error says by how much, and what would fit.
    """
    used = usage(config, family)
    family.check_blocks(config, part)
    over = excess(used, part)
    if not over:
        return used
    smaller = smaller_engine(config, family, part)
    roomy = [p.name for p in family.parts.values() if not excess(used, p)]
    advice = []
    if smaller is not None:
        changes = [
            f"{name} = {getattr(smaller, name)}"
            for name in ("rows", "lanes", "core_depth", "work_depth", "bias_depth", "program_depth")
            if getattr(smaller, name) != getattr(config, name)
        ]
        advice.append(f"use {', '.join(changes)}")
    if roomy:
        advice.append(f"a board with {' or '.join(roomy)}")
    raise FitError(
        f"engine {config.name!r} of {config.rows} x {config.lanes} on {part.name}",
        "takes no more than the chip has",
        "; ".join(
            f"{used[kind]:,} {TITLES[kind]}, {amount:,} more than the {getattr(part, kind):,} "
            "there are"
            for kind, amount in over.items()
        ),
        ", or ".join(advice) or "use a larger chip",
    )
