"""The array: R x C multiply-accumulators, output-stationary, with drain registers behind them."""

from __future__ import annotations

from amaranth.hdl import Array, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from drawbar.gen.config import EngineConfig
from drawbar.gen.pipeline import pipeline
from drawbar.hw.delay import delayed
from drawbar.hw.vendor.portable import PRODUCT_LATENCY, Portable, primitives


class MacArray(wiring.Component):
    """``acc[r][c] += core[g][r] * live[c]`` each cycle, lane c in group g of ``config.fold``; a
    finished tile moves to the drain registers as a whole.

    Step k is the last one of a tile here, of the first lane group; the first step of the next tile
    follows, in a long pipeline::

        cycle    0       1     2     3     4             5           6
        valid    step k  next
        last     high
        product                            product k     next
        acc                                all but k     0           next tile
        row                                              row 0       row 1
        turn                               high          high

    Lane group g (of ``gen.pipeline``'s ``group_lanes``) does the same g cycles later: its ``live``
    is delayed here, and its rows come later. What all lanes share, the core vector and the control,
    goes from group to group; so no register has to reach all of the array in one cycle.

    Members
    -------
    core, live, valid, last:
        One reduction step: a core vector for each of ``config.fold`` groups of lanes, a live
        vector, and whether the step ends a tile. Without ``valid`` the others mean nothing.
    fold:
        With the step, only with ``config.fold`` above 1: the logarithm of how many parts the lanes
        fall into; all of them take the first part's elements of the live vector.
    hold, factors:
        Only with ``config.products``. ``hold``: the live vector is kept, and nothing else happens:
        the cycle has no ``valid``. ``factors``: in row 0, the step multiplies its live vector not
        with the core but, lane by lane, with the one that was kept last.
    turn:
        From the next cycle but one on, the next row of the tile. It says nothing in the cycle
        before a tile's row 0 comes.
    row:
        One row of accumulators: row 0 from ``array_to_row`` cycles after the tile's last
        step, one row further two cycles after each ``turn``; undefined when all rows have turned.

    With ``config.tile_gap`` no step follows a tile's last one at once: the accumulators add the
    product a cycle sooner, and are read and cleared in the gap.

    Throughput: one step a cycle. A tile overwrites what is left of the one before, so its last step
    comes at least as many cycles after that one's as that one has rows to drain. There is no
    back-pressure: the issue side keeps that distance. Accumulation is exact modulo
    ``2**acc_width``. Two cycles after a reset the array is empty.
    """

    def __init__(self, *, config: EngineConfig) -> None:
        self.config = config
        vector = data.ArrayLayout(signed(config.data_width), config.rows)
        super().__init__(
            {
                "core": In(data.ArrayLayout(vector, config.fold)),
                "live": In(data.ArrayLayout(signed(config.data_width), config.lanes)),
                "valid": In(1),
                "last": In(1),
                "fold": In(config.fold_bits.bit_length()),
                "hold": In(1),
                "factors": In(1),
                "turn": In(1),
                "row": Out(data.ArrayLayout(signed(config.acc_width), config.lanes)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        vendor = primitives(platform)
        config, pipe = self.config, pipeline(self.config)
        rows, lanes, alike = config.rows, config.lanes, config.lanes // config.fold
        together = pipe.group_lanes
        cores: list[list[Value]] = [[vector[r] for r in range(rows)] for vector in self.core]
        # One cycle less than the products and the register behind them take, for the copies. With
        # a gap there is no such register.
        adds = PRODUCT_LATENCY - 1 if config.tile_gap else pipe.array_to_row - 2
        step = delayed(m, self.valid, adds, "step")
        # A reset looks like the end of a tile, so that it clears the accumulators.
        ends: Value = Signal(init=1)
        m.d.sync += ends.eq(delayed(m, self.valid & self.last, pipe.array_to_row - 3, "ends"))
        turn: Value = self.turn
        hold: Value = self.hold
        factors: Value = self.factors
        for group, first in enumerate(range(0, lanes, together)):
            end = min(first + together, lanes)
            if group:
                # Of the lanes here and behind.
                for n in range(first // alike, config.fold):
                    cores[n] = [
                        delayed(m, value, 1, f"core_{first}_{n}_{r}", reset_less=True)
                        for r, value in enumerate(cores[n])
                    ]
                step = delayed(m, step, 1, f"step_{first}")
                ends = delayed(m, ends, 1, f"ends_{first}")
                turn = delayed(m, turn, 1, f"turn_{first}")
                hold = delayed(m, hold, 1, f"hold_{first}")
                factors = delayed(m, factors, 1, f"factors_{first}")
            for begin in range(first, end, min(alike, end - first)):
                inside = range(begin, min(begin + alike, end))
                live = [
                    delayed(m, self._unfolded(c), group, f"live_{c}", reset_less=True)
                    for c in inside
                ]
                core = cores[begin // alike]
                own = None
                if config.products:
                    own = self._factors(m, inside, core[0], live, hold, factors)
                self._accumulate(m, vendor, inside, core, live, own, step, ends, turn)
        return m

    def _unfolded(self, lane: int) -> Value:
        """The live element that a lane takes, by fold."""
        sources = [lane % (self.config.lanes >> n) for n in range(self.config.fold_bits + 1)]
        if len(set(sources)) == 1:
            return self.live[lane]
        return Array(self.live[source] for source in sources)[self.fold]

    def _factors(
        self,
        m: Module,
        lanes: range,
        core: Value,
        live: list[Value],
        hold: Value,
        factors: Value,
    ) -> list[Value]:
        """What row 0 multiplies each lane of a group with: the core, or what the lane holds."""
        found: list[Value] = []
        for c, value in zip(lanes, live, strict=True):
            held = Signal(signed(self.config.data_width), name=f"held_{c}", reset_less=True)
            with m.If(hold):
                m.d.sync += held.eq(value)
            operand = Signal.like(held, name=f"operand_{c}")
            m.d.comb += operand.eq(Mux(factors, held, core))
            found.append(operand)
        return found

    def _accumulate(
        self,
        m: Module,
        vendor: Portable,
        lanes: range,
        core: list[Value],
        live: list[Value],
        own: list[Value] | None,
        step: Value,
        ends: Value,
        turn: Value,
    ) -> None:
        """Accumulators and drain registers of a lane group; control is one cycle ahead. ``own`` is
        what row 0 has in place of its core element, lane by lane.
        """
        rows, shape, first = self.config.rows, signed(self.config.acc_width), lanes[0]
        # A tile's last sum goes to the drain registers and clears the accumulators: so a step needs
        # no multiplexer in front of its adder.
        adds = vendor.copies(m, step, rows, f"adds_{first}")
        clears = vendor.copies(m, ends, rows, f"clears_{first}", init=1)
        loads = vendor.copies(m, ends, rows, f"loads_{first}")
        moves = vendor.copies(m, ends | turn, rows, f"moves_{first}")
        if self.config.tile_gap:
            sums = self._gap_sums(m, vendor, lanes, core, live, adds, clears)
        else:
            sums = self._sums(m, vendor, lanes, core, live, own, adds, clears)
        for c in lanes:
            drain = [Signal(shape, name=f"drain_{r}_{c}", reset_less=True) for r in range(rows)]
            for r in range(rows):
                total = sums[r][c - first]
                with m.If(moves[r]):
                    # Nobody looks at what comes after the last row, so it is the first one again.
                    # A register of the sum alone would take the place behind the adder that the
                    # accumulator needs.
                    after = drain[(r + 1) % rows]
                    m.d.sync += drain[r].eq(Mux(loads[r], total, after))
            m.d.comb += self.row[c].eq(drain[0])

    def _sums(
        self,
        m: Module,
        vendor: Portable,
        lanes: range,
        core: list[Value],
        live: list[Value],
        own: list[Value] | None,
        adds: list[Value],
        clears: list[Value],
    ) -> list[list[Value]]:
        """The accumulators of a lane group with the present product added, ``[row][lane]``."""
        shape = signed(self.config.acc_width)
        late_by = pipeline(self.config).array_to_row - PRODUCT_LATENCY - 1
        if own is None:
            products = vendor.products(m, core, live, first_lane=lanes[0])
        else:
            first_row = [
                vendor.products(m, [factor], [value], first_lane=c)[0][0]
                for c, factor, value in zip(lanes, own, live, strict=True)
            ]
            others = vendor.products(m, core[1:], live, first_lane=lanes[0], first_row=1)
            products = [first_row, *others]
        sums: list[list[Value]] = []
        for r, of_row in enumerate(products):
            sums.append([])
            for c, product in zip(lanes, of_row, strict=True):
                # Multipliers have their places, far from some adders: a register is on the way.
                late = delayed(m, product, late_by, f"product_{r}_{c}", reset_less=True)
                acc = Signal(shape, name=f"acc_{r}_{c}", reset_less=True)
                total = Signal(shape, name=f"sum_{r}_{c}")
                m.d.comb += total.eq(acc + late.as_signed())
                with m.If(clears[r]):
                    m.d.sync += acc.eq(0)
                with m.Elif(adds[r]):
                    m.d.sync += acc.eq(total)
                sums[r].append(total)
        return sums

    def _gap_sums(
        self,
        m: Module,
        vendor: Portable,
        lanes: range,
        core: list[Value],
        live: list[Value],
        adds: list[Value],
        clears: list[Value],
    ) -> list[list[Value]]:
        """The accumulators of a lane group, ``[row][lane]``."""
        return vendor.accumulators(
            m, core, live, adds, clears, first_lane=lanes[0], acc_width=self.config.acc_width
        )
