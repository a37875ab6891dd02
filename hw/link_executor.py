"""Carries out requests in order and answers them."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from drawbar.gen.config import EngineConfig, clog2
from drawbar.gen.protocol import (
    IDENTITY_BYTES,
    MAX_PAYLOAD,
    PROTOCOL_VERSION,
    RESPONSE_FLAG,
    SPACE_SHIFT,
    STATUS_BYTES,
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
from drawbar.hw.link_frames import BYTE, Request, Response
from drawbar.hw.link_movers import ITEM_BITS, ItemReader, ItemWriter

#: Operations that are requests; the others of ``Op`` are only answered.
_KNOWN = (Op.WRITE, Op.READ, Op.RUN, Op.WAIT, Op.STATUS, Op.IDENTIFY)


class LinkExecutor(wiring.Component):
    """Checks and carries out one request after the other, strictly in order.

    Checks, in this order: a READ or WRITE needs a space that exists (BAD_ADDRESS), a length of 1 to
    512 that is whole items (BAD_LENGTH), and a range inside the space (BAD_ADDRESS). A RUN needs an
    item address inside program memory (BAD_ADDRESS); its space is not looked at. A WAIT needs an
    address of 0 or 1 (BAD_ADDRESS). Nothing happens on a failure but the answer.

    What waits, and so holds up all requests behind it:

    - a RUN, while another program is pending; it is answered when its own is;
    - a WAIT, while a program is pending or, at address ``WAIT_IDLE``, runs;
    - a READ of another space than WORK, while a program runs or is pending;
    - READs and WRITEs of WORK, item by item, for slots that the program leaves free.

    A duplicate WRITE or RUN is checked and answered, and neither done nor waited for; a duplicate
    WAIT waits again. The words of STATUS and WAIT are all of one cycle. STATUS reports the program
    that runs, and if there is none the latest one that ran; WAIT the latest one that has ended.

    The response is offered four cycles after its request was taken; for READ, RUN, WAIT and WRITE
    one more, and for a WRITE its length and three more on top, besides all waiting. The next
    request is taken when the last byte of the response is.

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
    slot_read, slot_enable, slot_address, slot_byte:
        Read port of the payload memory: see ``ItemWriter``.
    host:
        The engine's memories, and the start of programs.
    counters, finished_counters, crc_errors, sequence_errors:
        What STATUS and WAIT report.
    response, payload:
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
                "slot_read": Out(1),
                "slot_enable": Out(1),
                "slot_address": Out(self._slot_bits + clog2(MAX_PAYLOAD)),
                "slot_byte": In(BYTE),
                "host": Out(HostSignature()),
                "counters": In(EngineCounters),
                "finished_counters": In(EngineCounters),
                "crc_errors": In(32),
                "sequence_errors": In(32),
                "response": Out(stream.Signature(Response)),
                "payload": Out(stream.Signature(BYTE)),
            }
        )

    @property
    def config(self) -> EngineConfig:
        return self._config

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.writer = writer = ItemWriter(window=config.link_window)
        m.submodules.reader = reader = ItemReader()

        request = Signal(Request)
        reads = Signal()  # it is a READ
        space = request.address[SPACE_SHIFT:]
        item = request.address[:ITEM_BITS]
        item_log = Signal(2)
        status = Signal(Status)
        answer_length = Signal(range(MAX_PAYLOAD + 1))
        self._connect_movers(m, writer, reader, request, item_log)

        # What the request asks for, in registers, each a cycle after what it follows from.
        ops = {op: Signal(name=f"is_{op.name.lower()}") for op in _KNOWN}
        limit = Signal(ITEM_BITS + 1)
        end = Signal(ITEM_BITS + 1)
        whole, bad_size, bad_space, bad_program, bad_wait, beyond, bad_length = (
            Signal(name=name)
            for name in (
                *("whole", "bad_size", "bad_space", "bad_program", "bad_wait"),
                *("beyond", "bad_length"),
            )
        )
        known = Signal()
        m.d.sync += [
            *(signal.eq(request.op == op) for op, signal in ops.items()),
            limit.eq(Array(item_count(config, s) for s in Space)[space[:2]]),
            end.eq(item + (request.length >> item_log)),
            whole.eq((request.length & ((1 << item_log) - 1)) == 0),
            bad_size.eq((request.length == 0) | (request.length > MAX_PAYLOAD)),
            bad_space.eq(space >= len(Space)),
            bad_program.eq(item >= config.program_depth),
            bad_wait.eq(request.address > max(WAIT_IDLE, WAIT_PENDING)),
            beyond.eq(end > limit),
            bad_length.eq(bad_size | ~whole),
            known.eq(Cat(ops.values()).any()),
        ]

        of_pending = request.address[:1] == WAIT_PENDING
        idle = Signal()
        m.d.comb += idle.eq(~self.host.running & ~self.host.pending)
        of_work = Signal()
        m.d.sync += of_work.eq(space == Space.WORK)
        # READs and all others have a register each that says that their bytes are sent, as much
        # hangs on a byte that is taken.
        sending_items, sending_report = Signal(), Signal()
        takes = Signal(init=1)
        items_taken, report_taken = Signal(), Signal()
        taken = items_taken | report_taken
        left = Signal.like(answer_length)  # bytes of the answer after the next one
        final = Signal()  # left == 0
        # A register for the one state, as the queue hangs on it.
        m.d.comb += self.requests.ready.eq(takes)

        with m.FSM() as fsm:
            with m.State("Take"):
                m.d.sync += [
                    request.eq(self.requests.payload),
                    reads.eq(self.requests.payload.op == Op.READ),
                    item_log.eq(
                        Array(clog2(item_bytes(config, s)) for s in Space)[
                            self.requests.payload.address[SPACE_SHIFT:][:2]
                        ]
                    ),
                    status.eq(self.requests.payload.reason),
                    answer_length.eq(0),
                ]
                with m.If(self.requests.valid):
                    m.d.sync += takes.eq(0)
                    with m.If(self.requests.payload.reason != 0):
                        m.next = "Answer"
                    with m.Else():
                        m.next = "Measure"

            with m.State("Measure"):
                m.next = "Check"

            with m.State("Check"):
                m.next = "Decide"

            with m.State("Decide"):
                m.next = "Answer"
                with m.If(ops[Op.WRITE] | ops[Op.READ]):
                    with m.If(bad_space):
                        m.d.sync += status.eq(Status.BAD_ADDRESS)
                    with m.Elif(bad_length):
                        m.d.sync += status.eq(Status.BAD_LENGTH)
                    with m.Elif(beyond):
                        m.d.sync += status.eq(Status.BAD_ADDRESS)
                    with m.Elif(reads | ~request.duplicate):
                        m.next = "Wait"
                with m.If(ops[Op.RUN]):
                    with m.If(bad_program):
                        m.d.sync += status.eq(Status.BAD_ADDRESS)
                    with m.Elif(~request.duplicate):
                        m.next = "Wait"
                with m.If(ops[Op.WAIT]):
                    with m.If(bad_wait):
                        m.d.sync += status.eq(Status.BAD_ADDRESS)
                    with m.Else():
                        m.next = "Wait"
                with m.If(ops[Op.STATUS]):
                    m.d.sync += answer_length.eq(STATUS_BYTES)
                with m.If(ops[Op.IDENTIFY]):
                    m.d.sync += answer_length.eq(IDENTITY_BYTES)
                with m.If(~known):
                    m.d.sync += status.eq(Status.BAD_OP)

            with m.State("Wait"):
                with m.If(ops[Op.WRITE]):
                    m.d.comb += writer.start.eq(1)
                    m.next = "Write"
                with m.If(ops[Op.READ] & (of_work | idle)):
                    m.d.comb += [
                        reader.start.eq(1),
                        self.host.refresh.eq(1),
                    ]
                    m.d.sync += answer_length.eq(request.length)
                    m.next = "Answer"
                with m.If(ops[Op.RUN] & ~self.host.pending):
                    m.d.comb += self.host.start.eq(1)
                    m.next = "Answer"
                with m.If(ops[Op.WAIT] & Mux(of_pending, ~self.host.pending, idle)):
                    m.d.sync += answer_length.eq(STATUS_BYTES)
                    m.next = "Answer"

            with m.State("Write"), m.If(writer.done):
                m.next = "Answer"

            with m.State("Answer"):
                m.d.comb += self.response.valid.eq(1)
                m.d.sync += [left.eq(answer_length - 1), final.eq(answer_length == 1)]
                with m.If(self.response.ready):
                    with m.If(answer_length == 0):
                        m.d.comb += self.release.eq(request.reason == 0)
                        m.d.sync += takes.eq(1)
                        m.next = "Take"
                    with m.Else():
                        m.d.sync += [sending_items.eq(reads), sending_report.eq(~reads)]
                        m.next = "Payload"

            with m.State("Payload"), m.If(taken & final):
                m.d.comb += self.release.eq(1)
                m.d.sync += [sending_items.eq(0), sending_report.eq(0), takes.eq(1)]
                m.next = "Take"

        with m.If(fsm.ongoing("Wait")):
            m.d.sync += self.host.address.eq(item)
        with m.Elif(writer.moved | reader.moved):
            m.d.sync += self.host.address.eq(self.host.address + 1)

        # The report is of the cycle after the one in which the executor is sure of the answer.
        # Its next byte stands apart. The rest follows a cycle after it, out of a register, as it is
        # known late in a cycle whether a byte is taken.
        next_byte, report = Signal(BYTE), Signal((STATUS_BYTES - 1) * BYTE)
        sure, follows = Signal(), Signal()
        counters, identity = self._counters(m, ops[Op.STATUS]), self._identity()
        m.d.sync += [
            sure.eq(fsm.ongoing("Decide") | fsm.ongoing("Wait")),
            follows.eq(report_taken),
        ]
        with m.If(sure):
            m.d.sync += Cat(next_byte, report).eq(Mux(ops[Op.IDENTIFY], identity, counters))
        with m.Else():
            with m.If(report_taken):
                m.d.sync += next_byte.eq(Mux(follows, report[BYTE : 2 * BYTE], report[:BYTE]))
            with m.If(follows):
                m.d.sync += report.eq(report[BYTE:])

        m.d.comb += [
            self.payload.valid.eq(sending_report | (sending_items & reader.bytes_out.valid)),
            self.payload.payload.eq(Mux(reads, reader.bytes_out.payload, next_byte)),
            reader.bytes_out.ready.eq(sending_items & self.payload.ready),
            items_taken.eq(sending_items & reader.bytes_out.valid & self.payload.ready),
            report_taken.eq(sending_report & self.payload.ready),
        ]
        with m.If(taken):
            m.d.sync += [left.eq(left - 1), final.eq(left == 1)]

        m.d.comb += [
            self.release_slot.eq(request.seq),
            self.response.payload.op.eq(request.op | RESPONSE_FLAG),
            self.response.payload.seq.eq(request.seq),
            self.response.payload.address.eq(request.address),
            self.response.payload.length.eq(answer_length),
            self.response.payload.status.eq(status),
        ]
        return m

    def _connect_movers(
        self,
        m: Module,
        writer: ItemWriter,
        reader: ItemReader,
        request: data.View,
        item_log: Signal,
    ) -> None:
        for mover in (writer, reader):
            m.d.comb += [
                mover.length.eq(request.length),
                mover.item_log.eq(item_log),
            ]
        m.d.comb += [
            writer.slot.eq(request.seq),
            self.slot_read.eq(writer.slot_read),
            self.slot_enable.eq(writer.slot_enable),
            self.slot_address.eq(writer.slot_address),
            writer.slot_byte.eq(self.slot_byte),
            self.host.space.eq(request.address[SPACE_SHIFT:]),
            self.host.write.eq(writer.write),
            self.host.write_data.eq(writer.write_data),
            writer.write_ready.eq(self.host.write_ready),
            self.host.read.eq(reader.read),
            reader.read_data.eq(self.host.read_data),
            reader.read_valid.eq(self.host.read_valid),
            self.host.start_address.eq(request.address[:ITEM_BITS]),
        ]

    def _counters(self, m: Module, of_status: Value) -> Value:
        """As ``gen.protocol.Counters`` packs them."""
        running, of_now = Signal(), Signal()
        m.d.sync += [running.eq(self.host.running), of_now.eq(self.host.running & of_status)]
        return Cat(
            running,
            Const(0, 31),
            Mux(of_now, self.counters.as_value(), self.finished_counters.as_value()),
            self.crc_errors,
            self.sequence_errors,
        )

    def _identity(self) -> Value:
        """As ``gen.protocol.Identity`` packs it."""
        config = self._config
        identity = Identity(PROTOCOL_VERSION, config.link_window, config.hash).pack()
        return Const(int.from_bytes(identity, "little"), IDENTITY_BYTES * BYTE)
