"""Names of devices: ``golden``, ``sim``, ``serial:///dev/ttyUSB0?baud=3000000``."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from drawbar.gen.errors import LinkError

SCHEMES = ("golden", "sim", "serial")
KNOWN = "`golden`, `sim`, or `serial:///PATH?baud=N`"
DEFAULT_BAUD = 3_000_000


@dataclass(frozen=True)
class DeviceURL:
    """A parsed device name. ``path`` and ``baud`` are of a serial port only."""

    scheme: str
    path: str = ""
    baud: int = DEFAULT_BAUD


def parse_url(url: str) -> DeviceURL:
    """What a device name says.

    Raises
    ------
    LinkError:
        an unknown scheme or parameter, a missing port, or a baud rate that is no positive number.
    """
    subject = f"device {url!r}"
    if url in ("golden", "sim"):
        return DeviceURL(url)
    parts = urlsplit(url)
    if parts.scheme != "serial":
        raise LinkError(subject, "has a known scheme", parts.scheme or url, f"use {KNOWN}")
    # A Windows port is a name, not a path: serial://COM3.
    path = unquote(parts.netloc + parts.path)
    if not path:
        raise LinkError(
            subject, "names a serial port", "none", "write serial:///dev/ttyUSB0?baud=3000000"
        )
    baud = DEFAULT_BAUD
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        if key != "baud":
            raise LinkError(subject, "has only the parameter baud", key, "leave it out")
        if not (value.isascii() and value.isdigit() and int(value)):
            raise LinkError(
                subject, "has a baud rate above 0", repr(value), "write it in digits: ?baud=3000000"
            )
        baud = int(value)
    return DeviceURL("serial", path, baud)
