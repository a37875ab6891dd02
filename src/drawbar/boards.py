"""Boards: which there are, and how a bitstream gets into one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from drawbar.gen.errors import InputError, ToolError
from drawbar.gen.fpga.boards import BoardSpec, board_names, load_board
from drawbar.gen.fpga.family import RESOURCES
from drawbar.gen.fpga.fit import excess, usage
from drawbar.gen.presets import PRESETS, load_config

_LOADER = "openFPGALoader"


def list_boards() -> list[dict[str, Any]]:
    """Every board with its chip, what that has, the engine that it gets by default, and the
    presets that fit, most multipliers first.
    """
    presets = sorted(PRESETS.values(), key=lambda config: -config.multipliers)
    rows = []
    for name in board_names():
        board = load_board(name)
        config = load_config(board.engine)
        chip = None if board.generic else board.chip
        used = usage(config, board.chip_family) if chip else {}
        fitting = (
            [p.name for p in presets if not excess(usage(p, board.chip_family), chip)]
            if chip
            else list(PRESETS)
        )
        rows.append(
            {
                "board": name,
                "title": board.title,
                "family": board.family or None,
                "device": chip.name if chip else None,
                **{kind: getattr(chip, kind) if chip else None for kind in (*RESOURCES, "spram")},
                "oscillator_mhz": board.oscillator_hz / 1e6,
                "engine": config.name,
                "rows": config.rows,
                "lanes": config.lanes,
                "clock_mhz": config.clock_hz / 1e6,
                "baud": min(board.baud, config.baud),
                "engine_takes": used,
                "too_much": excess(used, chip) if chip else {},
                "presets_that_fit": fitting,
            }
        )
    return rows


def program(board: str | Path | BoardSpec, file: str | Path, *, flash: bool = False) -> list[str]:
    """Load a bitstream into a board; returns the command that did it.

    Raises
    ------
    ToolError:
        openFPGALoader is missing, or fails.
    InputError:
        no such file, or not one for this board's family.
    """
    board = board if isinstance(board, BoardSpec) else load_board(board)
    path = Path(file)
    suffix = "" if board.generic else board.chip_family.bitstream_suffix
    if not path.is_file() or path.suffix != suffix:
        raise InputError(
            f"bitstream {path}",
            f"is a file that drawbar build made for {board.name}, {suffix or 'which it cannot'}",
            "no such file" if not path.is_file() else path.suffix or "no suffix",
            f"give the {suffix or 'right'} file that drawbar build --board {board.name} wrote",
        )
    loader = shutil.which(_LOADER)
    if loader is None:
        raise ToolError(
            _LOADER,
            "is on PATH: it speaks to the board",
            "nothing",
            "install it: apt install openfpgaloader, brew install openfpgaloader, or "
            "https://trabucayre.github.io/openFPGALoader",
        )
    command = [loader, "-b", board.programmer, *(["-f"] if flash else ["-m"]), str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        tail = (result.stderr or result.stdout).strip()[-500:]
        raise ToolError(
            _LOADER, "loads the bitstream", tail, "plug the board in; on Linux check its udev rules"
        )
    return command
