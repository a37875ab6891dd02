"""The primitives of the engine in plain registers: the twin that simulation and any other flow use.

A family of FPGAs has a subclass of ``Portable`` in a file of its own, whose methods make the same
values with the same latency out of the family's blocks. Which one a component uses is decided by
the platform that it is elaborated for (``primitives``).
"""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Const, Module, Shape, Signal, Value, signed
from amaranth.lib.memory import Memory

from drawbar.hw.delay import delayed

#: Cycles from the operands of a product to the product: registers before, in and behind a
#: multiplier.
PRODUCT_LATENCY = 3
#: Cycles from an address to the data: the memory's own, and its output register.
MEMORY_LATENCY = 2


class Portable:
    """Products, memories and copies of control that any synthesis understands.

    Members
    -------
    address_registers:
        Of the registers between a bank of core, bias or program memory and who reads it, so many
        lie before the bank instead of behind, and so many fewer are before its write port: 0 or 1.
    """

    address_registers = 0

    def products(
        self,
        m: Module,
        core: Sequence[Value],
        live: Sequence[Value],
        *,
        first_lane: int,
        first_row: int = 0,
    ) -> list[list[Value]]:
        """Signed products ``[row][lane]`` of every core element with every live element, for the
        lanes from ``first_lane`` and the rows from ``first_row`` on. Latency: ``PRODUCT_LATENCY``.
        """
        before = PRODUCT_LATENCY - 1
        core = [
            delayed(m, value, before, f"core_{first_lane}_{row}", reset_less=True).as_signed()
            for row, value in enumerate(core, first_row)
        ]
        live = [
            delayed(m, value, before, f"live_{first_lane + lane}", reset_less=True).as_signed()
            for lane, value in enumerate(live)
        ]
        result = []
        for row, a in enumerate(core, first_row):
            result.append([])
            for lane, b in enumerate(live, first_lane):
                product = Signal(
                    signed(len(a) + len(b)), name=f"product_{row}_{lane}", reset_less=True
                )
                m.d.sync += product.eq(a * b)
                result[-1].append(product)
        return result

    def accumulators(
        self,
        m: Module,
        core: Sequence[Value],
        live: Sequence[Value],
        adds: Sequence[Value],
        clears: Sequence[Value],
        *,
        first_lane: int,
        acc_width: int,
    ) -> list[list[Value]]:
        """Sums ``[row][lane]`` of products, modulo ``2**acc_width``: a row's product, as from
        ``products``, is added in each cycle of its ``adds``, and the sum is 0 after each cycle of
        its ``clears``; the two never come together.
        """
        sums: list[list[Value]] = []
        for row, products in enumerate(self.products(m, core, live, first_lane=first_lane)):
            sums.append([])
            for lane, product in enumerate(products, first_lane):
                total = Signal(signed(acc_width), name=f"acc_{row}_{lane}", reset_less=True)
                with m.If(clears[row]):
                    m.d.sync += total.eq(0)
                with m.Elif(adds[row]):
                    m.d.sync += total.eq(total + product)
                sums[row].append(total)
        return sums

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
        """Data of a memory with one write and one read port. Latency: ``MEMORY_LATENCY``; a write
        is seen by reads of the next cycle. Without ``read_enable`` in a cycle, both registers on
        the way of a read stay as they are.

        What a read of a word gets that is written in the same cycle is not defined in hardware; in
        simulation it is the old word. The contents at first are 0.
        """
        # The schedule of a program keeps reads and writes of a word apart, and so does the host:
        # programs never depend on such a read, so nothing needs to catch it.
        memory = Memory(shape=width, depth=depth, init=[], attrs={"no_rw_check": 1})
        m.submodules[name] = memory
        write, read = memory.write_port(), memory.read_port()
        data = Signal(width, name=f"{name}_data", reset_less=True)
        m.d.comb += [
            read.addr.eq(read_address),
            write.addr.eq(write_address),
            write.data.eq(write_data),
            write.en.eq(write_enable),
        ]
        if read_enable is None:
            m.d.sync += data.eq(read.data)
            return data
        m.d.comb += read.en.eq(read_enable)
        with m.If(read_enable):
            m.d.sync += data.eq(read.data)
        return data

    def table(
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
    ) -> Value:
        """Data of a memory of a few words with one write and one read port. Latency: one cycle. No
        word is read in the cycle in which it is written.
        """
        return simple_memory(
            m, name, width, depth, read_address, write_address, write_data, write_enable
        )

    def delay_line(self, m: Module, value: Value, cycles: int, name: str) -> Value:
        """``value`` as it was ``cycles`` cycles ago; no reset."""
        return delayed(m, value, cycles, name, reset_less=True)

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
        """Data of a memory with one port, which reads wherever it does not write. Latency: one
        cycle; after a write the data are undefined for a cycle. The contents at first are 0, or
        undefined in hardware.
        """
        memory = Memory(shape=width, depth=depth, init=[], attrs={"no_rw_check": 1})
        m.submodules[name] = memory
        write, read = memory.write_port(), memory.read_port()
        m.d.comb += [
            read.addr.eq(address),
            read.en.eq(~write_enable),
            write.addr.eq(address),
            write.data.eq(write_data),
            write.en.eq(write_enable),
        ]
        return read.data

    def copies(
        self, m: Module, value: Value, count: int, name: str, *, init: int = 0
    ) -> list[Value]:
        """``value`` a cycle later, for ``count`` consumers far apart. Synthesis would merge plain
        registers of the same value, so this is one for all.

        No reset: ``init`` is what it powers up with.
        """
        copy = Signal(Shape.cast(value.shape()), name=name, init=init, reset_less=True)
        m.d.sync += copy.eq(value)
        return [copy] * count


def simple_memory(
    m: Module,
    name: str,
    width: int,
    depth: int,
    read_address: Value,
    write_address: Value,
    write_data: Value,
    write_enable: Value,
    read_enable: Value | None = None,
    **attributes: int | str,
) -> Value:
    """What is read a cycle after its address; ``attributes`` are synthesis's."""
    memory = Memory(shape=width, depth=depth, init=[], attrs={"no_rw_check": 1, **attributes})
    m.submodules[name] = memory
    write, read = memory.write_port(), memory.read_port()
    m.d.comb += [
        read.addr.eq(read_address),
        read.en.eq(Const(1, 1) if read_enable is None else read_enable),
        write.addr.eq(write_address),
        write.data.eq(write_data),
        write.en.eq(write_enable),
    ]
    return read.data


_PORTABLE = Portable()


def primitives(platform: object) -> Portable:
    """The primitives of what is elaborated for: ``platform`` itself, or its attribute
    ``primitives``, where it has them.
    """
    if isinstance(platform, Portable):
        return platform
    found = getattr(platform, "primitives", _PORTABLE)
    if not isinstance(found, Portable):
        raise TypeError(f"primitives must be a Portable, not {found!r}")
    return found
