"""Nested loops and the addresses that follow them.

A ``LoopNest`` says which loop advances; each ``AddressGenerator`` beside it adds that loop's delta.
One nest drives any number of streams, and one adder for each stream serves any nesting
(``gen.program`` explains the deltas).
"""

from __future__ import annotations

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out


class LoopNest(wiring.Component):
    """Counters of nested loops, level 0 innermost.

    Every counter counts down from its loop's count minus one; its zero flag is a register of its
    own. The counters are an iteration ahead of the outputs, which are registers too: neither a
    comparison nor the chain of levels lies between the nest and what it steers.

    Arguments
    ---------
    levels, count_bits:
        Number of loops; width of their counters.

    Members
    -------
    load:
        Start over with the counts of ``counts``, which must be valid in the same cycle and stay
        until the next load.
    counts:
        Repetitions minus one of every level.
    step:
        Go to the next iteration. High in the cycle after ``load``, too, in which the first one
        comes to the outputs.
    at_last:
        Of the current iteration: bit j is set while loop j is in its last repetition.
    advance:
        Of the current iteration, one-hot: the loop that advances at its end; all zero at the very
        last one.
    ended:
        Of the current iteration: bit j is set while the loops 0..j are all in their last
        repetition; so the last bit is set in the very last iteration.

    ended_next:
        ``ended`` of the next iteration, if there is a step in this cycle.

    Latency: the others follow ``step`` by one cycle, and ``load`` by two; until then they mean
    nothing. Throughput: one iteration a cycle. ``load`` wins over ``step``. After the very last
    iteration the nest wraps around to the first.
    """

    def __init__(self, *, levels: int, count_bits: int) -> None:
        if levels < 1:
            raise ValueError(f"levels must be at least 1, not {levels!r}")
        self.levels = levels
        self.count_bits = count_bits
        super().__init__(
            {
                "load": In(1),
                "counts": In(data.ArrayLayout(count_bits, levels)),
                "step": In(1),
                "at_last": Out(levels),
                "advance": Out(levels),
                "ended": Out(levels),
                "ended_next": Out(levels),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        zeros = Signal(self.levels)
        for j in range(self.levels):
            count = Signal(self.count_bits, name=f"count_{j}")
            top = Signal(self.count_bits, name=f"top_{j}")
            turn = Signal(name=f"turn_{j}")
            zero = zeros[j]
            # All at once, and not one level after the other.
            inner_ended = zeros[:j].all()
            m.d.comb += [
                top.eq(self.counts[j]),
                turn.eq(self.step & inner_ended),
                self.ended_next[j].eq(zeros[: j + 1].all()),
            ]
            with m.If(self.step):
                m.d.sync += [
                    self.advance[j].eq(inner_ended & ~zero),
                    self.ended[j].eq(self.ended_next[j]),
                ]
            # Which value is next does not take long to know; whether it is taken does.
            again = self.load | zero
            with m.If(self.load | turn):
                m.d.sync += [
                    count.eq(Mux(again, top, count - 1)),
                    zero.eq(Mux(again, top == 0, count == 1)),
                ]
        with m.If(self.step):
            m.d.sync += self.at_last.eq(zeros)
        return m


class AddressGenerator(wiring.Component):
    """The address of one stream: a base, and a delta for the loop that advances.

    Arguments
    ---------
    levels, address_bits:
        Loops of the nest; width of the address. Arithmetic is modulo ``2**address_bits``.

    Members
    -------
    load, base:
        Start over at ``base``. Not together with ``step``.
    step, advance:
        Add the delta of the loop in the one-hot ``advance``.
    deltas:
        One for each loop, valid with ``step``.
    address:
        Latency: two cycles after ``load`` and ``step``: the delta is chosen, and added. A base is
        chosen like a delta, and added to 0. Throughput: one address a cycle.
    """

    def __init__(self, *, levels: int, address_bits: int) -> None:
        self.levels = levels
        self.address_bits = address_bits
        super().__init__(
            {
                "load": In(1),
                "base": In(address_bits),
                "step": In(1),
                "advance": In(levels),
                "deltas": In(data.ArrayLayout(address_bits, levels)),
                "address": Out(address_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        delta = Signal(self.address_bits)
        chosen = Const(0, self.address_bits)
        for j in range(self.levels):
            mask = self.advance[j].replicate(self.address_bits)
            chosen = chosen | (self.deltas[j] & mask)
        m.d.sync += [delta.eq(0), self.address.eq(self.address + delta)]
        with m.If(self.load):
            m.d.sync += [delta.eq(self.base), self.address.eq(0)]
        with m.Elif(self.step):
            m.d.sync += delta.eq(chosen)
        return m
