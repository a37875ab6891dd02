"""hw/crc.py against google_crc32c."""

from __future__ import annotations

import random

import google_crc32c
import pytest
from amaranth.hdl import Module, Signal
from amaranth_bench import simulate

from drawbar.gen.protocol import crc32c
from drawbar.hw.crc import CRC_RESIDUE, CRC_START, Crc32c, crc32c_step, crc_register


def test_known_answers() -> None:
    # RFC 3720, B.4, and the check value of the catalogue of CRCs.
    for data, check in (
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
    ):
        assert crc_register(data) ^ CRC_START == check == crc32c(data)


def test_residue() -> None:
    rng = random.Random(1)
    for length in range(20):
        data = rng.randbytes(length)
        assert crc_register(data + crc32c(data).to_bytes(4, "little")) == CRC_RESIDUE


def test_step_is_exhaustively_right() -> None:
    """Every byte against every unit register: the step is linear, so that is all of it."""
    registers = [0, CRC_START, *(1 << bit for bit in range(32))]
    m = Module()
    register, byte, result = Signal(32), Signal(8), Signal(32)
    m.d.comb += result.eq(crc32c_step(register, byte))
    ticks = Signal()
    m.d.sync += ticks.eq(~ticks)

    async def bench(ctx):
        for start in registers:
            ctx.set(register, start)
            for value in range(256):
                ctx.set(byte, value)
                # `extend` takes the complement of the register.
                expected = google_crc32c.extend(start ^ CRC_START, bytes([value])) ^ CRC_START
                assert ctx.get(result) == expected, f"register {start:08x}, byte {value:02x}"

    simulate(m, bench, cycles=10)


def test_step_is_linear() -> None:
    """What the exhaustive test rests on, for arbitrary registers."""
    rng = random.Random(2)
    for _ in range(1000):
        a, b = rng.getrandbits(32), rng.getrandbits(32)
        x, y = rng.randbytes(1), rng.randbytes(1)
        both = crc_register(bytes([x[0] ^ y[0]]), a ^ b)
        assert crc_register(x, a) ^ crc_register(y, b) == both


def test_step_refuses_other_widths() -> None:
    with pytest.raises(ValueError, match="not 39"):
        crc32c_step(Signal(32), Signal(7))


def test_component() -> None:
    """Pieces back to back: match only at the end of a sound piece, and the check byte by byte."""
    dut = Crc32c()
    rng = random.Random(3)

    async def take(ctx, byte: int) -> None:
        while rng.random() < 0.3:
            await ctx.tick()
        ctx.set(dut.byte, byte)
        ctx.set(dut.enable, 1)
        await ctx.tick()
        ctx.set(dut.enable, 0)

    async def bench(ctx):
        for length in (0, 1, 2, 12, 40):
            data = rng.randbytes(length)
            check = crc32c(data).to_bytes(4, "little")
            for position, byte in enumerate(data + check):
                assert ctx.get(dut.matches) != 0xF, f"matches at {position} of {length}"
                await take(ctx, byte)
            assert ctx.get(dut.matches) == 0xF
            # `clear` wins over `enable`.
            ctx.set(dut.clear, 1)
            ctx.set(dut.enable, 1)
            await ctx.tick()
            ctx.set(dut.clear, 0)
            ctx.set(dut.enable, 0)
            for byte in data:
                await take(ctx, byte)
            for byte in check:
                assert ctx.get(dut.check) == byte
                ctx.set(dut.shift, 1)
                await ctx.tick()
                ctx.set(dut.shift, 0)
            ctx.set(dut.clear, 1)
            await ctx.tick()
            ctx.set(dut.clear, 0)

    simulate(dut, bench, cycles=2000)
