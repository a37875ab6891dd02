"""Requantisation: accumulators to activations. Each step has a function of the same name in
``sim.golden``.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from drawbar.gen.config import EngineConfig


class AddBias(wiring.Component):
    """``o = i + bias`` where enabled, exact: one bit wider than operands. Latency: one cycle."""

    def __init__(self, *, acc_width: int) -> None:
        self.acc_width = acc_width
        super().__init__(
            {
                "i": In(signed(acc_width)),
                "bias": In(signed(acc_width)),
                "enable": In(1),
                "o": Out(signed(acc_width + 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += self.o.eq(self.i + Mux(self.enable, self.bias, 0))
        return m


class RoundShift(wiring.Component):
    """Arithmetic shift right with round-half-to-even: ``o = round(i / 2**shift)``. Latency: two
    cycles.

    ``shift`` and ``below`` stay for a whole stage; ``below`` masks the bits that lie under the
    half, so its bit j is set for ``j + 1 < shift``.
    """

    def __init__(self, *, acc_width: int, shift_bits: int) -> None:
        self.acc_width = acc_width
        self.shift_bits = shift_bits
        super().__init__(
            {
                "i": In(signed(acc_width + 1)),
                "shift": In(shift_bits),
                "below": In(acc_width),
                "o": Out(signed(acc_width + 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = self.acc_width + 1
        # One more bit below the point keeps the half.
        doubled = Signal(signed(width + 1))
        shifted = Signal(signed(width + 1))
        sticky = Signal()
        m.d.comb += doubled.eq(Cat(Const(0, 1), self.i).as_signed())
        m.d.sync += [
            shifted.eq(doubled >> self.shift),
            sticky.eq((self.i[: self.acc_width] & self.below).any()),
        ]
        half = shifted[0]
        whole = shifted[1:].as_signed()
        m.d.sync += self.o.eq(whole + (half & (sticky | whole[0])))
        return m


class Saturate(wiring.Component):
    """Saturation to ``data_width`` bits, then the activation. Latency: one cycle."""

    def __init__(self, *, acc_width: int, data_width: int) -> None:
        self.acc_width = acc_width
        self.data_width = data_width
        super().__init__(
            {
                "i": In(signed(acc_width + 1)),
                "relu": In(1),
                "o": Out(signed(data_width)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        top = self.i[self.data_width - 1 :]
        negative = self.i[-1]
        fits = Signal()
        most = Const((1 << (self.data_width - 1)) - 1, self.data_width)
        least = Const(1 << (self.data_width - 1), self.data_width)
        m.d.comb += fits.eq(top.all() | ~top.any())
        with m.If(negative & self.relu):
            m.d.sync += self.o.eq(0)
        with m.Elif(fits):
            m.d.sync += self.o.eq(self.i[: self.data_width].as_signed())
        with m.Else():
            m.d.sync += self.o.eq(Mux(negative, least, most).as_signed())
        return m


class Requantise(wiring.Component):
    """One lane vector a cycle through bias, rounding shift, saturation and activation. Latency:
    four cycles.

    Members
    -------
    i, bias:
        Accumulators and their biases.
    bias_enable, shift, activation:
        Of the stage; constant from two cycles before its first vector until its last one is out.
    o:
        Activations.
    """

    def __init__(self, *, config: EngineConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(data.ArrayLayout(signed(config.acc_width), config.lanes)),
                "bias": In(data.ArrayLayout(signed(config.acc_width), config.lanes)),
                "bias_enable": In(1),
                "shift": In(config.shift_bits),
                "activation": In(1),
                "o": Out(data.ArrayLayout(signed(config.data_width), config.lanes)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        # A thermometer of the shift, once for all lanes and for a whole stage.
        below = Signal(config.acc_width)
        m.d.sync += [below[j].eq(self.shift > j + 1) for j in range(config.acc_width)]
        for lane in range(config.lanes):
            add = AddBias(acc_width=config.acc_width)
            shift = RoundShift(acc_width=config.acc_width, shift_bits=config.shift_bits)
            saturate = Saturate(acc_width=config.acc_width, data_width=config.data_width)
            m.submodules[f"add_bias_{lane}"] = add
            m.submodules[f"round_shift_{lane}"] = shift
            m.submodules[f"saturate_{lane}"] = saturate
            m.d.comb += [
                add.i.eq(self.i[lane]),
                add.bias.eq(self.bias[lane]),
                add.enable.eq(self.bias_enable),
                shift.i.eq(add.o),
                shift.shift.eq(self.shift),
                shift.below.eq(below),
                saturate.i.eq(shift.o),
                saturate.relu.eq(self.activation),
                self.o[lane].eq(saturate.o),
            ]
        return m
