"""A host that uses the engine's memories in every cycle while a program runs."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cocotb_bench import signed

from drawbar.gen.config import EngineConfig
from drawbar.gen.program import descriptor_words
from drawbar.gen.protocol import Space
from drawbar.gen.stage import Stage

if TYPE_CHECKING:
    from cocotb_engine import Host


def bias_vectors(stage: Stage, config: EngineConfig) -> range:
    if stage.bias_base is None:
        return range(0)
    end = stage.bias_base + (-(-stage.lane_count // stage.lanes(config)) - 1) * stage.lane_bias
    loops = (*stage.row_loops, *stage.column_loops)
    return range(stage.bias_base, end + sum((c.count - 1) * c.bias for c in loops) + 1)


class Traffic:
    """Requests without a pause: bursts of writes to what the program leaves alone, and of reads of
    work memory anywhere.

    Arguments
    ---------
    stages, address:
        The program, and where it lies.
    writes:
        Share of bursts that write.

    Members
    -------
    counts:
        Items moved, by space and direction, and cycles that an item waited on top of its least.
    """

    def __init__(
        self,
        host: Host,
        stages: Sequence[Stage],
        address: int,
        *,
        rng: random.Random,
        writes: float,
    ) -> None:
        self.host = host
        self.rng = rng
        self.writes = writes
        self.counts: Counter[str] = Counter()
        self.written: dict[tuple[Space, int], int] = {}
        config = host.config
        program = range(address, address + len(stages) * descriptor_words(config))
        core = {s.core_base + n for s in stages for n in range(s.core_vectors(config))}
        bias = {v for s in stages for v in bias_vectors(s, config)}
        self.results = {e for s in stages for e in range(s.span("y")[0], s.span("y")[1] + 1)}
        operands = {e for s in stages for e in range(s.span("x")[0], s.span("x")[1] + 1)}
        self.free = {
            Space.PROGRAM: [w for w in range(config.program_depth) if w not in program],
            Space.CORE: [
                vector << config.row_bits | row
                for vector in range(config.core_depth)
                if vector not in core
                for row in range(config.rows)
            ],
            Space.BIAS: [
                vector * config.lanes + lane
                for vector in range(config.bias_depth)
                if vector not in bias
                for lane in range(config.lanes)
            ],
            Space.WORK: [
                e for e in range(config.work_elements) if e not in self.results | operands
            ],
        }
        #: What is left of the burst: (direction, space, address, value).
        self.burst: deque[tuple[str, Space, int, int]] = deque()
        self.waited = 0

    @property
    def busy(self) -> bool:
        return bool(self.burst)

    async def cycle(self, *, more: bool = True) -> None:
        """One cycle; with ``more`` a burst follows the one that has ended."""
        bench = self.host.bench
        if not self.burst and more:
            self._next_burst()
        kind, space, address, value = self.burst[0] if self.burst else ("", Space.WORK, 0, 0)
        bench.set(
            host__refresh=kind == "refresh",
            host__write=kind == "write",
            host__read=kind == "read",
            host__space=space,
            host__address=address,
            host__write_data=value & (2**64 - 1),
        )
        await bench.settle()
        self.waited += 1
        if kind == "refresh":
            self._done()
        elif kind == "write" and bench.get("host__write_ready"):
            self.counts[f"write {space.name}"] += 1
            self.counts["write waits"] += self.waited - 1
            self._keep(space, address, value)
            self._done()
        elif kind == "write":
            assert space == Space.WORK, "only work memory may make a write wait"
        elif kind == "read" and bench.get("host__read_valid"):
            self.counts["read WORK"] += 1
            if address not in self.results:
                got = signed(bench.get("host__read_data"), 64)
                assert got == self.host.golden.work[address], address
                self.counts["read checked"] += 1
            self._done()
        await bench.tick()

    def _done(self) -> None:
        self.burst.popleft()
        self.waited = 0

    def _next_burst(self) -> None:
        rng, config = self.rng, self.host.config
        count = rng.randint(1, 3 * config.lanes)
        spaces = [space for space in Space if self.free[space]]
        if spaces and rng.random() < self.writes:
            # Each one early, as programs may be short.
            fresh = [s for s in spaces if not self.counts[f"write {s.name}"]]
            space = rng.choice(fresh or [*spaces, *[s for s in spaces if s == Space.WORK] * 3])
            first = rng.randrange(len(self.free[space]))
            self.burst.extend(
                ("write", space, item, rng.getrandbits(64))
                for item in self.free[space][first : first + count]
            )
        else:
            first = rng.randrange(config.work_elements)
            items = range(first, min(first + count, config.work_elements))
            self.burst.append(("refresh", Space.WORK, 0, 0))
            self.burst.extend(("read", Space.WORK, item, 0) for item in items)

    def _keep(self, space: Space, address: int, value: int) -> None:
        """What the memory holds now, in the golden twin as well."""
        config, golden = self.host.config, self.host.golden
        if space == Space.PROGRAM:
            kept = value % (1 << 32)
            golden.program[address] = kept
        elif space == Space.BIAS:
            kept = signed(value, config.acc_width)
            golden.bias.reshape(-1)[address] = kept
        elif space == Space.CORE:
            kept = signed(value, config.data_width)
            row = address % (1 << config.row_bits)
            golden.core[address >> config.row_bits, row] = kept
        else:
            kept = signed(value, config.data_width)
            golden.work[address] = kept
        self.written[space, address] = kept
