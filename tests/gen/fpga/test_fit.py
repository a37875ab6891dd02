"""What an engine takes of a chip: the model against real netlists, and what does not fit."""

from __future__ import annotations

import numpy as np
import pytest

from drawbar.gen.errors import FitError
from drawbar.gen.fpga.boards import board_names, load_board
from drawbar.gen.fpga.ecp5 import ECP5
from drawbar.gen.fpga.families import FAMILIES
from drawbar.gen.fpga.fit import (
    brams,
    calibration,
    check_fit,
    excess,
    left_out,
    model_errors,
    non_negative_fit,
    usage,
)
from drawbar.gen.fpga.gowin import GOWIN
from drawbar.gen.fpga.ice40 import ICE40
from drawbar.gen.presets import PRESETS, load_config

NETLISTS = [(family, *row) for family in FAMILIES for row in calibration(family)]


def name(value: object) -> str:
    return getattr(value, "name", None) or (value if isinstance(value, str) else "netlist")


@pytest.mark.parametrize(("family", "config", "used"), NETLISTS, ids=name)
def test_multipliers_and_block_ram_are_exact(family, config, used) -> None:
    expected = usage(config, FAMILIES[family])
    assert (expected["dsps"], expected["brams"]) == (used["dsps"], used["brams"])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_model_is_near_its_calibration(family: str) -> None:
    assert len(calibration(family)) >= 6
    errors = model_errors(family)
    assert errors["luts"] <= 0.10
    assert errors["ffs"] <= 0.10


@pytest.mark.parametrize(
    ("width", "depth", "ecp5", "ice40", "gowin"),
    [
        # As yosys 0.70 maps a memory of one write and one read port, and as hw.vendor.ecp5 does.
        (8, 64, 0, 1, 0),
        (8, 128, 0, 1, 0),
        (12, 128, 1, 1, 1),
        (16, 64, 0, 1, 0),
        (16, 96, 0, 1, 0),
        (16, 128, 1, 1, 1),
        (40, 64, 0, 3, 0),
        (40, 96, 2, 3, 2),
        (68, 9, 0, 5, 0),
        (68, 17, 0, 5, 0),
        (8, 256, 1, 1, 1),
        (8, 2048, 1, 4, 1),
        (16, 512, 1, 2, 1),
        (16, 2048, 2, 8, 2),
        (40, 512, 3, 5, 2),
        (40, 2048, 5, 20, 5),
    ],
)
def test_blocks_of_one_memory(width: int, depth: int, ecp5: int, ice40: int, gowin: int) -> None:
    found = [family.brams_of(width, depth) for family in (ECP5, ICE40, GOWIN)]
    assert found == [ecp5, ice40, gowin]


def test_every_kind_of_memory_is_counted() -> None:
    assert brams(PRESETS["tiny"], ECP5) == {
        "program": 2, "core": 4, "work": 4, "bias": 12, "link": 1, "requests": 0, "headers": 0,
    }  # fmt: skip


@pytest.mark.parametrize("board_name", [n for n in board_names() if n != "generic"])
def test_multipliers_and_memories_of_a_boards_engine_fit(board_name: str) -> None:
    board = load_board(board_name)
    used = usage(load_config(board.engine), board.chip_family)
    assert used["dsps"] <= board.chip.dsps
    assert used["brams"] <= board.chip.brams


def test_the_error_says_by_how_much_and_what_would_fit() -> None:
    chip = ECP5.parts["LFE5U-25F"]
    with pytest.raises(FitError) as caught:
        check_fit(PRESETS["small"], ECP5, chip)
    error = caught.value
    assert "64 multipliers, 36 more than the 28 there are" in str(error.value)
    assert "rows = " in error.fix or "lanes = " in error.fix
    assert "LFE5U-85F" in error.fix
    changes = dict(
        part.split(" = ") for part in error.fix.split("use ")[1].split(", or")[0].split(", ")
    )
    smaller = PRESETS["small"].replace(**{key: int(value) for key, value in changes.items()})
    assert check_fit(smaller, ECP5, chip) == usage(smaller, ECP5)


def test_non_negative_least_squares() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        a = rng.random((12, 4))
        b = a @ np.maximum(rng.standard_normal(4), 0) + 0.01 * rng.standard_normal(12)
        x = non_negative_fit(a, b)
        gradient = a.T @ (b - a @ x)
        # Karush, Kuhn and Tucker: nothing can move without harm.
        assert (x >= 0).all()
        assert (gradient <= 1e-6).all()
        assert np.abs(gradient * x).max() < 1e-6


def test_single_port_ram_is_counted_apart() -> None:
    """Where a family has none, the blocks are of its other RAM."""
    config = PRESETS["icebreaker"]
    chip = ICE40.parts["iCE40UP5K"]
    used = usage(config, ICE40)
    assert used["spram"] == config.work_blocks == 4
    assert "spram" not in excess(used, chip)
    twice = config.replace(work_blocks=8, work_depth=2 * config.work_depth)
    assert excess(usage(twice, ICE40), chip)["spram"] == 4
    assert usage(config, ECP5)["spram"] == 0
    assert brams(config, ECP5)["work"] == 4 * ECP5.brams_of(config.data_width, 16384) > 0


@pytest.mark.parametrize("engine", ["tiny", "wide", "icebreaker"])
def test_a_short_pipeline_takes_fewer_flip_flops(engine: str) -> None:
    long = load_config(engine).replace(short_pipeline=0)
    short = long.replace(short_pipeline=1)
    family = FAMILIES["ice40" if engine == "icebreaker" else "ecp5"]
    before, after = usage(long, family), usage(short, family)
    assert left_out(long) == 0
    assert before["ffs"] - after["ffs"] == left_out(short) > 0
    assert after["ffs"] > before["ffs"] / 3
