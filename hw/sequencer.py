"""The sequencer: which stage the issue side and the drain side of the engine are at."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from drawbar.gen.config import EngineConfig
from drawbar.gen.pipeline import pipeline
from drawbar.gen.program import WAIT_BITS
from drawbar.hw.delay import delayed
from drawbar.hw.descriptor import descriptor_layout
from drawbar.hw.interface import EngineCounters


class Sequencer(wiring.Component):
    """Takes stages from the descriptor fetch to the issue side, and from there to the drain side.

    ::

        cycle         e           e+1    e+2 ... e+1+wait   e+2+wait   e+4+wait
        stage s       last step          ... still drains ...
        stage s + 1               take   queued, wait       load       first step

    The issue side takes the next stage in the cycle after its last step ``e``, in a short pipeline
    (``gen.pipeline``) in that cycle itself, or once the stage is fetched. On an engine that holds
    one stage (``config.stages_held``), that is after the stage before has left the array, and both
    sides look at the descriptor where it was fetched. The drain side takes it over in the cycle of
    ``free``, or at once when it is idle; until then the stage is queued. No further one is taken
    while a stage is queued, or while two are with the drain side whose results are not ``settled``.

    One program runs, and one may be pending, which starts without anybody's help::

        cycle       w - 1    w         w + 1     w + 2
        a program   runs     written
        the next    pending  pending   begin     running

    Members
    -------
    start, start_address, pending:
        Strobe: the program at this word is pending from the next cycle on. Only while none is.
    begin, begin_address, running:
        Strobe, to the descriptor fetch: the pending program starts, in the first cycle in which it
        is pending and none runs. ``running`` is high from the cycle after it to the one at whose
        end the program's last result is written.
    fetched, fetched_descriptor, take:
        From the descriptor fetch.
    issue_descriptor, issue_load, step, stalled, ended:
        To and from the issue side.
    drain_descriptor, drain_load, free, settled, written, finished:
        To and from the drain side.
    counters:
        Of the program that runs, or else of the latest one that ran, by cause, modulo
        ``2**config.counter_bits``: ``gen.cycles``. They are a cycle behind, and begin anew in the
        second cycle of a run.
    counted:
        Strobe, in the second cycle after a program's last one: its counters are complete.
    """

    def __init__(self, *, config: EngineConfig) -> None:
        self.config = config
        layout = descriptor_layout(config)
        super().__init__(
            {
                "start": In(1),
                "start_address": In(config.program_address_bits),
                "pending": Out(1),
                "begin": Out(1),
                "begin_address": Out(config.program_address_bits),
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
                "counted": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()

        with m.If(self.start):
            m.d.sync += [self.pending.eq(1), self.begin_address.eq(self.start_address)]
        with m.Elif(self.begin):
            m.d.sync += self.pending.eq(0)

        overlap = self.config.stages_held > 1
        program_ends = Signal()
        # The first cycle in which a program is pending and none runs, known a cycle before.
        m.d.sync += self.begin.eq(
            (self.start | self.pending) & ~self.begin & (~self.running | program_ends)
        )
        # A register between the issue side's last step and all that follows from it, or none.
        ended = Signal()
        at_once = pipeline(self.config).step_to_latch == 0
        m.d["comb" if at_once else "sync"] += ended.eq(self.ended)
        # The issue side's stage is not yet the drain side's.
        queued = Signal()
        left = Signal(WAIT_BITS)
        fetching, flushing, may_take = (
            Signal(name=name) for name in ("fetching", "flushing", "may_take")
        )
        unsettled = Signal(2)
        m.d.comb += may_take.eq(self.fetched & ~queued & ~unsettled[1])

        def take() -> None:
            m.d.comb += self.take.eq(1)
            if not overlap:
                m.d.sync += self.issue_load.eq(1)
                m.next = "LOAD"
                return
            m.d.sync += left.eq(self.fetched_descriptor.wait)
            with m.If(self.fetched_descriptor.wait == 0):
                m.d.sync += self.issue_load.eq(1)
                m.next = "LOAD"
            with m.Else():
                m.next = "WAIT"

        m.d.sync += self.issue_load.eq(0)
        with m.FSM(name="issue_side"):
            with m.State("IDLE"), m.If(self.begin):
                m.d.sync += self.running.eq(1)
                m.next = "FETCH"
            with m.State("FETCH"):
                m.d.comb += fetching.eq(1)
                with m.If(may_take):
                    take()
            if overlap:
                with m.State("WAIT"):
                    m.d.sync += left.eq(left - 1)
                    with m.If(left == 1):
                        m.d.sync += self.issue_load.eq(1)
                        m.next = "LOAD"
            with m.State("LOAD"):
                m.next = "ISSUE"
            with m.State("ISSUE"), m.If(ended):
                with m.If(self.issue_descriptor.last):
                    m.next = "FLUSH"
                with m.Elif(may_take):
                    take()
                with m.Else():
                    m.next = "FETCH"
            with m.State("FLUSH"), m.If(self.finished):
                m.d.comb += program_ends.eq(1)
                m.d.sync += self.running.eq(0)
                m.next = "IDLE"
        with m.If(self.take):
            m.d.sync += queued.eq(1)
        if overlap:
            # A descriptor is wide, and it is known late that one is taken: so the issue side's
            # follows the fetched one all the time that nobody needs it, and then stays.
            vacant = Signal(init=1)
            with m.If(self.take):
                m.d.sync += vacant.eq(0)
            with m.Elif(self.ended):
                m.d.sync += vacant.eq(1)
            follows = vacant | self.ended if at_once else vacant
            with m.If(follows & ~queued):
                m.d.sync += self.issue_descriptor.eq(self.fetched_descriptor)
        else:
            m.d.comb += [
                self.issue_descriptor.eq(self.fetched_descriptor),
                self.drain_descriptor.eq(self.fetched_descriptor),
            ]

        # The drain side.
        draining = Signal()
        hand_over = Signal()
        m.d.comb += hand_over.eq(queued & (~draining | self.free))
        m.d.sync += [
            self.drain_load.eq(hand_over),
            unsettled.eq(unsettled + hand_over - self.settled),
        ]
        with m.If(self.free):
            m.d.sync += draining.eq(0)
        with m.If(hand_over):
            m.d.sync += [queued.eq(0), draining.eq(1)]
            if overlap:
                m.d.sync += self.drain_descriptor.eq(self.issue_descriptor)

        # Whatever is none of the others is the pipeline's.
        m.d.comb += flushing.eq(self.running & ~(self.step | self.stalled | fetching))

        # What is counted is late in its cycle: counting takes one of its own.
        begins_1 = delayed(m, self.begin, 1, "begins")
        m.d.comb += self.counted.eq(delayed(m, program_ends, 2, "program_ends"))
        for name, now in (
            ("cycles", self.running),
            ("busy", self.step),
            ("stall_drain", self.stalled),
            ("stall_fetch", fetching),
            ("flush", flushing),
            ("stages", self.written),
            ("idle", ~self.running),
        ):
            event = delayed(m, now, 1, name)
            counter = Signal(self.config.counter_bits, name=f"{name}_counter")
            m.d.sync += counter.eq(Mux(begins_1, 0, counter + event))
            if name == "idle":
                # A run has those before it.
                before = Signal.like(counter, name="idle_before")
                with m.If(begins_1):
                    m.d.sync += before.eq(counter + event)
                counter = before
            m.d.comb += self.counters[name].eq(counter)
        return m
