"""Models larger than the engine's memories on the generated hardware: cores, biases and programs
stream in pass by pass, with the golden model's bits and every cycle predicted.
"""

from __future__ import annotations

import random
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from random_models import random_model
from small_engines import TIGHT

import drawbar
from drawbar.fuzz_graphs import random_graph
from drawbar.gen.artefact import Artefact
from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import FitError
from drawbar.gen.protocol import Space
from drawbar.gen.timeline import artefact_timeline
from drawbar.gen.transfers import LinkRate
from drawbar.sim.board import SimBoard
from drawbar.sim.golden import run_artefact
from drawbar.streaming_suite import host_gap
from drawbar.sw.driver import Device

RUNS = 5


def predicted(artefact: Artefact, pace: int, runs: int) -> tuple[list[int], list[int], list[int]]:
    """Cycles of each program of a row of runs, cycles without one before each, and of which each
    WAIT tells.
    """
    walk = artefact_timeline(artefact, LinkRate(Fraction(pace), pace), runs, host_gap(pace))
    assert walk.cycles == [one.cycles for one in artefact.buffers[0].passes]
    cycles = walk.cycles * runs
    idle = [b - a - c for (a, b), c in zip(pairwise(walk.starts), cycles, strict=False)]
    assert walk.latency == sum(walk.cycles) + sum(idle[len(idle) - len(walk.cycles) + 1 :])
    return cycles, [0, *idle], walk.told


def check(device: Device, board: SimBoard, artefact: Artefact, x: np.ndarray, pace: int) -> None:
    """Two rows of runs, to the bit and to the cycle."""
    device.load(artefact)
    board.pace(pace)
    cycles, idle, told = predicted(artefact, pace, -(-len(x) // artefact.batch))
    for _ in range(2):
        np.testing.assert_array_equal(device.run_integers(x), run_artefact(artefact, x))
        report = device.last_run
        assert report is not None
        assert len(report.waits) == len(cycles)
        found = [(counters.cycles, counters.idle) for counters in report.waits]
        wanted = [(cycles[n], idle[n]) for n in told]
        # What went before the first program is the host's.
        first = [n for n, number in enumerate(told) if number == 0]
        for n in first:
            wanted[n] = (wanted[n][0], found[n][1])
        assert found == wanted
    board.pace(1)
    assert device.verify().passed


@pytest.mark.parametrize("config", TIGHT, ids=lambda c: c.name)
@pytest.mark.parametrize("kind", ["chain", "graph"])
def test_every_cycle_of_models_that_stream(config: EngineConfig, kind: str) -> None:
    rng = random.Random(f"passes {kind} {config.name}")
    seen = {1: 0, 2: 0}
    spaces: set[Space] = set()
    larger: list[float] = []
    waited = beside = 0
    with SimBoard(config) as board:
        device = Device(board)
        while min(seen.values()) < 3:
            graph = kind == "graph"
            model = random_graph(rng, most=6) if graph else random_model(rng)
            batch = rng.choice((1, 1, 2))
            buffers = min(seen, key=lambda n: seen[n])
            values = np.random.default_rng(rng.getrandbits(32))
            calibration = values.standard_normal((8, model.inputs))
            try:
                artefact = drawbar.compile(
                    model, config, calibration=calibration, batch=batch, buffers=buffers
                )
            except FitError:
                continue
            if not artefact.streams or artefact.cycles > 8_000:
                continue
            seen[buffers] += 1
            passes = [one for buffer in artefact.buffers for one in buffer.passes]
            spaces |= {load.space for one in passes for load in one.loads}
            larger.append(len(artefact.cores) / config.core_depth)
            for one, before in zip(passes, [passes[-1], *passes], strict=False):
                waited += one.evicts(before)
                beside += not one.evicts(before)
            samples = RUNS * batch - rng.randrange(batch)
            x = artefact.quantise_input(values.standard_normal((samples, model.inputs)))
            check(device, board, artefact, x, rng.choice((1, 1, 2, 3, 9)))
    assert Space.CORE in spaces
    assert waited
    assert beside
    assert max(larger) > 2
    assert min(larger) < 2
