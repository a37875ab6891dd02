"""The engine's memories: banks of simple dual-port memory, one write port and one synchronous read
port each.
"""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from drawbar.gen.config import EngineConfig, clog2
from drawbar.gen.pipeline import pipeline
from drawbar.hw.delay import delayed
from drawbar.hw.vendor.portable import MEMORY_LATENCY, Portable, primitives

#: Values of a vector that share a copy of what steers them all: with one for all, it would have to
#: reach as many multiplexers as the vector has bits, all over the chip.
_STEERED = 4


def _steering(m: Module, vendor: Portable, value: Value, consumers: int, name: str) -> list[Value]:
    """``value`` a cycle later, for each of so many consumers that are next to each other."""
    copies = vendor.copies(m, value, -(-consumers // _STEERED), name)
    return [copies[n // _STEERED] for n in range(consumers)]


def _turned(
    values: Sequence[Value], amounts: Sequence[Value], first_bit: int, down: bool
) -> list[Value]:
    """``result[(i + amount) mod n] = values[i]``, or ``result[i] = values[(i + amount) mod n]`` if
    ``down``: a logarithmic rotator. The amount is in units of ``2**first_bit``; ``amounts`` has the
    same one for each value.
    """
    result = list(values)
    for bit in range(len(amounts[0])):
        by = 1 << (first_bit + bit)
        turned = result[by:] + result[:by] if down else result[-by:] + result[:-by]
        result = [
            Mux(amount[bit], after, before)
            for amount, before, after in zip(amounts, result, turned, strict=True)
        ]
    return result


class Rotator(wiring.Component):
    """Rotates ``2**n`` values: ``o[(j + amount) mod 2**n] = i[j]``, or if ``down``
    ``o[j] = i[(j + amount) mod 2**n]``.

    Latency: ``cycles``, which share the bits of ``amount``: two, one, or none; ``amount`` comes a
    cycle before ``i``. Throughput: one vector a cycle. No reset.
    """

    def __init__(self, *, width: int, bits: int, cycles: int, down: bool = False) -> None:
        if cycles not in (0, 1, 2):
            raise ValueError(f"a rotation takes 0, 1 or 2 cycles, not {cycles!r}")
        self.width = width
        self.bits = bits
        self.cycles = cycles
        self.down = down
        vector = data.ArrayLayout(width, 1 << bits)
        super().__init__({"i": In(vector), "amount": In(bits), "o": Out(vector)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        vendor, half, count = primitives(platform), self.bits // 2, 1 << self.bits
        parts: list[tuple[Value, int]] = [(self.amount, 0)]
        if self.cycles == 2:
            upper = delayed(m, self.amount[half:], 1, "amount", reset_less=True)
            parts = [(self.amount[:half], 0), (upper, half)]
        values: list[Value] = [self.i[j] for j in range(count)]
        for n, (amount, first_bit) in enumerate(parts, 1):
            amounts = _steering(m, vendor, amount, count, f"amounts_{n}")
            values = [
                delayed(m, value, min(1, self.cycles), f"turned_{n}_{j}", reset_less=True)
                for j, value in enumerate(_turned(values, amounts, first_bit, self.down))
            ]
        m.d.comb += [self.o[j].eq(value) for j, value in enumerate(values)]
        return m


class BankedMemory(wiring.Component):
    """Banks side by side under one address: core memory (a bank for each row of each vector), bias
    memory (one for each lane) and program memory (one for each word of a fetch).

    Arguments
    ---------
    banks, depth, width:
        Number of banks; vectors; bits of an element.
    latency:
        Cycles of a read: ``gen.pipeline``'s ``bank_read``, 3 or 4.
    groups:
        Read addresses: each serves as many banks as the others, but for the last one.

    Members
    -------
    read_address, read_data:
        Latency: ``latency``, of which one cycle each are the registers of the address, of the
        memory, of its output, and if it is 4 of the data before their way to the array. Throughput:
        one vector a cycle.
    write_address, write_data, write_mask:
        Writes the same element to the banks in the mask, visible to reads of the next cycle. A read
        gets anything of an element that is written in the same cycle or in the three after it:
        where the registers of a read lie is the vendor's.
    """

    def __init__(
        self, *, banks: int, depth: int, width: int, latency: int, groups: int = 1
    ) -> None:
        if latency not in (3, 4):
            raise ValueError(f"a read takes 3 or 4 cycles, not {latency!r}")
        self.latency = latency
        self.banks = banks
        self.depth = depth
        self.width = width
        self.groups = groups
        vector = data.ArrayLayout(signed(width), banks)
        super().__init__(
            {
                "read_address": In(data.ArrayLayout(clog2(depth), groups)),
                "read_data": Out(vector),
                "write_address": In(clog2(depth)),
                "write_data": In(signed(width)),
                "write_mask": In(banks),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        vendor = primitives(platform)
        in_group = -(-self.banks // self.groups)
        spare = self.latency - MEMORY_LATENCY - 1
        before = min(spare, vendor.address_registers)
        read = [
            delayed(m, self.read_address[g], 1 + before, f"read_address_{g}", reset_less=True)
            for g in range(self.groups)
        ]
        to_write = 1 - vendor.address_registers
        write = delayed(m, self.write_address, to_write, "write_address", reset_less=True)
        element = delayed(m, self.write_data, to_write, "write_data", reset_less=True)
        mask = delayed(m, self.write_mask, to_write, "write_mask")
        for b in range(self.banks):
            word = vendor.memory(
                m,
                name=f"bank_{b}",
                width=self.width,
                depth=self.depth,
                read_address=read[b // in_group],
                write_address=write,
                write_data=element,
                write_enable=mask[b],
            )
            word = delayed(m, word, spare - before, f"word_{b}", reset_less=True)
            m.d.comb += self.read_data[b].eq(word)
        return m


class CoreVectors(wiring.Component):
    """Which of the core vectors under one address each group of lanes gets, where the array folds.

    Members
    -------
    first, fold:
        Lower bits of the core address, and the logarithm of the stage's fold: its ``2**fold``
        vectors begin there, at a multiple of that.
    i:
        All of the banks, ``config.fold`` vectors side by side, ``gen.pipeline``'s ``bank_read``
        cycles later.
    o:
        A vector for each of ``config.fold`` groups of lanes, neighbours alike where the stage has
        fewer. Latency: ``gen.pipeline``'s ``core_read`` from ``first``. Throughput: one a cycle.
    """

    def __init__(self, *, config: EngineConfig) -> None:
        self.config = config
        vector = data.ArrayLayout(signed(config.data_width), config.rows)
        super().__init__(
            {
                "first": In(config.fold_bits),
                "fold": In(config.fold_bits.bit_length()),
                "i": In(data.ArrayLayout(vector, config.fold)),
                "o": Out(data.ArrayLayout(vector, config.fold)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits, groups = self.config.fold_bits, range(self.config.fold)
        ahead = pipeline(self.config).bank_read - 1
        first = delayed(m, self.first, ahead, "first", reset_less=True)
        fold = delayed(m, self.fold, ahead, "fold", reset_less=True)
        for group in groups:
            # With each fold, as many groups more get the next vector.
            by_fold = [(first >> n << n) | group >> (bits - n) for n in range(bits + 1)]
            own = Signal(bits, name=f"own_{group}", reset_less=True)
            m.d.sync += own.eq(Array(by_fold)[fold])
            for r in range(self.config.rows):
                m.d.sync += self.o[group][r].eq(Array(self.i[v][r] for v in groups)[own])
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
    fold, fold_skew:
        As ``skew``; only with ``config.fold`` above 1, where lanes are ``2**fold`` groups: lane
        ``l = group * n + c``, of groups of n, at ``start + c * (skew * lanes + 1) + group *
        (fold_skew * lanes + n)``.
    start:
        Element address of lane 0. Addresses are modulo ``lanes * 2**work_row_bits``.
    plain:
        With ``start``: a skew of 0 for this one vector, whatever ``skew`` says.
    rows, offset:
        Row in each bank, and the bank of lane 0. Latency: ``work_access`` cycles.
        Throughput: one vector a cycle.
    """

    def __init__(self, *, config: EngineConfig) -> None:
        self.config = config
        super().__init__(
            {
                "skew": In(config.work_row_bits),
                "fold": In(config.fold_bits.bit_length()),
                "fold_skew": In(config.work_row_bits),
                "start": In(config.work_address_bits),
                "plain": In(1),
                "rows": Out(data.ArrayLayout(config.work_row_bits, config.lanes)),
                "offset": Out(config.lane_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes, row_bits = self.config.lanes, self.config.work_row_bits
        lane_bits = self.config.lane_bits
        # Of the rotation: one cycle is the start's, beside the products, and one the sum's.
        turning = pipeline(self.config).work_access - 2

        # Products of the skew and every lane number, which settle once a stage: first of the lower
        # and of the upper bits of the lane number, then their sums. Shifts and sums, as a product
        # would take a hardware multiplier away from the array.
        def share(bit: int) -> Value:
            """Rows that a bit of the lane number adds."""
            by_fold = [self.skew << bit]
            for fold in range(1, self.config.fold_bits + 1):
                inside = bit - (lane_bits - fold)
                by_fold.append(self.skew << bit if inside < 0 else self.fold_skew << inside)
            return by_fold[0] if len(by_fold) == 1 else Array(by_fold)[self.fold]

        def multiple(number: int, name: str) -> Signal:
            shares = [share(bit) for bit in range(number.bit_length()) if number >> bit & 1]
            result = Signal(row_bits, name=name, reset_less=True)
            m.d.sync += result.eq(sum(shares, Const(0)))
            return result

        plain_1 = delayed(m, self.plain, 1, "plain", reset_less=True)
        half = lane_bits // 2
        lower = [multiple(n, f"lower_{n}") for n in range(1 << half)]
        upper = [multiple(n << half, f"upper_{n}") for n in range(1 << (lane_bits - half))]
        m.submodules.turn = turn = Rotator(width=row_bits, bits=lane_bits, cycles=turning)
        for lane in range(lanes):
            product = Signal(row_bits, name=f"product_{lane}", reset_less=True)
            m.d.sync += product.eq(lower[lane % (1 << half)] + upper[lane >> half])
            m.d.comb += turn.i[lane].eq(Mux(plain_1, 0, product))

        # The products follow the skew by two cycles, and the start is given one after the skew.
        m.d.comb += turn.amount.eq(self.start[:lane_bits])
        start = delayed(m, self.start, turning, "start", reset_less=True)
        offset = start[:lane_bits]
        m.d.comb += self.offset.eq(delayed(m, offset, 2, "offset", reset_less=True))
        start_rows = _steering(m, primitives(platform), start[lane_bits:], lanes, "start_row")
        for b, start_row in enumerate(start_rows):
            wrapped = b < offset if lane_bits else Const(0)
            wrapped_1 = delayed(m, wrapped, 1, f"wrapped_{b}", reset_less=True)
            row = Signal(row_bits, name=f"row_{b}", reset_less=True)
            m.d.sync += row.eq(start_row + turn.o[b] + wrapped_1)
            m.d.comb += self.rows[b].eq(row)
        return m


class WorkMemory(wiring.Component):
    """Work memory: ``lanes`` banks that move one affine vector a cycle each way.

    Members
    -------
    read_skew, read_start, read_plain, read_data:
        Latency: ``gen.pipeline``'s ``work_read`` from ``read_start`` to ``read_data``; lanes past
        the end of the memory read anything. Throughput: one vector a cycle.
    write_skew, write_fold, write_fold_skew, write_start, write_data, write_mask:
        Lanes in the mask are written, ``work_access`` cycles after ``write_start``; none of them
        may lie past the end of the memory. Throughput: one vector a cycle.

    The skews are those of ``VectorAddress``: set one cycle before the start; but ``read_plain``
    comes with its start. Reads and writes reach the banks in step; in a long pipeline::

        cycle        0          1         2  3  4          5       6      7..8
        write_start  vector A                   A written
        read_start   before     reads A         reads      reads
        banks                                   before     A       register, rotate
        read_data                                                         8: before, 9: A

    A read sees the writes whose starts came before its own. Of a word that is written by the write
    that starts with it, it gets anything; programs never depend on it. Reset leaves the contents.
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
                "write_fold": In(config.fold_bits.bit_length()),
                "write_fold_skew": In(config.work_row_bits),
                "write_start": In(config.work_address_bits),
                "write_data": In(vector),
                "write_mask": In(config.lanes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, vendor = self.config, primitives(platform)
        lanes, lane_bits, width = config.lanes, config.lane_bits, config.data_width
        pipe = pipeline(config)

        m.submodules.read_address = read_address = VectorAddress(config=config)
        m.submodules.write_address = write_address = VectorAddress(config=config)
        # An element and its mark turn together.
        m.submodules.to_banks = to_banks = Rotator(
            width=width + 1, bits=lane_bits, cycles=pipe.turn_write
        )
        m.submodules.to_lanes = to_lanes = Rotator(
            width=width, bits=lane_bits, cycles=pipe.turn_read, down=True
        )
        m.d.comb += [
            read_address.skew.eq(self.read_skew),
            read_address.start.eq(self.read_start),
            read_address.plain.eq(self.read_plain),
            write_address.skew.eq(self.write_skew),
            write_address.fold.eq(self.write_fold),
            write_address.fold_skew.eq(self.write_fold_skew),
            write_address.start.eq(self.write_start),
        ]

        # Lanes turn to banks while the addresses are made, and take as long.
        m.d.comb += to_banks.amount.eq(self.write_start[:lane_bits])
        for lane in range(lanes):
            marked = Cat(self.write_data[lane], self.write_mask[lane])
            m.d.comb += to_banks.i[lane].eq(delayed(m, marked, 1, f"written_{lane}"))
        for b in range(lanes):
            left = pipe.work_access - 1 - pipe.turn_write
            element = delayed(m, to_banks.o[b], left, f"to_bank_{b}")
            word = vendor.memory(
                m,
                name=f"bank_{b}",
                width=width,
                depth=config.work_depth,
                read_address=read_address.rows[b],
                write_address=write_address.rows[b],
                write_data=element[:width],
                write_enable=element[width],
            )
            m.d.comb += to_lanes.i[b].eq(word)
        m.d.comb += to_lanes.amount.eq(
            delayed(m, read_address.offset, MEMORY_LATENCY - 1, "read_offset", reset_less=True)
        )
        m.d.comb += [self.read_data[lane].eq(to_lanes.o[lane]) for lane in range(lanes)]
        return m
