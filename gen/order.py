"""Contraction order: which cores are merged offline, and in which order they meet the live tensor.

A state is the set of cores that the live tensor has absorbed. A step merges a connected group of
the others offline and multiplies. Any number of cores may have an index: it stays live until the
last of them is absorbed, and each step in between multiplies by one core matrix for each of its
values. Dynamic programming over these sets gives, for each, the fewest
cycles still to go, as if every stage found its columns side by side (a lower bound, since layouts
can only cost more). With that as its guide, a best-first search yields whole orders from the best
bound upwards, so a planner that finds a layout that reaches the bound can stop: it is optimal.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from math import prod

from drawbar.gen.config import EngineConfig
from drawbar.gen.cycles import tile_cycles
from drawbar.gen.network import ContractionNetwork

#: Index name of the samples of a batch; it is a column of every stage.
BATCH = "batch"


@dataclass(frozen=True)
class Step:
    """Absorb a group of cores: a matrix product over ``k``, with rows and columns by index name,
    for each value of the indices ``shared`` by the merged core and by the tensors before and after.

    ``bound`` is the least number of cycles, ``core_vectors`` what the merged core takes of core
    memory, ``live`` and ``result`` the elements of the tensors before and after.

    A step may run in ``slices``, once for each value of the indices ``sliced``, which are none of
    its columns then; ``first`` and ``last`` mark the ends of such a chain (``gen.slicing``).
    """

    group: tuple[int, ...]
    k: tuple[str, ...]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    shared: tuple[str, ...]
    bound: int
    core_vectors: int
    live: int
    result: int
    multiplications: int
    sliced: tuple[str, ...] = ()
    slices: int = 1
    first: bool = False
    last: bool = False


Order = tuple[Step, ...]


class OrderSearch:
    """The search over one layer's contraction orders.

    Arguments
    ---------
    network:
        The layer.
    batch:
        Samples side by side.
    """

    def __init__(self, network: ContractionNetwork, config: EngineConfig, batch: int) -> None:
        self.network = network
        self.config = config
        self.sizes = dict(network.sizes)
        if batch > 1:
            self.sizes[BATCH] = batch
        self.batch = (BATCH,) if batch > 1 else ()
        self.cores = [frozenset(core.indices) for core in network.cores]
        self.all = (1 << len(self.cores)) - 1
        self.users: dict[str, int] = {}
        for number, indices in enumerate(self.cores):
            for index in indices:
                self.users[index] = self.users.get(index, 0) | 1 << number
        # Sets of indices are bit masks within the search, in the network's canonical order.
        self._bits = {index: 1 << number for number, index in enumerate(self.sizes)}
        self._core_masks = [sum(self._bits[i] for i in indices) for indices in self.cores]
        self._live: dict[int, int] = {}
        self._parts: dict[int, tuple[tuple[str, ...], int]] = {}
        self._steps: dict[int, list[tuple[int, Step]]] = {}

    def live(self, absorbed: int) -> int:
        """Indices of the live tensor, as a bit mask."""
        mask = self._live.get(absorbed)
        if mask is None:
            inputs, outputs = set(self.network.input), set(self.network.output)
            mask = 0
            for index, bit in self._bits.items():
                users = self.users.get(index, 0)
                # Made by its first user, or there from the start; gone with its last, or to stay.
                made = index == BATCH or index in inputs or users & absorbed
                needed = index == BATCH or index in outputs or users & ~absorbed
                if made and needed:
                    mask |= bit
            self._live[absorbed] = mask
        return mask

    def part(self, mask: int) -> tuple[tuple[str, ...], int]:
        """Names of a set of indices, and the product of their sizes."""
        part = self._parts.get(mask)
        if part is None:
            names = tuple(index for index, bit in self._bits.items() if mask & bit)
            part = self._parts[mask] = (names, self.size(names))
        return part

    def size(self, indices: tuple[str, ...]) -> int:
        return prod(self.sizes[i] for i in indices)

    @cached_property
    def groups(self) -> list[int]:
        """Connected sets of cores whose merged core could fit core memory, smallest first."""
        neighbours = [0] * len(self.cores)
        for number, indices in enumerate(self.cores):
            for other, others in enumerate(self.cores):
                if other != number and indices & others:
                    neighbours[number] |= 1 << other
        found = {1 << number for number in range(len(self.cores))}
        frontier = set(found)
        while frontier:
            grown = set()
            for group in frontier:
                around = 0
                for number in _members(group):
                    around |= neighbours[number]
                for number in _members(around & ~group):
                    grown.add(group | 1 << number)
            frontier = {
                g for g in grown - found if self._merged_size(g) <= self.config.core_depth * 64 * 8
            }
            found |= frontier
        return sorted(found, key=lambda g: (g.bit_count(), g))

    def _merged_size(self, group: int) -> int:
        indices = frozenset().union(*(self.cores[n] for n in _members(group)))
        return prod(
            self.sizes[i]
            for i in indices
            if self.users[i] & ~group or i in self.network.input or i in self.network.output
        )

    def step(self, absorbed: int, group: int) -> Step:
        """The step that absorbs ``group``."""
        before, after = self.live(absorbed), self.live(absorbed | group)
        members = _members(group)
        indices = 0
        for number in members:
            indices |= self._core_masks[number]
        rows, m = self.part(after & ~before)
        k, reduction = self.part(before & ~after)
        shared, matrices = self.part(before & after & indices)
        columns, n = self.part(before & after & ~indices)
        row_tiles, lane_tiles = -(-m // self.config.rows), matrices * -(-n // self.config.lanes)
        return Step(
            group=members,
            k=k,
            rows=rows,
            columns=columns,
            shared=shared,
            bound=tile_cycles(m, reduction, lane_tiles, self.config),
            core_vectors=matrices * row_tiles * reduction,
            live=matrices * reduction * n,
            result=matrices * m * n,
            multiplications=matrices * m * reduction * n,
        )

    def steps(self, absorbed: int) -> list[tuple[int, Step]]:
        """All steps from a state, as (state after, step)."""
        if absorbed not in self._steps:
            result = []
            for group in self.groups:
                if not group & absorbed:
                    result.append((absorbed | group, self.step(absorbed, group)))
            self._steps[absorbed] = result
        return self._steps[absorbed]

    def fits(self, step: Step, core_limit: int, work_limit: int) -> bool:
        return step.core_vectors <= core_limit and step.live + step.result <= work_limit

    @cached_property
    def states(self) -> list[int]:
        """Reachable states, from the whole to the empty one."""
        seen = {0}
        frontier = [0]
        while frontier:
            state = frontier.pop()
            for after, _ in self.steps(state):
                if after not in seen:
                    seen.add(after)
                    frontier.append(after)
        return sorted(seen, key=lambda s: (-s.bit_count(), s))

    @cached_property
    def trades(self) -> list[tuple[int, int]]:
        """What orders need, as (core vectors, work elements of the largest stage), from the fewest
        vectors upwards; orders that need no less of either than another are left out.
        """
        return self._front(lambda step, peak: max(peak, step.live + step.result), None)

    def prices(self, work_limit: int) -> list[tuple[int, int]]:
        """What orders within the limit of work elements need, as (core vectors, bound in cycles),
        from the fewest vectors upwards; orders that need no less of either are left out.
        """
        return self._front(lambda step, bound: bound + step.bound, work_limit)

    def _front(
        self, add: Callable[[Step, int], int], work_limit: int | None
    ) -> list[tuple[int, int]]:
        """Pareto front of core vectors and another sum over the steps of whole orders."""
        best: dict[int, list[tuple[int, int]]] = {self.all: [(0, 0)]}
        for state in self.states:
            found = [
                (core + step.core_vectors, add(step, other))
                for after, step in self.steps(state)
                if work_limit is None or step.live + step.result <= work_limit
                for core, other in best.get(after, ())
            ]
            if found:
                best[state] = []
                for core, other in sorted(found):
                    if not best[state] or other < best[state][-1][1]:
                        best[state].append((core, other))
        return best.get(0, [])

    def least_core(self, work_limit: int) -> int | None:
        """Core vectors of the order that needs the fewest within the limit of work elements; None
        where no order is.
        """
        return next((core for core, peak in self.trades if peak <= work_limit), None)

    def least_work(self) -> int:
        """Work elements of the order whose largest stage needs the fewest."""
        return self.trades[-1][1]

    def least_bias(self) -> int:
        """Vectors of bias memory that the layer's bias takes at least; 0 without a bias.

        A vector holds the biases of one result row, for a tile of columns.
        """
        if self.network.bias is None:
            return 0
        least = None
        for state in self.states:
            for after, step in self.steps(state):
                if after == self.all:
                    columns = self.size(tuple(i for i in step.columns if i != BATCH))
                    rows = self.size(step.rows) * self.size(step.shared)
                    need = rows * -(-columns // self.config.lanes)
                    least = need if least is None else min(least, need)
        assert least is not None
        return least

    def orders(self, core_limit: int, work_limit: int) -> Iterator[tuple[int, Order]]:
        """Whole orders within the limits, as (bound, steps), best bound first; deterministic.

        ``core_limit`` is in core vectors for the whole layer, ``work_limit`` in elements.
        """
        to_go = {self.all: 0}
        core_to_go = {self.all: 0}
        for state in self.states:
            for after, step in self.steps(state):
                if after not in to_go or not self.fits(step, core_limit, work_limit):
                    continue
                total = to_go[after] + step.bound
                to_go[state] = min(to_go.get(state, total), total)
                core = core_to_go[after] + step.core_vectors
                core_to_go[state] = min(core_to_go.get(state, core), core)
        if 0 not in to_go:
            return
        # (bound, peak of work, groups): ties go to less memory, then to the first order.
        heap: list[tuple[int, int, tuple[tuple[int, ...], ...], int, int, Order]] = [
            (to_go[0], 0, (), 0, 0, ())
        ]
        while heap:
            bound, peak, groups, state, core, path = heapq.heappop(heap)
            if state == self.all:
                yield bound, path
                continue
            spent = bound - to_go[state]
            for after, step in self.steps(state):
                if after not in to_go or not self.fits(step, core_limit, work_limit):
                    continue
                vectors = core + step.core_vectors
                if vectors + core_to_go[after] > core_limit:
                    continue
                heapq.heappush(
                    heap,
                    (
                        spent + step.bound + to_go[after],
                        max(peak, step.live + step.result),
                        (*groups, step.group),
                        after,
                        vectors,
                        (*path, step),
                    ),
                )


@cache
def _members(group: int) -> tuple[int, ...]:
    return tuple(n for n in range(group.bit_length()) if group >> n & 1)
