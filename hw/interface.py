"""Signatures and structs that more than one block uses, so that widths cannot drift."""

# No postponed annotations here: `data.Struct` reads them as they are.
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from drawbar.gen.config import EngineConfig

#: Bits of a row's number: the greatest nest has 12 levels, and a base.
ROW_BITS = 4


def held_bits(config: EngineConfig) -> int:
    """Bits of an item that is read, in whole bytes; what is above is its sign. A bias is the widest
    item, or a word of the program.
    """
    return max(32, -(-config.acc_width // 8) * 8)


class HostSignature(wiring.Signature):
    """The link's access to the engine, one item at a time; the link is the initiator.

    Members
    -------
    space, address:
        ``gen.protocol.Space``, and the item in it, for ``write`` or ``read``.
    write, write_data, write_ready:
        An item is written in each cycle in which ``write`` and ``write_ready`` are high. It is in
        the low bits. All stays while it is not ready.
    read, read_data, read_valid:
        ``read`` stays, with space and address, until the cycle of ``read_valid``. From then on
        ``read_data`` is the item, sign-extended, until there is another ``read``; of a program word
        only the low 32 bits are defined. Spaces other than WORK may be read only while no program
        runs and none is pending.
    refresh:
        Strobe, without ``read``, before the first read of WORK and before each that does not follow
        on the one before by address. Items that are read after it are also fetched after it;
        without it, items that lie side by side may have been fetched together.
    start, start_address:
        Strobe: run the program at this word of program memory, now or when the one that runs has
        ended. To be given only while none is pending.
    running, pending:
        A program runs; one is to start. ``pending`` rises in the cycle after ``start``.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "space": Out(2),
                "address": Out(28),
                "write": Out(1),
                "write_data": Out(64),
                "write_ready": In(1),
                "read": Out(1),
                "read_data": In(64),
                "read_valid": In(1),
                "refresh": Out(1),
                "start": Out(1),
                "start_address": Out(28),
                "running": In(1),
                "pending": In(1),
            }
        )


class EngineCounters(data.Struct):
    """Counters of one run, in the order of ``gen.protocol.Counters`` after ``running``."""

    cycles: 32
    busy: 32
    stall_drain: 32
    stall_fetch: 32
    flush: 32
    stages: 32
    idle: 32


class TableWrite(data.Struct):
    """A word of a descriptor on its way to a table: whether there is one, its row, and what it is.
    Row j is the delta of loop j; the row after the last loop is the base.
    """

    valid: 1
    row: ROW_BITS
    word: 32
