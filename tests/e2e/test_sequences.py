"""Sequences on the generated hardware: the golden model's bits, every step's cycles, and no state
that goes from one sequence to the next.
"""

from __future__ import annotations

import numpy as np
import pytest
from random_cells import INPUTS, random_cells
from small_engines import ENGINES

import drawbar
from drawbar.gen.pipeline import RUN_GAP
from drawbar.gen.program import decode
from drawbar.sim.golden import run_artefact

STEPS = 7
ENGINE = ENGINES[0]


@pytest.mark.parametrize("buffers", [1, 2])
def test_cells_on_the_simulated_board(buffers: int) -> None:
    x = np.random.default_rng(1).standard_normal((4, STEPS, INPUTS))
    with drawbar.open("sim", engine=ENGINE) as device:
        for kind, format in (("lstm", "tt"), ("gru", "dense"), ("gru", "cp")):
            model = random_cells(kind, format)
            artefact = drawbar.compile(model, ENGINE, calibration=x, buffers=buffers)
            assert sum(stage.products for stage in decode(artefact.program, ENGINE)) == 2
            integers = artefact.quantise_input(x)
            expected = run_artefact(artefact, integers)
            assert len(np.unique(expected)) > 10
            device.load(artefact)
            # The other way round each sequence follows another one.
            np.testing.assert_array_equal(device.run_integers(integers), expected)
            np.testing.assert_array_equal(device.run_integers(integers[::-1]), expected[::-1])
            run = device.last_run
            assert run is not None
            assert run.runs == len(x) * STEPS
            assert {counters.cycles for counters in run.waits} == {artefact.cycles}
            # Between two steps the engine waits for nothing where there are two buffers.
            inner = [c.idle for n, c in enumerate(run.waits) if 0 < n % STEPS < STEPS - 1]
            assert (min(inner) == RUN_GAP) == (buffers == 2)
            assert device.verify().passed
