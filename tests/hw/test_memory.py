from __future__ import annotations

import pytest
from amaranth.lib.wiring import Component
from cocotb_memory import BANKED, CHOICE, FOLDED, WORK, work_config
from hardware_units import SideBySide, run_units

from drawbar.hw.memory import BankedMemory, CoreVectors, VectorAddress, WorkMemory
from drawbar.sim.cocotb_runner import simulators


def units() -> Component:
    components: dict[str, Component] = {}
    for name, (banks, depth, width, latency) in BANKED.items():
        components[name] = BankedMemory(banks=banks, depth=depth, width=width, latency=latency)
    for name, config in CHOICE.items():
        components[name] = CoreVectors(config=config)
    for name, config in FOLDED.items():
        components[name] = WorkMemory(config=config)
    for name in WORK:
        components[f"address_{name}"] = VectorAddress(config=work_config(name))
        components[f"work_{name}"] = WorkMemory(config=work_config(name))
    return SideBySide(components)


@pytest.mark.parametrize("simulator", simulators)
def test_memory(simulator: str) -> None:
    run_units(units, "cocotb_memory", simulator=simulator)
