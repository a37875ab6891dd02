"""CRC-32C (Castagnoli, as in RFC 3720), one byte a step, as a network of XOR gates."""

from amaranth.hdl import Cat, Module, Signal, Value, ValueLike
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

CRC_BITS = 32

#: The register before the first byte. What goes on the wire is the register's complement,
#: little-endian.
CRC_START = 0xFFFF_FFFF

_POLYNOMIAL = 0x82F6_3B78  # 0x1EDC6F41, least significant bit first


def crc_register(data: bytes, register: int = CRC_START) -> int:
    """The register after ``data``, in software: for constants and tables."""
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = (register >> 1) ^ (_POLYNOMIAL if register & 1 else 0)
    return register


#: The register after any piece that is followed by its own check: a receiver compares with this
#: constant only.
CRC_RESIDUE = crc_register((crc_register(b"") ^ CRC_START).to_bytes(4, "little"))


def crc32c_step(register: ValueLike, byte: ValueLike) -> Value:
    """The register after one more byte; combinational.

    The step is linear, so each of the 32 results is the parity of some of the 40 inputs (at most 15
    of them: two levels of 4-input look-up tables).
    """
    inputs = list(Value.cast(register)) + list(Value.cast(byte))
    if len(inputs) != CRC_BITS + 8:
        raise ValueError(f"a CRC-32C step takes 32 + 8 bits, not {len(inputs)}")
    images = [crc_register(b"\x00", 1 << bit) for bit in range(CRC_BITS)]
    images += [crc_register(bytes([1 << bit]), 0) for bit in range(8)]
    return Cat(
        Cat(source for source, image in zip(inputs, images, strict=True) if image >> bit & 1).xor()
        for bit in range(CRC_BITS)
    )


class Crc32c(wiring.Component):
    """A CRC-32C register.

    One byte a cycle; ``register``, ``matches`` and ``check`` include a byte in the cycle after its
    ``enable``.

    Arguments
    ---------
    primed:
        Bytes that a piece begins with and that need not come in one by one.

    Members
    -------
    clear, prime:
        Strobes: the register is as it was after reset, ready for a new piece; and as it is after
        ``primed``. ``clear`` wins over ``prime``, and both over ``enable``.
    enable, byte:
        Strobe: one byte is taken in.
    shift:
        Strobe: the register moves down by one byte, which brings the next byte of the check to
        ``check``. ``enable`` wins.
    check:
        The first byte of the check of what was taken in, as it goes on the wire.
    matches:
        All four bits are set: what was taken in ends in its own check.
    """

    clear: In(1)
    prime: In(1)
    enable: In(1)
    byte: In(8)
    shift: In(1)
    check: Out(8)
    matches: Out(4)

    def __init__(self, *, primed: bytes = b"") -> None:
        self.primed = primed
        super().__init__()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        register = Signal(CRC_BITS, init=CRC_START)
        m.d.comb += [
            self.check.eq(~register[:8]),
            self.matches.eq(
                Cat(register.word_select(n, 8) == (CRC_RESIDUE >> (8 * n) & 0xFF) for n in range(4))
            ),
        ]
        with m.If(self.clear):
            m.d.sync += register.eq(CRC_START)
        with m.Elif(self.prime):
            m.d.sync += register.eq(crc_register(self.primed))
        with m.Elif(self.enable):
            m.d.sync += register.eq(crc32c_step(register, self.byte))
        with m.Elif(self.shift):
            m.d.sync += register.eq(register[8:])
        return m
