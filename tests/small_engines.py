"""Engines that the tests on generated hardware share, so that each is built once."""

from __future__ import annotations

from drawbar import hardware_suites
from drawbar.gen.config import EngineConfig

ENGINES = (
    EngineConfig(
        name="hil-3x4",
        rows=3,
        lanes=4,
        core_depth=2999,
        work_depth=777,
        bias_depth=333,
        program_depth=1001,
        products=1,
    ),
    EngineConfig(
        name="hil-4x2-8bit",
        rows=4,
        lanes=2,
        data_width=8,
        acc_width=24,
        core_depth=4096,
        work_depth=1500,
        bias_depth=512,
        k_loops=4,
        row_loops=4,
        column_loops=4,
    ),
    EngineConfig(
        name="hil-1x1",
        rows=1,
        lanes=1,
        core_depth=9000,
        work_depth=2500,
        bias_depth=500,
        k_loops=2,
        row_loops=2,
        column_loops=3,
    ),
)

#: For netlists and bitstreams: the least of all, with a lane more.
LEAST = hardware_suites.LEAST.replace(lanes=2, clock_hz=50_000_000)

#: Too small for most random models' cores, biases or programs, which then stream in.
TIGHT = (
    EngineConfig(
        name="tight-3x4",
        rows=3,
        lanes=4,
        core_depth=48,
        work_depth=777,
        bias_depth=24,
        program_depth=300,
        products=1,
    ),
    EngineConfig(
        name="tight-4x2-8bit",
        rows=4,
        lanes=2,
        data_width=8,
        acc_width=24,
        core_depth=32,
        work_depth=1500,
        bias_depth=64,
        program_depth=400,
        k_loops=4,
        row_loops=4,
        column_loops=4,
    ),
)
