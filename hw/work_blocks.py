"""Work memory out of single-port blocks, for engines of one lane."""

from __future__ import annotations

from amaranth.hdl import Array, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from drawbar.gen.config import EngineConfig, clog2
from drawbar.gen.pipeline import pipeline
from drawbar.hw.delay import delayed
from drawbar.hw.vendor.portable import primitives

#: Cycles from an address to the one at whose end its block is read or written, and to the word.
_ACCESS, _WORD = 1, 2


class BlockedWorkMemory(wiring.Component):
    """Work memory of ``config.work_blocks`` blocks that make one access a cycle each; the members
    are those of ``hw.memory.WorkMemory``.

    A read and a write in one cycle go to different blocks, else the read gets anything: programs
    keep apart what a stage reads and what it writes, and the engine lets the host in only in cycles
    in which it does neither itself.

    Members
    -------
    read_skew, read_start, read_plain, read_data:
        Latency: ``gen.pipeline``'s ``work_read`` from ``read_start`` to ``read_data``. Throughput:
        one element a cycle. One lane has no use for the skew.
    write_skew, write_start, write_data, write_mask:
        The element is written where the mask's only bit is set.

    A read sees the writes whose starts came before its own. Reset leaves the contents.
    """

    def __init__(self, *, config: EngineConfig) -> None:
        if not config.work_blocks:
            raise ValueError(f"work_blocks must be at least 1, not {config.work_blocks!r}")
        self.config = config
        vector = data.ArrayLayout(signed(config.data_width), 1)
        super().__init__(
            {
                "read_skew": In(config.work_row_bits),
                "read_start": In(config.work_address_bits),
                "read_plain": In(1),
                "read_data": Out(vector),
                "write_skew": In(config.work_row_bits),
                "write_start": In(config.work_address_bits),
                "write_data": In(vector),
                "write_mask": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, vendor = self.config, primitives(platform)
        blocks, depth = config.work_blocks, config.work_block
        read, write = (
            _place(start, depth, blocks) for start in (self.read_start, self.write_start)
        )
        element = delayed(m, self.write_data[0], _ACCESS, "written", reset_less=True)
        words = []
        for b in range(blocks):
            writes = Signal(name=f"writes_{b}")
            m.d.comb += writes.eq(self.write_mask[0] & (write[0] == b))
            address = Signal(clog2(depth), name=f"address_{b}", reset_less=True)
            m.d.sync += address.eq(Mux(writes, write[1], read[1]))
            words.append(
                vendor.single_port(
                    m,
                    name=f"block_{b}",
                    width=config.data_width,
                    depth=depth,
                    address=address,
                    write_data=element,
                    write_enable=delayed(m, writes, _ACCESS, f"writes_{b}"),
                )
            )
        block = delayed(m, read[0], _WORD, "read_block", reset_less=True)
        word = Array(words)[block]
        m.d.comb += self.read_data[0].eq(
            vendor.delay_line(m, word, pipeline(config).work_read - _WORD, "word").as_signed()
        )
        return m


def _place(start: Value, depth: int, blocks: int) -> tuple[Value, Value]:
    """Block of an element, and its address in there."""
    if blocks == 1:
        return Const(0, 1), start
    if depth & (depth - 1):
        return start // depth, start % depth
    return start[clog2(depth) :], start[: clog2(depth)]
