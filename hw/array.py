"""The array: R x C multiply-accumulators, output-stationary, with drain registers behind them."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from drawbar.gen.config import EngineConfig


class MacArray(wiring.Component):
    """``acc[r][c] += core[r] * live[c]`` each cycle; a finished tile moves to the drain registers
    as a whole.

    Steps k and k + 1 are the last two of a tile here; the first step of the next one follows::

        cycle    0       1          2            3             4          5
        valid    step k  step k+1   next step
        last             high
        product          product k  product k+1  next product
        acc                         ... + k      ... + k+1     next tile
        loaded                                   high
        shift                                                  high       high
        row                                                    row 0      row 1

    Members
    -------
    core, live, valid, first, last:
        One reduction step: a core vector, a live vector, and whether the step begins or ends a
        tile. Without ``valid`` the others mean nothing.
    loaded:
        The tile whose last step came two cycles ago is complete, and moves to the drain registers
        at the end of this cycle.
    shift:
        The next row of the tile, from the next cycle. ``loaded`` wins.
    row:
        One row of accumulators: row 0 from three cycles after the tile's last step, one row further
        after each ``shift``; undefined when all rows are shifted out.

    Throughput: one step a cycle. A tile overwrites what is left of the one before, so its last step
    comes at least as many cycles after that one's as that one has rows to drain. There is no
    back-pressure: the issue side keeps that distance. Accumulation is exact modulo
    ``2**acc_width``. Reset clears all registers.
    """

    def __init__(self, *, config: EngineConfig) -> None:
        self.config = config
        super().__init__(
            {
                "core": In(data.ArrayLayout(signed(config.data_width), config.rows)),
                "live": In(data.ArrayLayout(signed(config.data_width), config.lanes)),
                "valid": In(1),
                "first": In(1),
                "last": In(1),
                "loaded": Out(1),
                "shift": In(1),
                "row": Out(data.ArrayLayout(signed(config.acc_width), config.lanes)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        rows, lanes = self.config.rows, self.config.lanes
        data_width, acc_width = self.config.data_width, self.config.acc_width

        valid_1 = Signal()
        first_1 = Signal()
        last_1 = Signal()
        m.d.sync += [
            valid_1.eq(self.valid),
            first_1.eq(self.first),
            last_1.eq(self.valid & self.last),
            self.loaded.eq(last_1),
        ]
        drain = [
            [Signal(signed(acc_width), name=f"drain_{r}_{c}") for c in range(lanes)]
            for r in range(rows)
        ]
        for r in range(rows):
            for c in range(lanes):
                product = Signal(signed(2 * data_width), name=f"product_{r}_{c}")
                acc = Signal(signed(acc_width), name=f"acc_{r}_{c}")
                m.d.sync += product.eq(self.core[r] * self.live[c])
                with m.If(valid_1):
                    m.d.sync += acc.eq(Mux(first_1, 0, acc) + product)
                with m.If(self.loaded):
                    m.d.sync += drain[r][c].eq(acc)
                if r + 1 < rows:
                    with m.Elif(self.shift):
                        m.d.sync += drain[r][c].eq(drain[r + 1][c])
        m.d.comb += [self.row[c].eq(drain[0][c]) for c in range(lanes)]
        return m
