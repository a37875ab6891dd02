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

    The response is offered three cycles after its request was taken; for READ, RUN, WAIT and WRITE
    one more, and for a WRITE its length and two more on top, besides all waiting. The next request
    is taken when the last byte of the response is.

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
    slot_read, slot_address, slot_byte:
        Synchronous read port of the payload memory.
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
        limit = Signal(ITEM_BITS + 1)
        end = Signal(ITEM_BITS + 1)
        whole = Signal()
        status = Signal(Status)
        answer_length = Signal(range(MAX_PAYLOAD + 1))
        report = Signal(STATUS_BYTES * BYTE)
        m.d.comb += [
            item_log.eq(Array(clog2(item_bytes(config, s)) for s in Space)[space[:2]]),
            limit.eq(Array(item_count(config, s) for s in Space)[space[:2]]),
        ]

        counters = self._counters(request)
        idle = Signal()
        sending, taken = Signal(), Signal()
        of_pending = request.address[:1] == WAIT_PENDING
        m.d.comb += idle.eq(~self.host.running & ~self.host.pending)

        self._connect_movers(m, writer, reader, request, reads, item, item_log)

        with m.FSM():
            with m.State("Take"):
                m.d.comb += self.requests.ready.eq(1)
                m.d.sync += [
                    request.eq(self.requests.payload),
                    reads.eq(self.requests.payload.op == Op.READ),
                    status.eq(self.requests.payload.reason),
                    answer_length.eq(0),
                ]
                with m.If(self.requests.valid):
                    with m.If(self.requests.payload.reason != 0):
                        m.next = "Answer"
                    with m.Else():
                        m.next = "Measure"

            with m.State("Measure"):
                m.d.sync += [
                    end.eq(item + (request.length >> item_log)),
                    whole.eq((request.length & ((1 << item_log) - 1)) == 0),
                ]
                m.next = "Check"

            with m.State("Check"):
                m.d.sync += report.eq(Mux(request.op == Op.IDENTIFY, self._identity(), counters))
                m.next = "Answer"
                with m.Switch(request.op):
                    with m.Case(Op.WRITE, Op.READ):
                        with m.If(space >= len(Space)):
                            m.d.sync += status.eq(Status.BAD_ADDRESS)
                        with m.Elif(
                            (request.length == 0) | (request.length > MAX_PAYLOAD) | ~whole
                        ):
                            m.d.sync += status.eq(Status.BAD_LENGTH)
                        with m.Elif(end > limit):
                            m.d.sync += status.eq(Status.BAD_ADDRESS)
                        with m.Elif((request.op == Op.READ) | ~request.duplicate):
                            m.next = "Wait"
                    with m.Case(Op.RUN):
                        with m.If(item >= config.program_depth):
                            m.d.sync += status.eq(Status.BAD_ADDRESS)
                        with m.Elif(~request.duplicate):
                            m.next = "Wait"
                    with m.Case(Op.WAIT):
                        with m.If(request.address > max(WAIT_IDLE, WAIT_PENDING)):
                            m.d.sync += status.eq(Status.BAD_ADDRESS)
                        with m.Else():
                            m.next = "Wait"
                    with m.Case(Op.STATUS):
                        m.d.sync += answer_length.eq(STATUS_BYTES)
                    with m.Case(Op.IDENTIFY):
                        m.d.sync += answer_length.eq(IDENTITY_BYTES)
                    with m.Default():
                        m.d.sync += status.eq(Status.BAD_OP)

            with m.State("Wait"):
                m.d.sync += report.eq(counters)
                with m.Switch(request.op):
                    with m.Case(Op.WRITE):
                        m.d.comb += writer.start.eq(1)
                        m.next = "Write"
                    with m.Case(Op.READ), m.If((space == Space.WORK) | idle):
                        m.d.comb += [
                            reader.start.eq(1),
                            self.host.refresh.eq(1),
                        ]
                        m.d.sync += answer_length.eq(request.length)
                        m.next = "Answer"
                    with m.Case(Op.RUN), m.If(~self.host.pending):
                        m.d.comb += self.host.start.eq(1)
                        m.next = "Answer"
                    with m.Case(Op.WAIT), m.If(Mux(of_pending, ~self.host.pending, idle)):
                        m.d.sync += answer_length.eq(STATUS_BYTES)
                        m.next = "Answer"

            with m.State("Write"), m.If(writer.done):
                m.next = "Answer"

            with m.State("Answer"):
                m.d.comb += self.response.valid.eq(1)
                with m.If(self.response.ready):
                    with m.If(answer_length == 0):
                        m.d.comb += self.release.eq(request.reason == 0)
                        m.next = "Take"
                    with m.Else():
                        m.d.sync += sending.eq(1)
                        m.next = "Payload"

            with m.State("Payload"), m.If(taken & (answer_length == 1)):
                m.d.comb += self.release.eq(1)
                m.d.sync += sending.eq(0)
                m.next = "Take"

        # A register of its own for the last state, as all of the report hangs on it.
        m.d.comb += [
            self.payload.valid.eq(sending & (~reads | reader.bytes_out.valid)),
            self.payload.payload.eq(Mux(reads, reader.bytes_out.payload, report[:BYTE])),
            reader.bytes_out.ready.eq(sending & reads & self.payload.ready),
            taken.eq(self.payload.valid & self.payload.ready),
        ]
        with m.If(taken):
            m.d.sync += [
                report.eq(report[BYTE:]),
                answer_length.eq(answer_length - 1),
            ]

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
        reads: Signal,
        item: Value,
        item_log: Signal,
    ) -> None:
        for mover in (writer, reader):
            m.d.comb += [
                mover.length.eq(request.length),
                mover.item_log.eq(item_log),
                mover.item.eq(item),
            ]
        m.d.comb += [
            writer.slot.eq(request.seq),
            self.slot_read.eq(writer.slot_read),
            self.slot_address.eq(writer.slot_address),
            writer.slot_byte.eq(self.slot_byte),
            self.host.space.eq(request.address[SPACE_SHIFT:]),
            self.host.address.eq(Mux(reads, reader.address, writer.address)),
            self.host.write.eq(writer.write),
            self.host.write_data.eq(writer.write_data),
            writer.write_ready.eq(self.host.write_ready),
            self.host.read.eq(reader.read),
            reader.read_data.eq(self.host.read_data),
            reader.read_valid.eq(self.host.read_valid),
            self.host.start_address.eq(item),
        ]

    def _counters(self, request: data.View) -> Value:
        """As ``gen.protocol.Counters`` packs them."""
        of_now = self.host.running & (request.op == Op.STATUS)
        return Cat(
            self.host.running,
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
