"""Lattice ECP5: MULT18X18D with all of its registers, DP16KD with its output register, and copies
of control that synthesis keeps.

Facts are from the ECP5 and ECP5-5G sysDSP Usage Guide (FPGA-TN-02205), Memory Usage Guide
(FPGA-TN-02204), and yosys' own mapping of memories to DP16KD.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal, Value, signed

from drawbar.gen.config import clog2
from drawbar.gen.fpga.ecp5 import block_shape
from drawbar.hw.vendor.portable import Portable

#: Bits of a multiplier's operands, and of its product.
OPERAND_BITS = 18
PRODUCT_BITS = 36
#: Address bits of a block of RAM, of which narrow words use all.
ADDRESS_BITS = 14
#: Columns of the multipliers' left ends, four in each, and their rows.
DSP_SITES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "25k": ((4, 13, 22, 33, 42, 51, 60), (13,)),
    "85k": ((4, 13, 22, 31, 40, 49, 58, 69, 78, 87, 96, 105, 114), (10, 34, 58)),
}
_IN_SITE = (0, 1, 4, 5)


class Ecp5(Portable):
    """Primitives of an ECP5.

    Arguments
    ---------
    place:
        The BEL of the multiplier of a row and a lane, as ``multiplier_places`` gives it; without
        one, or where it is None, placement is the router's.
    """

    def __init__(self, place: Callable[[int, int], str | None] | None = None) -> None:
        self.place = place

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
        width = len(a) + len(b)
        product = Signal(signed(PRODUCT_BITS), name=f"product_{row}_{lane}")
        registers = {}
        for stage in ("INPUTA", "INPUTB", "PIPELINE", "OUTPUT"):
            registers |= {
                f"p_REG_{stage}_CLK": "CLK0",
                f"p_REG_{stage}_CE": "CE0",
                f"p_REG_{stage}_RST": "RST0",
            }
        bel = self.place(row, lane) if self.place is not None else None
        m.submodules[f"multiplier_{row}_{lane}"] = Instance(
            "MULT18X18D",
            **({} if bel is None else {"a_BEL": bel}),
            **registers,
            i_CLK0=ClockSignal(),
            i_CE0=Const(1, 1),
            i_RST0=Const(0, 1),
            i_SIGNEDA=Const(1, 1),
            i_SIGNEDB=Const(1, 1),
            i_SOURCEA=Const(0, 1),
            i_SOURCEB=Const(0, 1),
            **_bits("i_A", _extended(a, OPERAND_BITS)),
            **_bits("i_B", _extended(b, OPERAND_BITS)),
            **_bits("o_P", product),
        )
        return product[:width].as_signed()

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
        shape = block_shape(width, depth)
        if shape is None:
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
        # Addresses are left-aligned. Of words of 18 bits, the lowest two address bits enable the
        # writes of their halves.
        low = Const(0, ADDRESS_BITS - clog2(words))
        enables = write_enable.replicate(2) if bits == 18 else low[:2]
        data = Signal(width, name=f"{name}_data")
        for number, first in enumerate(range(0, width, bits)):
            read = Signal(18, name=f"{name}_read_{number}")
            part = write_data[first : first + bits]
            m.d.comb += data[first : first + bits].eq(read)
            m.submodules[f"{name}_{number}"] = Instance(
                "DP16KD",
                p_DATA_WIDTH_A=bits,
                p_DATA_WIDTH_B=bits,
                p_REGMODE_A="NOREG",
                p_REGMODE_B="OUTREG",
                p_RESETMODE="SYNC",
                p_ASYNC_RESET_RELEASE="SYNC",
                p_CSDECODE_A="0b000",
                p_CSDECODE_B="0b000",
                p_CLKAMUX="CLKA",
                p_CLKBMUX="CLKB",
                p_WRITEMODE_A="NORMAL",
                p_WRITEMODE_B="NORMAL",
                p_GSR="AUTO",
                i_CLKA=ClockSignal(),
                i_CEA=Const(1, 1),
                i_OCEA=Const(1, 1),
                i_WEA=write_enable,
                i_RSTA=Const(0, 1),
                i_CLKB=ClockSignal(),
                i_CEB=enable,
                i_OCEB=enable,
                i_WEB=Const(0, 1),
                i_RSTB=Const(0, 1),
                **{f"i_CS{port}{n}": Const(0, 1) for port in "AB" for n in range(3)},
                **_bits("i_ADA", Cat(enables, low[2:], _cut(write_address, words))),
                **_bits("i_ADB", Cat(low, _cut(read_address, words))),
                **_bits("i_DIA", _extended(part, 18)),
                **_bits("i_DIB", Const(0, 18)),
                **_bits("o_DOB", read),
            )
        return data

    def copies(
        self, m: Module, value: Value, count: int, name: str, *, init: int = 0
    ) -> list[Value]:
        result: list[Value] = []
        for n in range(count):
            copy = Signal(len(value), name=f"{name}_{n}")
            for bit in range(len(value)):
                m.submodules[f"{name}_{n}_{bit}"] = Instance(
                    "TRELLIS_FF",
                    a_keep=1,
                    p_GSR="DISABLED",
                    p_CEMUX="1",
                    p_CLKMUX="CLK",
                    p_LSRMUX="LSR",
                    p_REGSET="SET" if init >> bit & 1 else "RESET",
                    p_SRMODE="LSR_OVER_CE",
                    i_CLK=ClockSignal(),
                    i_LSR=Const(0, 1),
                    i_CE=Const(1, 1),
                    i_DI=value[bit],
                    o_Q=copy[bit],
                )
            result.append(copy)
        return result


def _bits(port: str, value: Value) -> dict[str, Value]:
    """Ports of single bits, as these blocks have them."""
    return {f"{port}{n}": value[n] for n in range(len(value))}


def _extended(value: Value, width: int) -> Value:
    """Sign-extended where it is signed, else padded with zeros."""
    top = value[-1] if value.shape().signed else Const(0, 1)
    return Cat(value, top.replicate(width - len(value)))[:width]


def _cut(address: Value, words: int) -> Value:
    """An address of a block of so many words."""
    return Cat(address, Const(0, ADDRESS_BITS))[: clog2(words)]


def multiplier_places(device: str, rows: int, lanes: int) -> Callable[[int, int], str | None]:
    """BELs for the multipliers of an array: lane after lane from the left of the chip to its right,
    so that a lane's rows are side by side, and so are the lanes that hand on to each other.

    Arguments
    ---------
    device:
        As nextpnr calls it: ``25k`` or ``85k``.

    Returns
    -------
    The BEL of a row and a lane; None for all where the device is unknown or has too few.
    """
    columns, heights = DSP_SITES.get(device, ((), ()))
    # Column by column, from top to bottom and back, so that neighbours in the list are neighbours
    # on the chip.
    sites = [
        f"X{left + at}/Y{y}/MULT18_{at}"
        for n, left in enumerate(columns)
        for y in (heights if n % 2 == 0 else heights[::-1])
        for at in _IN_SITE
    ]
    if len(sites) < rows * lanes:
        return lambda row, lane: None
    return lambda row, lane: sites[lane * rows + row]
