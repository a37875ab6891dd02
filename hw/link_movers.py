"""Move payloads between the link and the engine's memories."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from drawbar.gen.config import EngineConfig, clog2
from drawbar.gen.protocol import MAX_PAYLOAD
from drawbar.hw.interface import held_bits
from drawbar.hw.link_frames import BYTE, Sent

#: Bits of an item's address and of the widest item, as in ``hw.interface.HostSignature``.
ITEM_BITS = 28
DATA_BITS = 64
_DATA_BYTES = DATA_BITS // BYTE


class ItemWriter(wiring.Component):
    """Assembles items from a payload slot and writes them.

    Takes one byte a cycle while ``write_ready`` is high; an item is written three cycles after its
    last byte was addressed, and ``done`` comes with the last one, so ``length`` bytes take
    ``length + 3`` cycles after ``start``. An item that is not taken holds up all behind it.

    Arguments
    ---------
    window:
        Slots of the payload memory.

    Members
    -------
    start:
        Strobe: write ``length`` bytes of ``slot`` as items of ``2 ** item_log`` bytes. The three
        stay until ``done``; ``length`` is there a cycle before ``start``.
    slot_read, slot_enable, slot_address, slot_byte:
        Read port of the payload memory, two cycles from the address to the byte: ``slot_read`` says
        that a byte is addressed; without ``slot_enable`` all on the way stays where it is.
    write, write_data, write_ready:
        As in ``hw.interface.HostSignature``. The item is in the low bits; those above are
        undefined.
    moved:
        Strobe: an item is written.
    done:
        Strobe: the last item is written.
    """

    def __init__(self, *, window: int) -> None:
        self._window = window
        slot_bits = clog2(window)
        super().__init__(
            {
                "start": In(1),
                "slot": In(slot_bits),
                "length": In(range(MAX_PAYLOAD + 1)),
                "item_log": In(2),
                "slot_read": Out(1),
                "slot_enable": Out(1),
                "slot_address": Out(slot_bits + clog2(MAX_PAYLOAD)),
                "slot_byte": In(BYTE),
                "write": Out(1),
                "write_data": Out(DATA_BITS),
                "write_ready": In(1),
                "moved": Out(1),
                "done": Out(1),
            }
        )

    @property
    def window(self) -> int:
        return self._window

    def elaborate(self, platform: object) -> Module:
        m = Module()
        last_of_item = Signal(range(_DATA_BYTES))
        m.d.comb += last_of_item.eq((1 << self.item_log) - 1)

        go = Signal()
        m.d.comb += [go.eq(~self.write | self.write_ready), self.slot_enable.eq(go)]

        # Stage 0: address a byte.
        read_count = Signal(range(MAX_PAYLOAD + 1))
        active = Signal()
        final = Signal()  # the last byte is addressed
        single = Signal()
        before_last = Signal.like(read_count)
        m.d.sync += [single.eq(self.length == 1), before_last.eq(self.length - 2)]
        m.d.comb += [
            self.slot_read.eq(active & go),
            self.slot_address.eq(Cat(read_count[: clog2(MAX_PAYLOAD)], self.slot)),
        ]
        with m.If(self.start):
            m.d.sync += [read_count.eq(0), active.eq(1), final.eq(single)]
        with m.Elif(self.slot_read):
            m.d.sync += [read_count.eq(read_count + 1), final.eq(read_count == before_last)]
            with m.If(final):
                m.d.sync += active.eq(0)

        # Stage 1: the memory reads. Stage 2: put the byte in its place in the item.
        index = Signal(range(_DATA_BYTES))
        valid_1 = Signal()
        index_1 = Signal.like(index)
        places_2 = Signal(_DATA_BYTES)  # one-hot
        ends_item_1, ends_item_2 = Signal(), Signal()
        final_1, final_2 = Signal(), Signal()
        m.d.comb += index.eq(read_count[:3] & last_of_item)
        with m.If(go):
            m.d.sync += [
                valid_1.eq(active),
                index_1.eq(index),
                ends_item_1.eq(active & (index == last_of_item)),
                final_1.eq(final),
                places_2.eq(Cat(valid_1 & (index_1 == n) for n in range(_DATA_BYTES))),
                ends_item_2.eq(ends_item_1),
                final_2.eq(final_1),
            ]
        for n in range(_DATA_BYTES):
            with m.If(go & places_2[n]):
                m.d.sync += self.write_data.word_select(n, BYTE).eq(self.slot_byte)

        # Stage 3: the item is complete.
        write_final = Signal()
        with m.If(go):
            m.d.sync += [self.write.eq(ends_item_2), write_final.eq(final_2)]
        m.d.comb += [
            self.moved.eq(self.write & self.write_ready),
            self.done.eq(self.moved & write_final),
        ]
        return m


class ItemReader(wiring.Component):
    """Reads items and streams their bytes.

    Reads one item ahead of the one that is streamed: items of n bytes that arrive L cycles after
    ``read`` rises take ``max(n + 1, L + 2)`` cycles each; the first byte comes L + 3 cycles after
    ``start``.

    Arguments
    ---------
    config:
        The engine, for the widest item.

    Members
    -------
    start:
        Strobe: read ``length`` bytes, one item at least, as items of ``2 ** item_log`` bytes. To be
        given only when all bytes of the time before were taken; ``item_log`` stays until then.
    read, read_data, read_valid:
        As in ``hw.interface.HostSignature``.
    moved:
        Strobe: an item is read.
    bytes_out:
        ``length`` bytes.
    """

    def __init__(self, *, config: EngineConfig) -> None:
        self._item_bits = held_bits(config)
        super().__init__(
            {
                "start": In(1),
                "length": In(range(MAX_PAYLOAD + 1)),
                "item_log": In(2),
                "read": Out(1),
                "read_data": In(DATA_BITS),
                "read_valid": In(1),
                "moved": Out(1),
                "bytes_out": Out(stream.Signature(Sent)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()

        # Ask for an item when the one before has left `read_data`, where it stays until then.
        left = Signal(range(MAX_PAYLOAD + 1))  # items not yet there
        more = Signal()  # left != 0
        ahead = Signal()  # the next item is in `read_data`
        m.d.comb += [self.read.eq(more & ~ahead), self.moved.eq(self.read & self.read_valid)]
        with m.If(self.start):
            m.d.sync += [left.eq(self.length >> self.item_log), more.eq(1)]
        with m.Elif(self.moved):
            m.d.sync += [left.eq(left - 1), more.eq(left != 1), ahead.eq(1)]

        # Send the bytes of the item before. What is above the bits held is its sign.
        current = Signal(self._item_bits)
        bytes_left = Signal(range(_DATA_BYTES + 1))
        single = Signal()  # bytes_left == 1
        sent = Signal()
        m.d.comb += [
            self.bytes_out.payload.byte.eq(current[:BYTE]),
            self.bytes_out.payload.last.eq(single & ~more & ~ahead),
            sent.eq(self.bytes_out.valid & self.bytes_out.ready),
        ]
        with m.If(sent):
            m.d.sync += [
                current.eq(current.as_signed() >> BYTE),
                bytes_left.eq(bytes_left - 1),
                single.eq(bytes_left == 2),
                self.bytes_out.valid.eq(~single),
            ]
        with m.If(ahead & ~self.bytes_out.valid):
            m.d.sync += [
                current.eq(self.read_data),
                bytes_left.eq(1 << self.item_log),
                single.eq(self.item_log == 0),
                self.bytes_out.valid.eq(1),
                ahead.eq(0),
            ]
        return m
