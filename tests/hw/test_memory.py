from __future__ import annotations

import pytest
from amaranth.lib.wiring import Component
from cocotb_memory import BANKED, CHOICE, FOLDED, work_config
from hardware_units import SideBySide, run_units

from drawbar.hw.memory import BankedMemory, CoreVectors, VectorAddress, WorkMemory
from drawbar.sim.cocotb_runner import simulators


def units() -> Component:
    components: dict[str, Component] = {}
    for name, (banks, depth, width) in BANKED.items():
        components[name] = BankedMemory(banks=banks, depth=depth, width=width)
    components["choice"] = CoreVectors(config=CHOICE)
    components["folded"] = WorkMemory(config=FOLDED)
    for lanes in (1, 2, 4, 8, 16):
        components[f"address_{lanes}"] = VectorAddress(config=work_config(lanes))
        components[f"work_{lanes}"] = WorkMemory(config=work_config(lanes))
    return SideBySide(components)


@pytest.mark.parametrize("simulator", simulators)
def test_memory(simulator: str) -> None:
    run_units(units, "cocotb_memory", simulator=simulator)
