"""A board on a serial port."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import serial

from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import LinkError
from drawbar.gen.protocol import MAX_FRAME
from drawbar.gen.transfers import LinkRate, serial_rate
from drawbar.sw.driver.transport import Transport

BITS_PER_BYTE = 10  # start, eight data bits, stop
#: Frames that may lie in front of an answer on a slow wire: the widest window, in both directions.
LONGEST_QUEUE = 64


class SerialTransport(Transport):
    """Bytes over a serial port, with pyserial: eight data bits, no parity, one stop bit, no flow
    control.

    Arguments
    ---------
    port:
        Device name, such as ``/dev/ttyUSB0`` or ``COM3``.
    baud:
        Must be the baud rate in the engine's configuration.
    timeout:
        Seconds of silence that mean a loss; the time that a window of frames takes on the wire
        comes on top.

    Raises
    ------
    LinkError:
        there is no such port, or this user may not open it.
    """

    def __init__(self, port: str, baud: int = 3_000_000, timeout: float = 2.0) -> None:
        self.port = port
        self.baud = baud
        self.timeout = timeout + LONGEST_QUEUE * MAX_FRAME * BITS_PER_BYTE / baud
        try:
            self._serial = serial.Serial(
                port, baud, timeout=self.timeout, write_timeout=self.timeout, exclusive=True
            )
            self._serial.reset_input_buffer()
        except (OSError, ValueError) as error:  # a SerialException is an OSError
            raise _open_error(port, baud, error) from None

    def write(self, data: bytes) -> None:
        with self._errors(f"takes {len(data)} bytes within {self.timeout:.3g} s"):
            self._serial.write(data)

    def read(self, timeout: float) -> bytes:
        with self._errors("can be read"):
            waiting = self._serial.in_waiting
            if not waiting:
                self._serial.timeout = timeout
                first = self._serial.read(1)
                return first + self._serial.read(self._serial.in_waiting) if first else b""
            return self._serial.read(waiting)

    def close(self) -> None:
        self._serial.close()

    def rate(self, config: EngineConfig) -> LinkRate:
        return serial_rate(config, self.baud)

    def describe(self) -> str:
        return f"serial port {self.port} at {self.baud} baud"

    @contextmanager
    def _errors(self, rule: str) -> Iterator[None]:
        try:
            yield
        except serial.SerialTimeoutException:
            raise LinkError(
                self.describe(),
                rule,
                "nothing moved: the other side does not read",
                "check that the device is powered and configured, then open it again",
            ) from None
        except OSError as error:
            raise LinkError(
                self.describe(),
                rule,
                str(error),
                "check that the device is still plugged in, then open it again",
            ) from None


def _open_error(port: str, baud: int, error: Exception) -> LinkError:
    subject = f"serial port {port}"
    number = getattr(error, "errno", None)
    if number in (errno.ENOENT, errno.ENODEV, errno.ENXIO) or "FileNotFound" in str(error):
        return LinkError(
            subject,
            "exists",
            "no such port",
            "plug the board in; `python -m serial.tools.list_ports` lists the ports there are",
        )
    if number in (errno.EACCES, errno.EPERM) or "PermissionError" in str(error):
        return LinkError(
            subject,
            "may be opened by this user",
            str(error),
            "close the program that uses it, or join the group that owns it "
            "(often `sudo usermod -a -G dialout $USER`, then log in again)",
        )
    return LinkError(
        subject,
        f"opens at {baud} baud",
        str(error),
        "close the program that uses it, and give a baud rate that the adapter has",
    )
