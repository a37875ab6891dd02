"""Any transport on a pseudo-terminal, so that what opens serial ports meets a simulated board
(Linux and macOS).
"""

from __future__ import annotations

import os
import pty
import select
import threading
import tty
from types import TracebackType

from drawbar.sw.driver.transport import Transport

#: Seconds between two looks for answers that came without being asked for.
POLL = 0.002


class PtyBridge:
    """``with PtyBridge(transport) as path`` serves the transport at ``path`` until the block ends.

    A thread of its own is the only one that touches the transport meanwhile. What the transport
    raises ends the service, and is raised again where the block ends. The transport stays open.
    """

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._outside = self._inside = -1
        self._thread = threading.Thread(target=self._serve, name="pty-bridge", daemon=True)

    def __enter__(self) -> str:
        self._outside, self._inside = pty.openpty()
        # Raw: a terminal would echo, and change bytes. The inside stays open, or a client that
        # closes hangs up the line.
        tty.setraw(self._inside)
        os.set_blocking(self._outside, False)
        self._thread.start()
        return os.ttyname(self._inside)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        os.close(self._outside)
        os.close(self._inside)
        if self._error is not None and error is None:
            raise self._error

    def _serve(self) -> None:
        try:
            answers = bytearray()
            while not self._stop.is_set():
                writers = [self._outside] if answers else []
                readable, writable, _ = select.select([self._outside], writers, [], POLL)
                if writable:
                    del answers[: os.write(self._outside, answers)]
                if readable:
                    self.transport.write(os.read(self._outside, 65536))
                answers += self.transport.read(0.0)
        except BaseException as error:
            self._error = error
