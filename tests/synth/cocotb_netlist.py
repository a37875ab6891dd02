"""A recorded session through the serial pins of a board's top; run by test_netlist.py."""

from __future__ import annotations

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import Event, FallingEdge, Timer, with_timeout
from exchange import Exchange, comparable, frames

from drawbar.sim.cocotb_runner import parameters

#: Bits for a byte on the line.
_BITS = 10
#: Bit times that the board may be silent: longer than any answer takes to begin.
_PATIENCE = 3000
#: Cycles of the oscillator in which the PLL's model locks and the reset goes by.
_START = 40


class SerialHost:
    """The other end of the line, at the exact baud rate."""

    def __init__(self, dut, bit_ps: int) -> None:
        self.dut = dut
        self.received = bytearray()
        self._bit_ps = bit_ps
        self._arrived = Event()

    async def send(self, data: bytes) -> None:
        for byte in data:
            for bit in (0, *(byte >> n & 1 for n in range(8)), 1):
                self.dut.rx.value = bit
                await Timer(self._bit_ps, "ps")

    async def receive(self) -> None:
        """For ever: a task of its own."""
        while True:
            await FallingEdge(self.dut.tx)
            await Timer(self._bit_ps * 3 // 2, "ps")
            byte = 0
            for n in range(8):
                byte |= self._level() << n
                await Timer(self._bit_ps, "ps")
            assert self._level() == 1, f"no stop bit in byte {len(self.received)}"
            self.received.append(byte)
            self._arrived.set()

    def _level(self) -> int:
        level = str(self.dut.tx.value)
        assert level in ("0", "1"), f"tx is {level} in byte {len(self.received)}"
        return int(level)

    async def until(self, count: int) -> None:
        """Until so many bytes have been received."""
        while len(self.received) < count:
            self._arrived.clear()
            await with_timeout(self._arrived.wait(), _PATIENCE * self._bit_ps, "ps")


@cocotb.test()
async def the_same_answers(dut) -> None:
    """Byte for byte what the golden board answered, but for what depends on the line's speed."""
    options = parameters()
    exchange = Exchange.load(options["exchange"])
    expected = bytes.fromhex(exchange.answers)
    dut.rx.value = 1
    period_ps = 2 * round(5e11 / options["oscillator_hz"])
    Clock(dut.clk, period_ps, "ps").start(start_high=False)
    host = SerialHost(dut, round(1e12 / options["baud"]))
    await Timer(_START * period_ps, "ps")
    cocotb.start_soon(host.receive())
    for answered, data in exchange.sent:
        await host.until(answered)
        await host.send(bytes.fromhex(data))
    await host.until(len(expected))
    await Timer(2 * _BITS * host._bit_ps, "ps")
    assert len(host.received) == len(expected)
    found = frames(bytes(host.received))
    for number, frame in enumerate(frames(expected)):
        got = comparable(*next(found))
        assert got == comparable(*frame), f"answer {number}: {got}, not {comparable(*frame)}"
