"""Many runs on the generated hardware: the same bits as the golden model, and every cycle between
two runs predicted.
"""

from __future__ import annotations

import random
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from random_models import random_model
from small_engines import ENGINES

import drawbar
from drawbar.gen.artefact import Artefact
from drawbar.gen.errors import FitError
from drawbar.gen.pipeline import RUN_GAP
from drawbar.gen.slots import Slots
from drawbar.gen.timeline import Timeline, artefact_streaming
from drawbar.gen.transfers import LinkRate, row_of_runs
from drawbar.sim.board import SimBoard
from drawbar.sim.golden import run_artefact
from drawbar.streaming_suite import host_gap
from drawbar.sw.driver import Device

MODELS = 12
RUNS = 7


def idle_cycles(artefact: Artefact, pace: int, runs: int) -> list[int]:
    """Cycles before each run but the first, predicted."""
    config = artefact.config
    rate = LinkRate(Fraction(pace), pace)
    slots = Slots(artefact.stages, config)
    assert slots.cycles == artefact.cycles
    requests = row_of_runs(
        artefact.buffers,
        config,
        batch=artefact.batch,
        cycles=artefact.cycles,
        rate=rate,
        runs=runs,
    )
    starts = Timeline(requests, config, [slots], rate, host_gap(pace)).starts
    return [b - a - artefact.cycles for a, b in pairwise(starts)]


@pytest.mark.parametrize("config", ENGINES, ids=lambda c: c.name)
def test_every_cycle_between_runs(config) -> None:
    rng = random.Random(f"streaming {config.name}")
    seen = {1: 0, 2: 0}
    gaps: set[int] = set()
    with SimBoard(config) as board:
        device = Device(board)
        while min(seen.values()) < MODELS // 2:
            model, batch = random_model(rng), rng.choice((1, 1, 2, 3))
            buffers = min(seen, key=lambda n: seen[n])
            values = np.random.default_rng(rng.getrandbits(32))
            try:
                artefact = drawbar.compile(
                    model,
                    config,
                    calibration=values.standard_normal((8, model.inputs)),
                    batch=batch,
                    buffers=buffers,
                    stream=False,
                )
            except FitError:
                continue
            if artefact.cycles > 10_000:
                continue
            seen[buffers] += 1
            pace = rng.choice((1, 1, 2, 3, 9))
            samples = RUNS * batch - rng.randrange(batch)
            x = artefact.quantise_input(values.standard_normal((samples, model.inputs)))
            device.load(artefact)
            board.pace(pace)
            for _ in range(2):
                found = device.run_integers(x)
                np.testing.assert_array_equal(found, run_artefact(artefact, x))
                report = device.last_run
                assert report is not None
                assert report.runs == RUNS
                found_idle = [counters.idle for counters in report.waits]
                wanted = idle_cycles(artefact, pace, RUNS)
                # A WAIT may come so late that the next run has ended, too: then it tells of that.
                for run, idle in enumerate(found_idle[1:], 1):
                    assert idle in wanted[run - 1 : run + 1], (run, found_idle, wanted)
                assert found_idle[-1] == wanted[-1]
                gaps.update(wanted)
            board.pace(1)
            assert device.verify().passed
    assert RUN_GAP in gaps or config.rows == 1


def test_a_run_that_computes_longer_than_it_transfers_hides_all_of_it() -> None:
    """A dense layer with few outputs at the end leaves slots for all reads."""
    config = ENGINES[0]
    rng = random.Random(8)
    found = None
    while found is None:
        model = random_model(rng, most_layers=3)
        if model.outputs > 10:
            continue
        values = np.random.default_rng(3)
        try:
            artefact = drawbar.compile(
                model, config, calibration=values.standard_normal((8, model.inputs)), buffers=2
            )
        except FitError:
            continue
        stream = artefact_streaming(artefact, LinkRate(Fraction(1), 1), host_gap(1))
        if stream.limit == "compute":
            found = artefact
    x = found.quantise_input(np.random.default_rng(4).standard_normal((8, found.input.features)))
    with SimBoard(config) as board:
        device = Device(board)
        device.load(found)
        np.testing.assert_array_equal(device.run_integers(x), run_artefact(found, x))
        report = device.last_run
    assert report is not None
    assert {counters.idle for counters in report.waits[1:]} == {RUN_GAP}
