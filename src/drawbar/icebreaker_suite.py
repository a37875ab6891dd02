"""Benchmarks on the engine of the smallest board, an iCEBreaker."""

from __future__ import annotations

from drawbar.gen.fpga.boards import load_board
from drawbar.gen.fpga.fit import usage
from drawbar.gen.presets import load_config
from drawbar.layer_suites import (
    PROGRAM_WORD_BYTES,
    TIE_LAYERS,
    BuildProgress,
    Report,
    Row,
    run_layers,
)

BOARD = "icebreaker"
#: VGG-FC6 and FC7.
LAYERS = TIE_LAYERS[:2]


def icebreaker_suite(
    *,
    device: str = "sim",
    report: Report | None = None,
    build_progress: BuildProgress | None = None,
) -> list[Row]:
    """VGG-FC6 and FC7 on the engine of an iCEBreaker, as it is: nothing is enlarged. What it takes
    of the chip, and how many inferences a second its clock makes of the cycles, link apart.
    """
    board = load_board(BOARD)
    config = load_config(board.engine)
    used = usage(config, board.chip_family)
    rows = run_layers(
        LAYERS,
        config,
        batch=1,
        device=device,
        report=report,
        build_progress=build_progress,
    )
    for row in rows:
        row |= {
            "program_bytes_available": config.program_depth * PROGRAM_WORD_BYTES,
            "dsps": used["dsps"],
            "brams": used["brams"],
            "sprams": config.work_blocks,
            "clock_mhz": config.clock_hz / 1e6,
        }
        if "error" not in row:
            row["inferences_per_s"] = config.clock_hz / row["cycles_measured"]
    return rows
