"""The host's side of the link: numbered requests in a sliding window, each repeated until answered.

The device executes strictly in order and never does a WRITE or RUN of the same number twice, so
going back to the oldest unanswered request and sending everything from there again (go-back-N) is
always safe, with one rule: READ, STATUS and WAIT *are* executed again, so a RUN waits until every
one of them before it is answered, and a WRITE until every READ that has an item in common with it
is. Other transfers need not wait for each other, nor for the programs that run beside them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from drawbar.gen.errors import LinkError
from drawbar.gen.protocol import (
    IDENTITY_BYTES,
    MAX_FRAME,
    PROTOCOL_VERSION,
    RESPONSE_FLAG,
    STATUS_BYTES,
    WAIT_IDLE,
    Counters,
    Header,
    Identity,
    Op,
    Space,
    Status,
)
from drawbar.sw.driver.frames import (
    FrameReader,
    Request,
    read_requests,
    run_request,
    wait_request,
    write_requests,
)
from drawbar.sw.driver.transport import Transport

#: Called with what is done and what there is to do, in bytes or samples.
Progress = Callable[[int, int], None]

NUMBERS = 256
#: Completes a frame whose end the device never got, and is nothing to a device that waits for sync
#: bytes.
FLUSH = bytes(MAX_FRAME)


@dataclass
class LinkStatistics:
    """What the link did since it was made.

    ``retries`` counts frames sent again, ``timeouts`` waits that ended in silence, ``naks``
    refusals by the device, ``bad_frames`` answers that failed a check, ``discarded`` whole answers
    that nothing waited for.
    """

    requests: int = 0
    retries: int = 0
    timeouts: int = 0
    naks: int = 0
    bad_frames: int = 0
    discarded: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0


class Link:
    """A session with one device. Requests are made and answered within each call; nothing is left
    in flight.

    After an error the next call opens a new session by itself.

    Arguments
    ---------
    transport:
        Where the bytes go; the link does not close it.
    retries:
        How often a request is sent again after silence, before that is an error.
    first_number:
        Sequence number that opens the first session; random without it, so that no answer meant for
        an earlier program is taken for one of this session.
    """

    def __init__(
        self, transport: Transport, *, retries: int = 3, first_number: int | None = None
    ) -> None:
        self.transport = transport
        self.retries = retries
        self.statistics = LinkStatistics()
        self._reader = FrameReader()
        self._first_number = first_number
        self._number = 0
        self._identity: Identity | None = None

    # -- operations --------------------------------------------------------------------------------

    def identify(self) -> Identity:
        """Open a new session, and learn what the device is."""
        self._identity = None
        if self._first_number is None:
            self._number = random.randrange(NUMBERS)
        else:
            self._number, self._first_number = self._first_number, None
        request = Request(Op.IDENTIFY)
        answer = _Exchange(self, [request], window=1, patience=0.0, progress=None).run()[0]
        identity = Identity.unpack(answer)
        if identity.protocol != PROTOCOL_VERSION:
            raise LinkError(
                self.transport.describe(),
                f"speaks version {PROTOCOL_VERSION} of the link protocol",
                f"version {identity.protocol}",
                "use the Drawbar release that built the device, or build the device again",
            )
        self._identity = identity
        return identity

    @property
    def identity(self) -> Identity:
        """What the device said of itself; opens the session where there is none."""
        return self._identity or self.identify()

    def write(
        self,
        space: Space,
        item: int,
        data: bytes,
        size: int,
        progress: Progress | None = None,
    ) -> None:
        """Write ``data`` from ``item`` on; ``size`` is ``item_bytes(config, space)``, and divides
        its length.
        """
        self._whole_items(space, len(data), size)
        self.exchange(write_requests(space, item, data, size), progress=progress)

    def read(
        self,
        space: Space,
        item: int,
        length: int,
        size: int,
        progress: Progress | None = None,
    ) -> bytes:
        """Read ``length`` bytes from ``item`` on; ``size`` is ``item_bytes(config, space)``, and
        divides it.
        """
        self._whole_items(space, length, size)
        return b"".join(self.exchange(read_requests(space, item, length, size), progress=progress))

    def run(self, word: int, patience: float = 0.0) -> Counters:
        """Run the program at a word of program memory, and wait for its end: the run's counters.

        ``patience`` is the time in seconds that the run may take; the transport's timeout comes on
        top.
        """
        answers = self.exchange([run_request(word), wait_request(WAIT_IDLE, patience)])
        return Counters.unpack(answers[-1])

    def wait(self, until: int = WAIT_IDLE, patience: float = 0.0) -> Counters:
        """Wait until no program runs and none is pending (``WAIT_IDLE``), or until none is pending
        (``WAIT_PENDING``): the counters of the latest run that has ended.

        ``patience`` is the time in seconds that this may take; the transport's timeout comes on
        top.
        """
        return Counters.unpack(self.exchange([wait_request(until, patience)])[0])

    def status(self) -> Counters:
        """The device's counters; answered while a program runs, if none is pending."""
        return Counters.unpack(self.exchange([Request(Op.STATUS)])[0])

    def exchange(
        self,
        requests: Sequence[Request],
        *,
        patience: float = 0.0,
        progress: Progress | None = None,
    ) -> list[bytes]:
        """Make requests in order, as many at a time as the device's window takes; payloads of the
        answers.

        Arguments
        ---------
        patience:
            Seconds for which the device may be busy before it answers any of these requests, on top
            of the transport's timeout and of the patience that a request has of its own.
        progress:
            Called with the bytes answered and the bytes there are.

        Raises
        ------
        LinkError:
            silence after every retry, or an answer that refuses a request.
        """
        window = self.identity.window
        return _Exchange(self, requests, window, patience, progress).run()

    def _whole_items(self, space: Space, length: int, size: int) -> None:
        if length % size:
            raise LinkError(
                f"transfer to or from {space.name}",
                f"moves whole items of {size} bytes",
                f"{length} bytes",
                "pad the data to whole items",
            )


