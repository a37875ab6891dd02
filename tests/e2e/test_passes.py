"""A model that is larger than its engine, on the command line and through the driver."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from driver_helpers import CountingTransport, FaultyTransport

import drawbar
from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import FitError, LinkError
from drawbar.gen.protocol import Op, Space
from drawbar.gen.results import layer_results
from drawbar.sim.golden import run_artefact
from drawbar.sim.golden_board import GoldenBoard
from drawbar.sw.driver import Device
from drawbar.sw.driver.profile import profile

#: Of ``workshop``'s engine, with less of what a model's own data take.
TIGHT = EngineConfig(
    name="engine",
    rows=3,
    lanes=4,
    core_depth=24,
    work_depth=777,
    bias_depth=6,
    program_depth=64,
)


@pytest.fixture
def tight(workshop) -> drawbar.Artefact:
    lines = [f"{k} = {v}" for k, v in TIGHT.as_dict().items() if k != "name"]
    Path("tight.toml").write_text("\n".join(lines))
    artefact = drawbar.compile(workshop.model, TIGHT, calibration=np.load("calibration.npy"))
    assert artefact.streams
    return artefact


def test_from_the_model_to_its_outputs(workshop, tight, command) -> None:
    asked = ("net.safetensors", "--engine", "tight.toml")
    made = command(
        *("compile", *asked, "--calibration", "calibration.npy", "-o", "tight.drawbar", "--json")
    )
    assert made.code == 0, made.err
    stream = made.json["streaming"]
    loads = [load for one in tight.buffers[0].passes for load in one.loads]
    assert {load.space for load in loads} == {Space.CORE, Space.PROGRAM}
    bytes_of = {Space.CORE: 4 * 2, Space.PROGRAM: 4}
    assert stream["bytes_loaded"] == sum(bytes_of[load.space] * load.count for load in loads)
    assert stream["passes"] == len(tight.buffers[0].passes) > 2
    assert stream["cycles"] == tight.cycles < stream["latency"] <= stream["period"]

    words = f"cores stream in: {stream['bytes_loaded']:,} bytes a run, in {stream['passes']} passes"
    for told in (
        command("compile", *asked, "--calibration", "calibration.npy", "-o", "tight.drawbar"),
        command("estimate", *asked),
        command("explain", *asked),
        command("explain", "tight.drawbar"),
        command("info", "tight.drawbar"),
    ):
        assert told.code == 0, told.err
        assert "link-bound" in told.out
        assert words in " ".join(told.out.split())
    estimated = command("estimate", *asked, "--json").json
    explained = command("explain", "tight.drawbar", "--json").json
    assert estimated["streaming"] == explained["streaming"] == stream
    assert explained["pass_ends"] == list(np.cumsum([len(own) for own in tight.pass_stages()]))

    run = ("run", "tight.drawbar", "--device", "golden", "--input", "x.npy", "-o", "y.npy")
    assert command(*run).code == 0
    wanted = run_artefact(tight, tight.quantise_input(workshop.x))
    np.testing.assert_array_equal(np.load("y.npy"), tight.dequantise_output(wanted))
    assert command("verify", "tight.drawbar", "--device", "golden").code == 0


def test_no_stream(workshop, tight) -> None:
    asked = ("net.safetensors", "--engine", "tight.toml", "--no-stream")
    error = workshop.refused("estimate", *asked)
    assert "core memory" in error["rule"]
    workshop.refused("compile", *asked, "--calibration", "calibration.npy")
    with pytest.raises(FitError):
        drawbar.plan(workshop.model, TIGHT, stream=False)
    with pytest.raises(FitError):
        drawbar.compile(workshop.model, TIGHT, calibration=np.load("calibration.npy"), stream=False)


def test_a_pass_is_waited_for_before_its_place_is_written(workshop, tight) -> None:
    wire = CountingTransport(GoldenBoard(TIGHT), TIGHT.link_window)
    passes = len(tight.buffers[0].passes)
    with Device(wire) as device:
        device.load(tight)
        for runs in (1, 2, 5):
            wire.ops.clear()
            x = tight.quantise_input(np.tile(workshop.x, (2, 1))[:runs])
            np.testing.assert_array_equal(device.run_integers(x), run_artefact(tight, x))
            report = device.last_run
            assert report is not None
            assert (report.runs, len(report.waits)) == (runs, runs * passes)
            assert wire.ops.count(Op.RUN) == wire.ops.count(Op.WAIT) == runs * passes
        assert device.verify().passed


@pytest.mark.parametrize("seed", range(3))
def test_a_bad_wire(workshop, tight, seed: int) -> None:
    wire = FaultyTransport(GoldenBoard(TIGHT), seed, corrupt=0.03, drop=0.02, duplicate=0.04)
    with Device(wire) as device:
        device.link.retries = 12
        device.load(tight)
        x = tight.quantise_input(workshop.x)
        for _ in range(2):
            np.testing.assert_array_equal(device.run_integers(x), run_artefact(tight, x))
        assert device.statistics.retries > 0


def test_other_cycles_than_predicted(tight) -> None:
    (buffer, *others) = tight.buffers
    *passes, last = buffer.passes
    wrong = replace(buffer, passes=(*passes, replace(last, cycles=last.cycles + 1)))
    with Device(GoldenBoard(TIGHT)) as device:
        device.load(replace(tight, buffers=(wrong, *others)))
        with pytest.raises(LinkError, match=f"predicted {last.cycles + 1} cycles"):
            device.verify()


def test_profile_and_tensors_in_between(workshop) -> None:
    plan = drawbar.plan(workshop.model, TIGHT, buffers=1)
    calibration = np.load("calibration.npy")
    artefact = drawbar.compile(workshop.model, TIGHT, calibration=calibration, buffers=1)
    x = artefact.quantise_input(workshop.x)
    with drawbar.open("golden", engine=TIGHT) as device:
        device.load(artefact)
        found = profile(device)
        assert [stage.number for stage in found] == list(range(len(artefact.stages)))
        assert all(stage.measured == stage.predicted for stage in found)
        assert sum(stage.measured.total for stage in found) == artefact.cycles
        seen: dict[int, np.ndarray] = {}
        results = layer_results(plan)
        reads = {result.stage: result.layout.addresses(1)[0] for result in results}

        def observe(number: int, work: np.ndarray) -> None:
            if number in reads:
                seen[number] = work[:, reads[number]].copy()

        golden = run_artefact(artefact, x, observe=observe)
        for result in results:
            between = device.run_until(x, result.stage, result.layout)
            np.testing.assert_array_equal(between, seen[result.stage])
        np.testing.assert_array_equal(device.run_integers(x), golden)
        assert device.verify().passed
