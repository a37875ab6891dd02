"""The serial transport, through pyserial and a pseudo-terminal, against the golden board."""

from __future__ import annotations

import errno
import os
import pty
import time
import tty
from collections.abc import Iterator

import pytest
import serial
from driver_helpers import CONFIG, FaultyTransport, SilentTransport, dense_artefact

from drawbar.gen.errors import LinkError
from drawbar.sim.golden_board import GoldenBoard
from drawbar.sim.pty_bridge import PtyBridge
from drawbar.sw.driver import Device, SerialTransport


@pytest.fixture
def silent_port() -> Iterator[str]:
    """A port that somebody holds open and nobody reads."""
    outside, inside = pty.openpty()
    tty.setraw(inside)
    yield os.ttyname(inside)
    os.close(outside)
    os.close(inside)


@pytest.mark.parametrize("window", [2, 4, 32])
def test_a_board_on_a_port(window: int) -> None:
    config = CONFIG.replace(link_window=window)
    artefact = dense_artefact(config)
    with PtyBridge(GoldenBoard(config)) as path:
        for _ in range(2):  # a second program after the first one closed the port
            with Device(SerialTransport(path)) as device:
                assert device.identify().config_hash == config.hash
                device.load(artefact)
                for _ in range(3):
                    assert device.verify().passed
                assert device.statistics.retries == 0


@pytest.mark.parametrize("seed", range(3))
def test_a_board_on_a_bad_wire(seed: int) -> None:
    artefact = dense_artefact()
    with PtyBridge(GoldenBoard(CONFIG)) as path:
        wire = FaultyTransport(
            SerialTransport(path, timeout=0.05), seed, corrupt=0.06, duplicate=0.03, insert=0.03
        )
        device = Device(wire)
        device.link.retries = 12
        device.load(artefact)
        for _ in range(5):
            assert device.verify().passed
        assert device.statistics.retries > 0
        device.close()


def test_a_silent_port_times_out(silent_port: str) -> None:
    started = time.monotonic()
    with (
        pytest.raises(LinkError, match=r"no answer to IDENTIFY .*sent 4 times") as caught,
        Device(SerialTransport(silent_port, timeout=0.05)),
    ):
        pass
    assert time.monotonic() - started < 3
    assert f"serial port {silent_port} at 3000000 baud" in str(caught.value)
    assert "0 bytes came back" in str(caught.value)


def test_a_port_that_takes_nothing_times_out(silent_port: str) -> None:
    with SerialTransport(silent_port, timeout=0.05) as port:
        started = time.monotonic()
        with pytest.raises(LinkError, match=r"takes 1000000 bytes within .* nothing moved"):
            port.write(bytes(1_000_000))
        assert time.monotonic() - started < 3


def test_reading_waits_as_long_as_told(silent_port: str) -> None:
    with SerialTransport(silent_port) as port:
        started = time.monotonic()
        assert port.read(0.1) == b""
        assert 0.09 < time.monotonic() - started < 1


def test_a_port_that_goes_away() -> None:
    outside, inside = pty.openpty()
    tty.setraw(inside)
    port = SerialTransport(os.ttyname(inside), timeout=0.05)
    os.close(inside)
    os.close(outside)
    with pytest.raises(LinkError, match="still plugged in"):
        Device(port).identify()
    port.close()
    port.close()


def test_no_such_port() -> None:
    with pytest.raises(LinkError, match="serial port /dev/no-such-port: exists") as caught:
        SerialTransport("/dev/no-such-port")
    assert "list_ports" in caught.value.fix


@pytest.mark.parametrize(
    ("error", "message", "fix"),
    [
        (
            serial.SerialException(errno.EACCES, "could not open port: Permission denied"),
            "may be opened by this user",
            "dialout",
        ),
        (
            serial.SerialException(errno.EBUSY, "could not exclusively lock port"),
            "opens at 3000000 baud",
            "close the program",
        ),
        (ValueError("Failed to set custom baud rate"), "opens at 3000000 baud", "baud rate"),
    ],
)
def test_a_port_that_does_not_open(
    monkeypatch: pytest.MonkeyPatch, error: Exception, message: str, fix: str
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(serial, "Serial", refuse)
    with pytest.raises(LinkError, match=message) as caught:
        SerialTransport("/dev/ttyUSB0")
    assert fix in caught.value.fix


def test_a_second_program_on_the_port_is_refused() -> None:
    with (
        PtyBridge(GoldenBoard(CONFIG)) as path,
        SerialTransport(path),
        pytest.raises(LinkError, match="close the program"),
    ):
        SerialTransport(path)


class Broken(SilentTransport):
    """Fails at the first byte."""

    def write(self, data: bytes) -> None:
        raise LinkError("broken board", "works", "nothing", "mend it")


def test_the_bridge_passes_errors_on() -> None:
    bridge = PtyBridge(Broken())
    path = bridge.__enter__()
    with SerialTransport(path, timeout=0.05) as port:
        port.write(b"x")
        assert port.read(0.2) == b""
    with pytest.raises(LinkError, match="broken board"):
        bridge.__exit__(None, None, None)
