"""Descriptors in hardware: their layout, and the unit that fetches them ahead of time."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from drawbar.gen.config import EngineConfig
from drawbar.gen.cycles import BANK_READ
from drawbar.gen.program import descriptor_fields, descriptor_words
from drawbar.hw.loops import AddressGenerator


def descriptor_layout(config: EngineConfig) -> data.StructLayout:
    """The record that ``gen.program`` encodes."""
    return data.StructLayout(dict(descriptor_fields(config)))


def stream_deltas(
    m: Module, generator: AddressGenerator, descriptor: data.View, stream: str
) -> None:
    """Wire the deltas of one stream of a descriptor to its address generator."""
    m.d.comb += [
        generator.deltas[j].eq(descriptor[f"{stream}_delta_{j}"]) for j in range(generator.levels)
    ]


class DescriptorFetch(wiring.Component):
    """Reads one descriptor after another from program memory, one ahead of the stage that runs; or,
    on an engine that holds one stage, when its registers are ``free``.

    Members
    -------
    start, start_address:
        Fetch the descriptor at this word. Wins over all else.
    valid, descriptor:
        A descriptor is here, and stays until it is taken.
    take:
        Takes it, while it is ``valid``; the fetch of the next one in memory begins, unless this one
        ends its program.
    free:
        Only if ``config.stages_held`` is 1: the descriptor stays when it is taken, and may change
        from the next cycle on; that is when the fetch begins.
    address, word:
        Read port of program memory; ``word`` comes ``gen.cycles.BANK_READ`` cycles after
        ``address``.

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
                "address": Out(config.program_address_bits),
                "word": In(32),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        words = descriptor_words(self.config)
        to_ask = Signal(range(words + 1))
        to_get = Signal(range(words + 1))
        asked = Signal(BANK_READ)
        buffer = Signal(32 * words)
        m.d.comb += self.descriptor.as_value().eq(buffer)

        m.d.sync += asked.eq(Cat(to_ask != 0, asked[:-1]))
        with m.If(to_ask != 0):
            m.d.sync += [self.address.eq(self.address + 1), to_ask.eq(to_ask - 1)]
        with m.If(asked[-1]):
            m.d.sync += [
                buffer.eq(Cat(buffer[32:], self.word)),
                to_get.eq(to_get - 1),
                self.valid.eq(to_get == 1),
            ]
        # A cycle of its own, as it is known late who takes the descriptor before.
        fetch = Signal()
        follow = self.take if self.config.stages_held > 1 else self.free
        m.d.sync += fetch.eq(follow & ~self.descriptor.last)
        with m.If(fetch):
            m.d.sync += [to_ask.eq(words), to_get.eq(words)]
        with m.If(self.take):
            m.d.sync += self.valid.eq(0)
        with m.If(self.start):
            m.d.sync += [
                self.valid.eq(0),
                self.address.eq(self.start_address),
                fetch.eq(1),
                to_ask.eq(0),
                asked.eq(0),
            ]
        return m
