"""Contraction order: which cores are merged offline, and in which order they meet the live tensor.

A state is the set of cores that the live tensor has absorbed. A step merges a group of the others
offline, neighbours or not, and multiplies. Any number of cores may have an index: it stays live
until the last of them is absorbed, and each step in between multiplies by one core matrix for each
of its values.

Dynamic programming over these sets gives, for each, the fewest cycles still to go, as if every
stage found its columns side by side (a lower bound, since layouts can only cost more). With that as
its guide, a best-first search yields whole orders from the best bound upwards, so a planner that
finds a layout that reaches the bound can stop: it is optimal.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, cached_property, partial
from math import prod
from typing import NamedTuple

from drawbar.gen.config import EngineConfig
from drawbar.gen.cycles import folded_sizes, least_cycles
from drawbar.gen.network import ContractionNetwork
from drawbar.gen.stage import whole_vectors

#: Index name of the samples of a batch; it is a column of every stage.
BATCH = "batch"


class Step(NamedTuple):
    """Absorb a group of cores: a matrix product over ``k``, with rows and columns by index name,
    for each value of the indices ``shared`` by the merged core and by the tensors before and after.

    ``bound`` is the least number of cycles, ``core_vectors`` what the merged core takes of core
    memory, ``live`` and ``result`` the elements of the tensors before and after.

    ``opened`` are input indices whose windows it opens: it reads the tensor before through them.

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
    opened: tuple[str, ...] = ()
    sliced: tuple[str, ...] = ()
    slices: int = 1
    first: bool = False
    last: bool = False


Order = tuple[Step, ...]


class Move(NamedTuple):
    """What a step costs, as in ``Step``; from one state it leads to ``after`` with ``group``."""

    after: int
    group: int
    bound: int
    core_vectors: int
    live: int
    result: int