class _Exchange:
    """The state of one ``Link.exchange``: which requests are answered, sent, and to be sent again.

    ::

        0 ......... answered ......... sent ......... high ......... limit
          answered  |  sent, unanswered | to send again | never sent |
    """

    def __init__(
        self,
        link: Link,
        requests: Sequence[Request],
        window: int,
        patience: float,
        progress: Progress | None,
    ) -> None:
        self.link = link
        self.transport = link.transport
        self.statistics = link.statistics
        self.requests = requests
        self.window = window
        self.patience = patience
        self.progress = progress
        self.first = link._number
        self.answers: list[bytes] = []
        self.answered = 0
        self.sent = 0
        self.high = 0
        self.limit = len(requests)
        self.bytes_total = sum(r.length for r in requests)
        self.bytes_done = 0
        #: How many may be unanswered now: after silence one, until there is an answer.
        self.width = window
        #: Whether this request was gone back to already: the frames behind it are each refused as
        #: well.
        self.went_back = False
        self.silences = 0
        self.last_nak: int | None = None
        self.refusal: LinkError | None = None
        self.received_before = link.statistics.bytes_received

    def run(self) -> list[bytes]:
        whole = False
        try:
            self._loop()
            whole = True
        finally:
            self.statistics.bad_frames = self.link._reader.bad_frames
            self.link._number = (self.first + self.high) % NUMBERS
            if not whole:
                # Answers may still be on their way: only a new session tells them from those to
                # come.
                self.link._identity = None
        if self.refusal is not None:
            raise self.refusal
        return self.answers

    def _loop(self) -> None:
        deadline = self._deadline()
        while self.answered < self.limit:
            while self._may_send():
                self._send()
            left = deadline - self.transport.now()
            data = self.transport.read(left) if left > 0 else b""
            if not data:
                self._silence()
                deadline = self._deadline()
                continue
            self.statistics.bytes_received += len(data)
            before = self.answered
            for header, payload in self.link._reader.feed(data):
                self._receive(header, payload)
            if self.answered > before:
                deadline = self._deadline()
                if self.progress is not None:
                    self.progress(self.bytes_done, self.bytes_total)

    def _allowed(self) -> float:
        """Seconds that the oldest unanswered request may take."""
        return self.transport.timeout + self.patience + self.requests[self.answered].patience

    def _deadline(self) -> float:
        return self.transport.now() + (self._allowed() if self.answered < self.limit else 0.0)

    def _may_send(self) -> bool:
        if self.sent >= min(self.limit, self.answered + self.width):
            return False
        request = self.requests[self.sent]
        return not any(request.waits_for(r) for r in self.requests[self.answered : self.sent])

    def _send(self) -> None:
        frame = self.requests[self.sent].frame((self.first + self.sent) % NUMBERS)
        if self.sent < self.high:
            self.statistics.retries += 1
        else:
            self.statistics.requests += 1
        self.statistics.bytes_sent += len(frame)
        # Counted before it is written: an error half-way leaves its number used.
        self.sent += 1
        self.high = max(self.high, self.sent)
        self.transport.write(frame)

    def _silence(self) -> None:
        self.statistics.timeouts += 1
        self.silences += 1
        if self.silences > self.link.retries:
            raise self._silence_error()
        self.link._reader.reset()
        self.statistics.bytes_sent += len(FLUSH)
        self.transport.write(FLUSH)
        self.sent = self.answered
        self.width = 1
        self.went_back = False

    def _go_back(self) -> None:
        if not self.went_back:
            self.sent = self.answered
            self.went_back = True

    def _receive(self, header: Header, payload: bytes) -> None:
        op = header.op & ~RESPONSE_FLAG
        # Requests between the oldest unanswered one and this number; negative for one that is
        # answered.
        ahead = (header.seq - self.first - self.answered + NUMBERS // 2) % NUMBERS - NUMBERS // 2
        if op == Op.NAK:
            self.statistics.naks += 1
            self.last_nak = header.seq
            # A device takes IDENTIFY with any number, so until it did its own number means nothing.
            opening = self.requests[0].op == Op.IDENTIFY
            if opening or 0 <= ahead <= self.high - self.answered:
                self._go_back()
            return
        if not header.op & RESPONSE_FLAG or not 0 <= ahead < self.high - self.answered:
            self.statistics.discarded += 1
            return
        request = self.requests[self.answered + ahead]
        if not _answers(header, request):
            self.statistics.discarded += 1
            return
        if ahead:
            # The answers before this one are lost.
            self.statistics.discarded += 1
            self._go_back()
            return
        self._accept(request, header, payload)

    def _accept(self, request: Request, header: Header, payload: bytes) -> None:
        self.answers.append(payload)
        self.answered += 1
        self.sent = max(self.sent, self.answered)
        self.bytes_done += request.length
        self.width = self.window
        self.went_back = False
        self.silences = 0
        if header.status != Status.OK and self.refusal is None:
            # Send nothing more, but take the answers that are due, so that the session stays in
            # step.
            self.limit = self.high
            self.refusal = self._refusal_error(request, header.status)

    # -- errors ------------------------------------------------------------------------------------

    def _progress_text(self) -> str:
        text = f"{self.answered} of {len(self.requests)} requests"
        if self.bytes_total:
            text += f" and {self.bytes_done} of {self.bytes_total} bytes"
        return text + " were answered"

    def _silence_error(self) -> LinkError:
        request = self.requests[self.answered]
        number = (self.first + self.answered) % NUMBERS
        came = self.statistics.bytes_received - self.received_before
        value = (
            f"no answer to {request} (number {number}, sent {self.silences} times); "
            f"{self._progress_text()}, {came} bytes came back"
        )
        if not came:
            fix = "check that the device is powered, configured and on this port, then try again"
        elif self.last_nak is not None:
            value += f", and refusals in which the device waits for number {self.last_nak}"
            fix = "make sure that no other program uses the device, and open it again"
        else:
            value += f", {self.link._reader.bad_frames} damaged frames so far"
            fix = "check that the baud rate is the device's, and the cable, then try again"
        rule = f"answers every request within {self._allowed():.3g} s"
        if came and request.op == Op.WAIT:
            rule = f"ends its programs within {self._allowed():.3g} s"
            fix = "reset the device and load the artefact again"
        return LinkError(self.transport.describe(), rule, value, fix)

    def _refusal_error(self, request: Request, status: int) -> LinkError:
        known = {s.value: s.name for s in Status}
        return LinkError(
            self.transport.describe(),
            f"accepts {request}",
            f"status {known.get(status, status)} after {self._progress_text()}",
            "use addresses and lengths that the device's configuration has",
        )


def _answers(header: Header, request: Request) -> bool:
    """Whether a response with the right number is one to this request, with a payload of the right
    length.
    """
    if header.op != request.op | RESPONSE_FLAG:
        return False
    if header.status != Status.OK:
        return True
    expected = {
        Op.READ: request.length,
        Op.STATUS: STATUS_BYTES,
        Op.WAIT: STATUS_BYTES,
        Op.IDENTIFY: IDENTITY_BYTES,
    }
    return request.op not in expected or header.length == expected[request.op]
