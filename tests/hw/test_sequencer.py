from __future__ import annotations

import pytest
from amaranth.lib.wiring import Component
from cocotb_sequencer import CONFIGS
from hardware_units import SideBySide, run_units

from drawbar.hw.sequencer import Sequencer
from drawbar.sim.cocotb_runner import simulators


def units() -> Component:
    return SideBySide({name: Sequencer(config=config) for name, config in CONFIGS.items()})


@pytest.mark.parametrize("simulator", simulators)
def test_sequencer(simulator: str) -> None:
    run_units(units, "cocotb_sequencer", simulator=simulator)
