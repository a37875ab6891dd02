"""The drain side of a stage: finished tiles leave the array row by row, and find their place in
work memory.
"""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from drawbar.gen.config import EngineConfig
from drawbar.gen.pipeline import pipeline
from drawbar.gen.program import drain_levels
from drawbar.hw.delay import delayed
from drawbar.hw.descriptor import address_generator, descriptor_layout
from drawbar.hw.interface import TableWrite
from drawbar.hw.loops import LoopNest
from drawbar.hw.vendor.portable import primitives


class Drain(wiring.Component):
    """Steps through a stage's result rows and columns, one row vector a cycle.

    Members
    -------
    descriptor, load:
        The stage; constant from ``load`` until its ``free``, in that cycle included. ``load`` comes
        at the earliest in the cycle after the ``free`` of the stage before, and at the latest in
        that before the stage's first ``begin``.
    table:
        Only if ``config.stages_held`` is 1: words of the stage's table, before its ``load``.
    begin, row_tile_last:
        A tile's rows are stepped through from the next cycle on: all rows of the array, or those of
        the last row tile. Each ``begin`` comes at least as many cycles after the one before as that
        one's tile has rows. ``row_tile_last`` means nothing without ``begin``.
    bias_address:
        Bias vector of the row. Cycle 1 after the step.
    bias_enable, shift, activation:
        How the row is requantised; ``step_to_row`` after the step (``gen.pipeline``), as the row,
        but for ``bias_enable``, which comes a cycle before, as the bias.
    turn:
        The row is used by the requantiser in the next cycle; after that the array turns to the
        next one.
    result_address, result_mask, result_skew, result_fold, result_fold_skew:
        Element address, valid lanes and skew of the requantised row vector, ``step_to_result``
        after the step; the skew one cycle sooner, and as it the last two, which are there only with
        ``config.fold`` above 1: the logarithm of the fold, and the skew of its rows.
    free:
        The descriptor may change at the end of this cycle, the one after the step of the stage's
        last row.
    settled:
        The stage after the next one may be latched from the next cycle on: this one's results are
        written before it reads (``gen.pipeline``).
    written, finished:
        The stage's last result, or the program's, is written at the end of this cycle.
    """

    def __init__(self, *, config: EngineConfig) -> None:
        self.config = config
        super().__init__(
            {
                "descriptor": In(descriptor_layout(config)),
                "table": In(TableWrite),
                "load": In(1),
                "begin": In(1),
                "row_tile_last": In(1),
                "bias_address": Out(config.bias_address_bits),
                "bias_enable": Out(1),
                "shift": Out(config.shift_bits),
                "activation": Out(1),
                "turn": Out(1),
                "result_address": Out(config.work_address_bits),
                "result_mask": Out(config.lanes),
                "result_skew": Out(config.work_row_bits),
                "result_fold": Out(config.fold_bits.bit_length()),
                "result_fold_skew": Out(config.work_row_bits),
                "free": Out(1),
                "settled": Out(1),
                "written": Out(1),
                "finished": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, descriptor = self.config, self.descriptor
        levels = drain_levels(config)

        m.submodules.nest = nest = LoopNest(levels=levels, count_bits=config.count_bits)
        result_bits = config.work_address_bits
        streams = descriptor, self.table
        result = address_generator(m, config, "result", levels, result_bits, "y", *streams)
        bias = address_generator(
            m, config, "bias", levels, config.bias_address_bits, "bias", *streams, result_bits
        )

        step, next_step, nest_step = (Signal(name=n) for n in ("step", "next_step", "nest_step"))
        left = Signal(range(config.rows))
        m.d.comb += next_step.eq(self.begin | (left != 0))
        m.d.sync += [step.eq(next_step), nest_step.eq(next_step | self.load)]
        with m.If(self.begin):
            m.d.sync += left.eq(Mux(self.row_tile_last, descriptor.rows_last, config.rows - 1))
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)

        m.d.comb += [nest.load.eq(self.load), nest.step.eq(nest_step)]
        m.d.comb += [nest.counts[j].eq(descriptor[f"drain_count_{j}"]) for j in range(levels)]
        m.d.comb += [bias.load.eq(self.load), result.load.eq(self.load)]

        pipe = pipeline(config)
        to_row, to_result = pipe.step_to_row, pipe.step_to_result
        m.d.comb += [
            bias.step.eq(step),
            bias.advance.eq(nest.advance),
            self.bias_address.eq(bias.address),
            result.step.eq(step),
            result.advance.eq(nest.advance),
            self.turn.eq(delayed(m, step, to_row - 1, "row_step")),
            self.result_address.eq(
                primitives(platform).delay_line(m, result.address, to_result - 1, "result_address")
            ),
        ]
        # The descriptor may change long before the row arrives, so its share travels along.
        for name, cycles in (
            ("bias_enable", to_row - 1),
            ("shift", to_row),
            ("activation", to_row),
        ):
            travelled = delayed(m, descriptor[name], cycles, name, reset_less=True)
            m.d.comb += getattr(self, name).eq(travelled)
        of_result = {"result_skew": "y_skew"} if config.lanes > 1 else {}
        if config.fold > 1:
            of_result |= {"result_fold": "fold", "result_fold_skew": "fold_skew"}
        for name, field in of_result.items():
            travelled = delayed(m, descriptor[field], to_result - 1, name, reset_less=True)
            m.d.comb += getattr(self, name).eq(travelled)

        # Valid lanes: all of them, or those of a ragged last lane tile. Made a cycle early, to be a
        # register.
        lane_tile_last = nest.at_last[config.row_loops]
        most = Signal.like(descriptor.lanes_last)
        m.d.comb += most.eq(Mux(lane_tile_last, descriptor.lanes_last, config.lanes - 1))
        most_late = delayed(m, most, to_result - 1, "lanes", reset_less=True)
        step_late = delayed(m, step, to_result - 1, "result_step")

        def inside(lane: int) -> Value:
            # A stage that folds has the same columns in each group of lanes.
            by_fold = [most_late >= lane % (config.lanes >> n) for n in range(config.fold_bits + 1)]
            return Array(by_fold)[self.result_fold] if config.fold > 1 else by_fold[0]

        m.d.sync += self.result_mask.eq(
            Cat(step_late & inside(lane) for lane in range(config.lanes))
        )

        ended = delayed(m, step & nest.ended[-1], 1, "ended")
        to_written = to_result + pipe.work_access
        settled = delayed(m, ended, pipe.step_to_settled - 1, "settled")
        # The descriptor changes before the last write, so the end of the program travels along.
        last = delayed(m, step & nest.ended[-1] & descriptor.last, to_written, "last")
        m.d.comb += [
            self.free.eq(ended),
            self.settled.eq(settled),
            self.written.eq(delayed(m, settled, to_written - pipe.step_to_settled, "written")),
            self.finished.eq(last),
        ]
        return m
