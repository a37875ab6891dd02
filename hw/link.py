"""The command link: framed requests in, framed responses out, the engine's memories behind."""

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from drawbar.gen.config import EngineConfig
from drawbar.gen.protocol import MAX_PAYLOAD
from drawbar.hw.interface import EngineCounters, HostSignature
from drawbar.hw.link_executor import LinkExecutor
from drawbar.hw.link_frames import BYTE, KEPT_BYTES, Request
from drawbar.hw.link_receiver import LinkReceiver
from drawbar.hw.link_transmitter import LinkTransmitter
from drawbar.hw.vendor.portable import primitives


class Link(wiring.Component):
    """The device's side of ``gen.protocol``.

    ::

        rx ──> receiver ──> queue of requests ──> executor ──> transmitter ──> tx
                  ├──────> ring of headers ─────────┤ └──> host
                  └──────> slots of payloads ───────┘

    Payloads wait in one slot of 512 bytes for each request of the window, so nothing reaches the
    engine's memories before its check has passed, and a host that keeps at most ``link_window``
    requests unanswered never finds the queue full. Over a line that cannot wait (a byte every 3
    cycles or slower) not a byte is lost then; other streams are stopped by ``rx.ready``.

    Throughput: a byte a cycle, but for two cycles after each header with a payload, two after its
    payload, and three after each other frame. When nothing is before it, the first byte of the
    answer comes 24 cycles after the last byte of a request that need not wait, and 28 and its
    length after that of a WRITE that ``host`` takes at once. A READ
    sends a byte a cycle as far as ``host`` gives items: see ``ItemReader``. The next request is
    taken when all of the answer but its last byte and its check has been sent.

    Arguments
    ---------
    config:
        The engine behind the link.
    idle_cycles:
        Cycles of silence after which an unfinished frame is dropped; by default 10 ms, longer than
        a USB adapter pauses and shorter than a host waits.

    Members
    -------
    rx, tx:
        Bytes from and to the host.
    host:
        The engine's memories, and the start of programs.
    counters, counted:
        As in ``hw.engine.Engine``, for STATUS and WAIT.
    """

    def __init__(self, *, config: EngineConfig, idle_cycles: int | None = None) -> None:
        self._config = config
        self._idle_cycles = config.clock_hz // 100 + 1 if idle_cycles is None else idle_cycles
        if self._idle_cycles < 2:
            raise ValueError(
                f"a silence takes at least 2 cycles; found idle_cycles={idle_cycles!r}"
            )
        super().__init__(
            {
                "rx": In(stream.Signature(BYTE)),
                "tx": Out(stream.Signature(BYTE)),
                "host": Out(HostSignature()),
                "counters": In(EngineCounters),
                "counted": In(1),
            }
        )

    @property
    def config(self) -> EngineConfig:
        return self._config

    @property
    def idle_cycles(self) -> int:
        return self._idle_cycles

    def elaborate(self, platform: object) -> Module:
        m = Module()
        window = self._config.link_window
        m.submodules.receiver = receiver = LinkReceiver(
            window=window, idle_cycles=self._idle_cycles
        )
        m.submodules.executor = executor = LinkExecutor(config=self._config)
        m.submodules.transmitter = transmitter = LinkTransmitter()

        wiring.connect(m, wiring.flipped(self.rx), receiver.rx)
        wiring.connect(m, executor.bytes_out, transmitter.bytes_in)
        wiring.connect(m, transmitter.tx, wiring.flipped(self.tx))
        wiring.connect(m, executor.host, wiring.flipped(self.host))
        m.d.comb += [
            receiver.release.eq(executor.release),
            receiver.release_slot.eq(executor.release_slot),
            executor.counters.eq(self.counters),
            executor.counted.eq(self.counted),
            executor.crc_errors.eq(receiver.crc_errors),
            executor.sequence_errors.eq(receiver.sequence_errors),
        ]

        # At most `window` requests, since each holds a slot, and as many NAKs, by `nak_room`; the
        # least window is for small engines, and has one. One place more, because this FIFO refuses
        # the last one while its output register is empty.
        naks = window if window > 2 else 1
        m.submodules.queue = queue = SyncFIFOBuffered(
            width=Request.as_shape().size, depth=window + naks + 1
        )
        m.d.comb += [
            queue.w_data.eq(receiver.requests.payload),
            queue.w_en.eq(receiver.requests.valid),
            receiver.requests.ready.eq(queue.w_rdy),
            receiver.nak_room.eq(queue.level < naks),
            executor.requests.payload.eq(queue.r_data),
            executor.requests.valid.eq(queue.r_rdy),
            queue.r_en.eq(executor.requests.ready),
        ]

        # Never written where they are read: the receiver writes only entries and slots that are
        # free, the executor reads only those of a request that it has not answered.
        # tests/hw/test_link.py watches the ports.
        vendor = primitives(platform)
        m.d.comb += [
            executor.header_byte.eq(
                vendor.memory(
                    m,
                    name="headers",
                    width=BYTE,
                    depth=2 * window * KEPT_BYTES,
                    read_address=executor.header_address,
                    read_enable=executor.header_enable,
                    write_address=receiver.header_address,
                    write_data=receiver.byte,
                    write_enable=receiver.header_write,
                )
            ),
            executor.slot_byte.eq(
                vendor.memory(
                    m,
                    name="slots",
                    width=BYTE,
                    depth=window * MAX_PAYLOAD,
                    read_address=executor.slot_address,
                    read_enable=executor.slot_enable,
                    write_address=receiver.slot_address,
                    write_data=receiver.byte,
                    write_enable=receiver.slot_write,
                )
            ),
        ]
        return m
