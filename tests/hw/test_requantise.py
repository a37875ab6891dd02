from __future__ import annotations

import pytest
from amaranth.lib.wiring import Component
from cocotb_requantise import CONFIGS, SATURATE, SHIFT
from hardware_units import SideBySide, run_units

from drawbar.hw.requantise import AddBias, Requantise, RoundShift, Saturate
from drawbar.sim.cocotb_runner import simulators


def units() -> Component:
    components: dict[str, Component] = {
        "bias_4": AddBias(acc_width=4),
        "bias_40": AddBias(acc_width=40),
    }
    for name, (acc_width, shift_bits, short) in SHIFT.items():
        components[name] = RoundShift(acc_width=acc_width, shift_bits=shift_bits, short=short)
    for name, (acc_width, data_width, short) in SATURATE.items():
        components[name] = Saturate(acc_width=acc_width, data_width=data_width, short=short)
    for name, config in CONFIGS.items():
        components[name] = Requantise(config=config)
    return SideBySide(components)


@pytest.mark.parametrize("simulator", simulators)
def test_requantise(simulator: str) -> None:
    run_units(units, "cocotb_requantise", simulator=simulator)