#: Cores of the largest network in which any group may be merged; in larger ones, those that are
#: connected.
ANY_GROUP = 10


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
        # Sets of cores and of indices are bit masks, indices in the network's canonical order.
        self._bits = {index: 1 << number for number, index in enumerate(self.sizes)}
        self._core_masks = [sum(self._bits[i] for i in indices) for indices in self.cores]
        borders = {*network.input, *network.output, *network.taps}
        self._border = sum(self._bits[i] for i in borders)
        # A window opens with the first core that has one of its taps, or with the first of all; a
        # late one with the last. Those that read others come after them.
        self._windows = {
            self._bits[index]: (
                sum(self._bits[i] for i, _ in window.terms),
                self._users(i for i, _ in window.terms if i not in network.output) or self.all,
                window.late,
            )
            for index, window in network.windows.items()
        }
        late = {i for w in network.windows.values() if w.late for i, _ in w.terms}
        self._terms = 0
        for window in network.windows.values():
            for index, _ in window.terms:
                if index not in late or index in network.output:
                    self._terms |= self._bits[index]
        self._masks: dict[int, int] = {0: 0}
        self._live: dict[int, int] = {}
        self._sizes = {0: 1, **{bit: self.sizes[i] for i, bit in self._bits.items()}}
        self._moves: dict[int, list[Move]] = {}
        # Far fewer sizes than steps.
        self._least_cycles = cache(partial(least_cycles, config=config))

    def _users(self, indices: Iterable[str]) -> int:
        """The cores that have any of the indices."""
        users = 0
        for index in indices:
            users |= self.users.get(index, 0)
        return users

    def _open(self, absorbed: int) -> int:
        """Input indices whose windows are open, as a bit mask."""
        found = 0
        for bit, (_, users, late) in self._windows.items():
            if users & absorbed == users if late else users & absorbed:
                found |= bit
        return found

    def live(self, absorbed: int) -> int:
        """Indices of the live tensor, as a bit mask."""
        mask = self._live.get(absorbed)
        if mask is None:
            inputs, outputs = set(self.network.input), set(self.network.output)
            mask = 0
            opened = self._open(absorbed)
            through = 0
            for window in self._windows:
                through |= self._windows[window][0] if window & opened else 0
            for index, bit in self._bits.items():
                if bit in self._windows:
                    # From the start, or since the window that it is a term of is open.
                    there = through if bit & self._terms else bit
                    mask |= bit & ~opened & there
                    continue
                users = self.users.get(index, 0)
                # Made by its first user, or there from the start; gone with its last, or to stay.
                made = index == BATCH or index in inputs or users & absorbed
                if bit & self._terms:
                    made = bit & through
                needed = index == BATCH or index in outputs or users & ~absorbed
                if made and needed:
                    mask |= bit
            self._live[absorbed] = mask
        return mask

    def names(self, mask: int) -> tuple[str, ...]:
        """The indices of a bit mask."""
        return tuple(index for index, bit in self._bits.items() if mask & bit)

    def _size(self, mask: int) -> int:
        """The product of the sizes of a bit mask's indices."""
        size = self._sizes.get(mask)
        if size is None:
            low = mask & -mask
            size = self._sizes[mask] = self._sizes[low] * self._size(mask & ~low)
        return size

    def size(self, indices: tuple[str, ...]) -> int:
        return prod(self.sizes[i] for i in indices)

    @cached_property
    def groups(self) -> list[int]:
        """Sets of cores whose merged core could fit core memory, smallest first."""
        found = self._connected_groups()
        if len(self.cores) <= ANY_GROUP:
            most = self.config.core_depth * self.config.rows
            found |= {g for g in range(1, self.all + 1) if self._merged_size(g) <= most}
        return sorted(found, key=lambda g: (g.bit_count(), g))

    def _connected_groups(self) -> set[int]:
        """Single cores, and connected sets that are not much larger than core memory: orders of
        these are told of even where they do not fit.
        """
        masks = self._core_masks
        neighbours = [
            sum(1 << other for other, mask in enumerate(masks) if other != number and mask & own)
            for number, own in enumerate(masks)
        ]
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
        return found

    def _mask(self, group: int) -> int:
        """Indices of a group of cores, as a bit mask."""
        mask = self._masks.get(group)
        if mask is None:
            lowest = group & -group
            mask = self._core_masks[lowest.bit_length() - 1] | self._mask(group & ~lowest)
            self._masks[group] = mask
        return mask

    def _merged_size(self, group: int) -> int:
        kept = self._mask(group) & (self._mask(self.all & ~group) | self._border)
        return self._size(kept)

    def _parts(self, absorbed: int, group: int) -> tuple[int, int, int, int]:
        """Rows, k, columns and shared indices of a step, as bit masks."""
        before, after = self.live(absorbed), self.live(absorbed | group)
        for window in self._windows:
            if window & before & ~after:
                before = before & ~window | self._windows[window][0]
        kept, indices = before & after, self._mask(group)
        return after & ~before, before & ~after, kept & ~indices, kept & indices

    def step(self, absorbed: int, group: int) -> Step:
        """The step that absorbs ``group``."""
        rows, k, columns, shared = parts = self._parts(absorbed, group)
        move = self._move(absorbed, group)
        return Step(
            group=_members(group),
            k=self.names(k),
            rows=self.names(rows),
            columns=self.names(columns),
            shared=self.names(shared),
            bound=move.bound,
            core_vectors=move.core_vectors,
            live=move.live,
            result=move.result,
            multiplications=prod(map(self._size, parts)),
            opened=self.names(self._open(absorbed | group) & ~self._open(absorbed)),
        )

    def _move(self, absorbed: int, group: int) -> Move:
        rows, k, n, shared = map(self._size, self._parts(absorbed, group))
        config, final = self.config, absorbed | group == self.all
        bound = min(
            self._least_cycles(vectors, k, shared * tiles, final)
            for vectors, tiles in folded_sizes(rows, n, config)
        )
        return Move(
            absorbed | group,
            group,
            bound,
            whole_vectors(shared * -(-rows // config.rows) * k, config),
            self._size(self.live(absorbed)),
            self._size(self.live(absorbed | group)),
        )

    def moves(self, absorbed: int) -> list[Move]:
        """All steps from a state."""
        moves = self._moves.get(absorbed)
        if moves is None:
            moves = [self._move(absorbed, group) for group in self.groups if not group & absorbed]
            self._moves[absorbed] = moves
        return moves

    @cached_property
    def states(self) -> list[int]:
        """Reachable states, from the whole to the empty one."""
        seen = {0}
        frontier = [0]
        while frontier:
            state = frontier.pop()
            for move in self.moves(state):
                if move.after not in seen:
                    seen.add(move.after)
                    frontier.append(move.after)
        return sorted(seen, key=lambda s: (-s.bit_count(), s))

    @cached_property
    def trades(self) -> list[tuple[int, int]]:
        """What orders need, as (core vectors, work elements of the largest stage), from the fewest
        vectors upwards; orders that need no less of either than another are left out.
        """
        return self._front(lambda move, peak: max(peak, move.live + move.result), None)

    def prices(self, work_limit: int) -> list[tuple[int, int]]:
        """What orders within the limit of work elements need, as (core vectors, bound in cycles),
        from the fewest vectors upwards; orders that need no less of either are left out.
        """
        return self._front(lambda move, bound: bound + move.bound, work_limit)

    def _front(
        self, add: Callable[[Move, int], int], work_limit: int | None
    ) -> list[tuple[int, int]]:
        """Pareto front of core vectors and another sum over the steps of whole orders."""
        best: dict[int, list[tuple[int, int]]] = {self.all: [(0, 0)]}
        for state in self.states:
            found = {
                (core + move.core_vectors, add(move, other))
                for move in self.moves(state)
                if work_limit is None or move.live + move.result <= work_limit
                for core, other in best.get(move.after, ())
            }
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
            for move in self.moves(state):
                if move.after == self.all:
                    step = self.step(state, move.group)
                    own = self.network.bias_indices
                    columns = self.size(tuple(i for i in step.columns if i in own))
                    rows = self.size(tuple(i for i in (*step.rows, *step.shared) if i in own))
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
        fitting: dict[int, list[Move]] = {}
        for state in self.states:
            fitting[state] = [
                move
                for move in self.moves(state)
                if move.after in to_go
                and move.core_vectors <= core_limit
                and move.live + move.result <= work_limit
            ]
            moves = fitting[state]
            if moves:
                to_go[state] = min(to_go[m.after] + m.bound for m in moves)
                core_to_go[state] = min(core_to_go[m.after] + m.core_vectors for m in moves)
        if 0 not in to_go:
            return
        # (bound, peak of work, groups): ties go to less memory, then to the first order.
        heap: list[tuple[int, int, tuple[tuple[int, ...], ...], int, int]] = [
            (to_go[0], 0, (), 0, 0)
        ]
        while heap:
            bound, peak, groups, state, core = heapq.heappop(heap)
            if state == self.all:
                yield bound, self._order(groups)
                continue
            spent = bound - to_go[state]
            for move in fitting[state]:
                vectors = core + move.core_vectors
                if vectors + core_to_go[move.after] <= core_limit:
                    heapq.heappush(
                        heap,
                        (
                            spent + move.bound + to_go[move.after],
                            max(peak, move.live + move.result),
                            (*groups, _members(move.group)),
                            move.after,
                            vectors,
                        ),
                    )

    def _order(self, groups: Sequence[tuple[int, ...]]) -> Order:
        """The steps that absorb these groups in turn."""
        steps = []
        absorbed = 0
        for members in groups:
            group = sum(1 << number for number in members)
            steps.append(self.step(absorbed, group))
            absorbed |= group
        return tuple(steps)


@cache
def _members(group: int) -> tuple[int, ...]:
    return tuple(n for n in range(group.bit_length()) if group >> n & 1)
