"""Finds, checks and orders requests."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from drawbar.gen.config import clog2
from drawbar.gen.protocol import CRC_BYTES, HEADER_BYTES, MAX_PAYLOAD, SYNC, Op, Status
from drawbar.hw.crc import Crc32c
from drawbar.hw.link_frames import BYTE, KEPT_BYTES, Request

#: Numbers of a header's bytes: operation, sequence number; and behind the length.
_OP, _SEQ = len(SYNC), len(SYNC) + 1
_KEPT_END = len(SYNC) + KEPT_BYTES
#: Bits of the counters of errors.
ERROR_BITS = 8


class LinkReceiver(wiring.Component):
    """Turns bytes into requests whose checks have passed, and puts headers and payloads into
    memories.

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

    ``rx`` takes a byte a cycle; it holds one byte and takes no other for two cycles after a header
    with a payload and after that payload, and for three after any other frame. A request without
    payload is queued in the sixth cycle after its last byte, one with payload in the fifth.

    Arguments
    ---------
    window:
        Slots; a power of two.
    idle_cycles:
        Cycles without a byte after which an unfinished frame is dropped, at least 2. The first byte
        of a payload counts from when it is no longer held.

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
    header_write, header_address, byte:
        Writes of the memory of headers, a ring of ``2 * window``: the header of a request that is
        queued stays, and the one of any other frame is written over by the next.
    slot_write, slot_address, byte:
        Writes of the payload memory; the slot is in the high bits of the address.
    crc_errors, sequence_errors:
        Frames that failed a check in step, and frames with a number out of sequence; since reset,
        modulo 2**8.
    """

    def __init__(self, *, window: int, idle_cycles: int) -> None:
        if window < 2 or window & (window - 1):
            raise ValueError(f"the window is a power of two, at least 2; found window={window!r}")
        if idle_cycles < 2:
            raise ValueError(
                f"a silence takes at least 2 cycles; found idle_cycles={idle_cycles!r}"
            )
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
                "header_write": Out(1),
                "header_address": Out(self._slot_bits + 1 + clog2(KEPT_BYTES)),
                "slot_write": Out(1),
                "slot_address": Out(self._slot_bits + clog2(MAX_PAYLOAD)),
                "byte": Out(BYTE),
                "crc_errors": Out(ERROR_BITS),
                "sequence_errors": Out(ERROR_BITS),
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
        m.submodules.crc = crc = Crc32c(primed=SYNC)

        expected = Signal(8)  # the number waited for
        history = Signal(range(self._window + 1))  # how many numbers before it were executed
        taken = Signal(self._window)  # slots of unanswered requests
        in_step = Signal(init=1)

        # A register before everything: what kind of byte it is, is known when it is looked at.
        full = Signal()
        byte = Signal(BYTE)
        is_sync = Signal(len(SYNC))
        ready = Signal(init=1)  # whatever the receiver is at, it can take a byte
        checked = Signal()  # the byte is of a header or of a payload
        hunts = Signal(init=1)  # it is of neither
        judges = Signal()
        got = Signal()
        m.d.comb += [
            self.rx.ready.eq(~full | ready),
            got.eq(full & ready),
            crc.byte.eq(byte),
            crc.enable.eq(full & checked),
            crc.prime.eq(hunts),
            crc.clear.eq(judges),
        ]
        m.d.sync += judges.eq(0)

        def hunt() -> None:
            m.d.sync += [ready.eq(1), checked.eq(0), hunts.eq(1)]
            m.next = "Hunt"

        with m.If(self.rx.ready):
            m.d.sync += [
                full.eq(self.rx.valid),
                byte.eq(self.rx.payload),
                is_sync.eq(Cat(self.rx.payload == value for value in SYNC)),
            ]

        count = Signal(range(HEADER_BYTES))  # the next byte's number in the header
        entry = Signal(self._slot_bits + 1)  # where the header goes
        is_identify, is_write = Signal(), Signal()
        seq = Signal(8)
        length = Signal(16)
        place = Signal(range(MAX_PAYLOAD))
        # Bytes of the payload and its check after the next one, and whether there are none.
        left = Signal(range(MAX_PAYLOAD + CRC_BYTES))
        final = Signal()

        # What the header says, in registers, as comparisons are long. The part of it that is used
        # is there six bytes before its end, and what is waited for changes only at a frame's end.
        slot = seq[: self._slot_bits]
        slot_taken = Signal()
        age = Signal(8)  # how many numbers before the one waited for, less one
        new = Signal()
        duplicate = Signal()
        has_payload = Signal()
        after_first = Signal.like(left)
        m.d.sync += [
            age.eq(expected - 1 - seq),
            slot_taken.eq(taken.bit_select(slot, 1)),
            new.eq(is_identify | (seq == expected)),
            duplicate.eq(age < history),
            after_first.eq(length + (CRC_BYTES - 1)),
            has_payload.eq(is_write & (length != 0) & (length <= MAX_PAYLOAD)),
        ]
        matches = Signal(CRC_BYTES)  # so is whether a check has passed, byte by byte
        match = matches.all()

        # Verdicts, each given for one cycle, in registers.
        accept = Signal()
        repeat = Signal()
        bad_crc = Signal()
        bad_sequence = Signal()
        m.d.sync += [verdict.eq(0) for verdict in (accept, repeat, bad_crc, bad_sequence)]

        silence = Signal()
        with m.FSM() as fsm:
            with m.State("Hunt"):
                m.d.sync += count.eq(len(SYNC))
                with m.If(got & is_sync[0]):
                    m.next = "Sync"
                with m.Elif(got):
                    m.d.sync += in_step.eq(0)

            with m.State("Sync"):
                with m.If(got & is_sync[1]):
                    m.d.sync += [checked.eq(1), hunts.eq(0)]
                    m.next = "Header"
                with m.Elif(got):
                    m.d.sync += in_step.eq(0)
                    # The first sync byte twice: the second one may be the true one.
                    with m.If(~is_sync[0]):
                        m.next = "Hunt"
                with m.Elif(silence):
                    m.next = "Hunt"

            with m.State("Header"):
                with m.If(got):
                    m.d.sync += count.eq(count + 1)
                    with m.If(count == _OP):
                        m.d.sync += [
                            is_identify.eq(byte == Op.IDENTIFY),
                            is_write.eq(byte == Op.WRITE),
                        ]
                    with m.If(count == _SEQ):
                        m.d.sync += seq.eq(byte)
                    with m.If(count < _KEPT_END):
                        m.d.sync += length.eq(Cat(length[BYTE:], byte))
                    with m.If(count == HEADER_BYTES - 1):
                        m.d.sync += [ready.eq(0), checked.eq(0)]
                        m.next = "Weigh header"
                with m.Elif(silence):
                    hunt()

            with m.State("Weigh header"):
                m.d.sync += [matches.eq(crc.matches), judges.eq(1)]
                m.next = "Judge"

            with m.State("Judge"):
                m.d.sync += [place.eq(0), left.eq(after_first), final.eq(0)]
                with m.If(~match):
                    m.d.sync += [bad_crc.eq(in_step), in_step.eq(0)]
                    hunt()
                # A new request waits for its slot.
                with m.Elif(~(new & slot_taken)):
                    m.d.sync += in_step.eq(1)
                    with m.If(has_payload):
                        m.d.sync += [ready.eq(1), checked.eq(1)]
                        m.next = "Payload"
                    with m.Else():
                        m.next = "Settle"

            with m.State("Payload"):
                with m.If(got):
                    m.d.sync += [
                        place.eq(place + 1),
                        left.eq(left - 1),
                        final.eq(left == 1),
                    ]
                    with m.If(final):
                        m.d.sync += [ready.eq(0), checked.eq(0)]
                        m.next = "Weigh payload"
                with m.Elif(silence):
                    hunt()

            with m.State("Weigh payload"):
                m.d.sync += matches.eq(crc.matches)
                m.next = "Settle"

            with m.State("Settle"):
                hunt()
                with m.If(has_payload & ~match):
                    m.d.sync += [bad_crc.eq(1), in_step.eq(0)]
                with m.Elif(new):
                    m.d.sync += accept.eq(1)
                with m.Elif(~duplicate):
                    m.d.sync += bad_sequence.eq(1)
                with m.Elif(~slot_taken):
                    m.d.sync += repeat.eq(1)

        in_frame = fsm.ongoing("Sync") | fsm.ongoing("Header") | fsm.ongoing("Payload")
        idle = Signal(range(self._idle_cycles))
        expired = Signal()
        quiet = in_frame & ~got
        m.d.comb += silence.eq(expired & ~got)
        m.d.sync += expired.eq(quiet & (idle == self._idle_cycles - 2))
        with m.If(~quiet):
            m.d.sync += idle.eq(0)
        with m.Else():
            m.d.sync += idle.eq(idle + 1)
        with m.If(silence):
            m.d.sync += in_step.eq(0)

        with m.If(self.release):
            m.d.sync += taken.bit_select(self.release_slot, 1).eq(0)
        with m.If(accept | repeat):
            m.d.sync += [taken.bit_select(slot, 1).eq(1), entry.eq(entry + 1)]
        with m.If(accept):
            m.d.sync += expected.eq(seq + 1)
            with m.If(is_identify):
                m.d.sync += history.eq(1)
            with m.Elif(history != self._window):
                m.d.sync += history.eq(history + 1)

        m.d.sync += [
            self.crc_errors.eq(self.crc_errors + bad_crc),
            self.sequence_errors.eq(self.sequence_errors + bad_sequence),
        ]
        # Only the check has fewer than its own number of bytes after the next one.
        m.d.sync += [
            self.header_write.eq(fsm.ongoing("Header") & got & (count < _KEPT_END)),
            self.header_address.eq(Cat(count[: clog2(KEPT_BYTES)], entry)),
            self.slot_write.eq(
                fsm.ongoing("Payload") & got & new & (left[clog2(CRC_BYTES) :] != 0)
            ),
            self.slot_address.eq(Cat(place, slot)),
            self.byte.eq(byte),
        ]

        bad = bad_crc | bad_sequence
        m.d.sync += [
            self.requests.valid.eq(accept | repeat | (bad & self.nak_room)),
            self.requests.payload.duplicate.eq(repeat),
            self.requests.payload.reason.eq(
                Mux(bad, Mux(bad_crc, Status.BAD_CRC, Status.BAD_SEQUENCE), 0)
            ),
        ]
        return m
