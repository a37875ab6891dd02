"""The driver: devices over byte transports. Imports NumPy, pyserial and the standard library."""

from drawbar.sw.driver.device import Device, RunReport, VerifyReport
from drawbar.sw.driver.link import Link, LinkStatistics
from drawbar.sw.driver.serial_transport import SerialTransport
from drawbar.sw.driver.transport import Transport
from drawbar.sw.driver.urls import DeviceURL, parse_url

__all__ = [
    "Device",
    "DeviceURL",
    "Link",
    "LinkStatistics",
    "RunReport",
    "SerialTransport",
    "Transport",
    "VerifyReport",
    "parse_url",
]
