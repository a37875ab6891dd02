from __future__ import annotations

import pytest
from amaranth.lib.wiring import Component
from cocotb_descriptor import CONFIGS
from hardware_units import SideBySide, run_units

from drawbar.gen.program import descriptor_fields
from drawbar.hw.descriptor import DescriptorFetch, descriptor_layout
from drawbar.sim.cocotb_runner import simulators


def units() -> Component:
    return SideBySide({name: DescriptorFetch(config=config) for name, config in CONFIGS.items()})


@pytest.mark.parametrize("simulator", simulators)
def test_descriptor(simulator: str) -> None:
    run_units(units, "cocotb_descriptor", simulator=simulator)


@pytest.mark.parametrize("name", list(CONFIGS))
def test_the_layout_is_the_encoders(name: str) -> None:
    offset = 0
    fields = dict(descriptor_layout(CONFIGS[name]))
    for field, width in descriptor_fields(CONFIGS[name]):
        assert (fields[field].offset, fields[field].width) == (offset, width)
        offset += width
    assert descriptor_layout(CONFIGS[name]).size == offset
