"""A register between two byte streams that wait for each other."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from drawbar.hw.link_frames import BYTE


class ByteBuffer(wiring.Component):
    """Two bytes, so that neither side's handshake goes through to the other's.

    Latency: one cycle; throughput: a byte a cycle. ``i.ready`` and ``o.valid`` are registers.

    Members
    -------
    i, o:
        Bytes in and out.
    """

    i: In(stream.Signature(BYTE))
    o: Out(stream.Signature(BYTE))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        spare = Signal(BYTE)
        full = Signal()  # the spare place is taken
        m.d.comb += self.i.ready.eq(~full)
        with m.If(~full):
            m.d.sync += spare.eq(self.i.payload)
        with m.If(self.o.ready | ~self.o.valid):
            m.d.sync += [
                self.o.payload.eq(Mux(full, spare, self.i.payload)),
                self.o.valid.eq(full | self.i.valid),
                full.eq(0),
            ]
        with m.Elif(self.i.valid):
            m.d.sync += full.eq(1)
        return m
