from __future__ import annotations

import pytest
from amaranth.lib.wiring import Component
from hardware_units import SideBySide, run_units
from stage_model import CONFIGS

from drawbar.hw.drain import Drain
from drawbar.sim.cocotb_runner import simulators


def units() -> Component:
    return SideBySide({f"drain_{name}": Drain(config=config) for name, config in CONFIGS.items()})


@pytest.mark.parametrize("simulator", simulators)
def test_drain(simulator: str) -> None:
    run_units(units, "cocotb_drain", simulator=simulator)
