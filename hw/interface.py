"""Signatures and structs that more than one block uses, so that widths cannot drift."""

# No postponed annotations here: `data.Struct` reads them as they are.
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out


class HostSignature(wiring.Signature):
    """The link's access to the engine's memories, one item at a time; the link is the initiator.

    Members
    -------
    space, address:
        ``gen.protocol.Space``, and the item in it. Valid with ``write`` or ``read``.
    write, write_data:
        Strobe: one item is written, always at once. The item is in the low bits.
    read, read_data, read_valid:
        Strobe; the item arrives some cycles later, sign-extended (program words: zero-extended),
        with ``read_valid``, in order.
    start, start_address:
        Strobe: run the program at this word of program memory.
    running:
        A program runs. While it does, the link must give none of the three strobes.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "space": Out(2),
                "address": Out(28),
                "write": Out(1),
                "write_data": Out(64),
                "read": Out(1),
                "read_data": In(64),
                "read_valid": In(1),
                "start": Out(1),
                "start_address": Out(28),
                "running": In(1),
            }
        )


class EngineCounters(data.Struct):
    """Counters of the latest run, in the order of ``gen.protocol.Counters`` after ``running``."""

    cycles: 32
    busy: 32
    stall_drain: 32
    stall_fetch: 32
    flush: 32
    stages: 32
