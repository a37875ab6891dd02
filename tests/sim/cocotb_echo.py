"""cocotb tests of ``echo.Echo``; run by test_cocotb_runner.py."""

from __future__ import annotations

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ReadOnly, RisingEdge

from drawbar.sim.cocotb_runner import parameters


async def reset(dut) -> None:
    dut.rx__valid.value = 0
    dut.tx__ready.value = 0
    dut.rst.value = 1
    Clock(dut.clk, 10, "ns").start()
    for _ in range(3):
        await RisingEdge(dut.clk)
    dut.rst.value = 0


async def send(dut, data: bytes, rng: random.Random) -> None:
    for byte in data:
        while rng.random() < 0.3:
            await RisingEdge(dut.clk)
        dut.rx__valid.value = 1
        dut.rx__payload.value = byte
        await ReadOnly()
        while not dut.rx__ready.value:
            await RisingEdge(dut.clk)
            await ReadOnly()
        await RisingEdge(dut.clk)
        dut.rx__valid.value = 0


async def receive(dut, count: int, rng: random.Random) -> bytes:
    data = bytearray()
    for _ in range(50 * count):
        dut.tx__ready.value = ready = rng.random() < 0.5
        await ReadOnly()
        if ready and dut.tx__valid.value:
            data.append(int(dut.tx__payload.value))
        await RisingEdge(dut.clk)
        if len(data) == count:
            break
    return bytes(data)


@cocotb.test()
async def every_byte_comes_back(dut) -> None:
    await reset(dut)
    rng = random.Random(7)
    for _ in range(2):
        data = rng.randbytes(100)
        cocotb.start_soon(send(dut, data, rng))
        got = await receive(dut, len(data), rng)
        assert got == bytes((b + parameters()["add"]) % 256 for b in data)
