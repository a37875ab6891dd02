"""The counters of the latest run, byte by byte."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from drawbar.gen.config import EngineConfig
from drawbar.hw.interface import EngineCounters
from drawbar.hw.link_frames import BYTE
from drawbar.hw.vendor.portable import primitives


class RunReport(wiring.Component):
    """Keeps the counters of the latest run that has ended in a ring of bytes, which turns while
    they are sent.

    Members
    -------
    counters, counted:
        As in ``hw.engine.Engine``.
    hold:
        The counters of a run that ends now are taken when this falls: it must, before another run
        begins.
    byte, turn:
        A byte, and a strobe: go on to the next one. Counter by counter, each ``counter_bytes``
        long, least significant byte first; after the last one comes the first one.
    """

    def __init__(self, *, config: EngineConfig) -> None:
        self._counter_bits = config.counter_bits
        super().__init__(
            {
                "counters": In(EngineCounters),
                "counted": In(1),
                "hold": In(1),
                "byte": Out(BYTE),
                "turn": In(1),
            }
        )

    @property
    def counter_bytes(self) -> int:
        """Bytes that a counter takes; those above are 0."""
        return -(-self._counter_bits // BYTE)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        names = list(EngineCounters.as_shape().members)
        now = Cat(self.counters[name][: self.counter_bytes * BYTE] for name in names)
        ring = Signal(len(now))
        late = Signal()  # the counters of a run wait to be taken
        # It is known late that the ring turns, and it is wide: it turns a cycle later, and until
        # then its second byte is the one to send. Each counter has its own register for it.
        turns = primitives(platform).copies(m, self.turn, len(names), "turns")
        m.d.comb += self.byte.eq(Mux(turns[0], ring[BYTE : 2 * BYTE], ring[:BYTE]))
        turned = Cat(ring[BYTE:], ring[:BYTE])
        bits = self.counter_bytes * BYTE
        with m.If((self.counted | late) & ~self.hold):
            m.d.sync += [ring.eq(now), late.eq(0)]
        with m.Else():
            for n, turn in enumerate(turns):
                with m.If(turn):
                    m.d.sync += ring[n * bits : (n + 1) * bits].eq(
                        turned[n * bits : (n + 1) * bits]
                    )
            with m.If(self.counted):
                m.d.sync += late.eq(1)
        return m
