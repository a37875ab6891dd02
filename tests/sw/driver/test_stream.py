"""Streams of runs in two buffers, on the golden board: in order, over good and bad wires."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from driver_helpers import CONFIG, CountingTransport, FaultyTransport, dense_artefact

from drawbar.gen.artefact import Artefact, Buffer, TensorLayout
from drawbar.gen.errors import LinkError
from drawbar.gen.program import decode, encode
from drawbar.gen.protocol import Op
from drawbar.gen.transfers import STREAMS, LinkRate, row_of_runs
from drawbar.sim.golden_board import GoldenBoard
from drawbar.sw.driver.device import Device
from drawbar.sw.driver.stream import Places, RunStream


def moved(layout: TensorLayout, by: int) -> TensorLayout:
    return dataclasses.replace(layout, base=layout.base + by)


def two_buffers(**options) -> Artefact:
    """The dense layer of ``dense_artefact`` at two places of work memory."""
    artefact = dense_artefact(**options)
    (buffer,) = artefact.buffers
    (stage,) = decode(artefact.program, artefact.config)
    last = buffer.output.addresses(artefact.batch).max()
    by = int(last) + 7
    second = dataclasses.replace(stage, x_base=stage.x_base + by, y_base=stage.y_base + by)
    words = len(artefact.program)
    (one,) = buffer.passes
    other = dataclasses.replace(one, address=words, source=words)
    (program, *loads) = artefact.loads
    return dataclasses.replace(
        artefact,
        program=np.concatenate([artefact.program, encode([second], artefact.config)]),
        loads=(dataclasses.replace(program, count=2 * words), *loads),
        buffers=(
            buffer,
            Buffer((other,), moved(buffer.input, by), moved(buffer.output, by)),
        ),
    )


def many(artefact: Artefact, samples: int, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    which = np.random.default_rng(seed).integers(0, len(artefact.test_input), samples)
    return artefact.test_input[which], artefact.test_output[which]


@pytest.mark.parametrize("make", [dense_artefact, two_buffers])
def test_any_number_of_runs(make) -> None:
    artefact = make()
    wire = CountingTransport(GoldenBoard(CONFIG), CONFIG.link_window)
    with Device(wire) as device:
        device.load(artefact)
        assert device.verify().passed
        for runs in (1, 2, 3, 4, 9):
            x, expected = many(artefact, runs * artefact.batch - 2)
            wire.ops.clear()
            seen: list[tuple[int, int]] = []
            y = device.run_integers(x, lambda done, total, seen=seen: seen.append((done, total)))
            np.testing.assert_array_equal(y, expected)
            report = device.last_run
            assert report is not None
            assert (report.runs, len(report.waits)) == (runs, runs)
            assert report.counters == report.waits[-1]
            assert {counters.cycles for counters in report.waits} == {artefact.cycles}
            assert (wire.ops.count(Op.RUN), wire.ops.count(Op.WAIT)) == (runs, runs)
            assert [done for done, _ in seen] == [
                min(n * artefact.batch, len(x)) for n in range(1, runs + 1)
            ]
            assert {total for _, total in seen} == {len(x)}


def test_the_next_run_is_sent_before_the_last_one_is_waited_for() -> None:
    artefact = two_buffers()
    wire = CountingTransport(GoldenBoard(CONFIG), CONFIG.link_window)
    with Device(wire) as device:
        device.load(artefact)
        wire.ops.clear()
        device.run_integers(many(artefact, 5 * artefact.batch)[0])
    order = [Op(op) for op in wire.ops if op in (Op.RUN, Op.WAIT)]
    assert order == [Op.RUN, Op.RUN, *[Op.WAIT, Op.RUN] * 3, Op.WAIT, Op.WAIT]


def test_the_requests_are_those_that_the_cycle_model_knows() -> None:
    for artefact in (dense_artefact(), two_buffers()):
        x, _ = many(artefact, 4 * artefact.batch)
        for rate in (STREAMS, LinkRate(STREAMS.byte_in * 100, 100)):
            row = row_of_runs(
                artefact.buffers,
                CONFIG,
                batch=artefact.batch,
                cycles=artefact.cycles,
                rate=rate,
                runs=4,
            )
            requests = RunStream(Places(artefact), x, rate).requests
            frames = [len(request.frame(0)) for request in requests]
            assert frames == [transfer.bytes_in for transfer in row]


def test_verify_looks_at_both_buffers() -> None:
    artefact = two_buffers()
    # So few vectors that one run takes them.
    artefact = dataclasses.replace(
        artefact,
        test_input=artefact.test_input[: artefact.batch],
        test_output=artefact.test_output[: artefact.batch],
    )
    expected = artefact.test_output
    with Device(GoldenBoard(CONFIG)) as device:
        device.load(artefact)
        report = device.verify()
        assert (report.samples, report.compared) == (len(expected), 2 * expected.size)
        # A program of the second buffer that is wrong: one bit of its requantisation shift.
        program = artefact.program.copy()
        (stage,) = decode(program[artefact.buffers[1].passes[0].address :], CONFIG)
        wrong = encode([dataclasses.replace(stage, shift=stage.shift + 1)], CONFIG)
        program[artefact.buffers[1].passes[0].address :] = wrong
        device.load(dataclasses.replace(artefact, program=program))
        report = device.verify()
        assert not report.passed
        assert 0 < report.mismatches <= expected.size
        # The first buffer alone is right.
        np.testing.assert_array_equal(device.run_integers(artefact.test_input), expected)


@pytest.mark.parametrize("seed", range(4))
def test_a_bad_wire_gives_the_same_bits(seed: int) -> None:
    artefact = two_buffers()
    wire = FaultyTransport(GoldenBoard(CONFIG), seed, corrupt=0.03, drop=0.02, duplicate=0.04)
    with Device(wire) as device:
        device.link.retries = 12
        device.load(artefact)
        for round_ in range(3):
            x, expected = many(artefact, 9 * artefact.batch - 1, seed=round_)
            np.testing.assert_array_equal(device.run_integers(x), expected)
        assert sum(wire.faults.values()) > 0
        assert device.statistics.retries > 0


def test_a_silent_board_is_given_up() -> None:
    class Dumb(GoldenBoard):
        """Says nothing after its third RUN."""

        runs = 0
        timeout = 0.01

        def _run(self, header, payload, again):
            self.runs += 1
            return super()._run(header, payload, again)

        def read(self, timeout: float) -> bytes:
            return super().read(timeout) if self.runs < 3 else b""

    artefact = two_buffers()
    with Device(Dumb(CONFIG)) as device:
        device.load(artefact)
        with pytest.raises(LinkError, match="no answer to"):
            device.run_integers(many(artefact, 8 * artefact.batch)[0])
        assert device.artefact is None
