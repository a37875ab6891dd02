"""Serial line, 8 data bits, no parity, one stop bit, behind byte streams."""

from math import gcd

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

_BYTE = 8

#: Start bit, data bits, stop bit.
_BITS = _BYTE + 2


class _BitClock:
    """A phase that grows by ``step`` a cycle and wraps at ``modulus``, once a bit: bits need not be
    whole cycles.

    At 25 MHz and 3 Mbaud a bit takes 8.33 cycles; a divisor of 8 would be off by 4 %.

    Members
    -------
    tick:
        A register: high in the cycle after the one in which the phase wraps.
    """

    def __init__(self, m: Module, *, clock_hz: int, baud: int) -> None:
        common = gcd(clock_hz, baud)
        self.modulus = clock_hz // common
        self.step = baud // common
        most = self.modulus + 2 * self.step
        self.phase = Signal(range(most))
        self.tick = Signal()
        # Both sums at once, and not one after a comparison with the other.
        reached = Signal(range(most + self.step))
        wrapped = Signal(range(-self.modulus, most))
        wraps = Signal()
        m.d.comb += [
            reached.eq(self.phase + self.step),
            wrapped.eq(self.phase + (self.step - self.modulus)),
            wraps.eq(wrapped >= 0),
        ]
        m.d.sync += [
            self.phase.eq(Mux(wraps, wrapped.as_unsigned(), reached)),
            self.tick.eq(wraps),
        ]

    def start(self, m: Module, phase: int) -> None:
        """Hold the clock; when it is let go, the first tick comes as if ``phase`` were the phase of
        that cycle and the tick were no register, but not in that very cycle.
        """
        m.d.sync += [self.phase.eq(phase + self.step), self.tick.eq(0)]


def _check_rates(clock_hz: int, baud: int) -> None:
    if baud < 1 or clock_hz < 4 * baud:
        raise ValueError(
            "a serial line needs at least 4 clock cycles a bit; "
            f"found clock_hz={clock_hz!r}, baud={baud!r}"
        )


class _AtRates(wiring.Component):
    """A component that knows the rate of its clock and of its line."""

    def __init__(self, *, clock_hz: int, baud: int) -> None:
        _check_rates(clock_hz, baud)
        self._clock_hz = clock_hz
        self._baud = baud
        super().__init__()

    @property
    def clock_hz(self) -> int:
        return self._clock_hz

    @property
    def baud(self) -> int:
        return self._baud


class UartReceiver(_AtRates):
    """Bytes from a serial line.

    Each bit is sampled once, within one clock cycle of its middle. A byte appears in ``received``
    three cycles after the middle of its stop bit, and the next start bit is looked for at once, so
    a sender may be fast or slow by ``(1/2 - 1/cycles per bit) / 9.5``: 2.6 % at the least 4 cycles
    a bit, 4.6 % at 16. A start bit that is gone by its middle is noise, and is ignored.

    Arguments
    ---------
    clock_hz, baud:
        Rate of the ``sync`` domain, and of the line. At least 4 cycles a bit; the quotient need not
        be whole.

    Members
    -------
    rx:
        The line, idle high, asynchronous.
    received:
        What was received. The line cannot wait: a byte that is not taken before the next one is
        complete stays, and the next one is lost.
    framing_error:
        Strobe: the stop bit was low, and the byte is dropped. Reception goes on after the line has
        been high.
    overflow:
        Strobe: a byte was lost because ``received`` was not taken.
    """

    rx: In(1, init=1)
    received: Out(stream.Signature(_BYTE))
    framing_error: Out(1)
    overflow: Out(1)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        line = Signal(init=1)
        m.submodules.synchroniser = FFSynchronizer(self.rx, line, init=1)

        clock = _BitClock(m, clock_hz=self._clock_hz, baud=self._baud)
        byte = Signal(_BYTE)
        count = Signal(range(_BYTE))

        with m.If(self.received.ready):
            m.d.sync += self.received.valid.eq(0)

        with m.FSM():
            with m.State("Idle"):
                # The edge lies up to a cycle before it is seen. Half a bit, less that cycle, makes
                # the error symmetrical.
                clock.start(m, clock.modulus // 2 + clock.step)
                with m.If(~line):
                    m.next = "Start"

            with m.State("Start"), m.If(clock.tick):
                with m.If(line):
                    m.next = "Idle"
                with m.Else():
                    m.next = "Data"

            with m.State("Data"), m.If(clock.tick):
                m.d.sync += [
                    byte.eq(Cat(byte[1:], line)),
                    count.eq(count + 1),
                ]
                with m.If(count == _BYTE - 1):
                    m.next = "Stop"

            with m.State("Stop"), m.If(clock.tick):
                with m.If(~line):
                    m.d.comb += self.framing_error.eq(1)
                    m.next = "Break"
                with m.Else():
                    with m.If(self.received.valid & ~self.received.ready):
                        m.d.comb += self.overflow.eq(1)
                    with m.Else():
                        m.d.sync += [
                            self.received.payload.eq(byte),
                            self.received.valid.eq(1),
                        ]
                    m.next = "Idle"

            with m.State("Break"), m.If(line):
                m.next = "Idle"
        return m


class UartTransmitter(_AtRates):
    """Bytes to a serial line.

    The start bit begins in the cycle after a byte is taken; the next byte is taken one cycle after
    the end of the stop bit at the earliest. Every edge lies within one clock cycle of its place,
    whatever the rates.

    Arguments
    ---------
    clock_hz, baud:
        As in ``UartReceiver``.

    Members
    -------
    sent:
        What to send; waits while a byte is on the line.
    tx:
        The line, idle high; driven by a register, so free of glitches.
    """

    sent: In(stream.Signature(_BYTE))
    tx: Out(1, init=1)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        clock = _BitClock(m, clock_hz=self._clock_hz, baud=self._baud)
        bits = Signal(_BITS, init=-1)
        left = Signal(range(_BITS + 1))

        m.d.comb += [
            self.tx.eq(bits[0]),
            self.sent.ready.eq(left == 0),
        ]
        with m.If(self.sent.ready):
            clock.start(m, 0)
            with m.If(self.sent.valid):
                m.d.sync += [
                    bits.eq(Cat(0, self.sent.payload, 1)),
                    left.eq(_BITS),
                ]
        with m.Elif(clock.tick):
            m.d.sync += [
                bits.eq(Cat(bits[1:], 1)),
                left.eq(left - 1),
            ]
        return m


class Uart(_AtRates):
    """A receiver and a transmitter with the same rates.

    Arguments
    ---------
    clock_hz, baud:
        As in ``UartReceiver``.

    Members
    -------
    rx, tx:
        The lines, idle high.
    received, sent:
        Bytes from ``rx``, and bytes for ``tx``.
    framing_error, overflow:
        As in ``UartReceiver``.
    """

    rx: In(1, init=1)
    tx: Out(1, init=1)
    received: Out(stream.Signature(_BYTE))
    sent: In(stream.Signature(_BYTE))
    framing_error: Out(1)
    overflow: Out(1)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.receiver = receiver = UartReceiver(clock_hz=self._clock_hz, baud=self._baud)
        m.submodules.transmitter = transmitter = UartTransmitter(
            clock_hz=self._clock_hz, baud=self._baud
        )
        wiring.connect(m, receiver.received, wiring.flipped(self.received))
        wiring.connect(m, wiring.flipped(self.sent), transmitter.sent)
        m.d.comb += [
            receiver.rx.eq(self.rx),
            self.tx.eq(transmitter.tx),
            self.framing_error.eq(receiver.framing_error),
            self.overflow.eq(receiver.overflow),
        ]
        return m
