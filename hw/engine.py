"""The engine: sequencer, memories, array and requantiser. It runs stages and knows nothing else.

Cycles of one reduction step, counted from its issue, in the first lane group; each further group
is one cycle behind from the operands on, and they meet again at the results. In a long pipeline::

    0        1         5..8             9          13        14          15..19      20       24
    issue -> address   read, rotate ->  operands   product   drain row  requantise  result   written
             5: core address            8: step of the drain's loops, 9: bias address
"""

from __future__ import annotations

from amaranth.hdl import Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from drawbar.gen.config import EngineConfig
from drawbar.gen.pipeline import ISSUE_TO_ADDRESS, pipeline
from drawbar.gen.protocol import Space
from drawbar.hw.array import MacArray
from drawbar.hw.delay import delayed
from drawbar.hw.descriptor import DescriptorFetch
from drawbar.hw.drain import Drain
from drawbar.hw.host_reader import HostReader
from drawbar.hw.interface import EngineCounters, HostSignature
from drawbar.hw.issue import Issue
from drawbar.hw.memory import BankedMemory, CoreVectors, WorkMemory
from drawbar.hw.requantise import Requantise
from drawbar.hw.sequencer import Sequencer
from drawbar.hw.vendor.portable import primitives
from drawbar.hw.work_blocks import BlockedWorkMemory


