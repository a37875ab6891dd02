"""Deltas in small memories, for engines that hold one stage."""

from __future__ import annotations

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from drawbar.gen.config import clog2
from drawbar.hw.delay import delayed
from drawbar.hw.interface import ROW_BITS
from drawbar.hw.vendor.portable import primitives


class TableAddressGenerator(wiring.Component):
    """``hw.loops.AddressGenerator`` with its deltas and its base in a memory.

    Arguments
    ---------
    levels, address_bits:
        Loops of the nest; width of the address. Arithmetic is modulo ``2**address_bits``.

    Members
    -------
    write, row, word:
        Writes a row of the table; not from the ``load`` of a stage until its last ``step``.
    load, step, advance:
        Start over at the base; add the delta of the loop in the one-hot ``advance``. Not together.
    address:
        Latency: two cycles after ``load`` and ``step``: the table is read, and its word added.
        Throughput: one address a cycle. After a step without a loop that advances it is undefined.
    """

    def __init__(self, *, levels: int, address_bits: int) -> None:
        self.levels = levels
        self.address_bits = address_bits
        super().__init__(
            {
                "write": In(1),
                "row": In(ROW_BITS),
                "word": In(address_bits),
                "load": In(1),
                "step": In(1),
                "advance": In(levels),
                "address": Out(address_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = clog2(self.levels + 1)
        row = Signal(bits)
        for bit in range(bits):
            loops = [self.advance[j] for j in range(self.levels) if j >> bit & 1]
            chosen = Const(0, 1)
            for loop in loops:
                chosen = chosen | loop
            m.d.comb += row[bit].eq(Mux(self.load, self.levels >> bit & 1, chosen))
        delta = primitives(platform).table(
            m,
            name="table",
            width=self.address_bits,
            depth=self.levels + 1,
            read_address=row,
            write_address=self.row[:bits],
            write_data=self.word,
            write_enable=self.write,
        )
        moved = delayed(m, self.load | self.step, 1, "moved")
        with m.If(self.load):
            m.d.sync += self.address.eq(0)
        with m.Elif(moved):
            m.d.sync += self.address.eq(self.address + delta)
        return m
