"""A device from load to outputs, on the golden board."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from driver_helpers import (
    CONFIG,
    CountingTransport,
    FaultyTransport,
    SilentTransport,
    dense_artefact,
)

from drawbar.gen.artefact import Load
from drawbar.gen.errors import ArtefactError, InputError, LinkError
from drawbar.gen.presets import PRESETS
from drawbar.gen.protocol import Header, Space, Status
from drawbar.sim.golden_board import GoldenBoard
from drawbar.sw.driver.device import Device

CONFIGS = [
    CONFIG,
    CONFIG.replace(name="test-8bit", data_width=8, acc_width=32),
    PRESETS["tiny"],
    CONFIG.replace(rows=5, lanes=1, link_window=16, work_depth=1200),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
def test_any_number_of_samples_back_to_back(config) -> None:
    batch = 5 if config.lanes > 1 else 1
    artefact = dense_artefact(config, batch=batch)
    rng = np.random.default_rng(3)
    with Device(GoldenBoard(config)) as device:
        device.load(artefact)
        for samples in (1, batch, batch + 1, 0, len(artefact.test_input)):
            which = rng.permutation(len(artefact.test_input))[:samples]
            x, expected = artefact.test_input[which], artefact.test_output[which]
            y = device.run_integers(x)
            assert y.dtype == np.int64
            assert y.shape == expected.shape
            np.testing.assert_array_equal(y, expected)
            report = device.last_run
            assert report is not None
            assert (report.samples, report.runs) == (len(x), -(-len(x) // batch))
            assert report.cycles == artefact.cycles
            assert report.retries == 0
            assert report.seconds > 0
            if samples:
                counters = report.counters
                assert counters is not None
                assert counters.cycles == artefact.cycles
                assert counters.stages == 1


def test_real_numbers_are_scaled_both_ways() -> None:
    artefact = dense_artefact()
    x = artefact.test_input / 2.0**artefact.input.fraction_bits
    with Device(GoldenBoard(CONFIG)) as device:
        device.load(artefact)
        y = device.run(x)
    np.testing.assert_array_equal(y, artefact.test_output / 2.0**artefact.output.fraction_bits)


def test_loading_another_artefact_replaces_the_first() -> None:
    artefacts = [dense_artefact(seed=seed, outputs=7 - seed) for seed in (1, 2)]
    with Device(GoldenBoard(CONFIG)) as device:
        for artefact in [*artefacts, artefacts[0]]:
            device.load(artefact)
            assert device.artefact is artefact
            report = device.verify()
            assert report.passed
            assert report.compared == artefact.test_output.size


def test_verify_counts_and_shows_wrong_bits() -> None:
    artefact = dense_artefact()
    wrong = artefact.test_output.copy()
    wrong[6, 2] ^= 1
    wrong[8, 0] += 5
    with Device(GoldenBoard(CONFIG)) as device:
        device.load(dataclasses.replace(artefact, test_output=wrong))
        report = device.verify()
    assert not report.passed
    assert report.mismatches == 2
    assert report.first == (6, 2, wrong[6, 2], artefact.test_output[6, 2])
    assert (report.samples, report.cycles) == (len(wrong), artefact.cycles)


def test_an_artefact_for_another_engine_changes_nothing() -> None:
    board = GoldenBoard(PRESETS["tiny"])
    wire = CountingTransport(board, PRESETS["tiny"].link_window)
    artefact = dense_artefact()
    with Device(wire) as device:
        with pytest.raises(ArtefactError) as caught:
            device.load(artefact)
        assert len(wire.ops) == 1  # IDENTIFY
        with pytest.raises(InputError, match=r"call load\(artefact\) first"):
            device.run(np.zeros((1, 10)))
    text = str(caught.value)
    assert artefact.config.hash.hex() in text
    assert PRESETS["tiny"].hash.hex() in text
    assert "preset 'tiny'" in text
    assert "'test'" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"cores": np.zeros((201, 3), int), "loads": (Load(Space.CORE, 0, 0, 201),)},
            r"cores.*\(200, 3\).*201 of 201 from 0, to 0",
        ),
        ({"loads": (Load(Space.CORE, 0, 199, 2),)}, r"cores.*\(200, 3\).*2 of \d+ from 0, to 199"),
        ({"loads": (Load(Space.BIAS, 0, 0, 60),)}, r"biases.*\(64, 4\).*60 of \d+ from 0, to 0"),
        ({"cores": np.zeros((2, 4), int)}, r"cores.*\(200, 3\).*\(2, 4\)"),
        ({"cores": np.full((2, 3), 1 << 15)}, r"cores.*-32768\.\.32767.*32768"),
        (
            {"program": np.zeros(301, np.uint32), "loads": (Load(Space.PROGRAM, 0, 0, 301),)},
            r"program.*\(300,\).*301 of 301 from 0, to 0",
        ),
        ({"biases": np.full((2, 4), 1 << 39)}, r"biases.*549755813887.*549755813888"),
    ],
)
def test_an_artefact_that_does_not_fit_its_engine(change: dict, message: str) -> None:
    wire = CountingTransport(GoldenBoard(CONFIG), CONFIG.link_window)
    with Device(wire) as device, pytest.raises(ArtefactError, match=message):
        device.load(dataclasses.replace(dense_artefact(), **change))
    assert len(wire.ops) == 1


@pytest.mark.parametrize("call", ["run", "run_integers", "verify"])
def test_run_before_load(call: str) -> None:
    with Device(GoldenBoard(CONFIG)) as device:
        arguments = () if call == "verify" else (np.zeros((1, 10)),)
        with pytest.raises(InputError, match="has an artefact loaded before it runs"):
            getattr(device, call)(*arguments)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 9), int), r"has shape \(batch, 10\); found \(2, 9\)"),
        (np.zeros(10, int), r"has shape \(batch, 10\); found \(10,\)"),
        (np.zeros((2, 10)), "is a NumPy array of integers; found float64"),
        ([[0] * 10], "is a NumPy array of integers; found list"),
        (np.full((2, 10), 1 << 15), r"lies within -32768\.\.32767; found 32768\.\.32768"),
    ],
)
def test_wrong_integer_input(x, message: str) -> None:
    artefact = dense_artefact()
    with Device(GoldenBoard(CONFIG)) as device:
        device.load(artefact)
        with pytest.raises(InputError, match=message):
            device.run_integers(x)
        with pytest.raises(InputError, match="finite"):
            device.run(np.full((1, 10), np.nan))
        # Neither touched the device.
        assert device.verify().passed


def test_other_cycles_than_predicted_are_an_error() -> None:
    artefact = dense_artefact()
    (buffer,) = artefact.buffers
    passes = (dataclasses.replace(buffer.passes[0], cycles=artefact.cycles + 1),)
    wrong = dataclasses.replace(
        artefact,
        cycles=artefact.cycles + 1,
        buffers=(dataclasses.replace(buffer, passes=passes),),
    )
    with Device(GoldenBoard(CONFIG)) as device:
        device.load(wrong)
        message = f"exactly the predicted {wrong.cycles} cycles; found {artefact.cycles} measured"
        with pytest.raises(LinkError, match=message):
            device.verify()
        assert device.artefact is None
        device.load(artefact)
        assert device.verify().passed


class BadMemory(GoldenBoard):
    """One item is stuck at 77; ``space`` and ``item`` say which."""

    def __init__(self, space: Space, item: int) -> None:
        super().__init__(CONFIG)
        self.place = space, item

    def _write(self, header: Header, payload: bytes, again: bool) -> tuple[Status, bytes]:
        result = super()._write(header, payload, again)
        engine, (space, item) = self.memories.engine, self.place
        memory = {Space.PROGRAM: engine.program, Space.CORE: engine.core, Space.BIAS: engine.bias}
        memory[space].reshape(-1)[item] = 77
        return result


@pytest.mark.parametrize(
    ("space", "index", "item"),
    # Core items count four to a vector of three.
    [(Space.PROGRAM, 5, 5), (Space.CORE, 7, 9), (Space.BIAS, 14, 14)],
)
def test_loading_reads_back(space: Space, index: int, item: int) -> None:
    with (
        Device(BadMemory(space, index)) as device,
        pytest.raises(LinkError, match=rf"{space.name} memory: holds what .* at item {item}"),
    ):
        device.load(dense_artefact())


def test_progress() -> None:
    artefact = dense_artefact()
    loads: list[tuple[int, int]] = []
    runs: list[tuple[int, int]] = []
    with Device(GoldenBoard(CONFIG)) as device:
        device.load(artefact, lambda done, total: loads.append((done, total)))
        device.run_integers(artefact.test_input, lambda done, total: runs.append((done, total)))
    assert loads[-1][0] == loads[-1][1]
    assert [done for done, _ in loads] == sorted(done for done, _ in loads)
    assert runs == [(5, 12), (10, 12), (12, 12)]


@pytest.mark.parametrize("seed", range(5))
def test_a_bad_wire_gives_the_same_bits(seed: int) -> None:
    artefact = dense_artefact()
    wire = FaultyTransport(GoldenBoard(CONFIG), seed, corrupt=0.04, drop=0.02, duplicate=0.05)
    with Device(wire) as device:
        device.link.retries = 12
        device.load(artefact)
        retries = device.statistics.retries
        for _ in range(10):
            assert device.verify().passed
            report = device.last_run
            assert report is not None
            retries += report.retries
        assert sum(wire.faults.values()) > 0
        assert device.statistics.retries == retries > 0


class Unplugged(GoldenBoard):
    """A board whose power may fail."""

    def __init__(self) -> None:
        super().__init__(CONFIG)
        self.timeout = 0.01
        self.plugged = True

    def write(self, data: bytes) -> None:
        if self.plugged:
            super().write(data)


def test_a_board_that_loses_power_must_be_loaded_again() -> None:
    artefact = dense_artefact()
    board = Unplugged()
    with Device(board) as device:
        device.load(artefact)
        board.plugged = False
        with pytest.raises(LinkError, match="no answer to WRITE"):
            device.verify()
        with pytest.raises(InputError, match="nothing loaded"):
            device.verify()
        board.plugged = True
        device.load(artefact)
        assert device.verify().passed


def test_a_reset_board_is_never_taken_for_a_working_one() -> None:
    artefact = dense_artefact()
    for first in range(0, 256, 15):
        board = GoldenBoard(CONFIG)
        device = Device(board)
        device.link._first_number = first
        device.load(artefact)
        device.verify()
        fresh = GoldenBoard(CONFIG)
        board.__dict__.update(fresh.__dict__)
        with pytest.raises(LinkError, match=re.compile("waits for number|cycles")):
            device.verify()


def test_the_transport_is_closed_in_any_case() -> None:
    wire = SilentTransport()
    with pytest.raises(LinkError, match="IDENTIFY"), Device(wire):
        pass
    assert wire.closed == 1