class Engine(wiring.Component):
    """Runs programs of stages out of its own memories.

    The host's transfers take what the program leaves free, so no program ever waits for them:

    - writes of program, core and bias memory are done at once, as the engine never writes there;
    - a write of work memory waits for a cycle without a result;
    - a read of work memory waits for a cycle without a step's address, and brings all lanes;
    - where work memory has single-port blocks, both wait for a cycle with neither;
    - the other memories can be read only while no program runs.

    All that waits ends, as every program does. While a program runs, what it reads may not be
    written, and of what it writes nothing else may be written or expected.

    Members
    -------
    host:
        Access to the memories, and the start of programs: one runs and one may be pending, which
        starts ``gen.pipeline.RUN_GAP`` cycles after the end of the one that runs. A write is seen
        by the reads after it. See ``hw.host_reader`` for the latency of a read.
    counters:
        Of the program that runs, or else of the latest one that ran. ``cycles`` counts those in
        which ``host.running`` is high: from two cycles after ``start``, if nothing runs, to the one
        at whose end the last result is written.
    counted:
        Strobe: a program has ended, and all is counted. ``counters`` stay until the next one runs.

    Reset stops a run and keeps the memories' contents.
    """

    def __init__(self, *, config: EngineConfig) -> None:
        self.config = config
        super().__init__(
            {
                "host": In(HostSignature()),
                "counters": Out(EngineCounters),
                "counted": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, host, pipe = self.config, self.host, pipeline(self.config)

        m.submodules.program = program = BankedMemory(
            banks=config.fetch_words,
            depth=config.program_depth >> config.fetch_bits,
            width=32,
            latency=pipe.bank_read,
        )
        m.submodules.core = core = BankedMemory(
            banks=config.rows * config.fold,
            depth=config.core_depth >> config.fold_bits,
            width=config.data_width,
            latency=pipe.bank_read,
        )
        m.submodules.bias = bias = BankedMemory(
            banks=config.lanes,
            depth=config.bias_depth,
            width=config.acc_width,
            latency=pipe.bank_read,
            groups=pipe.group_skew + 1,
        )
        core_vectors = core.read_data.as_value()
        if config.fold > 1:
            m.submodules.core_vectors = choice = CoreVectors(config=config)
            core_vectors = choice.o.as_value()
        work = (BlockedWorkMemory if config.work_blocks else WorkMemory)(config=config)
        m.submodules.work = work
        m.submodules.sequencer = sequencer = Sequencer(config=config)
        m.submodules.fetch = fetch = DescriptorFetch(config=config)
        m.submodules.issue = issue = Issue(config=config)
        m.submodules.array = array = MacArray(config=config)
        m.submodules.drain = drain = Drain(config=config)
        m.submodules.requantise = requantise = Requantise(config=config)

        m.d.comb += [
            host.running.eq(sequencer.running),
            host.pending.eq(sequencer.pending),
            sequencer.start.eq(host.start),
            sequencer.start_address.eq(host.start_address),
            fetch.start.eq(sequencer.begin),
            fetch.start_address.eq(sequencer.begin_address),
            sequencer.fetched.eq(fetch.valid),
            sequencer.fetched_descriptor.eq(fetch.descriptor),
            fetch.take.eq(sequencer.take),
            fetch.free.eq(drain.free),
            issue.table.eq(fetch.issue_table),
            drain.table.eq(fetch.drain_table),
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
            self.counted.eq(sequencer.counted),
        ]

        # Compute.
        m.d.comb += [
            drain.begin.eq(delayed(m, issue.step & issue.last, pipe.issue_to_drain, "tile_ends")),
            drain.row_tile_last.eq(
                delayed(m, issue.row_tile_last, pipe.issue_to_drain, "row_tile_last")
            ),
            array.core.as_value().eq(core_vectors),
            array.live.eq(work.read_data),
            array.valid.eq(delayed(m, issue.step & ~issue.holds, pipe.issue_to_array, "step")),
            array.last.eq(delayed(m, issue.last, pipe.issue_to_array, "last")),
            array.turn.eq(drain.turn),
            requantise.i.eq(array.row),
            requantise.bias.eq(bias.read_data),
            requantise.bias_enable.eq(drain.bias_enable),
            requantise.shift.eq(drain.shift),
            requantise.activation.eq(drain.activation),
            work.write_skew.eq(drain.result_skew),
        ]
        if config.lanes > 1:
            m.d.comb += work.read_skew.eq(issue.descriptor.x_skew)

        if config.fold > 1:
            fold = delayed(m, issue.core_fold, pipe.core_read, "fold", reset_less=True)
            m.d.comb += [
                choice.i.as_value().eq(core.read_data.as_value()),
                choice.first.eq(host.address[config.row_bits :]),
                array.fold.eq(fold),
                work.write_fold.eq(drain.result_fold),
                work.write_fold_skew.eq(drain.result_fold_skew),
            ]
        if config.products:
            factors = issue.step & issue.descriptor.products
            m.d.comb += [
                array.hold.eq(delayed(m, issue.step & issue.holds, pipe.issue_to_array, "hold")),
                array.factors.eq(delayed(m, factors, pipe.issue_to_array, "factors")),
            ]

        m.submodules.reader = reader = HostReader(config=config)
        m.d.comb += [
            reader.space.eq(host.space),
            reader.address.eq(host.address),
            reader.read.eq(host.read),
            reader.refresh.eq(host.refresh),
            host.read_data.eq(reader.read_data),
            host.read_valid.eq(reader.read_valid),
            reader.program.eq(program.read_data),
            reader.core.as_value().eq(core_vectors),
            reader.bias.eq(bias.read_data),
            reader.work.eq(work.read_data),
            fetch.word.eq(program.read_data.as_value()),
        ]

        # Bits of the bank number within an item address.
        for memory, space, bank_bits in (
            (program, Space.PROGRAM, config.fetch_bits),
            (core, Space.CORE, config.row_bits + config.fold_bits),
            (bias, Space.BIAS, config.lane_bits),
        ):
            bank = host.address[:bank_bits]
            m.d.comb += [
                *(read.eq(host.address[bank_bits:]) for read in memory.read_address),
                memory.write_address.eq(host.address[bank_bits:]),
                memory.write_data.eq(host.write_data[: memory.width].as_signed()),
            ]
            for b in range(memory.banks):
                number = b
                if space == Space.CORE:
                    vector, row = divmod(b, config.rows)
                    number = vector << config.row_bits | row
                chosen = host.write & (host.space == space) & (bank == number)
                m.d.comb += memory.write_mask[b].eq(chosen)
        # Each lane group's row comes a cycle after that of the one before.
        bias_addresses = [
            delayed(m, drain.bias_address, group, f"bias_address_{group}", reset_less=True)
            for group in range(bias.groups)
        ]
        # Each memory has its own register for whose address it takes, a cycle late: no program
        # reads in its first cycle, or else it is told before, and the host's address stays for
        # many.
        runs_next = sequencer.running
        if pipe.ask_to_fetch == 1:
            runs_next = sequencer.running | sequencer.begin
        runs = primitives(platform).copies(m, runs_next, 3, "runs")
        with m.If(runs[0]):
            m.d.comb += program.read_address[0].eq(fetch.address)
        with m.If(runs[1]):
            m.d.comb += core.read_address[0].eq(issue.core_address[config.fold_bits :])
            if config.fold > 1:
                m.d.comb += [choice.first.eq(issue.core_address), choice.fold.eq(issue.core_fold)]
        with m.If(runs[2]):
            m.d.comb += [bias.read_address[g].eq(a) for g, a in enumerate(bias_addresses)]

        # A slot of work memory is the engine's where a step's address or a result takes it, and
        # else the host's.
        addressed = delayed(m, issue.step, ISSUE_TO_ADDRESS, "addressed")
        result = drain.result_mask[0]  # every row has a first lane
        to_work = host.space == Space.WORK
        # A single-port block takes no read of the engine's beside a write of the host's, nor the
        # other way round.
        beside = bool(config.work_blocks)
        read_slot = ~addressed & ~result if beside else ~addressed
        write_slot = ~result & ~addressed if beside else ~result
        m.d.comb += [
            reader.slot_free.eq(read_slot),
            work.read_plain.eq(~addressed),
            work.read_start.eq(Mux(addressed, issue.live_address, host.address)),
            host.write_ready.eq(~to_work | write_slot),
            work.write_start.eq(Mux(result, drain.result_address, host.address)),
            work.write_mask.eq(Mux(result, drain.result_mask, host.write & to_work & write_slot)),
            work.write_data.eq(requantise.o),
        ]
        with m.If(~result):
            m.d.comb += work.write_data[0].eq(host.write_data[: config.data_width].as_signed())
        return m
