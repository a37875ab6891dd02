"""Lattice iCE40 UltraPlus: SB_MAC16 with all of its registers, SB_RAM40_4K, and SB_SPRAM256KA.

Facts are from the iCE40 UltraPlus Family Data Sheet (FPGA-DS-02008), the DSP Function Usage Guide
(FPGA-TN-02007), the SPRAM Usage Guide (FPGA-TN-02022), and the simulation models that yosys has of
these blocks.

Neither memory has an output register, and flip-flops for words cost far more cells than flip-flops
for addresses: so the registers of a read lie before the memory, and its latency is the same.

An SB_MAC16 adds its products up, too, but shows either the sum or what it loads: the last sum of a
tile cannot be read in the cycle in which the accumulator is cleared. Engines with a gap behind each
tile (``config.tile_gap``) have their accumulators in the blocks; for the others it is a multiplier
with registers for operands, partial products and product.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal, Value, signed

from drawbar.gen.config import clog2
from drawbar.gen.fpga.ice40 import SPRAM, delays_in_block
from drawbar.hw.vendor.portable import MEMORY_LATENCY, Portable, simple_memory

#: Bits of a multiplier's operands, and of its product.
OPERAND_BITS = 16
PRODUCT_BITS = 32


class Ice40(Portable):
    """Primitives of an iCE40 UltraPlus."""

    address_registers = 1

    def products(
        self,
        m: Module,
        core: Sequence[Value],
        live: Sequence[Value],
        *,
        first_lane: int,
        first_row: int = 0,
    ) -> list[list[Value]]:
        # What is shown is the product of 16 x 16 bits.
        shows = {"p_TOPOUTPUT_SELECT": 3, "p_BOTOUTPUT_SELECT": 3}
        return [
            [
                _multiplier(m, a, b, f"{row}_{lane}", shows)[: len(a) + len(b)].as_signed()
                for lane, b in enumerate(live, first_lane)
            ]
            for row, a in enumerate(core, first_row)
        ]

    def accumulators(
        self,
        m: Module,
        core: Sequence[Value],
        live: Sequence[Value],
        adds: Sequence[Value],
        clears: Sequence[Value],
        *,
        first_lane: int,
        acc_width: int,
    ) -> list[list[Value]]:
        if acc_width > PRODUCT_BITS:
            return super().accumulators(
                m, core, live, adds, clears, first_lane=first_lane, acc_width=acc_width
            )
        # What is shown is the output registers; they load 0 to be cleared.
        shows = {"p_TOPOUTPUT_SELECT": 1, "p_BOTOUTPUT_SELECT": 1}
        sums: list[list[Value]] = []
        for row, a in enumerate(core):
            holds = ~(adds[row] | clears[row])
            control = {
                "i_OHOLDTOP": holds,
                "i_OHOLDBOT": holds,
                "i_OLOADTOP": clears[row],
                "i_OLOADBOT": clears[row],
            }
            sums.append(
                [
                    _multiplier(m, a, b, f"{row}_{lane}", shows | control)[:acc_width].as_signed()
                    for lane, b in enumerate(live, first_lane)
                ]
            )
        return sums

    def memory(
        self,
        m: Module,
        *,
        name: str,
        width: int,
        depth: int,
        read_address: Value,
        write_address: Value,
        write_data: Value,
        write_enable: Value,
        read_enable: Value | None = None,
    ) -> Value:
        address = read_address
        for n in range(1, MEMORY_LATENCY):
            register = Signal(clog2(depth), name=f"{name}_address_{n}", reset_less=True)
            with m.If(Const(1, 1) if read_enable is None else read_enable):
                m.d.sync += register.eq(address)
            address = register
        # yosys makes SB_RAM40_4K of it, in the shape that takes the fewest.
        return simple_memory(
            m, name, width, depth, address, write_address, write_data, write_enable, read_enable
        )

    def table(
        self,
        m: Module,
        *,
        name: str,
        width: int,
        depth: int,
        read_address: Value,
        write_address: Value,
        write_data: Value,
        write_enable: Value,
    ) -> Value:
        # However small: a block costs less than flip-flops.
        return simple_memory(
            m,
            name,
            width,
            depth,
            read_address,
            write_address,
            write_data,
            write_enable,
            ram_style="block",
        )

    def delay_line(self, m: Module, value: Value, cycles: int, name: str) -> Value:
        if not delays_in_block(len(value), cycles):
            return super().delay_line(m, value, cycles, name)
        # A ring that is read where it will be written so many cycles later.
        bits = clog2(cycles)
        read = Signal(bits, name=f"{name}_read", reset_less=True)
        write = Signal(bits, name=f"{name}_write", init=cycles - 1, reset_less=True)
        m.d.sync += [read.eq(read + 1), write.eq(write + 1)]
        return self.table(
            m,
            name=name,
            width=len(value),
            depth=1 << bits,
            read_address=read,
            write_address=write,
            write_data=value,
            write_enable=Const(1, 1),
        )

    def single_port(
        self,
        m: Module,
        *,
        name: str,
        width: int,
        depth: int,
        address: Value,
        write_data: Value,
        write_enable: Value,
    ) -> Value:
        bits, words = SPRAM
        if width > bits or depth > words:
            raise ValueError(
                f"a block of single-port RAM has {words} words of {bits} bits, not "
                f"{depth} of {width}"
            )
        word = Signal(bits, name=f"{name}_word")
        m.submodules[name] = Instance(
            "SB_SPRAM256KA",
            i_CLOCK=ClockSignal(),
            i_CHIPSELECT=Const(1, 1),
            i_WREN=write_enable,
            i_MASKWREN=Const(0b1111, 4),
            i_ADDRESS=_extended(address, clog2(words)),
            i_DATAIN=_extended(write_data, bits),
            i_STANDBY=Const(0, 1),
            i_SLEEP=Const(0, 1),
            # Active low.
            i_POWEROFF=Const(1, 1),
            o_DATAOUT=word,
        )
        return word[:width]


def _multiplier(
    m: Module, a: Value, b: Value, name: str, settings: Mapping[str, Value | int]
) -> Signal:
    """An SB_MAC16 with registers for operands, partial products and product."""
    shown = Signal(signed(PRODUCT_BITS), name=f"product_{name}")
    names = (
        *("AHOLD", "BHOLD", "CHOLD", "DHOLD", "IRSTTOP", "IRSTBOT", "ORSTTOP", "ORSTBOT"),
        *("OLOADTOP", "OLOADBOT", "ADDSUBTOP", "ADDSUBBOT", "OHOLDTOP", "OHOLDBOT"),
        *("CI", "ACCUMCI", "SIGNEXTIN"),
    )
    ports: dict[str, Value | int] = {f"i_{port}": Const(0, 1) for port in names}
    m.submodules[f"multiplier_{name}"] = Instance(
        "SB_MAC16",
        p_NEG_TRIGGER=0,
        p_A_REG=1,
        p_B_REG=1,
        p_C_REG=0,
        p_D_REG=0,
        p_TOP_8x8_MULT_REG=1,
        p_BOT_8x8_MULT_REG=1,
        p_PIPELINE_16x16_MULT_REG1=1,
        p_PIPELINE_16x16_MULT_REG2=1,
        # The two adders are one of 32 bits: of the product and the output registers.
        p_TOPADDSUB_LOWERINPUT=2,
        p_TOPADDSUB_UPPERINPUT=0,
        p_TOPADDSUB_CARRYSELECT=3,
        p_BOTADDSUB_LOWERINPUT=2,
        p_BOTADDSUB_UPPERINPUT=0,
        p_BOTADDSUB_CARRYSELECT=0,
        p_MODE_8x8=0,
        p_A_SIGNED=1,
        p_B_SIGNED=1,
        i_CLK=ClockSignal(),
        i_CE=Const(1, 1),
        i_A=_extended(a, OPERAND_BITS),
        i_B=_extended(b, OPERAND_BITS),
        i_C=Const(0, 16),
        i_D=Const(0, 16),
        **(ports | dict(settings)),
        o_O=shown,
    )
    return shown


def _extended(value: Value, width: int) -> Value:
    """Sign-extended where it is signed, else padded with zeros."""
    top = value[-1] if value.shape().signed else Const(0, 1)
    return Cat(value, top.replicate(width - len(value)))[:width]
