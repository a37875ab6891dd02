"""cocotb tests that must not pass; test_cocotb_runner.py checks that they are reported."""

from __future__ import annotations

import os

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import Timer

if os.environ["BAD"] == "fails":

    @cocotb.test()
    async def passes(dut) -> None:
        await Timer(10, "ns")

    @cocotb.test()
    async def counts_wrongly(dut) -> None:
        await Timer(10, "ns")
        assert len(dut.rx__payload) == 9

elif os.environ["BAD"] == "hangs":

    @cocotb.test()
    async def never_ends(dut) -> None:
        Clock(dut.clk, 10, "ns").start()
        while True:
            await Timer(1, "us")

elif os.environ["BAD"] == "dies":

    @cocotb.test()
    async def kills_the_simulation(dut) -> None:
        await Timer(10, "ns")
        os._exit(3)
