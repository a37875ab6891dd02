"""What the blocks of the link hand to each other."""

# No postponed annotations here: `data.Struct` reads them as they are.
from amaranth.lib import data

from drawbar.gen.protocol import Status

#: Bits of a byte, the unit of the link's streams.
BYTE = 8

#: Bits of ``gen.protocol.Status``.
STATUS_BITS = max(Status).bit_length()

#: Bytes of a header that are kept, a power of two: operation, number, address and length. Each lies
#: at its number in the frame, modulo this.
KEPT_BYTES = 8


class Request(data.Struct):
    """A request whose checks have passed, or the order to send a NAK.

    ``reason`` is the status of a NAK, and 0 for a request. ``duplicate`` says that a request with
    this number was executed before. The header of a request lies in the memory of headers, behind
    that of the request before; the payload of a WRITE in slot ``seq mod link_window`` of the
    payload memory.
    """

    duplicate: 1
    reason: STATUS_BITS


class Sent(data.Struct):
    """A byte of a response; ``last`` of a piece that is followed by its check."""

    byte: BYTE
    last: 1
