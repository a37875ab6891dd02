"""Each family's primitives against the portable twins: the same tests, on models of its blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from amaranth.lib.wiring import Component
from cocotb_array import CONFIGS
from cocotb_engine import CONFIGS as ENGINES
from cocotb_vendor import LATENCIES, SHAPES
from hardware_units import SideBySide, run_units

from drawbar.hw.array import MacArray
from drawbar.hw.engine import Engine
from drawbar.hw.memory import BankedMemory
from drawbar.hw.vendor import Portable, primitives
from drawbar.hw.vendor.ecp5 import DSP_SITES, Ecp5, multiplier_places
from drawbar.hw.vendor.gowin import Gowin
from drawbar.sim.cocotb_runner import simulators

ECP5 = Ecp5()
GOWIN = Gowin()
MODELS = Path(__file__).parent / "models"
FAMILIES = {"ecp5": ECP5, "gowin": GOWIN}


def of(family: str) -> dict[str, Any]:
    """What ``run_units`` needs for a family."""
    models = (MODELS / f"{family}.v").read_text() + (MODELS / "pll.v").read_text()
    return {"platform": FAMILIES[family], "models": models}


def arrays() -> Component:
    return SideBySide({name: MacArray(config=config) for name, config in CONFIGS.items()})


def memories() -> Component:
    return SideBySide(
        {
            f"{name}_{latency}": BankedMemory(banks=1, depth=depth, width=width, latency=latency)
            for name, (depth, width) in SHAPES.items()
            for latency in LATENCIES
        }
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("simulator", simulators)
def test_arrays(family: str, simulator: str) -> None:
    run_units(arrays, "cocotb_array", simulator=simulator, **of(family))


@pytest.mark.parametrize("family", FAMILIES)
def test_memories(family: str) -> None:
    run_units(memories, "cocotb_vendor", simulator="icarus", **of(family))


@pytest.mark.parametrize("family", FAMILIES)
def test_an_engine(family: str) -> None:
    """Programs: the same bits, and the same cycles."""
    config = ENGINES["wide"]
    run_units(
        Engine,
        "cocotb_engine",
        simulator="verilator",
        parameters={"config": config.as_dict(), "programs": 3},
        config=config,
        **of(family),
    )


@pytest.mark.parametrize(("device", "rows", "lanes"), [("25k", 7, 4), ("85k", 8, 16)])
def test_every_multiplier_has_a_place_of_its_own(device: str, rows: int, lanes: int) -> None:
    place = multiplier_places(device, rows, lanes)
    places = {place(row, lane) for row in range(rows) for lane in range(lanes)}
    assert len(places) == rows * lanes
    columns, heights = DSP_SITES[device]
    assert all(name is not None and name.endswith(("_0", "_1", "_4", "_5")) for name in places)
    assert 4 * len(columns) * len(heights) >= rows * lanes


def test_more_multipliers_than_there_are_have_none() -> None:
    assert multiplier_places("25k", 8, 4)(0, 0) is None
    assert multiplier_places("45k", 1, 1)(0, 0) is None


def test_the_platform_says_which() -> None:
    class Board:
        primitives = ECP5

    class Wrong:
        primitives = "ecp5"

    assert type(primitives(None)) is Portable
    assert primitives(ECP5) is ECP5
    assert primitives(Board()) is ECP5
    with pytest.raises(TypeError, match="'ecp5'"):
        primitives(Wrong())
