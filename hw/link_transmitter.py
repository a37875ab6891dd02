"""Frames and sends responses."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from drawbar.gen.protocol import CRC_BYTES, HEADER_BYTES, SYNC
from drawbar.hw.crc import Crc32c
from drawbar.hw.link_frames import BYTE, Response

_CHECKED_HEADER = HEADER_BYTES - CRC_BYTES
_SYNC = Const(int.from_bytes(SYNC, "little"), len(SYNC) * BYTE)


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
        # What follows from the length, in registers; a header takes longer.
        before_last = Signal.like(length)
        single, empty = Signal(), Signal()
        m.d.sync += [before_last.eq(length - 1), single.eq(length == 1), empty.eq(length == 0)]
        # Bytes of the piece after the one that is sent, and whether there are none.
        left = Signal.like(length)
        final = Signal()
        sent = Signal()
        in_payload = Signal()

        def piece(after_first: int | Value, is_single: int | Value = 0) -> None:
            m.d.sync += [left.eq(after_first), final.eq(is_single)]

        m.d.comb += [
            sent.eq(self.tx.valid & self.tx.ready),
            crc.byte.eq(Mux(in_payload, self.payload.payload, header[:BYTE])),
        ]
        with m.If(sent):
            m.d.sync += [left.eq(left - 1), final.eq(left == 1)]

        with m.FSM():
            with m.State("Idle"):
                m.d.comb += [
                    self.response.ready.eq(1),
                    crc.clear.eq(1),
                ]
                m.d.sync += [
                    header.eq(Cat(_SYNC, self.response.payload)),
                    length.eq(self.response.payload.length),
                ]
                piece(_CHECKED_HEADER - 1)
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
                    with m.If(final):
                        piece(CRC_BYTES - 1)
                        m.next = "Header check"

            with m.State("Header check"):
                m.d.comb += [
                    self.tx.valid.eq(1),
                    self.tx.payload.eq(crc.check),
                    crc.shift.eq(self.tx.ready),
                ]
                with m.If(self.tx.ready & final):
                    m.d.comb += crc.clear.eq(1)
                    with m.If(empty):
                        m.next = "Idle"
                    with m.Else():
                        piece(before_last, single)
                        m.d.sync += in_payload.eq(1)
                        m.next = "Payload"

            with m.State("Payload"):
                m.d.comb += [
                    self.tx.valid.eq(self.payload.valid),
                    self.tx.payload.eq(self.payload.payload),
                    crc.enable.eq(sent),
                ]
                with m.If(sent & final):
                    piece(CRC_BYTES - 1)
                    m.d.sync += in_payload.eq(0)
                    m.next = "Payload check"

            with m.State("Payload check"):
                m.d.comb += [
                    self.tx.valid.eq(1),
                    self.tx.payload.eq(crc.check),
                    crc.shift.eq(self.tx.ready),
                ]
                with m.If(self.tx.ready & final):
                    m.next = "Idle"

        # A register of its own for the one state in which much hangs on the line.
        m.d.comb += self.payload.ready.eq(in_payload & self.tx.ready)
        return m
