"""Finds, checks and orders requests."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from drawbar.gen.config import clog2
from drawbar.gen.protocol import CRC_BYTES, HEADER_BYTES, MAX_PAYLOAD, SYNC, Op, Status
from drawbar.hw.crc import Crc32c
from drawbar.hw.delay import delayed
from drawbar.hw.link_frames import BYTE, Request

#: Bytes of a header from its operation on, and those of them that the device uses: op, seq,
#: address, length.
_AFTER_SYNC = HEADER_BYTES - len(SYNC)
_USED = 8


class _Header(data.Struct):
    op: 8
    seq: 8
    address: 32
    length: 16


class LinkReceiver(wiring.Component):
    """Turns bytes into requests whose checks have passed, and puts payloads into slots.

    A receiver is in step from one good header to the first byte that is not where a frame ends;
    reset puts it in step. In step, a header that fails its check gets a NAK; out of step, it is
    taken for chance and ignored, so a burst of errors gets one NAK. A payload that fails its check
    gets a NAK in any case, since its header was good. A silence in the middle of a frame drops the
    frame.

    Numbers: the one waited for is queued, and so is an IDENTIFY with any number. One of the latest
    ``window`` numbers executed since the IDENTIFY is queued as a duplicate, unless its first copy
    still waits: then the answer is on its way, and it is ignored. Anything else gets a NAK.

    A request holds slot ``seq mod window`` until it is answered. A new request whose slot is taken
    waits, which stops ``rx``: that never happens to a host whose next number is at most ``window``
    above the oldest one without an answer. NAKs that find no room are dropped.

    ``rx`` takes a byte a cycle, but for one cycle after each header and one after each frame. A
    request without payload is queued in the second cycle after its last byte, one with payload in
    the first.

    Arguments
    ---------
    window:
        Slots; a power of two.
    idle_cycles:
        Cycles without a byte after which an unfinished frame is dropped.

    Members
    -------
    rx:
        Bytes.
    requests:
        Checked requests and NAKs; must be ready for ``window`` requests on top of the NAKs.
    nak_room:
        There is room for a NAK.
    release, release_slot:
        Strobe: the request in this slot has been answered.
    slot_write, slot_address, slot_byte:
        Writes of the payload memory; the slot is in the high bits of the address.
    crc_errors, sequence_errors:
        Frames that failed a check in step, and frames with a number out of sequence; since reset,
        modulo 2**32.
    """

    def __init__(self, *, window: int, idle_cycles: int) -> None:
        if window < 2 or window & (window - 1):
            raise ValueError(f"the window is a power of two, at least 2; found window={window!r}")
        if idle_cycles < 1:
            raise ValueError(f"a silence takes at least 1 cycle; found idle_cycles={idle_cycles!r}")
        self._window = window
        self._idle_cycles = idle_cycles
        self._slot_bits = clog2(window)
        super().__init__(
            {
                "rx": In(stream.Signature(BYTE)),
                "requests": Out(stream.Signature(Request)),
                "nak_room": In(1),
                "release": In(1),
                "release_slot": In(self._slot_bits),
                "slot_write": Out(1),
                "slot_address": Out(self._slot_bits + clog2(MAX_PAYLOAD)),
                "slot_byte": Out(BYTE),
                "crc_errors": Out(32),
                "sequence_errors": Out(32),
            }
        )

    @property
    def window(self) -> int:
        return self._window

    @property
    def idle_cycles(self) -> int:
        return self._idle_cycles

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.crc = crc = Crc32c()

        expected = Signal(8)  # the number waited for
        history = Signal(range(self._window + 1))  # how many numbers before it were executed
        taken = Signal(self._window)  # slots of unanswered requests
        in_step = Signal(init=1)

        header = Signal(_Header)
        count = Signal(range(MAX_PAYLOAD + CRC_BYTES + 1))
        byte = self.rx.payload
        got = Signal()
        m.d.comb += [
            got.eq(self.rx.valid & self.rx.ready),
            crc.byte.eq(byte),
        ]

        # What the header says, in registers, as comparisons are long. The part of it that is used
        # is there six bytes before its end, and what is waited for changes only at a frame's end.
        slot = header.seq[: self._slot_bits]
        slot_taken = taken.bit_select(slot, 1)
        age = Signal(8)
        new = Signal()
        duplicate = Signal()
        has_payload = Signal()
        last = Signal.like(count)  # byte of the payload and its check
        m.d.comb += age.eq(expected - 1 - header.seq)
        m.d.sync += [
            new.eq((header.op == Op.IDENTIFY) | (header.seq == expected)),
            duplicate.eq(age < history),
            last.eq(header.length + (CRC_BYTES - 1)),
            has_payload.eq(
                (header.op == Op.WRITE) & (header.length != 0) & (header.length <= MAX_PAYLOAD)
            ),
        ]

        # Verdicts, each given for one cycle.
        accept = Signal()
        repeat = Signal()
        bad_crc = Signal()
        bad_sequence = Signal()

        silence = Signal()
        with m.FSM() as fsm:
            with m.State("Hunt"):
                m.d.comb += self.rx.ready.eq(1)
                m.d.sync += count.eq(0)
                with m.If(got & (byte == SYNC[0])):
                    m.d.comb += crc.enable.eq(1)
                    m.next = "Sync"
                with m.Else():
                    m.d.comb += crc.clear.eq(1)
                    with m.If(got):
                        m.d.sync += in_step.eq(0)

            with m.State("Sync"):
                m.d.comb += self.rx.ready.eq(1)
                with m.If(got & (byte == SYNC[1])):
                    m.d.comb += crc.enable.eq(1)
                    m.next = "Header"
                with m.Elif(got):
                    m.d.sync += in_step.eq(0)
                    # The first sync byte twice: the second one may be the true one.
                    with m.If(byte != SYNC[0]):
                        m.d.comb += crc.clear.eq(1)
                        m.next = "Hunt"
                with m.Elif(silence):
                    m.next = "Hunt"

            with m.State("Header"):
                m.d.comb += [
                    self.rx.ready.eq(1),
                    crc.enable.eq(got),
                ]
                with m.If(got):
                    m.d.sync += count.eq(count + 1)
                    with m.If(count < _USED):
                        m.d.sync += header.eq(Cat(header.as_value()[BYTE:], byte))
                    with m.If(count == _AFTER_SYNC - 1):
                        m.next = "Judge"
                with m.Elif(silence):
                    m.next = "Hunt"

            with m.State("Judge"):
                # The register is left alone while a new request waits for its slot.
                m.d.sync += count.eq(0)
                with m.If(~crc.match):
                    m.d.comb += [
                        bad_crc.eq(in_step),
                        crc.clear.eq(1),
                    ]
                    m.d.sync += in_step.eq(0)
                    m.next = "Hunt"
                with m.Elif(~(new & slot_taken)):
                    m.d.comb += crc.clear.eq(1)
                    m.d.sync += in_step.eq(1)
                    with m.If(has_payload):
                        m.next = "Payload"
                    with m.Else():
                        m.next = "Settle"

            with m.State("Payload"):
                m.d.comb += [
                    self.rx.ready.eq(1),
                    crc.enable.eq(got),
                    self.slot_write.eq(got & new & (count < header.length)),
                ]
                with m.If(got):
                    m.d.sync += count.eq(count + 1)
                    with m.If(count == last):
                        m.next = "Settle"
                with m.Elif(silence):
                    m.next = "Hunt"

            with m.State("Settle"):
                m.d.comb += crc.clear.eq(1)
                m.next = "Hunt"
                with m.If(has_payload & ~crc.match):
                    m.d.comb += bad_crc.eq(1)
                    m.d.sync += in_step.eq(0)
                with m.Elif(new):
                    m.d.comb += accept.eq(1)
                with m.Elif(~duplicate):
                    m.d.comb += bad_sequence.eq(1)
                with m.Elif(~slot_taken):
                    m.d.comb += repeat.eq(1)

        in_frame = fsm.ongoing("Sync") | fsm.ongoing("Header") | fsm.ongoing("Payload")
        idle = Signal(range(self._idle_cycles))
        with m.If(~in_frame | got):
            m.d.sync += idle.eq(0)
        with m.Elif(idle == self._idle_cycles - 1):
            m.d.comb += [
                silence.eq(1),
                crc.clear.eq(1),
            ]
            m.d.sync += in_step.eq(0)
        with m.Else():
            m.d.sync += idle.eq(idle + 1)

        with m.If(self.release):
            m.d.sync += taken.bit_select(self.release_slot, 1).eq(0)
        with m.If(accept | repeat):
            m.d.sync += taken.bit_select(slot, 1).eq(1)
        with m.If(accept):
            m.d.sync += expected.eq(header.seq + 1)
            with m.If(header.op == Op.IDENTIFY):
                m.d.sync += history.eq(1)
            with m.Elif(history != self._window):
                m.d.sync += history.eq(history + 1)

        # Verdicts are late in their cycle; counting takes one of its own.
        m.d.sync += [
            self.crc_errors.eq(self.crc_errors + delayed(m, bad_crc, 1, "bad_crc")),
            self.sequence_errors.eq(
                self.sequence_errors + delayed(m, bad_sequence, 1, "bad_sequence")
            ),
        ]
        m.d.comb += [
            self.slot_address.eq(Cat(count[: clog2(MAX_PAYLOAD)], slot)),
            self.slot_byte.eq(byte),
        ]

        queued = self.requests.payload
        with m.If(accept | repeat):
            m.d.comb += [
                self.requests.valid.eq(1),
                queued.op.eq(header.op),
                queued.seq.eq(header.seq),
                queued.address.eq(header.address),
                queued.length.eq(header.length),
                queued.duplicate.eq(repeat),
            ]
        with m.Elif(bad_crc | bad_sequence):
            m.d.comb += [
                self.requests.valid.eq(self.nak_room),
                queued.op.eq(Op.NAK),
                queued.seq.eq(expected),
                queued.reason.eq(Mux(bad_crc, Status.BAD_CRC, Status.BAD_SEQUENCE)),
            ]
        return m
