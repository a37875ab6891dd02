"""Whole boards: the engine behind its link, with byte streams or a serial line in front."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from drawbar.gen.config import EngineConfig
from drawbar.hw.engine import Engine
from drawbar.hw.link import Link
from drawbar.hw.link_buffer import ByteBuffer
from drawbar.hw.uart import Uart


class Board(wiring.Component):
    """Engine and link: what a device is to its host, whatever carries the bytes.

    Members
    -------
    rx, tx:
        Bytes from and to the host, as ``gen.protocol`` frames.
    """

    def __init__(self, *, config: EngineConfig) -> None:
        self.config = config
        super().__init__({"rx": In(stream.Signature(8)), "tx": Out(stream.Signature(8))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.engine = engine = Engine(config=self.config)
        m.submodules.link = link = Link(config=self.config)
        connect(m, link.host, engine.host)
        m.d.comb += [
            link.counters.eq(engine.counters),
            link.counted.eq(engine.counted),
        ]
        connect(m, flipped(self.rx), link.rx)
        connect(m, link.tx, flipped(self.tx))
        return m


class SerialBoard(wiring.Component):
    """A board on a serial line: 8N1 at ``config.baud``, from a clock of ``config.clock_hz``.

    Members
    -------
    rx, tx:
        The line's two wires.
    """

    def __init__(self, *, config: EngineConfig) -> None:
        self.config = config
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.board = board = Board(config=config)
        m.submodules.uart = uart = Uart(clock_hz=config.clock_hz, baud=config.baud)
        connect(m, uart.received, board.rx)
        # The line is never ready in time for all that the link does when a byte is taken.
        m.submodules.sent = sent = ByteBuffer()
        connect(m, board.tx, sent.i)
        connect(m, sent.o, uart.sent)
        m.d.comb += [uart.rx.eq(self.rx), self.tx.eq(uart.tx)]
        return m
