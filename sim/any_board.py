"""A simulated board that becomes whatever engine the first artefact needs."""

from __future__ import annotations

from collections.abc import Callable

from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import LinkError
from drawbar.gen.transfers import LinkRate
from drawbar.sw.driver.transport import Transport


class AnyBoard(Transport):
    """A transport to a simulated board that is made when an artefact is about to be loaded.

    An artefact for another engine makes another board; the one before is closed.

    Arguments
    ---------
    name:
        For messages.
    make:
        Makes the board of a configuration.
    """

    def __init__(self, name: str, make: Callable[[EngineConfig], Transport]) -> None:
        self.name = name
        self._make = make
        self._board: Transport | None = None
        self._config: EngineConfig | None = None

    @property
    def board(self) -> Transport:
        """The board behind this transport."""
        if self._board is None:
            raise LinkError(
                f"simulated device {self.name!r}",
                "has an engine before it is spoken to",
                "none yet",
                "load an artefact, or name an engine: drawbar.open(url, engine=...)",
            )
        return self._board

    @property
    def ready(self) -> bool:  # type: ignore[override]
        return self._board is not None

    def rate(self, config: EngineConfig) -> LinkRate:
        return self.board.rate(config)

    def prepare(self, config: EngineConfig) -> bool:
        if self._config is not None and self._config.hash == config.hash and self._board:
            return False
        self.close()
        self._board, self._config = self._make(config), config
        self.timeout, self.clock_hz = self._board.timeout, self._board.clock_hz
        return True

    def write(self, data: bytes) -> None:
        self.board.write(data)

    def read(self, timeout: float) -> bytes:
        return self.board.read(timeout)

    def now(self) -> float:
        return self.board.now()

    def close(self) -> None:
        if self._board is not None:
            self._board.close()
            self._board = None

    def describe(self) -> str:
        return self._board.describe() if self._board else f"simulated device {self.name!r}"
