"""Descriptors in hardware: their layout, and the unit that fetches them ahead of time."""

from __future__ import annotations

from amaranth.hdl import C, Cat, Module, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from drawbar.gen.config import EngineConfig, clog2
from drawbar.gen.pipeline import pipeline
from drawbar.gen.program import (
    descriptor_words,
    drain_levels,
    head_fields,
    head_words,
    issue_levels,
)
from drawbar.hw.interface import ROW_BITS, TableWrite
from drawbar.hw.loops import AddressGenerator
from drawbar.hw.tables import TableAddressGenerator


def descriptor_layout(config: EngineConfig) -> data.StructLayout:
    """The part of the record of ``gen.program`` that is held in registers."""
    return data.StructLayout(dict(head_fields(config)))


def address_generator(
    m: Module,
    config: EngineConfig,
    name: str,
    levels: int,
    address_bits: int,
    stream: str,
    descriptor: data.View,
    table: data.View,
    first_bit: int = 0,
) -> AddressGenerator | TableAddressGenerator:
    """The address generator of one stream of a stage, with its base and its deltas: from the
    descriptor, or out of a table whose words have them from ``first_bit`` on.
    """
    if config.stages_held == 1:
        generator = TableAddressGenerator(levels=levels, address_bits=address_bits)
        m.d.comb += [
            generator.write.eq(table.valid),
            generator.row.eq(table.row),
            generator.word.eq(table.word[first_bit:]),
        ]
    else:
        generator = AddressGenerator(levels=levels, address_bits=address_bits)
        m.d.comb += generator.base.eq(descriptor[f"{stream}_base"])
        m.d.comb += [
            generator.deltas[j].eq(descriptor[f"{stream}_delta_{j}"]) for j in range(levels)
        ]
    m.submodules[name] = generator
    return generator


class DescriptorFetch(wiring.Component):
    """Reads one descriptor after another from program memory, one ahead of the stage that runs; or,
    on an engine that holds one stage, when its registers are ``free``.

    Members
    -------
    start, start_address:
        Fetch the descriptor at this word, a multiple of ``config.fetch_words``. Wins over all else.
    valid, descriptor:
        A descriptor is here, and stays until it is taken.
    take:
        Takes it, while it is ``valid``; the fetch of the next one in memory begins, unless this one
        ends its program.
    free:
        Only if ``config.stages_held`` is 1: the descriptor stays when it is taken, and may change
        from the next cycle on; that is when the fetch begins.
    issue_table, drain_table:
        Only if ``config.stages_held`` is 1: the words of the tables, as they come.
    address, word:
        Read port of program memory, for ``config.fetch_words`` words at a time; they come
        ``gen.pipeline``'s ``bank_read`` cycles after ``address``.

    Latency: ``valid`` comes ``gen.cycles.fetch_cycles`` after ``start``, and ``take`` or ``free``.
    """

    def __init__(self, *, config: EngineConfig) -> None:
        self.config = config
        super().__init__(
            {
                "start": In(1),
                "start_address": In(config.program_address_bits),
                "valid": Out(1),
                "descriptor": Out(descriptor_layout(config)),
                "take": In(1),
                "free": In(1),
                "issue_table": Out(TableWrite),
                "drain_table": Out(TableWrite),
                "address": Out(config.program_address_bits - config.fetch_bits),
                "word": In(32 * config.fetch_words),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        words = descriptor_words(self.config) // self.config.fetch_words
        to_ask = Signal(range(words + 1))
        to_get = Signal(range(words + 1))
        pipe = pipeline(self.config)
        asked = Signal(pipe.bank_read)
        m.d.sync += asked.eq(Cat(to_ask != 0, asked[:-1]))
        with m.If(to_ask != 0):
            m.d.sync += [self.address.eq(self.address + 1), to_ask.eq(to_ask - 1)]
        come = asked[-1]
        with m.If(come):
            m.d.sync += [to_get.eq(to_get - 1), self.valid.eq(to_get == 1)]
        if self.config.stages_held > 1:
            self._keep(m, come)
        else:
            self._distribute(m, come)
        # It is known late who takes the descriptor before: a cycle of its own, or none.
        at_once = pipe.ask_to_fetch == 1
        fetch = Signal()
        follow = self.take if self.config.stages_held > 1 else self.free
        ordered = follow & ~self.descriptor.last
        m.d["comb" if at_once else "sync"] += fetch.eq(ordered)
        with m.If(fetch):
            m.d.sync += [to_ask.eq(words), to_get.eq(words)]
        with m.If(self.take):
            m.d.sync += self.valid.eq(0)
        with m.If(self.start):
            m.d.sync += [
                self.valid.eq(0),
                self.address.eq(self.start_address[self.config.fetch_bits :]),
                to_ask.eq(words if at_once else 0),
                asked.eq(0),
            ]
            if at_once:
                m.d.sync += to_get.eq(words)
            else:
                m.d.sync += fetch.eq(1)
        return m

    def _keep(self, m: Module, come: Value) -> None:
        """All words side by side."""
        buffer = Signal(32 * descriptor_words(self.config))
        m.d.comb += self.descriptor.as_value().eq(buffer)
        with m.If(come):
            m.d.sync += buffer.eq(Cat(buffer[len(self.word) :], self.word))

    def _distribute(self, m: Module, come: Value) -> None:
        """The first words to registers, the others to the tables of the two sides."""
        config = self.config
        ends = [head_words(config), issue_levels(config) + 1, drain_levels(config) + 1]
        head, of_issue, of_drain = (Signal(name=n) for n in ("head", "of_issue", "of_drain"))
        row = Signal(max(ROW_BITS, clog2(ends[0])))
        heads = Signal(32 * ends[0])
        m.d.comb += self.descriptor.as_value().eq(heads)
        m.d.comb += head.eq(~of_issue & ~of_drain)
        for n in range(ends[0]):
            with m.If(come & head & (row == n)):
                m.d.sync += heads.word_select(C(n, 8), 32).eq(self.word)
        for table, valid in ((self.issue_table, of_issue), (self.drain_table, of_drain)):
            m.d.comb += [
                table.valid.eq(come & valid),
                table.row.eq(row),
                table.word.eq(self.word),
            ]
        with m.If(come):
            m.d.sync += row.eq(row + 1)
            for present, end, following in (
                (head, ends[0], of_issue),
                (of_issue, ends[1], of_drain),
                (of_drain, ends[2], None),
            ):
                with m.If(present & (row == end - 1)):
                    m.d.sync += [row.eq(0), of_issue.eq(0), of_drain.eq(0)]
                    if following is not None:
                        m.d.sync += following.eq(1)
        with m.If(self.start):
            m.d.sync += [row.eq(0), of_issue.eq(0), of_drain.eq(0)]
