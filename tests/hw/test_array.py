from __future__ import annotations

import pytest
from amaranth.lib.wiring import Component
from cocotb_array import CONFIGS
from hardware_units import SideBySide, run_units

from drawbar.hw.array import MacArray
from drawbar.sim.cocotb_runner import simulators


def units() -> Component:
    return SideBySide({name: MacArray(config=config) for name, config in CONFIGS.items()})


@pytest.mark.parametrize("simulator", simulators)
def test_array(simulator: str) -> None:
    run_units(units, "cocotb_array", simulator=simulator)
