"""The engine: sequencer, memories, array and requantiser. It runs stages and knows nothing else.

Cycles of one reduction step, counted from its issue, in the first lane group; each further group
is one cycle behind from the operands on, and they meet again at the results::

    0        1         5..8             9          12        13          14..18      19       23
    issue -> address   read, rotate ->  operands   product   drain row  requantise  result   written
             5: core address            8: step of the drain's loops, 9: bias address
"""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from drawbar.gen.config import EngineConfig
from drawbar.gen.cycles import BANK_READ, ISSUE_TO_ARRAY, WORK_READ, group_skew
from drawbar.gen.protocol import Space
from drawbar.hw.array import MacArray
from drawbar.hw.delay import delayed
from drawbar.hw.descriptor import DescriptorFetch
from drawbar.hw.drain import ISSUE_TO_DRAIN, Drain
from drawbar.hw.interface import EngineCounters, HostSignature
from drawbar.hw.issue import Issue
from drawbar.hw.memory import BankedMemory, WorkMemory
from drawbar.hw.requantise import Requantise
from drawbar.hw.sequencer import Sequencer

#: Cycles from a host's read to its data.
HOST_READ = WORK_READ + 1


class Engine(wiring.Component):
    """Runs programs of stages out of its own memories.

    Members
    -------
    host:
        Access to the memories while no program runs, and the start of a program. An item a cycle;
        what is read comes ``HOST_READ`` cycles later. A write is seen by the reads after it; none
        may be given while a read is under way.
    counters:
        Of the latest run; they stay until the next start. ``cycles`` counts those in which
        ``host.running`` is high: from the cycle after ``start`` to the one at whose end the last
        result is written.

    Reset stops a run and keeps the memories' contents.
    """

    def __init__(self, *, config: EngineConfig) -> None:
        self.config = config
        super().__init__({"host": In(HostSignature()), "counters": Out(EngineCounters)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, host = self.config, self.host

        m.submodules.program = program = BankedMemory(banks=1, depth=config.program_depth, width=32)
        m.submodules.core = core = BankedMemory(
            banks=config.rows, depth=config.core_depth, width=config.data_width
        )
        m.submodules.bias = bias = BankedMemory(
            banks=config.lanes,
            depth=config.bias_depth,
            width=config.acc_width,
            groups=group_skew(config) + 1,
        )
        m.submodules.work = work = WorkMemory(config=config)
        m.submodules.sequencer = sequencer = Sequencer(config=config)
        m.submodules.fetch = fetch = DescriptorFetch(config=config)
        m.submodules.issue = issue = Issue(config=config)
        m.submodules.array = array = MacArray(config=config)
        m.submodules.drain = drain = Drain(config=config)
        m.submodules.requantise = requantise = Requantise(config=config)

        m.d.comb += [
            host.running.eq(sequencer.running),
            sequencer.start.eq(host.start),
            fetch.start.eq(host.start & ~sequencer.running),
            fetch.start_address.eq(host.start_address),
            sequencer.fetched.eq(fetch.valid),
            sequencer.fetched_descriptor.eq(fetch.descriptor),
            fetch.take.eq(sequencer.take),
            issue.descriptor.eq(sequencer.issue_descriptor),
            issue.load.eq(sequencer.issue_load),
            sequencer.step.eq(issue.step),
            sequencer.stalled.eq(issue.stalled),
            sequencer.ended.eq(issue.ended),
            drain.descriptor.eq(sequencer.drain_descriptor),
            drain.load.eq(sequencer.drain_load),
            sequencer.free.eq(drain.free),
            sequencer.settled.eq(drain.settled),
            sequencer.written.eq(drain.written),
            sequencer.finished.eq(drain.finished),
            self.counters.eq(sequencer.counters),
        ]

        # Compute.
        m.d.comb += [
            drain.begin.eq(delayed(m, issue.step & issue.last, ISSUE_TO_DRAIN, "tile_ends")),
            drain.row_tile_last.eq(
                delayed(m, issue.row_tile_last, ISSUE_TO_DRAIN, "row_tile_last")
            ),
            array.core.eq(core.read_data),
            array.live.eq(work.read_data),
            array.valid.eq(delayed(m, issue.step, ISSUE_TO_ARRAY, "step")),
            array.last.eq(delayed(m, issue.last, ISSUE_TO_ARRAY, "last")),
            array.turn.eq(drain.turn),
            requantise.i.eq(array.row),
            requantise.bias.eq(bias.read_data),
            requantise.bias_enable.eq(drain.bias_enable),
            requantise.shift.eq(drain.shift),
            requantise.activation.eq(drain.activation),
            work.read_skew.eq(issue.descriptor.x_skew),
            work.write_skew.eq(drain.result_skew),
        ]

        self._host_access(m, program, core, bias, work)
        # Each lane group's row comes a cycle after that of the one before.
        bias_addresses = [
            delayed(m, drain.bias_address, group, f"bias_address_{group}", reset_less=True)
            for group in range(bias.groups)
        ]
        # Memories belong to the program while it runs, else to the host.
        with m.If(sequencer.running):
            m.d.comb += [
                program.read_address[0].eq(fetch.address),
                core.read_address[0].eq(issue.core_address),
                work.read_start.eq(issue.live_address),
                work.write_start.eq(drain.result_address),
                work.write_mask.eq(drain.result_mask),
                work.write_data.eq(requantise.o),
            ]
            m.d.comb += [
                bias.read_address[g].eq(address) for g, address in enumerate(bias_addresses)
            ]
        m.d.comb += fetch.word.eq(program.read_data[0])
        return m

    def _host_access(
        self,
        m: Module,
        program: BankedMemory,
        core: BankedMemory,
        bias: BankedMemory,
        work: WorkMemory,
    ) -> None:
        """The host's reads and writes: item addresses to banks, one latency for all spaces."""
        config, host = self.config, self.host

        # (memory, space, bits of the bank number within an item address)
        banked = (
            (program, Space.PROGRAM, 0),
            (core, Space.CORE, config.row_bits),
            (bias, Space.BIAS, config.lane_bits),
        )
        # The other memories answer sooner than work memory, and are asked later.
        space_late = delayed(m, host.space, HOST_READ - 1, "host_space")
        address = delayed(m, host.address, WORK_READ - BANK_READ, "host_address")
        address_late = delayed(m, address, BANK_READ, "host_bank")
        for memory, space, bank_bits in banked:
            bank = host.address[:bank_bits]
            m.d.comb += [
                memory.write_address.eq(host.address[bank_bits:]),
                memory.write_data.eq(host.write_data[: memory.width].as_signed()),
                *(read.eq(address[bank_bits:]) for read in memory.read_address),
            ]
            for b in range(memory.banks):
                chosen = host.write & (host.space == space) & (bank == b)
                m.d.comb += memory.write_mask[b].eq(chosen)
        m.d.comb += [
            work.read_start.eq(host.address),
            work.write_start.eq(host.address),
            work.write_data[0].eq(host.write_data[: config.data_width].as_signed()),
            work.write_mask[0].eq(host.write & (host.space == Space.WORK)),
        ]
        m.d.sync += host.read_valid.eq(delayed(m, host.read, HOST_READ - 1, "host_read"))
        with m.Switch(space_late):
            with m.Case(Space.PROGRAM):
                m.d.sync += host.read_data.eq(program.read_data[0].as_unsigned())
            with m.Case(Space.CORE):
                m.d.sync += host.read_data.eq(core.read_data[address_late[: config.row_bits]])
            with m.Case(Space.BIAS):
                m.d.sync += host.read_data.eq(bias.read_data[address_late[: config.lane_bits]])
            with m.Case(Space.WORK):
                m.d.sync += host.read_data.eq(work.read_data[0])
