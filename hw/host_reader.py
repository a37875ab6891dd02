"""The host's reads of the engine's memories, beside a program that runs."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Array, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from drawbar.gen.config import EngineConfig
from drawbar.gen.pipeline import NEAR_LANES, pipeline
from drawbar.gen.protocol import Space
from drawbar.hw.delay import delayed
from drawbar.hw.interface import held_bits
from drawbar.hw.vendor.portable import primitives


def _choice(m: Module, items: Sequence[Value], number: Value, name: str) -> Value:
    """``items[number]``, two cycles later: four at a time, and then among those. One that is alone
    stays, and comes at once.
    """
    if len(items) == 1:
        return items[0]
    fours = [
        delayed(m, Array(items[n : n + 4])[number[:2]], 1, f"{name}_{n}", reset_less=True)
        for n in range(0, len(items), 4)
    ]
    return delayed(m, Array(fours)[number[2:]], 1, name, reset_less=True)


class HostReader(wiring.Component):
    """Reads items for the host, those of work memory in slots that the program leaves free.

    Slots are scarce while a program runs: a stage that fills the array takes one in every cycle. So
    each fetches a whole vector, from the item on, into a line of registers, and those after it that
    lie in the same row of work memory are answered from there: the line moves on with each, so that
    nothing chooses among its items.

    Arguments
    ---------
    config:
        The engine.
    Members
    -------
    space, address, read, read_data, read_valid, refresh:
        As in ``hw.interface.HostSignature``.
    slot_free, fetch:
        The host may give an address to work memory in this cycle; it does, of the item.
    program, core, bias, work:
        What the memories answer to ``address``.

    Latency: ``read_valid`` comes one cycle after ``read`` for an item that lies in the line,
    ``work_read + 2`` cycles after ``fetch`` for one that does not (``gen.pipeline``), and
    ``host_read + 1`` cycles after ``read`` for the other spaces.
    """

    def __init__(self, *, config: EngineConfig) -> None:
        self.config = config
        element = signed(config.data_width)
        super().__init__(
            {
                "space": In(2),
                "address": In(28),
                "read": In(1),
                "read_data": Out(64),
                "read_valid": Out(1),
                "refresh": In(1),
                "slot_free": In(1),
                "fetch": Out(1),
                "program": In(data.ArrayLayout(32, config.fetch_words)),
                "core": In(data.ArrayLayout(element, config.rows)),
                "bias": In(data.ArrayLayout(signed(config.acc_width), config.lanes)),
                "work": In(data.ArrayLayout(element, config.lanes)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, pipe = self.config, pipeline(self.config)
        vendor = primitives(platform)
        row = self.address[: config.row_bits]
        lane = self.address[: config.lane_bits]

        line = [Signal.like(item, name=f"line_{n}") for n, item in enumerate(self.work)]
        fills, moves_on = Signal(), Signal()
        in_line = Signal()  # so is the item at `address`, if it is one of work memory
        left = Signal(range(pipe.host_read))
        of_work = self.space == Space.WORK

        # A choice among many, in two cycles, ahead of the one among the spaces: the address stays.
        word = self.address[: config.fetch_bits]
        program = _choice(m, [self.program[n] for n in range(config.fetch_words)], word, "program")
        core = _choice(m, [self.core[n] for n in range(config.rows)], row, "core")
        bias = _choice(m, [self.bias[n] for n in range(config.lanes)], lane, "bias")

        held = Signal(signed(held_bits(config)))
        m.d.comb += self.read_data.eq(held)

        def answer(item: Value) -> None:
            m.d.sync += [held.eq(item), self.read_valid.eq(1)]

        m.d.sync += self.read_valid.eq(0)
        with m.FSM(name="read"):
            with m.State("IDLE"):
                m.d.sync += left.eq(pipe.host_read - 1)
                if pipe.work_read < pipe.host_read:
                    with m.If(of_work):
                        m.d.sync += left.eq(pipe.work_read - 1)
                with m.If(self.read & ~self.read_valid):
                    with m.If(of_work & in_line):
                        answer(line[0])
                        m.d.comb += moves_on.eq(1)
                        m.d.sync += in_line.eq(lane != config.lanes - 1)
                    with m.Elif(of_work):
                        m.d.comb += self.fetch.eq(self.slot_free)
                        with m.If(self.slot_free):
                            m.next = "FETCH"
                    with m.Else():
                        m.next = "FETCH"
            with m.State("FETCH"):
                m.d.sync += left.eq(left - 1)
                m.d.comb += fills.eq((left == 1) & of_work)
                with m.If(left == 0):
                    m.next = "IDLE"
                    with m.Switch(self.space):
                        with m.Case(Space.PROGRAM):
                            answer(program)
                        with m.Case(Space.CORE):
                            answer(core.as_signed())
                        with m.Case(Space.BIAS):
                            answer(bias.as_signed())
                        with m.Case(Space.WORK):
                            m.d.sync += in_line.eq(1)
        with m.If(self.refresh):
            m.d.sync += in_line.eq(0)

        # The line is filled in the last cycle of FETCH, and moves on in the one of `read_valid`:
        # known a cycle ahead, as its items lie wherever work memory's lanes do.
        groups = -(-config.lanes // NEAR_LANES)
        filled = vendor.copies(m, fills, groups, "filled")
        moved = vendor.copies(m, fills | moves_on, groups, "moved")
        for n, (item, found) in enumerate(zip(line, self.work, strict=True)):
            after = line[n + 1] if n + 1 < config.lanes else found  # anything
            with m.If(moved[n // NEAR_LANES]):
                m.d.sync += item.eq(Mux(filled[n // NEAR_LANES], found, after))
        return m
