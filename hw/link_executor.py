"""Carries out requests in order and answers them."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from drawbar.gen.config import EngineConfig, clog2
from drawbar.gen.protocol import (
    CRC_BYTES,
    HEADER_BYTES,
    IDENTITY_BYTES,
    MAX_PAYLOAD,
    PROTOCOL_VERSION,
    RESPONSE_FLAG,
    STATUS_BYTES,
    SYNC,
    WAIT_IDLE,
    WAIT_PENDING,
    Identity,
    Op,
    Space,
    Status,
    item_bytes,
    item_count,
)
from drawbar.hw.interface import EngineCounters, HostSignature
from drawbar.hw.link_frames import BYTE, KEPT_BYTES, Request, Sent
from drawbar.hw.link_movers import ITEM_BITS, ItemReader, ItemWriter
from drawbar.hw.link_receiver import ERROR_BITS
from drawbar.hw.link_report import RunReport

#: Operations that are requests; the others of ``Op`` are only answered.
_KNOWN = (Op.WRITE, Op.READ, Op.RUN, Op.WAIT, Op.STATUS, Op.IDENTIFY)
#: Numbers of a header's bytes: operation, sequence number, address (4), length (2), status (2).
_OP, _SEQ, _ADDRESS, _LENGTH, _STATUS = 2, 3, 4, 8, 10
_CHECKED = HEADER_BYTES - CRC_BYTES
_WORD = 4  # bytes of a word of a report


class LinkExecutor(wiring.Component):
    """Checks and carries out one request after the other, strictly in order.

    Checks, in this order: a READ or WRITE needs a space that exists (BAD_ADDRESS), a length of 1 to
    512 that is whole items (BAD_LENGTH), and a range inside the space (BAD_ADDRESS). A RUN needs an
    item address inside program memory (BAD_ADDRESS); its space is not looked at. A WAIT needs an
    address of 0 or 1 (BAD_ADDRESS). Nothing happens on a failure but the answer.

    What waits, and so holds up all requests behind it:

    - a RUN, while another program is pending; it is answered when its own is;
    - a WAIT or STATUS, while a program is pending or, for a WAIT at address ``WAIT_IDLE``, runs;
    - a READ of another space than WORK, while a program runs or is pending;
    - READs and WRITEs of WORK, item by item, for slots that the program leaves free.

    A duplicate WRITE or RUN is checked and answered, and neither done nor waited for; a duplicate
    WAIT waits again. The words of STATUS and WAIT are all of one cycle, but for the errors, which
    are counted up to when they are sent; they report the latest run that has ended.

    ::

        Take, Load ........ Check, Decide | Wait | Write | Answer ............... Last | Items
        header, read byte by byte           all waiting    header, report, identity

    The first byte of the response is offered 15 cycles after its request was taken, of a NAK three,
    and of a WRITE its length and five more on top, besides all waiting. What a response has of its
    request is read a second time. The next request is taken two cycles after the last byte of the
    response.

    A READ is done anew when it is repeated: a host must not send what changes the items that it
    reads, a WRITE of them or a RUN, before it has the answer.

    Arguments
    ---------
    config:
        Sizes of the spaces, the window, and the identity.

    Members
    -------
    requests:
        Requests and NAKs, as ``LinkReceiver`` gives them.
    release, release_slot:
        Strobe: the request with this number, modulo the window, is answered.
    header_read, header_enable, header_address, header_byte:
        Read port of the memory of headers, two cycles from the address to the byte: as that of the
        payload memory.
    slot_read, slot_enable, slot_address, slot_byte:
        Read port of the payload memory: see ``ItemWriter``.
    host:
        The engine's memories, and the start of programs.
    counters, counted, crc_errors, sequence_errors:
        What STATUS and WAIT report: see ``RunReport``.
    bytes_out:
        To ``LinkTransmitter``.
    """

    def __init__(self, *, config: EngineConfig) -> None:
        self._config = config
        self._slot_bits = clog2(config.link_window)
        super().__init__(
            {
                "requests": In(stream.Signature(Request)),
                "release": Out(1),
                "release_slot": Out(self._slot_bits),
                "header_read": Out(1),
                "header_enable": Out(1),
                "header_address": Out(self._slot_bits + 1 + clog2(KEPT_BYTES)),
                "header_byte": In(BYTE),
                "slot_read": Out(1),
                "slot_enable": Out(1),
                "slot_address": Out(self._slot_bits + clog2(MAX_PAYLOAD)),
                "slot_byte": In(BYTE),
                "host": Out(HostSignature()),
                "counters": In(EngineCounters),
                "counted": In(1),
                "crc_errors": In(ERROR_BITS),
                "sequence_errors": In(ERROR_BITS),
                "bytes_out": Out(stream.Signature(Sent)),
            }
        )

    @property
    def config(self) -> EngineConfig:
        return self._config

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.writer = writer = ItemWriter(window=config.link_window)
        m.submodules.reader = reader = ItemReader(config=config)
        m.submodules.report = report = RunReport(config=config)

        # The request, as its header says it, byte by byte.
        ops = {op: Signal(name=f"is_{op.name.lower()}") for op in _KNOWN}
        nak, duplicate = Signal(), Signal()
        number = Signal(8)  # the one that the device waits for
        slot = Signal(self._slot_bits)
        item_bits = max(clog2(item_count(config, s)) for s in Space)
        item = Signal(item_bits)
        excess = Signal(ITEM_BITS - item_bits)  # of the item's address
        space = Signal(BYTE * _WORD - ITEM_BITS)
        length = Signal(16)
        status = Signal(Status)
        answer_length = Signal(range(MAX_PAYLOAD + 1))

        # What the request asks for, in registers, each a cycle after what it follows from.
        item_log = Signal(2)
        limit = Signal(item_bits + 1)
        end = Signal(item_bits + 1)
        count = Signal.like(answer_length)  # items
        far, whole, bad_size, bad_space, bad_program, bad_wait, beyond, bad_length = (
            Signal(name=name)
            for name in (
                *("far", "whole", "bad_size", "bad_space", "bad_program", "bad_wait"),
                *("beyond", "bad_length"),
            )
        )
        known, of_work, of_pending = Signal(), Signal(), Signal()
        m.d.sync += [
            item_log.eq(Array(clog2(item_bytes(config, s)) for s in Space)[space[:2]]),
            limit.eq(Array(item_count(config, s) for s in Space)[space[:2]]),
            far.eq(excess.any()),
            # A length of more than MAX_PAYLOAD is refused anyway.
            count.eq(length[: len(answer_length)] >> item_log),
            end.eq(item + count),
            whole.eq((length[:3] & ((1 << item_log) - 1)) == 0),
            bad_size.eq((length == 0) | (length > MAX_PAYLOAD)),
            bad_space.eq(space >= len(Space)),
            bad_program.eq((item >= config.program_depth) | item[: config.fetch_bits].any() | far),
            bad_wait.eq((item > max(WAIT_IDLE, WAIT_PENDING)) | far | space.any()),
            beyond.eq((end > limit) | far),
            bad_length.eq(bad_size | ~whole),
            known.eq(Cat(ops.values()).any()),
            of_work.eq(space == Space.WORK),
            of_pending.eq(ops[Op.STATUS] | (item[:1] == WAIT_PENDING)),
        ]
        idle = Signal()
        m.d.comb += idle.eq(~self.host.running & ~self.host.pending)

        # Bytes come out of the memory of headers on their way to the registers above, and a second
        # time on their way out. Stage 0 asks for byte `n`, of the header or of what is behind it;
        # stages 1 and 2 belong to the memory. Those for the registers come in the order in which
        # they are needed: the address, the length, the operation, the number.
        entry = Signal(self._slot_bits + 1)
        n = Signal(range(STATUS_BYTES))
        of_header = Signal(init=1)
        asks = Signal()  # stage 0 has a byte
        loads = Signal(init=1)  # what comes is for the registers
        move = Signal()
        n_1, n_2 = Signal(n.shape(), name="n_1"), Signal(n.shape(), name="n_2")
        valid_1, valid_2 = Signal(), Signal()
        of_header_1 = Signal()
        last, last_1, last_2 = Signal(), Signal(), Signal()  # of a piece; registers, as `n`
        of_report, of_identity, reported_1 = Signal(), Signal(), Signal()
        made_1, made_2, value_1, value_2 = Signal(), Signal(), Signal(BYTE), Signal(BYTE)
        flag_2 = Signal()
        behind = Mux(of_report, STATUS_BYTES - 2, IDENTITY_BYTES - 2)
        before_last = Mux(of_header, _CHECKED - 2, behind)
        m.d.comb += [
            move.eq(loads | ~valid_2 | self.bytes_out.ready),
            self.header_read.eq(asks & move & of_header & ~nak),
            self.header_enable.eq(move),
            self.header_address.eq(Cat(n[:2], n[2] ^ loads, entry)),
        ]
        with m.If(move):
            m.d.sync += [
                *(n_1.eq(n), valid_1.eq(asks), of_header_1.eq(of_header)),
                *(n_2.eq(n_1), valid_2.eq(valid_1), last_1.eq(last), last_2.eq(last_1)),
                *(made_2.eq(made_1), value_2.eq(value_1)),
                flag_2.eq(of_header_1 & (n_1 == _OP)),
            ]
        got = self.header_byte
        with m.If(loads & valid_2), m.Switch(n_2):
            for byte in range(_WORD):
                with m.Case(byte):
                    m.d.sync += Cat(item, excess, space).word_select(byte, BYTE).eq(got)
            for byte in range(2):
                with m.Case(_WORD + byte):
                    m.d.sync += length.word_select(byte, BYTE).eq(got)
            with m.Case(KEPT_BYTES - 2):
                m.d.sync += [signal.eq(got == op) for op, signal in ops.items()]
            with m.Case(KEPT_BYTES - 1):
                m.d.sync += slot.eq(got)
                with m.If(~duplicate):
                    m.d.sync += number.eq(got + 1)

        reports = ops[Op.WAIT] | ops[Op.STATUS]
        does = Signal()  # there is something to do
        may_go = Signal()
        items_next = Signal()  # the header is followed by items
        sending_items = Signal()
        # Registers, as it is known late that a byte or an item is taken.
        written = Signal()
        over = Signal()  # a piece has been sent
        m.d.sync += written.eq(writer.done)
        takes = Signal(init=1)
        # A register for the one state, as the queue hangs on it.
        m.d.comb += self.requests.ready.eq(takes)

        def done() -> None:
            m.d.comb += self.release.eq(~nak)
            m.d.sync += [
                *(takes.eq(1), loads.eq(1), n.eq(0), of_header.eq(1)),
                *(report.hold.eq(0), sending_items.eq(0)),
            ]
            with m.If(~nak):
                m.d.sync += entry.eq(entry + 1)
            m.next = "Take"

        with m.FSM() as fsm:
            with m.State("Take"):
                m.d.sync += [
                    duplicate.eq(self.requests.payload.duplicate),
                    nak.eq(self.requests.payload.reason != 0),
                    status.eq(self.requests.payload.reason),
                    *(answer_length.eq(0), does.eq(0)),
                    *(items_next.eq(0), of_report.eq(0), of_identity.eq(0)),
                ]
                with m.If(self.requests.valid):
                    m.d.sync += takes.eq(0)
                    with m.If(self.requests.payload.reason != 0):
                        m.d.sync += loads.eq(0)
                        m.next = "Answer"
                    with m.Else():
                        m.d.comb += asks.eq(1)
                        m.d.sync += n.eq(1)
                        m.next = "Load"

            with m.State("Load"):
                m.d.comb += asks.eq(n < KEPT_BYTES)
                m.d.sync += n.eq(n + 1)
                with m.If(valid_2 & (n_2 == KEPT_BYTES - 1)):
                    m.d.sync += n.eq(0)
                    m.next = "Check"

            with m.State("Check"):
                m.d.sync += loads.eq(0)
                m.next = "Decide"

            with m.State("Decide"):
                m.next = "Wait"
                with m.If(ops[Op.WRITE] | ops[Op.READ]):
                    with m.If(bad_space):
                        m.d.sync += status.eq(Status.BAD_ADDRESS)
                    with m.Elif(bad_length):
                        m.d.sync += status.eq(Status.BAD_LENGTH)
                    with m.Elif(beyond):
                        m.d.sync += status.eq(Status.BAD_ADDRESS)
                    with m.Else():
                        m.d.sync += does.eq(ops[Op.READ] | ~duplicate)
                with m.If(ops[Op.RUN]):
                    with m.If(bad_program):
                        m.d.sync += status.eq(Status.BAD_ADDRESS)
                    with m.Else():
                        m.d.sync += does.eq(~duplicate)
                with m.If(reports):
                    with m.If(ops[Op.WAIT] & bad_wait):
                        m.d.sync += status.eq(Status.BAD_ADDRESS)
                    with m.Else():
                        m.d.sync += does.eq(1)
                with m.If(ops[Op.IDENTIFY]):
                    m.d.sync += [answer_length.eq(IDENTITY_BYTES), of_identity.eq(1)]
                with m.If(~known):
                    m.d.sync += status.eq(Status.BAD_OP)

            with m.State("Wait"), m.If(may_go | ~does):
                m.next = "Answer"
                with m.If(does):
                    m.d.sync += [items_next.eq(ops[Op.READ]), of_report.eq(reports)]
                    with m.If(ops[Op.READ]):
                        m.d.sync += answer_length.eq(length)
                    with m.If(reports):
                        m.d.sync += answer_length.eq(STATUS_BYTES)
                    with m.If(ops[Op.WRITE]):
                        m.next = "Write"

            with m.State("Write"), m.If(written):
                m.next = "Answer"

            with m.State("Answer"):
                m.d.comb += asks.eq(1)
                with m.If(move):
                    m.d.sync += [n.eq(n + 1), last.eq(n == before_last)]
                    with m.If(last):
                        m.d.sync += [n.eq(0), of_header.eq(0), last.eq(0)]
                        with m.If(~of_header | ~(of_report | of_identity)):
                            m.next = "Last"

            with m.State("Last"), m.If(over):
                with m.If(items_next):
                    m.d.sync += sending_items.eq(1)
                    m.next = "Items"
                with m.Else():
                    done()

            with m.State("Items"), m.If(over):
                done()

        # What is to be done begins a cycle after there is nothing to wait for.
        begins = Signal()
        m.d.sync += [
            # What is waited for stays, as nothing else begins.
            may_go.eq(
                ops[Op.WRITE]
                | (ops[Op.READ] & (of_work | idle))
                | (ops[Op.RUN] & ~self.host.pending)
                | (reports & Mux(of_pending, ~self.host.pending, idle))
            ),
            begins.eq(fsm.ongoing("Wait") & may_go & does),
        ]
        m.d.comb += [
            writer.start.eq(begins & ops[Op.WRITE]),
            reader.start.eq(begins & ops[Op.READ]),
            self.host.refresh.eq(reader.start),
            self.host.start.eq(begins & ops[Op.RUN]),
        ]
        with m.If(writer.moved | reader.moved):
            m.d.sync += item.eq(item + 1)

        # A program that ends when `running` is looked at, or later, is not reported.
        running, begun = Signal(), Signal()
        m.d.sync += begun.eq(begins)
        with m.If(begins):
            m.d.sync += running.eq(self.host.running)
        with m.If(begun & reports):
            m.d.sync += report.hold.eq(1)
        m.d.comb += [
            report.counters.eq(self.counters),
            report.counted.eq(self.counted),
            report.turn.eq(move & valid_1 & reported_1),
        ]
        self._make_bytes(
            m,
            n_1,
            of_header_1,
            made_1,
            value_1,
            reported_1,
            nak=nak,
            number=number,
            answer_length=answer_length,
            status=status,
            running=running,
            of_report=of_report,
            report=report,
        )
        made = Mux(made_2, value_2, self.header_byte | (flag_2 << (BYTE - 1)))
        m.d.comb += [
            self.bytes_out.valid.eq(Mux(sending_items, reader.bytes_out.valid, valid_2 & ~loads)),
            self.bytes_out.payload.byte.eq(Mux(sending_items, reader.bytes_out.payload.byte, made)),
            self.bytes_out.payload.last.eq(
                Mux(sending_items, reader.bytes_out.payload.last, last_2)
            ),
            reader.bytes_out.ready.eq(sending_items & self.bytes_out.ready),
            self.release_slot.eq(slot),
        ]
        m.d.sync += over.eq(
            self.bytes_out.valid & self.bytes_out.ready & self.bytes_out.payload.last
        )
        self._connect_movers(
            m,
            writer,
            reader,
            slot=slot,
            length=length,
            item_log=item_log,
            item=item,
            space=space,
        )
        return m

    def _make_bytes(
        self,
        m: Module,
        n: Signal,
        of_header: Signal,
        made: Signal,
        value: Signal,
        reported: Signal,
        *,
        nak: Signal,
        number: Signal,
        answer_length: Signal,
        status: Signal,
        running: Signal,
        of_report: Signal,
        report: RunReport,
    ) -> None:
        """Byte ``n`` of a header or of what is behind it, where it is ``made`` here and not in the
        memory of headers; and whether it is a ``reported`` one, of the ring of counters.
        """
        config = self._config
        m.d.comb += made.eq(1)
        with m.If(of_header), m.Switch(n):
            for byte, sync in enumerate(SYNC):
                with m.Case(byte):
                    m.d.comb += value.eq(sync)
            with m.Case(_OP):
                m.d.comb += [value.eq(Op.NAK | RESPONSE_FLAG), made.eq(nak)]
            with m.Case(_SEQ):
                m.d.comb += [value.eq(number), made.eq(nak)]
            with m.Case(*range(_ADDRESS, _LENGTH)):
                m.d.comb += made.eq(nak)
            with m.Case(_LENGTH):
                m.d.comb += value.eq(answer_length[:BYTE])
            with m.Case(_LENGTH + 1):
                m.d.comb += value.eq(answer_length[BYTE:])
            with m.Case(_STATUS):
                m.d.comb += value.eq(status)
        with m.Elif(of_report):
            # As ``gen.protocol.Counters`` packs them.
            word, byte = n // _WORD, n % _WORD
            with m.Switch(word):
                with m.Case(0):
                    m.d.comb += value.eq(running & (byte == 0))
                for number_of, errors in enumerate((self.crc_errors, self.sequence_errors), -2):
                    with m.Case(STATUS_BYTES // _WORD + number_of):
                        m.d.comb += value.eq(Mux(byte == 0, errors, 0))
                with m.Default():
                    m.d.comb += reported.eq(byte < report.counter_bytes)
                    with m.If(reported):
                        m.d.comb += value.eq(report.byte)
        with m.Else():
            identity = Identity(PROTOCOL_VERSION, config.link_window, config.hash).pack()
            with m.Switch(n):
                for byte, constant in enumerate(identity):
                    with m.Case(byte):
                        m.d.comb += value.eq(constant)

    def _connect_movers(
        self,
        m: Module,
        writer: ItemWriter,
        reader: ItemReader,
        *,
        slot: Signal,
        length: Signal,
        item_log: Signal,
        item: Signal,
        space: Signal,
    ) -> None:
        for mover in (writer, reader):
            m.d.comb += [mover.length.eq(length), mover.item_log.eq(item_log)]
        m.d.comb += [
            writer.slot.eq(slot),
            self.slot_read.eq(writer.slot_read),
            self.slot_enable.eq(writer.slot_enable),
            self.slot_address.eq(writer.slot_address),
            writer.slot_byte.eq(self.slot_byte),
            self.host.space.eq(space),
            self.host.address.eq(item),
            self.host.write.eq(writer.write),
            self.host.write_data.eq(writer.write_data),
            writer.write_ready.eq(self.host.write_ready),
            self.host.read.eq(reader.read),
            reader.read_data.eq(self.host.read_data),
            reader.read_valid.eq(self.host.read_valid),
            self.host.start_address.eq(item),
        ]
