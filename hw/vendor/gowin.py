"""Gowin LittleBee and Arora: MULT18X18 and MULT9X9 with all of their registers, and block RAM with
its output register.

Facts are from Gowin's DSP User Guide (UG287) and BSRAM & SSRAM User Guide (UG285), and yosys' own
mapping of memories to SDPB and SDPX9B. MULTADDALU18X18 does not serve: it sums two products, of
which a lane makes one a cycle, and it takes twice the multipliers.
"""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal, Value, signed

from drawbar.gen.config import clog2
from drawbar.gen.fpga.gowin import BRAM_SHAPES, GOWIN
from drawbar.hw.vendor.portable import Portable

#: Operand bits that the small multiplier takes, and those of the large one.
SMALL, LARGE = 9, 18
#: Address bits of a block of RAM, of which words of one bit use all.
ADDRESS_BITS = 14
#: Words with fewer bits have no parity bits, and another primitive.
_PARITY_FROM = 9


class Gowin(Portable):
    """Primitives of a GW1N or GW2A."""

    def products(
        self,
        m: Module,
        core: Sequence[Value],
        live: Sequence[Value],
        *,
        first_lane: int,
        first_row: int = 0,
    ) -> list[list[Value]]:
        return [
            [self._product(m, a, b, row, lane) for lane, b in enumerate(live, first_lane)]
            for row, a in enumerate(core, first_row)
        ]

    def _product(self, m: Module, a: Value, b: Value, row: int, lane: int) -> Value:
        bits = SMALL if max(len(a), len(b)) <= SMALL else LARGE
        product = Signal(signed(2 * bits), name=f"product_{row}_{lane}")
        m.submodules[f"multiplier_{row}_{lane}"] = Instance(
            f"MULT{bits}X{bits}",
            p_AREG=Const(1, 1),
            p_BREG=Const(1, 1),
            p_PIPE_REG=Const(1, 1),
            p_OUT_REG=Const(1, 1),
            p_ASIGN_REG=Const(0, 1),
            p_BSIGN_REG=Const(0, 1),
            p_SOA_REG=Const(0, 1),
            p_MULT_RESET_MODE="SYNC",
            i_CLK=ClockSignal(),
            i_CE=Const(1, 1),
            i_RESET=Const(0, 1),
            i_ASIGN=Const(1, 1),
            i_BSIGN=Const(1, 1),
            i_ASEL=Const(0, 1),
            i_BSEL=Const(0, 1),
            i_SIA=Const(0, bits),
            i_SIB=Const(0, bits),
            i_A=_extended(a, bits),
            i_B=_extended(b, bits),
            o_DOUT=product,
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
        shape = next(((bits, words) for bits, words in BRAM_SHAPES if depth <= words), None)
        if shape is None or GOWIN.brams_of(width, depth) == 0:
            # Deeper than one block, or better made of look-up tables: that is left to synthesis.
            return super().memory(
                m,
                name=name,
                width=width,
                depth=depth,
                read_address=read_address,
                write_address=write_address,
                write_data=write_data,
                write_enable=write_enable,
                read_enable=read_enable,
            )
        enable = Const(1, 1) if read_enable is None else read_enable
        bits, words = shape
        parity = bits >= _PARITY_FROM
        port = 36 if parity else 32
        # Addresses are left-aligned. The lowest ones of wide words enable the writes of their
        # bytes; they follow the write's own enable, as in what synthesis makes.
        low = ADDRESS_BITS - clog2(words)
        byte_enables = bits // 9 if bits > 9 else 0
        enables = Cat(write_enable.replicate(byte_enables), Const(0, low - byte_enables))
        data = Signal(width, name=f"{name}_data")
        for number, first in enumerate(range(0, width, bits)):
            read = Signal(port, name=f"{name}_read_{number}")
            part = write_data[first : first + bits]
            m.d.comb += data[first : first + bits].eq(read)
            m.submodules[f"{name}_{number}"] = Instance(
                "SDPX9B" if parity else "SDPB",
                p_READ_MODE=Const(1, 1),
                p_BIT_WIDTH_0=bits,
                p_BIT_WIDTH_1=bits,
                p_BLK_SEL_0=Const(0, 3),
                p_BLK_SEL_1=Const(0, 3),
                p_RESET_MODE="SYNC",
                i_CLKA=ClockSignal(),
                i_CEA=write_enable,
                i_RESETA=Const(0, 1),
                i_ADA=Cat(enables, _cut(write_address, words)),
                i_BLKSELA=Const(0, 3),
                i_DI=Cat(part, Const(0, port))[:port],
                i_CLKB=ClockSignal(),
                i_CEB=enable,
                i_OCE=enable,
                i_RESETB=Const(0, 1),
                i_ADB=Cat(Const(0, low), _cut(read_address, words)),
                i_BLKSELB=Const(0, 3),
                o_DO=read,
            )
        return data


def _extended(value: Value, width: int) -> Value:
    """Sign-extended."""
    return Cat(value, value[-1].replicate(width - len(value)))


def _cut(address: Value, words: int) -> Value:
    """An address of a block of so many words."""
    return Cat(address, Const(0, ADDRESS_BITS))[: clog2(words)]
