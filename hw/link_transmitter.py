"""Sends responses, each piece with its check."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from drawbar.gen.protocol import CRC_BYTES
from drawbar.hw.crc import Crc32c
from drawbar.hw.link_frames import BYTE, Sent


class LinkTransmitter(wiring.Component):
    """Sends bytes, and after each that is the last one of its piece the piece's check.

    A byte comes out in the cycle after it was taken, out of a register. Throughput: a byte a cycle
    while ``tx`` takes them.

    Members
    -------
    bytes_in:
        Headers and payloads of responses. The register takes a byte while its own goes out, and
        the first byte of the next piece while a check does.
    tx:
        The frames.
    """

    bytes_in: In(stream.Signature(Sent))
    tx: Out(stream.Signature(BYTE))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.crc = crc = Crc32c()

        held = Signal(Sent)
        full = Signal()
        checking = Signal()
        left = Signal(range(CRC_BYTES))  # bytes of the check after the next one
        m.d.comb += [
            self.bytes_in.ready.eq(~full | (self.tx.ready & ~checking)),
            self.tx.valid.eq(full | checking),
            self.tx.payload.eq(Mux(checking, crc.check, held.byte)),
            crc.byte.eq(held.byte),
            crc.enable.eq(full & ~checking & self.tx.ready),
            crc.shift.eq(checking & self.tx.ready),
        ]
        with m.If(self.bytes_in.ready):
            m.d.sync += [held.eq(self.bytes_in.payload), full.eq(self.bytes_in.valid)]
        with m.If(self.tx.ready):
            with m.If(checking):
                m.d.sync += left.eq(left - 1)
                with m.If(left == 0):
                    m.d.comb += crc.clear.eq(1)
                    m.d.sync += checking.eq(0)
            with m.Else():
                m.d.sync += [checking.eq(full & held.last), left.eq(CRC_BYTES - 1)]
        return m
