"""The engine's memories: banks of simple dual-port memory, one write port and one synchronous read
port each.
"""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from drawbar.gen.config import EngineConfig, clog2


def rotate_up(values: Sequence[Value], amount: Value) -> list[Value]:
    """``result[(i + amount) mod n] = values[i]``, for ``n = 2**len(amount)`` values: a logarithmic
    rotator.
    """
    result = list(values)
    for bit in range(clog2(len(result))):
        turned = result[-(1 << bit) :] + result[: -(1 << bit)]
        result = [
            Mux(amount[bit], after, before) for before, after in zip(result, turned, strict=True)
        ]
    return result


def rotate_down(values: Sequence[Value], amount: Value) -> list[Value]:
    """``result[i] = values[(i + amount) mod n]``: undoes ``rotate_up``."""
    return rotate_up(values[::-1], amount)[::-1]


class BankedMemory(wiring.Component):
    """Banks side by side under one address: core memory (a bank for each row) and bias memory (one
    for each lane).

    Arguments
    ---------
    banks, depth, width:
        Number of banks; vectors; bits of an element.

    Members
    -------
    read_address, read_data:
        Latency: two cycles (address register of the memory, output register). Throughput: one
        vector a cycle.
    write_address, write_data, write_mask:
        Writes the same element to the banks in the mask, visible to reads of the next cycle. A read
        of the same vector in the same cycle gets the old value.
    """

    def __init__(self, *, banks: int, depth: int, width: int) -> None:
        self.banks = banks
        self.depth = depth
        self.width = width
        vector = data.ArrayLayout(signed(width), banks)
        super().__init__(
            {
                "read_address": In(clog2(depth)),
                "read_data": Out(vector),
                "write_address": In(clog2(depth)),
                "write_data": In(signed(width)),
                "write_mask": In(banks),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for b in range(self.banks):
            memory = Memory(shape=signed(self.width), depth=self.depth, init=[])
            m.submodules[f"bank_{b}"] = memory
            write, read = memory.write_port(), memory.read_port()
            m.d.comb += [
                read.addr.eq(self.read_address),
                write.addr.eq(self.write_address),
                write.data.eq(self.write_data),
                write.en.eq(self.write_mask[b]),
            ]
            m.d.sync += self.read_data[b].eq(read.data)
        return m


class VectorAddress(wiring.Component):
    """Bank addresses of an affine vector: lane l at ``start + l * (skew * lanes + 1)``.

    With bank = address mod lanes, the lanes of such a vector lie in different banks: lane l in bank
    ``(start + l) mod lanes``, at row ``start / lanes + l * skew``, one more where the lane has
    wrapped around. So the rows are the products ``l * skew``, which stay for a whole stage, rotated
    to their banks, plus the start.

    Members
    -------
    skew:
        Holds for the ``start`` of the next cycle: it is set one cycle before the first that uses
        it.
    start:
        Element address of lane 0. Addresses are modulo ``lanes * 2**work_row_bits``.
    plain:
        With ``start``: a skew of 0 for this one vector, whatever ``skew`` says.
    rows, offset:
        Row in each bank, and the bank of lane 0. Latency: two cycles. Throughput: one vector a
        cycle.
    """

    def __init__(self, *, config: EngineConfig) -> None:
        self.config = config
        super().__init__(
            {
                "skew": In(config.work_row_bits),
                "start": In(config.work_address_bits),
                "plain": In(1),
                "rows": Out(data.ArrayLayout(config.work_row_bits, config.lanes)),
                "offset": Out(config.lane_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes, row_bits = self.config.lanes, self.config.work_row_bits
        # Products of the skew and every lane number: registers that settle once a stage.
        products = [Signal(row_bits, name=f"product_{lane}") for lane in range(lanes)]
        for lane, product in enumerate(products):
            # Shifts and sums, as a product would take a hardware multiplier away from the array.
            shifted = [self.skew << bit for bit in range(lane.bit_length()) if lane >> bit & 1]
            m.d.sync += product.eq(sum(shifted, Const(0)))

        offset = self.start[: self.config.lane_bits]
        start_row = Signal(row_bits)
        offset_1 = Signal(self.config.lane_bits)
        m.d.sync += [start_row.eq(self.start[self.config.lane_bits :]), offset_1.eq(offset)]
        m.d.sync += self.offset.eq(offset_1)
        for b, product in enumerate(rotate_up(products, offset)):
            turned = Signal(row_bits, name=f"turned_{b}")
            m.d.sync += turned.eq(Mux(self.plain, 0, product))
            wrapped = b < offset_1 if self.config.lane_bits else Const(0)
            m.d.sync += self.rows[b].eq(start_row + turned + wrapped)
        return m


class WorkMemory(wiring.Component):
    """Work memory: ``lanes`` banks that move one affine vector a cycle each way.

    Members
    -------
    read_skew, read_start, read_plain, read_data:
        Latency: four cycles from ``read_start`` to ``read_data``; lanes past the end of the memory
        read anything. Throughput: one vector a cycle.
    write_skew, write_start, write_data, write_mask:
        Lanes in the mask are written, two cycles after ``write_start``; none of them may lie past
        the end of the memory. Throughput: one vector a cycle.

    The skews are those of ``VectorAddress``: set one cycle before the start, but a ``read_plain``
    comes with its start. Reads and writes reach
    the banks in step::

        cycle        0          1        2             3       4
        write_start  vector A            A written
        read_start   reads old  reads A
        read_data                                              old     A (in cycle 5)

    A read sees the writes whose starts came before its own. Where both start in the same cycle it
    gets the old value; programs never depend on it. Reset leaves the contents.
    """

    def __init__(self, *, config: EngineConfig) -> None:
        self.config = config
        vector = data.ArrayLayout(signed(config.data_width), config.lanes)
        super().__init__(
            {
                "read_skew": In(config.work_row_bits),
                "read_start": In(config.work_address_bits),
                "read_plain": In(1),
                "read_data": Out(vector),
                "write_skew": In(config.work_row_bits),
                "write_start": In(config.work_address_bits),
                "write_data": In(vector),
                "write_mask": In(config.lanes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        lanes, width = config.lanes, config.data_width

        m.submodules.read_address = read_address = VectorAddress(config=config)
        m.submodules.write_address = write_address = VectorAddress(config=config)
        m.d.comb += [
            read_address.skew.eq(self.read_skew),
            read_address.start.eq(self.read_start),
            read_address.plain.eq(self.read_plain),
            write_address.skew.eq(self.write_skew),
            write_address.start.eq(self.write_start),
        ]

        # Lanes turn to banks while the addresses are made: two cycles, as those.
        write_offset = self.write_start[: config.lane_bits]
        elements = [self.write_data[lane].as_unsigned() for lane in range(lanes)]
        marks = [self.write_mask[lane] for lane in range(lanes)]
        turned = [Signal(width, name=f"turned_{b}") for b in range(lanes)]
        turned_mask = Signal(lanes)
        bank_data = [Signal(width, name=f"bank_data_{b}") for b in range(lanes)]
        bank_mask = Signal(lanes)
        for b, element in enumerate(rotate_up(elements, write_offset)):
            m.d.sync += [turned[b].eq(element), bank_data[b].eq(turned[b])]
        m.d.sync += turned_mask.eq(Cat(*rotate_up(marks, write_offset)))
        m.d.sync += bank_mask.eq(turned_mask)

        banks = []
        for b in range(lanes):
            memory = Memory(shape=width, depth=config.work_depth, init=[])
            m.submodules[f"bank_{b}"] = memory
            write, read = memory.write_port(), memory.read_port()
            m.d.comb += [
                read.addr.eq(read_address.rows[b]),
                write.addr.eq(write_address.rows[b]),
                write.data.eq(bank_data[b]),
                write.en.eq(bank_mask[b]),
            ]
            banks.append(read.data)

        read_offset = Signal(config.lane_bits)
        m.d.sync += read_offset.eq(read_address.offset)
        for lane, element in enumerate(rotate_down(banks, read_offset)):
            m.d.sync += self.read_data[lane].eq(element)
        return m
