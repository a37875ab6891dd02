"""Profiles: the cycles of each stage, measured by running the program's first stages alone."""

from __future__ import annotations

import random

import numpy as np
import pytest
from random_models import random_tt_layer

import drawbar
from drawbar.gen.config import EngineConfig
from drawbar.gen.cycles import Cycles, program_cycles
from drawbar.gen.errors import InputError, LinkError
from drawbar.gen.network import Model
from drawbar.gen.program import decode
from drawbar.gen.protocol import Space
from drawbar.sim.golden import run_artefact
from drawbar.sim.golden_board import GoldenBoard
from drawbar.sw.driver import Device
from drawbar.sw.driver.profile import profile

CONFIG = EngineConfig(
    name="hil-3x4",
    rows=3,
    lanes=4,
    core_depth=2999,
    work_depth=777,
    bias_depth=333,
    program_depth=1001,
)


def compiled(batch: int = 1) -> drawbar.Artefact:
    rng = random.Random(5)
    layers = (
        random_tt_layer(rng, "first", (4, 5, 3), (3, 4, 4), bias=True, activation="relu"),
        random_tt_layer(rng, "second", (3, 4, 4), (2, 2, 2), bias=False, activation="none"),
    )
    calibration = np.random.default_rng(5).standard_normal((20, 60))
    return drawbar.compile(Model("m", layers), CONFIG, calibration=calibration, batch=batch)


@pytest.mark.parametrize("url", ["golden", "sim"])
@pytest.mark.parametrize("batch", [1, 3])
def test_each_stage_takes_what_was_predicted(url: str, batch: int) -> None:
    artefact = compiled(batch)
    stages = decode(artefact.program, CONFIG)
    assert len(stages) > 2
    calls: list[tuple[int, int]] = []
    with drawbar.open(url, engine=CONFIG) as device:
        device.load(artefact)
        for _ in range(2):
            found = profile(device, lambda done, total: calls.append((done, total)))
            assert [stage.number for stage in found] == list(range(len(stages)))
            assert [stage.predicted for stage in found] == program_cycles(stages, CONFIG)
            for stage in found:
                assert stage.measured == stage.predicted
            assert sum((s.measured for s in found), start=Cycles()).total == artefact.cycles
            assert {stage.layer for stage in found} == {"first", "second"}
            # The program is whole again.
            words = device.link.read(Space.PROGRAM, 0, artefact.program.nbytes, 4)
            np.testing.assert_array_equal(np.frombuffer(words, "<u4"), artefact.program)
            x = artefact.quantise_input(np.random.default_rng(1).standard_normal((4, 60)))
            np.testing.assert_array_equal(device.run_integers(x), run_artefact(artefact, x))
            assert device.verify().passed
    assert calls == [(n + 1, len(stages)) for n in range(len(stages))] * 2


def test_nothing_is_loaded() -> None:
    with drawbar.open("golden", engine=CONFIG) as device, pytest.raises(InputError) as caught:
        profile(device)
    assert "load" in caught.value.fix


class Falling(GoldenBoard):
    """A board that answers no more once ``silent`` is set."""

    silent = False

    def read(self, timeout: float) -> bytes:
        return b"" if self.silent else super().read(timeout)


def test_silence_is_reported() -> None:
    board = Falling(CONFIG)
    board.timeout = 0.01
    with Device(board) as device:
        device.load(compiled())
        board.silent = True
        with pytest.raises(LinkError):
            profile(device)
