"""A small stand-in for a whole board: the same byte streams, and predictable answers."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out


class Echo(wiring.Component):
    """Sends every byte back with ``add`` added, in order; holds ``depth`` bytes.

    ``deaf`` makes one that takes no byte at all, ``dumb`` one that takes them and never answers.
    """

    rx: In(stream.Signature(8))
    tx: Out(stream.Signature(8))

    def __init__(
        self, *, add: int = 1, depth: int = 16, deaf: bool = False, dumb: bool = False
    ) -> None:
        super().__init__()
        self._add, self._depth, self._deaf, self._dumb = add, depth, deaf, dumb

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.fifo = fifo = SyncFIFOBuffered(width=8, depth=self._depth)
        m.d.comb += [
            fifo.w_data.eq(self.rx.payload + self._add),
            fifo.w_en.eq(self.rx.valid & ~self._deaf),
            self.rx.ready.eq((fifo.w_rdy | self._dumb) & (not self._deaf)),
            self.tx.payload.eq(fifo.r_data),
            self.tx.valid.eq(fifo.r_rdy & (not self._dumb)),
            fifo.r_en.eq(self.tx.ready & (not self._dumb)),
        ]
        # For the tests that look inside.
        accepted = Signal(16)
        with m.If(self.rx.valid & self.rx.ready):
            m.d.sync += accepted.eq(accepted + 1)
        return m
