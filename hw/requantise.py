"""Requantisation: accumulators to activations. Each step has a function of the same name in
``sim.golden``.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from drawbar.gen.config import EngineConfig
from drawbar.gen.pipeline import pipeline
from drawbar.hw.delay import delayed
from drawbar.hw.vendor.portable import primitives


def _more_than(number: Value, least: int) -> Value:
    """Whether ``number`` is greater; as a truth table, as a comparison would be a carry chain."""
    return Cat(number == n for n in range(least + 1, 1 << len(number))).any()


class AddBias(wiring.Component):
    """``o = i + bias`` where enabled, exact: one bit wider than operands. Latency: one cycle, of
    ``bias`` and ``enable`` two.
    """

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
        bias = Signal(signed(self.acc_width), reset_less=True)
        m.d.sync += [bias.eq(Mux(self.enable, self.bias, 0)), self.o.eq(self.i + bias)]
        return m


class RoundShift(wiring.Component):
    """Arithmetic shift right with round-half-to-even: ``o = round(i / 2**shift)``. Latency: three
    cycles, or if ``short`` one, the shift's; throughput: one value a cycle.

    ``shift`` goes with ``i``.
    """

    def __init__(self, *, acc_width: int, shift_bits: int, short: bool = False) -> None:
        self.acc_width = acc_width
        self.shift_bits = shift_bits
        self.short = short
        super().__init__(
            {
                "i": In(signed(acc_width + 1)),
                "shift": In(shift_bits),
                "o": Out(signed(acc_width + 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = self.acc_width + 1
        within, within_cycles = ("comb", 0) if self.short else ("sync", 1)
        # By multiples of 8 first, then by the rest. One more bit below the point keeps the half.
        fine_bits = min(3, self.shift_bits)
        doubled = Signal(signed(width + 1))
        coarse = Signal(signed(width + 1), reset_less=True)
        shifted = Signal(signed(width + 1), reset_less=True)
        m.d.comb += doubled.eq(Cat(Const(0, 1), self.i).as_signed())
        fine = delayed(m, self.shift[:fine_bits], within_cycles, "fine", reset_less=True)
        m.d[within] += coarse.eq(doubled >> Cat(Const(0, fine_bits), self.shift[fine_bits:]))
        m.d.sync += shifted.eq(coarse >> fine)
        # Is anything set under the half? What the first shift drops is whole bytes, what the second
        # one drops less than one; masks are made beside the shift before.
        set_bytes = delayed(
            m,
            Cat(doubled[n : n + 8].any() for n in range(0, self.acc_width, 8)),
            within_cycles,
            "bytes",
            reset_less=True,
        )
        whole_bytes = Value.cast(self.shift[fine_bits:])
        dropped = delayed(
            m,
            Cat(_more_than(whole_bytes, n) for n in range(len(set_bytes))),
            within_cycles,
            "dropped",
            reset_less=True,
        )
        rest = delayed(
            m,
            Cat(_more_than(self.shift[:fine_bits], n) for n in range(7)),
            within_cycles,
            "rest",
            reset_less=True,
        )
        sticky = Signal(reset_less=True)
        m.d.sync += sticky.eq((set_bytes & dropped).any() | (coarse[:7] & rest).any())
        half = shifted[0]
        whole = shifted[1:].as_signed()
        m.d[within] += self.o.eq(whole + (half & (sticky | whole[0])))
        return m


class Saturate(wiring.Component):
    """Saturation to ``data_width`` bits, then the activation. Latency: two cycles, or if ``short``
    one; throughput: one value a cycle. ``relu`` comes in the last of them.
    """

    def __init__(self, *, acc_width: int, data_width: int, short: bool = False) -> None:
        self.acc_width = acc_width
        self.data_width = data_width
        self.short = short
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
        fits, negative = Signal(reset_less=True), Signal(reset_less=True)
        low = Signal(self.data_width, reset_less=True)
        m.d["comb" if self.short else "sync"] += [
            fits.eq(top.all() | ~top.any()),
            negative.eq(self.i[-1]),
            low.eq(self.i[: self.data_width]),
        ]
        most = Const((1 << (self.data_width - 1)) - 1, self.data_width)
        least = Const(1 << (self.data_width - 1), self.data_width)
        with m.If(negative & self.relu):
            m.d.sync += self.o.eq(0)
        with m.Elif(fits):
            m.d.sync += self.o.eq(low.as_signed())
        with m.Else():
            m.d.sync += self.o.eq(Mux(negative, least, most).as_signed())
        return m


class Requantise(wiring.Component):
    """One row vector a cycle through bias, rounding shift, saturation and activation.

    Lane group g comes g cycles after the first, as from the array; the results come together.
    Latency, of the first group: ``gen.pipeline``'s ``row_to_result + group_skew`` cycles.

    Members
    -------
    i, bias:
        Accumulators and their biases; these come a cycle before.
    bias_enable, shift, activation:
        Of the row, with its first lane group; the first one a cycle before, as the bias.
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
        config, pipe, vendor = self.config, pipeline(self.config), primitives(platform)
        short, skew = bool(config.short_pipeline), pipe.group_skew
        # Each group has registers of its own: those of the group before, a cycle later; and each
        # lane has its own of the shift, which chooses among so many bits.
        enable: Value = self.bias_enable
        shift: Value = self.shift
        relu: Value = delayed(m, self.activation, pipe.row_to_result - 1, "relu", reset_less=True)
        shifts: list[Value] = []
        together = pipe.group_lanes
        for lane in range(config.lanes):
            group = lane // together
            if group and lane % together == 0:
                enable, shift, relu = (
                    delayed(m, value, 1, f"{name}_{lane}", reset_less=True)
                    for name, value in (
                        ("enable", enable),
                        ("shift", shift),
                        ("relu", relu),
                    )
                )
            if lane % together == 0:
                inside = min(together, config.lanes - lane)
                shifts += vendor.copies(m, shift, inside, f"shift_{lane}_of")
            add = AddBias(acc_width=config.acc_width)
            rounds = RoundShift(
                acc_width=config.acc_width, shift_bits=config.shift_bits, short=short
            )
            saturate = Saturate(
                acc_width=config.acc_width, data_width=config.data_width, short=short
            )
            m.submodules[f"add_bias_{lane}"] = add
            m.submodules[f"round_shift_{lane}"] = rounds
            m.submodules[f"saturate_{lane}"] = saturate
            m.d.comb += [
                add.i.eq(self.i[lane]),
                add.bias.eq(self.bias[lane]),
                add.enable.eq(enable),
                rounds.i.eq(add.o),
                rounds.shift.eq(shifts[lane]),
                saturate.i.eq(rounds.o),
                saturate.relu.eq(relu),
                self.o[lane].eq(
                    delayed(m, saturate.o, skew - group, f"result_{lane}", reset_less=True)
                ),
            ]
        return m
