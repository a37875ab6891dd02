"""The sequencer: which stage the issue side and the drain side of the engine are at."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from drawbar.gen.config import EngineConfig
from drawbar.gen.program import WAIT_BITS
from drawbar.hw.descriptor import descriptor_layout
from drawbar.hw.interface import EngineCounters


class Sequencer(wiring.Component):
    """Takes stages from the descriptor fetch to the issue side, and from there to the drain side.

    ::

        cycle         e           e+1    e+2 ... e+1+wait   e+2+wait   e+4+wait
        stage s       last step          ... still drains ...
        stage s + 1               take   pending, wait      load       first step

    The issue side takes the next stage in the cycle after its last step ``e``, or once the stage is
    fetched. The drain side takes it over in the cycle of ``free``, or at once when it is idle;
    until then the stage is pending. No further one is taken while a stage is pending, or while two
    are with the drain side whose results are not ``settled``.

    Members
    -------
    start, running:
        Strobe and state of a program. ``running`` is high from the cycle after ``start`` to the one
        at whose end the last result is written.
    fetched, fetched_descriptor, take:
        From the descriptor fetch.
    issue_descriptor, issue_load, step, stalled, ended:
        To and from the issue side.
    drain_descriptor, drain_load, free, settled, written, finished:
        To and from the drain side.
    counters:
        Of the latest run, by cause: ``gen.cycles``.
    """

    def __init__(self, *, config: EngineConfig) -> None:
        self.config = config
        layout = descriptor_layout(config)
        super().__init__(
            {
                "start": In(1),
                "running": Out(1),
                "fetched": In(1),
                "fetched_descriptor": In(layout),
                "take": Out(1),
                "issue_descriptor": Out(layout),
                "issue_load": Out(1),
                "step": In(1),
                "stalled": In(1),
                "ended": In(1),
                "drain_descriptor": Out(layout),
                "drain_load": Out(1),
                "free": In(1),
                "settled": In(1),
                "written": In(1),
                "finished": In(1),
                "counters": Out(EngineCounters),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()

        # A register between the issue side's last step and all that follows from it.
        ended = Signal()
        m.d.sync += ended.eq(self.ended)
        # The issue side's stage is not yet the drain side's.
        pending = Signal()
        left = Signal(WAIT_BITS)
        fetching, flushing, may_take = (
            Signal(name=name) for name in ("fetching", "flushing", "may_take")
        )
        unsettled = Signal(2)
        m.d.comb += may_take.eq(self.fetched & ~pending & ~unsettled[1])

        def take() -> None:
            m.d.comb += self.take.eq(1)
            m.d.sync += left.eq(self.fetched_descriptor.wait)
            with m.If(self.fetched_descriptor.wait == 0):
                m.next = "LOAD"
            with m.Else():
                m.next = "WAIT"

        with m.FSM(name="issue_side"):
            with m.State("IDLE"), m.If(self.start):
                m.d.sync += self.running.eq(1)
                m.next = "FETCH"
            with m.State("FETCH"):
                m.d.comb += fetching.eq(1)
                with m.If(may_take):
                    take()
            with m.State("WAIT"):
                m.d.sync += left.eq(left - 1)
                with m.If(left == 1):
                    m.next = "LOAD"
            with m.State("LOAD"):
                m.d.comb += self.issue_load.eq(1)
                m.next = "ISSUE"
            with m.State("ISSUE"), m.If(ended):
                with m.If(self.issue_descriptor.last):
                    m.next = "FLUSH"
                with m.Elif(may_take):
                    take()
                with m.Else():
                    m.next = "FETCH"
            with m.State("FLUSH"), m.If(self.finished):
                m.d.sync += self.running.eq(0)
                m.next = "IDLE"
        with m.If(self.take):
            m.d.sync += [self.issue_descriptor.eq(self.fetched_descriptor), pending.eq(1)]

        # The drain side.
        draining = Signal()
        hand_over = Signal()
        m.d.comb += hand_over.eq(pending & (~draining | self.free))
        m.d.sync += [
            self.drain_load.eq(hand_over),
            unsettled.eq(unsettled + hand_over - self.settled),
        ]
        with m.If(self.free):
            m.d.sync += draining.eq(0)
        with m.If(hand_over):
            m.d.sync += [
                self.drain_descriptor.eq(self.issue_descriptor),
                pending.eq(0),
                draining.eq(1),
            ]

        # Whatever is none of the others is the pipeline's.
        m.d.comb += flushing.eq(self.running & ~(self.step | self.stalled | fetching))

        for name, event in (
            ("cycles", self.running),
            ("busy", self.step),
            ("stall_drain", self.stalled),
            ("stall_fetch", fetching),
            ("flush", flushing),
            ("stages", self.written),
        ):
            counter = self.counters[name]
            with m.If(self.start & ~self.running):
                m.d.sync += counter.eq(0)
            with m.Elif(event):
                m.d.sync += counter.eq(counter + 1)
        return m
