"""Device names."""

from __future__ import annotations

import pytest

from drawbar.gen.errors import LinkError
from drawbar.sw.driver.urls import DeviceURL, parse_url


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("golden", DeviceURL("golden")),
        ("sim", DeviceURL("sim")),
        ("serial:///dev/ttyUSB0", DeviceURL("serial", "/dev/ttyUSB0", 3_000_000)),
        ("serial:///dev/ttyUSB0?baud=115200", DeviceURL("serial", "/dev/ttyUSB0", 115_200)),
        (
            "serial:///dev/serial/by%2Did/a?baud=9600",
            DeviceURL("serial", "/dev/serial/by-id/a", 9600),
        ),
        ("serial://COM3", DeviceURL("serial", "COM3")),
    ],
)
def test_known_names(text: str, url: DeviceURL) -> None:
    assert parse_url(text) == url


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has a known scheme.*`golden`, `sim`, or `serial:///PATH"),
        ("usb", "has a known scheme; found usb.*`golden`, `sim`, or `serial:///PATH"),
        ("tcp://host:1", "has a known scheme; found tcp"),
        ("/dev/ttyUSB0", "has a known scheme; found /dev/ttyUSB0"),
        ("serial://", "names a serial port"),
        ("serial:///dev/x?baud=fast", "baud rate above 0; found 'fast'"),
        ("serial:///dev/x?baud=", "baud rate above 0; found ''"),
        ("serial:///dev/x?baud=0", "baud rate above 0; found '0'"),
        ("serial:///dev/x?baud=-9600", "baud rate above 0"),
        ("serial:///dev/x?speed=9600", "only the parameter baud; found speed"),
    ],
)
def test_wrong_names(text: str, message: str) -> None:
    with pytest.raises(LinkError, match=message):
        parse_url(text)
