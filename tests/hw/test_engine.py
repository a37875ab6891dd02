from __future__ import annotations

import random

import pytest
from cocotb_engine import CONFIGS
from hardware_units import run_units
from random_stages import random_config

from drawbar.hw.engine import Engine
from drawbar.sim.cocotb_runner import simulators

#: Random programs for each engine; Icarus is ten times slower.
PROGRAMS = {"verilator": 25, "icarus": 4}


@pytest.mark.parametrize("name", list(CONFIGS))
@pytest.mark.parametrize("simulator", simulators)
def test_engine(simulator: str, name: str) -> None:
    run_units(
        Engine,
        "cocotb_engine",
        simulator=simulator,
        parameters={"config": CONFIGS[name].as_dict(), "programs": PROGRAMS[simulator]},
        config=CONFIGS[name],
    )


@pytest.mark.parametrize("seed", [3, 5, 11])  # 5 x 2, 8 x 4 and 5 x 8
def test_random_engine(seed: int) -> None:
    """Engines that nobody chose; by their size on Verilator only."""
    config = random_config(random.Random(seed))
    run_units(
        Engine,
        "cocotb_engine",
        simulator="verilator",
        parameters={"config": config.as_dict(), "programs": 4},
        config=config,
    )
