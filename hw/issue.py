"""The issue side of a stage: which reduction step enters the array in which cycle."""

from __future__ import annotations

from amaranth.hdl import C, Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from drawbar.gen.config import EngineConfig
from drawbar.gen.pipeline import HANDOVER, pipeline
from drawbar.gen.program import issue_levels
from drawbar.hw.delay import delayed
from drawbar.hw.descriptor import address_generator, descriptor_layout
from drawbar.hw.interface import TableWrite
from drawbar.hw.loops import LoopNest


class Issue(wiring.Component):
    """Steps through a stage's reduction, row tile and column loops, and addresses both operands.

    Members
    -------
    descriptor:
        The stage; constant from ``load`` until its ``ended``, in that cycle included.
    table:
        Only if ``config.stages_held`` is 1: words of the stage's table, before its ``load``.
    load:
        Start the stage; the first step is two cycles later. After the ``ended`` of the stage
        before.
    step, last, row_tile_last:
        A reduction step is issued; it ends a tile; the tile is the last one of its columns. Cycle
        0. Without ``step`` the others mean nothing.
    holds:
        Only with ``config.products``: the step of a pair whose live vector is held, of a stage of
        products. Cycle 0; means nothing without ``step``.
    stalled:
        The stage is not at its end and no step is issued, as the drain side is still in use, or for
        the gap between tiles.
    ended:
        The stage's last step is issued in this cycle.
    live_address:
        Element address of the live vector. Cycle 1.
    core_address, core_fold:
        Core vector, and the logarithm of the stage's fold (only with ``config.fold`` above 1).
        Cycle ``issue_to_array - core_read`` (``gen.pipeline``), as core memory answers sooner than
        work memory.

    A tile of ``n`` result rows occupies the drain registers for ``n`` cycles, so its successor's
    last step waits until ``n`` cycles after its own, and ``HANDOVER`` more if it is of the next
    stage. Throughput: otherwise one step a cycle, but for ``config.tile_gap``.
    """

    def __init__(self, *, config: EngineConfig) -> None:
        self.config = config
        super().__init__(
            {
                "descriptor": In(descriptor_layout(config)),
                "table": In(TableWrite),
                "load": In(1),
                "step": Out(1),
                "last": Out(1),
                "row_tile_last": Out(1),
                "holds": Out(1),
                "stalled": Out(1),
                "ended": Out(1),
                "live_address": Out(config.work_address_bits),
                "core_address": Out(config.core_address_bits),
                "core_fold": Out(config.fold_bits.bit_length()),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, descriptor = self.config, self.descriptor
        levels, k_loops = issue_levels(config), config.k_loops

        m.submodules.nest = nest = LoopNest(levels=levels, count_bits=config.count_bits)
        live = address_generator(
            m, config, "live", levels, config.work_address_bits, "x", descriptor, self.table
        )

        active = Signal()
        loaded = delayed(m, self.load, 1, "loaded")
        held = Signal(range(config.rows + HANDOVER))
        blocked = Signal()  # held != 0
        # active & last & blocked, known in advance: all that steps hangs on it.
        halted = Signal()
        gap = Signal()  # a tile has just ended
        rows = Mux(self.row_tile_last, descriptor.rows_last, config.rows - 1)
        m.d.comb += [
            self.last.eq(nest.ended[k_loops - 1]),
            self.row_tile_last.eq(nest.at_last[k_loops]),
            self.step.eq(active & ~halted & ~gap),
            self.stalled.eq(halted | (active & gap)),
            self.ended.eq(self.step & nest.ended[-1]),
            nest.load.eq(self.load),
            # Without a stage the nest runs on, until a load.
            nest.step.eq(~halted & ~gap),
        ]
        if config.tile_gap:
            m.d.sync += gap.eq(self.step & self.last)
        m.d.comb += [nest.counts[j].eq(descriptor[f"issue_count_{j}"]) for j in range(levels)]
        with m.If(loaded):
            m.d.sync += active.eq(1)
        with m.Elif(self.ended):
            m.d.sync += active.eq(0)
        one_row = delayed(m, descriptor.rows_last == 0, 1, "one_row")
        hold = nest.ended[-1] | ~Mux(self.row_tile_last, one_row, config.rows == 1)
        still = Signal()
        m.d.comb += still.eq(held != 1)
        with m.If(self.step & self.last):
            m.d.sync += [
                held.eq(rows + Mux(nest.ended[-1], HANDOVER, 0)),
                blocked.eq(hold),
            ]
        with m.Elif(blocked):
            m.d.sync += [held.eq(held - 1), blocked.eq(still)]
        stays = loaded | (active & ~nest.ended[-1])
        # What comes after a tile's last step is held up by that tile, unless there is a gap.
        after_last = Const(0) if config.tile_gap else hold
        with m.If(halted):
            m.d.sync += halted.eq(still)
        with m.Elif(gap):
            m.d.sync += halted.eq(active & self.last & blocked & still)
        with m.Else():
            m.d.sync += halted.eq(
                stays
                & nest.ended_next[k_loops - 1]
                & Mux(active & self.last, after_last, blocked & still)
            )

        if config.products:
            second = Signal()  # the step is the second one of its pair
            m.d.comb += self.holds.eq(descriptor.products & ~second)
            with m.If(self.load):
                m.d.sync += second.eq(0)
            with m.Elif(self.step):
                m.d.sync += second.eq(~second)

        step_1 = delayed(m, self.step, 1, "step")
        m.d.comb += [
            live.load.eq(self.load),
            live.step.eq(self.step),
            live.advance.eq(nest.advance),
            self.live_address.eq(live.address),
        ]

        # A core matrix is read front to back for each column tile, and the next one follows it, so
        # the core needs no loops of its own. Its address is made beside the live one.
        core_address = Signal(config.core_address_bits)
        matrix = Signal(config.core_address_bits)
        shared = Cat(C(0, 1), descriptor.shared)
        again = delayed(m, (nest.advance[k_loops + 1 :] & ~shared).any(), 1, "again")
        onward = delayed(m, (nest.advance[k_loops + 1 :] & shared).any(), 1, "onward")
        vectors = 1 << descriptor.fold if config.fold > 1 else C(1)
        with m.If(self.load):
            m.d.sync += [core_address.eq(descriptor.core_base), matrix.eq(descriptor.core_base)]
        with m.Elif(step_1 & again):
            m.d.sync += core_address.eq(matrix)
        with m.Elif(step_1):
            m.d.sync += core_address.eq(core_address + vectors)
            with m.If(onward):
                m.d.sync += matrix.eq(core_address + vectors)
        ahead = pipeline(config).issue_to_array - pipeline(config).core_read - 1
        m.d.comb += self.core_address.eq(
            delayed(m, core_address, ahead, "core_address", reset_less=True)
        )
        if config.fold > 1:
            late = delayed(m, descriptor.fold, ahead + 1, "core_fold", reset_less=True)
            m.d.comb += self.core_fold.eq(late)
        return m
