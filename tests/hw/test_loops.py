# amaranth: UnusedElaboratable=no
from __future__ import annotations

import pytest
from amaranth.lib.wiring import Component
from hardware_units import SideBySide, run_units

from drawbar.hw.loops import AddressGenerator, LoopNest
from drawbar.sim.cocotb_runner import simulators


def units() -> Component:
    return SideBySide(
        {
            "nest_1": LoopNest(levels=1, count_bits=16),
            "nest_2": LoopNest(levels=2, count_bits=16),
            "nest_5": LoopNest(levels=5, count_bits=16),
            "generator_1": AddressGenerator(levels=1, address_bits=1),
            "generator_4": AddressGenerator(levels=4, address_bits=11),
        }
    )


@pytest.mark.parametrize("simulator", simulators)
def test_loops(simulator: str) -> None:
    run_units(units, "cocotb_loops", simulator=simulator)


def test_a_nest_has_levels() -> None:
    with pytest.raises(ValueError, match="at least 1, not 0"):
        LoopNest(levels=0, count_bits=16)
