"""Frames and sends responses."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from drawbar.gen.protocol import CRC_BYTES, HEADER_BYTES, SYNC
from drawbar.hw.crc import Crc32c
from drawbar.hw.link_frames import BYTE, Response

_CHECKED_HEADER = HEADER_BYTES - CRC_BYTES
_SYNC = Const(int.from_bytes(SYNC, "little"), len(SYNC) * BYTE)
_CHECK_LAST = CRC_BYTES - 1


class LinkTransmitter(wiring.Component):
    """Sends a header with its check and, when its ``length`` is not 0, the payload with its check.

    The first byte comes in the cycle after the response was taken; then one byte a cycle while
    ``tx`` takes it and ``payload`` has it. ``payload`` passes through without a register. One cycle
    is lost between frames.

    Members
    -------
    response:
        Header of a response. The next one is taken when the frame is complete.
    payload:
        ``length`` bytes for each response.
    tx:
        The frames.
    """

    response: In(stream.Signature(Response))
    payload: In(stream.Signature(BYTE))
    tx: Out(stream.Signature(BYTE))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.crc = crc = Crc32c()

        header = Signal(_CHECKED_HEADER * BYTE)
        length = Signal.like(self.response.payload.length)
        count = Signal.like(length)
        last = Signal.like(length)
        m.d.sync += last.eq(length - 1)
        sent = Signal()

        m.d.comb += [
            sent.eq(self.tx.valid & self.tx.ready),
            crc.byte.eq(self.tx.payload),
        ]
        with m.If(sent):
            m.d.sync += count.eq(count + 1)

        with m.FSM():
            with m.State("Idle"):
                m.d.comb += [
                    self.response.ready.eq(1),
                    crc.clear.eq(1),
                ]
                m.d.sync += [
                    header.eq(Cat(_SYNC, self.response.payload)),
                    length.eq(self.response.payload.length),
                    count.eq(0),
                ]
                with m.If(self.response.valid):
                    m.next = "Header"

            with m.State("Header"):
                m.d.comb += [
                    self.tx.valid.eq(1),
                    self.tx.payload.eq(header[:BYTE]),
                    crc.enable.eq(self.tx.ready),
                ]
                with m.If(self.tx.ready):
                    m.d.sync += header.eq(header[BYTE:])
                    with m.If(count == _CHECKED_HEADER - 1):
                        m.d.sync += count.eq(0)
                        m.next = "Header check"

            with m.State("Header check"):
                m.d.comb += [
                    self.tx.valid.eq(1),
                    self.tx.payload.eq(crc.check),
                    crc.shift.eq(self.tx.ready),
                ]
                with m.If(self.tx.ready & (count == _CHECK_LAST)):
                    m.d.comb += crc.clear.eq(1)
                    m.d.sync += count.eq(0)
                    with m.If(length == 0):
                        m.next = "Idle"
                    with m.Else():
                        m.next = "Payload"

            with m.State("Payload"):
                m.d.comb += [
                    self.tx.valid.eq(self.payload.valid),
                    self.tx.payload.eq(self.payload.payload),
                    self.payload.ready.eq(self.tx.ready),
                    crc.enable.eq(sent),
                ]
                with m.If(sent & (count == last)):
                    m.d.sync += count.eq(0)
                    m.next = "Payload check"

            with m.State("Payload check"):
                m.d.comb += [
                    self.tx.valid.eq(1),
                    self.tx.payload.eq(crc.check),
                    crc.shift.eq(self.tx.ready),
                ]
                with m.If(self.tx.ready & (count == _CHECK_LAST)):
                    m.next = "Idle"
        return m
