"""What the driver needs of a byte transport: of a serial port, or of a simulated board."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from drawbar.gen.config import EngineConfig
from drawbar.gen.transfers import STREAMS, LinkRate


class Transport(ABC):
    """An ordered stream of bytes in both directions. It may lose and change bytes: the link finds
    and repeats them.

    Members
    -------
    timeout:
        Seconds of silence after which the link takes a request for lost and sends it again. A
        transport to something slower than a board raises it.
    clock_hz:
        Cycles that the engine makes in one second of this transport's time; None where it runs at
        the clock of its configuration. A simulation has its own.
    ready:
        There is a device behind the transport. A simulated board that waits to be told its engine
        is not ready yet.
    """

    timeout: float = 2.0
    clock_hz: float | None = None
    ready: bool = True

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Send every byte.

        Raises
        ------
        LinkError:
            the other side is gone, or takes nothing within the timeout.
        """

    @abstractmethod
    def read(self, timeout: float) -> bytes:
        """Whatever has arrived: at least one byte, or ``b""`` where none arrives within ``timeout``
        seconds.

        Raises
        ------
        LinkError:
            the other side is gone.
        """

    def now(self) -> float:
        """Seconds since any fixed moment, in the time that timeouts count in. A simulation has its
        own.
        """
        return time.monotonic()

    def rate(self, config: EngineConfig) -> LinkRate:
        """How fast bytes go both ways, in cycles of this engine: a byte a cycle, where a transport
        knows no better.
        """
        return STREAMS

    def prepare(self, config: EngineConfig) -> bool:
        """Told the engine of an artefact that is about to be loaded. A simulated board without an
        engine of its own becomes that engine; True where the device behind the transport is a new
        one.
        """
        return False

    @abstractmethod
    def close(self) -> None:
        """Release the transport; closing it again does nothing."""

    @abstractmethod
    def describe(self) -> str:
        """Name for messages, such as ``serial port /dev/ttyUSB0 at 3000000 baud``."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
