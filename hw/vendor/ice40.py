"""Lattice iCE40 UltraPlus: SB_MAC16 with all of its registers, SB_RAM40_4K, and SB_SPRAM256KA.

Facts are from the iCE40 UltraPlus Family Data Sheet (FPGA-DS-02008), the DSP Function Usage Guide
(FPGA-TN-02007), the SPRAM Usage Guide (FPGA-TN-02022), and the simulation models that yosys has of
these blocks.

Neither memory has an output register, and flip-flops for words cost far more cells than flip-flops
for addresses: so the registers of a read lie before the memory, and its latency is the same.

An SB_MAC16 can add its products up, too, but shows either the sum or what it loads: the last sum of
a tile could not be read in the cycle in which the accumulator is cleared for the next tile. So the
accumulators are the array's own, and the block is a multiplier with four registers' worth of
pipeline: operands, partial products, product.
"""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Mux, Signal, Value, signed
from amaranth.lib.memory import Memory

from drawbar.gen.config import clog2
from drawbar.hw.delay import delayed
from drawbar.hw.vendor.portable import MEMORY_LATENCY, Portable

#: Bits of a multiplier's operands, and of its product.
OPERAND_BITS = 16
PRODUCT_BITS = 32
#: A single-port block: bits of a word, and words.
SPRAM_BITS = 16
SPRAM_WORDS = 16384


class Ice40(Portable):
    """Primitives of an iCE40 UltraPlus."""

    address_registers = 1

    def products(
        self, m: Module, core: Sequence[Value], live: Sequence[Value], *, first_lane: int
    ) -> list[list[Value]]:
        return [
            [self._product(m, a, b, f"{row}_{lane}") for lane, b in enumerate(live, first_lane)]
            for row, a in enumerate(core)
        ]

    def _product(self, m: Module, a: Value, b: Value, name: str) -> Value:
        product = Signal(signed(PRODUCT_BITS), name=f"product_{name}")
        low = Const(0, 1)
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
            # The output is the product of 16 x 16 bits.
            p_TOPOUTPUT_SELECT=3,
            p_BOTOUTPUT_SELECT=3,
            p_TOPADDSUB_LOWERINPUT=0,
            p_TOPADDSUB_UPPERINPUT=0,
            p_TOPADDSUB_CARRYSELECT=0,
            p_BOTADDSUB_LOWERINPUT=0,
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
            **{
                f"i_{port}": low
                for port in (
                    *("AHOLD", "BHOLD", "CHOLD", "DHOLD", "IRSTTOP", "IRSTBOT"),
                    *("ORSTTOP", "ORSTBOT", "OLOADTOP", "OLOADBOT", "ADDSUBTOP", "ADDSUBBOT"),
                    *("OHOLDTOP", "OHOLDBOT", "CI", "ACCUMCI", "SIGNEXTIN"),
                )
            },
            o_O=product,
        )
        return product[: len(a) + len(b)].as_signed()

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
        # yosys makes SB_RAM40_4K of it, in the shape that takes the fewest.
        memory = Memory(shape=width, depth=depth, init=[], attrs={"no_rw_check": 1})
        m.submodules[name] = memory
        write, read = memory.write_port(), memory.read_port()
        address = read_address
        for n in range(1, MEMORY_LATENCY):
            register = Signal(clog2(depth), name=f"{name}_address_{n}", reset_less=True)
            with m.If(Const(1, 1) if read_enable is None else read_enable):
                m.d.sync += register.eq(address)
            address = register
        m.d.comb += [
            read.addr.eq(address),
            read.en.eq(Const(1, 1) if read_enable is None else read_enable),
            write.addr.eq(write_address),
            write.data.eq(write_data),
            write.en.eq(write_enable),
        ]
        return read.data

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
        if width > SPRAM_BITS or depth > SPRAM_WORDS:
            raise ValueError(
                f"a block of single-port RAM has {SPRAM_WORDS} words of {SPRAM_BITS} bits, not "
                f"{depth} of {width}"
            )
        word = Signal(SPRAM_BITS, name=f"{name}_word")
        m.submodules[name] = Instance(
            "SB_SPRAM256KA",
            i_CLOCK=ClockSignal(),
            i_CHIPSELECT=Const(1, 1),
            i_WREN=write_enable,
            i_MASKWREN=Const(0b1111, 4),
            i_ADDRESS=_extended(address, 14),
            i_DATAIN=_extended(write_data, SPRAM_BITS),
            i_STANDBY=Const(0, 1),
            i_SLEEP=Const(0, 1),
            # Active low.
            i_POWEROFF=Const(1, 1),
            o_DATAOUT=word,
        )
        return word[:width]


def _extended(value: Value, width: int) -> Value:
    """Sign-extended where it is signed, else padded with zeros."""
    top = value[-1] if value.shape().signed else Const(0, 1)
    return Cat(value, top.replicate(width - len(value)))[:width]
