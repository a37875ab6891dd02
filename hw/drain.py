"""The drain side of a stage: finished tiles leave the array row by row, and find their place in
work memory.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from drawbar.gen.config import EngineConfig
from drawbar.gen.program import drain_levels
from drawbar.hw.delay import delayed
from drawbar.hw.descriptor import descriptor_layout, stream_deltas
from drawbar.hw.loops import AddressGenerator, LoopNest

#: Cycles from the step of the drain's loops to the row's arrival at the requantiser, and at work
#: memory.
STEP_TO_ROW = 3
STEP_TO_RESULT = 7
#: Cycles from the step of a stage's last row to the cycle from which a tile of the next stage may
#: end (it begins to drain four cycles later), and to the one at whose end the descriptor may
#: change.
STEP_TO_CLOSING = 4
STEP_TO_FREE = 7
#: Cycles from a result's arrival at work memory to the cycle at whose end it is written.
RESULT_TO_WRITE = 2


class Drain(wiring.Component):
    """Steps through a stage's result rows and columns, one row vector a cycle.

    Members
    -------
    descriptor, load:
        The stage; constant from ``load`` until its ``free``, in that cycle included. ``load`` comes
        at the earliest in the cycle after the ``free`` of the stage before, and at the latest in
        that of the stage's first ``begin``.
    begin, row_tile_last:
        A tile's rows are stepped through from the next cycle on: all rows of the array, or those of
        the last row tile. Each ``begin`` comes at least as many cycles after the one before as that
        one's tile has rows. ``row_tile_last`` means nothing without ``begin``.
    bias_address:
        Bias vector of the row. Cycle 1 after the step.
    shift:
        The row is used by the requantiser in this cycle (3 after the step); the array turns to the
        next one.
    result_address, result_mask:
        Element address and valid lanes of the requantised row. Cycle 7 after the step.
    closing:
        From this cycle on (4 after the step of the stage's last row), the last step of a tile of
        the next stage may be issued.
    free:
        The descriptor may change at the end of this cycle (7 after that step).
    written, finished:
        The stage's last result, or the program's, is written at the end of this cycle (9 after the
        step).
    """

    def __init__(self, *, config: EngineConfig) -> None:
        self.config = config
        super().__init__(
            {
                "descriptor": In(descriptor_layout(config)),
                "load": In(1),
                "begin": In(1),
                "row_tile_last": In(1),
                "bias_address": Out(config.bias_address_bits),
                "shift": Out(1),
                "result_address": Out(config.work_address_bits),
                "result_mask": Out(config.lanes),
                "closing": Out(1),
                "free": Out(1),
                "written": Out(1),
                "finished": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, descriptor = self.config, self.descriptor
        levels = drain_levels(config)

        m.submodules.nest = nest = LoopNest(levels=levels)
        m.submodules.bias = bias = AddressGenerator(
            levels=levels, address_bits=config.bias_address_bits
        )
        m.submodules.result = result = AddressGenerator(
            levels=levels, address_bits=config.work_address_bits
        )

        step = Signal()
        left = Signal(range(config.rows))
        with m.If(self.begin):
            m.d.sync += step.eq(1)
            m.d.sync += left.eq(Mux(self.row_tile_last, descriptor.rows_last, config.rows - 1))
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        with m.Else():
            m.d.sync += step.eq(0)

        m.d.comb += [nest.load.eq(self.load), nest.step.eq(step)]
        m.d.comb += [nest.counts[j].eq(descriptor[f"drain_count_{j}"]) for j in range(levels)]
        m.d.comb += [bias.load.eq(self.load), result.load.eq(self.load)]
        m.d.comb += [bias.base.eq(descriptor.bias_base), result.base.eq(descriptor.y_base)]
        stream_deltas(m, bias, descriptor, "bias")
        stream_deltas(m, result, descriptor, "y")

        step_1 = delayed(m, step, 1, "step")
        advance_1 = delayed(m, nest.advance, 1, "advance")
        step_7 = delayed(m, step_1, STEP_TO_RESULT - 1, "late_step")
        m.d.comb += [
            bias.step.eq(step_1),
            bias.advance.eq(advance_1),
            self.bias_address.eq(bias.address),
            self.shift.eq(delayed(m, step_1, STEP_TO_ROW - 1, "row_step")),
            result.step.eq(step_7),
            result.advance.eq(delayed(m, advance_1, STEP_TO_RESULT - 1, "late_advance")),
            self.result_address.eq(result.address),
        ]

        # Valid lanes: all of them, or those of a ragged last lane tile. Made a cycle early, to be a
        # register.
        lanes_last = Cat(descriptor.lanes_last >= lane for lane in range(config.lanes))
        lane_tile_last = delayed(
            m, nest.at_last[config.row_loops], STEP_TO_RESULT - 1, "lane_tile_last"
        )
        step_6 = delayed(m, step, STEP_TO_RESULT - 1, "mask_step")
        m.d.sync += self.result_mask.eq(
            Mux(step_6, Mux(lane_tile_last, lanes_last, ~0), 0)[: config.lanes]
        )
        ended = step & nest.ended
        step_to_write = STEP_TO_RESULT + RESULT_TO_WRITE
        closing = delayed(m, ended, STEP_TO_CLOSING, "closing")
        free = delayed(m, closing, STEP_TO_FREE - STEP_TO_CLOSING, "free")
        # The descriptor changes before the last write, so the end of the program travels along.
        last = delayed(m, ended & descriptor.last, step_to_write, "last")
        m.d.comb += [
            self.closing.eq(closing),
            self.free.eq(free),
            self.written.eq(delayed(m, free, step_to_write - STEP_TO_FREE, "written")),
            self.finished.eq(last),
        ]
        return m
