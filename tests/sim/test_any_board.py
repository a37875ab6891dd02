"""A simulated board that becomes what each artefact needs."""

from __future__ import annotations

import numpy as np
import pytest

import drawbar
from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import ArtefactError, LinkError
from drawbar.gen.formats import dense_network
from drawbar.gen.network import Model
from drawbar.sim.any_board import AnyBoard
from drawbar.sim.golden import run_artefact
from drawbar.sim.golden_board import GoldenBoard

FIRST = EngineConfig(name="first", rows=3, lanes=4)
SECOND = EngineConfig(name="second", rows=4, lanes=2, data_width=8, acc_width=32)


def compiled(config: EngineConfig, seed: int = 0) -> drawbar.Artefact:
    rng = np.random.default_rng(seed)
    model = Model("m", (dense_network("fc", rng.standard_normal((5, 7))),))
    return drawbar.compile(model, config, calibration=rng.standard_normal((20, 7)))


class Boards:
    """Makes golden boards, and keeps count of them."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.closed: list[str] = []

    def make(self, config: EngineConfig) -> GoldenBoard:
        boards = self
        boards.made.append(config.name)

        class Board(GoldenBoard):
            def close(self) -> None:
                boards.closed.append(config.name)
                super().close()

        return Board(config)


def test_a_board_is_made_for_each_engine_and_kept_for_the_same() -> None:
    boards = Boards()
    first, second = compiled(FIRST), compiled(SECOND, 1)
    with drawbar.Device(AnyBoard("any", boards.make)) as device:
        assert boards.made == []
        for artefact, made in (
            (first, ["first"]),
            (compiled(FIRST.replace(name="other"), 2), ["first"]),
            (second, ["first", "second"]),
            (first, ["first", "second", "first"]),
        ):
            device.load(artefact)
            assert boards.made == made
            assert boards.closed == made[:-1]
            for _ in range(2):
                assert device.verify().passed
                found = device.run_integers(artefact.test_input)
                np.testing.assert_array_equal(found, run_artefact(artefact, artefact.test_input))
    assert boards.closed == ["first", "second", "first"]


def test_nothing_to_speak_to_before_the_first_artefact() -> None:
    transport = AnyBoard("any", Boards().make)
    assert not transport.ready
    assert "any" in transport.describe()
    with pytest.raises(LinkError, match="engine="):
        transport.write(b"x")
    with drawbar.Device(transport) as device, pytest.raises(LinkError, match="load an artefact"):
        device.status()
    transport.close()


def test_a_named_engine_refuses_an_artefact_for_another() -> None:
    with drawbar.open("golden", engine=FIRST) as device:
        device.load(compiled(FIRST))
        before = device.run_integers(np.ones((1, 7), int))
        with pytest.raises(ArtefactError) as caught:
            device.load(compiled(SECOND))
        assert SECOND.hash.hex() in str(caught.value)
        assert FIRST.hash.hex() in str(caught.value)
        # The device is untouched: what was loaded still runs.
        np.testing.assert_array_equal(device.run_integers(np.ones((1, 7), int)), before)
