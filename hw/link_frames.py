"""What the blocks of the link hand to each other."""

# No postponed annotations here: `data.Struct` reads them as they are.
from amaranth.lib import data

from drawbar.gen.protocol import Status

#: Bits of a byte, the unit of the link's streams.
BYTE = 8

#: Bits of ``gen.protocol.Status``.
STATUS_BITS = max(Status).bit_length()


class Request(data.Struct):
    """A request whose checks have passed, or the order to send a NAK.

    ``reason`` is the status of a NAK, and 0 for a request. ``duplicate`` says that a request with
    this number was executed before. The payload of a WRITE lies in slot ``seq mod link_window`` of
    the payload memory.
    """

    op: 8
    seq: 8
    address: 32
    length: 16
    duplicate: 1
    reason: STATUS_BITS


class Response(data.Struct):
    """Header of a response, as it goes on the wire; ``length`` bytes of payload follow."""

    op: 8
    seq: 8
    address: 32
    length: 16
    status: 16
