"""Where to cut a program into passes (``gen.passes``), and which cores stay in core memory.

Where to cut is a shortest path: a pair of neighbours takes the longer of computing the one and
loading the other, or both if their needs have no room side by side. A byte is taken to come in one
cycle: over slower lines it is bytes that count, and those differ little.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from drawbar.gen.config import EngineConfig
from drawbar.gen.cycles import fetch_cycles, program_cycles
from drawbar.gen.pipeline import pipeline
from drawbar.gen.planned import Plan
from drawbar.gen.program import descriptor_words
from drawbar.gen.protocol import CRC_BYTES, HEADER_BYTES, MAX_PAYLOAD, Space, item_bytes
from drawbar.gen.stage import Stage, whole_vectors
from drawbar.gen.transfers import STREAMS, row_items

#: Eighths of core memory that may be for what stays.
KEPT = range(8)
#: Stages of a program that may be cut anywhere; of longer ones, how fine the cuts are.
MOST_CUTS = 120
FINE = 16
#: Bytes of a pass's RUN and WAIT.
REQUESTS = 2 * HEADER_BYTES
#: The memories, in the order of their loads.
SPACES = (Space.CORE, Space.BIAS, Space.PROGRAM)

#: What a stage needs of a memory: its first vector or word in the image, and how many.
Need = tuple[int, int]


@dataclass(frozen=True)
class Unit:
    """What a stage of the program takes: its cycles within the whole program, and of each memory
    whatever streams.
    """

    cycles: int
    needs: dict[Space, tuple[Need, ...]]


def bias_need(stage: Stage, config: EngineConfig) -> Need | None:
    """The bias vectors of a whole stage."""
    if stage.bias_base is None:
        return None
    last = (stage.run_tiles(config) - 1) * stage.lane_bias
    last += sum((c.count - 1) * c.bias for c in (*stage.row_loops, *stage.column_loops))
    return stage.bias_base, last + 1


def units_of(plan: Plan, program: Sequence[tuple[int, Stage]], config: EngineConfig) -> list[Unit]:
    """What the stages of the program take."""
    cycles = program_cycles([stage for _, stage in program], config)
    words = descriptor_words(config)
    units = []
    for place, (number, stage) in enumerate(program):
        # So many, that every core begins at a wide vector wherever it is loaded.
        vectors = whole_vectors(stage.core_vectors(config), config)
        bias = bias_need(plan.stages[number].stage, config)
        needs = {
            Space.CORE: ((stage.core_base, vectors),) if vectors else (),
            Space.BIAS: () if bias is None else (bias,),
            Space.PROGRAM: ((place * words, words),),
        }
        units.append(Unit(cycles[place].total, needs))
    return units


def total(needs: Iterable[Need]) -> int:
    return sum(count for _, count in needs)


def _kept(units: Sequence[Unit], most: int) -> set[Need]:
    """Cores that stay, within so many vectors: those of several stages, then the largest."""
    users: dict[Need, int] = {}
    for unit in units:
        for need in unit.needs[Space.CORE]:
            users[need] = users.get(need, 0) + 1
    kept: set[Need] = set()
    for need in sorted(users, key=lambda need: (users[need] == 1, -need[1], need)):
        if most >= need[1]:
            kept.add(need)
            most -= need[1]
    return kept


# -- cuts ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """A pass that may be: stages from one on up to ``end``."""

    end: int
    sizes: dict[Space, int]
    computing: int
    loading: int


def _cuts(
    units: Sequence[Unit], free: dict[Space, int], config: EngineConfig
) -> tuple[int, list[int]] | None:
    """Ends of passes that take the least time, and that time in cycles; None where a stage is too
    large.

    Arguments
    ---------
    free:
        What the memories have for turns; those that are not here hold everything.
    """
    idle = fetch_cycles(config) + pipeline(config).issue_to_write
    count = len(units)
    edges = _edges(units, free)
    allowed = set(edges)

    def extents(first: int) -> list[_Part]:
        found = []
        needs: dict[Space, set[Need]] = {space: set() for space in free}
        sizes = dict.fromkeys(free, 0)
        computing, sent = idle, REQUESTS
        for end in range(first + 1, count + 1):
            unit = units[end - 1]
            computing += unit.cycles
            for space, own in needs.items():
                for need in unit.needs[space]:
                    if need not in own:
                        own.add(need)
                        sizes[space] += need[1]
                        sent += _bytes(space, need[1], config)
            if any(size > free[space] for space, size in sizes.items()):
                break
            if end in allowed:
                found.append(_Part(end, dict(sizes), computing, round(sent * STREAMS.byte_in)))
        return found

    possible = {first: extents(first) for first in edges[:-1]}
    # From each pass on: the time from its start, and where the one after it ends.
    best: dict[tuple[int, int], tuple[int, int]] = {}
    for first in reversed(edges[:-1]):
        for part in possible[first]:
            if part.end == count:
                best[first, count] = (part.computing, count)
                continue
            found = []
            for after in possible[part.end]:
                if (part.end, after.end) not in best:
                    continue
                together = all(part.sizes[s] + after.sizes[s] <= free[s] for s in free)
                both = max if together else lambda a, b: a + b
                time = both(part.computing, after.loading) + best[part.end, after.end][0]
                found.append((time, after.end))
            if found:
                best[first, part.end] = min(found)
    starts = [
        (part.loading + best[0, part.end][0], part.end)
        for part in possible[0]
        if (0, part.end) in best
    ]
    if not starts:
        return None
    time, end = min(starts)
    ends = [end]
    first = 0
    while ends[-1] < count:
        after = best[first, ends[-1]][1]
        first = ends[-1]
        ends.append(after)
    return time, ends


def _edges(units: Sequence[Unit], free: dict[Space, int]) -> list[int]:
    """Where a long program may be cut: so that nothing between is more than a small part of what is
    free, or one stage.
    """
    if len(units) <= MOST_CUTS:
        return [*range(len(units) + 1)]
    edges = [0]
    sizes = dict.fromkeys(free, 0)
    for place, unit in enumerate(units):
        own = {space: total(unit.needs[space]) for space in free}
        if any(FINE * (sizes[space] + own[space]) > free[space] for space in free):
            edges += [place] * (edges[-1] < place)
            sizes = dict.fromkeys(free, 0)
        sizes = {space: sizes[space] + own[space] for space in free}
    return [*edges, len(units)]


def _bytes(space: Space, count: int, config: EngineConfig) -> int:
    """Of the requests that load so many words or vectors."""
    size = item_bytes(config, space)
    length = count * row_items(config, space) * size
    frames = -(-length // (MAX_PAYLOAD // size * size))
    return length + frames * (HEADER_BYTES + CRC_BYTES)


def runs(needs: Sequence[Need] | dict[Need, None]) -> list[Need]:
    """Needs in the order of the image, neighbours as one."""
    found: list[Need] = []
    for first, count in sorted(needs):
        if found and sum(found[-1]) == first:
            found[-1] = (found[-1][0], found[-1][1] + count)
        else:
            found.append((first, count))
    return found


def depths_of(config: EngineConfig) -> dict[Space, int]:
    return {
        Space.CORE: config.core_depth,
        Space.BIAS: config.bias_depth,
        Space.PROGRAM: config.program_depth,
    }


@dataclass(frozen=True)
class Cut:
    """A program in passes.

    Members
    -------
    time:
        Estimated cycles of a run.
    free:
        What the memories that do not hold everything have for turns.
    kept:
        Cores that stay.
    units:
        Of each pass.
    """

    time: int
    program: list[tuple[int, Stage]]
    free: dict[Space, int]
    kept: set[Need]
    units: list[list[Unit]]


def best_cut(plan: Plan, program: list[tuple[int, Stage]], config: EngineConfig) -> Cut | None:
    """The best way to cut a program; None where there is none."""
    units, depths = units_of(plan, program, config), depths_of(config)
    every = {space: {n for unit in units for n in unit.needs[space]} for space in SPACES}
    short = [
        space
        for space in SPACES
        if total(every[space]) * (len(plan.bases) if space == Space.PROGRAM else 1) > depths[space]
    ]
    found = []
    for eighths in KEPT if Space.CORE in short else (0,):
        kept = every[Space.CORE]
        free = {space: depths[space] for space in short}
        if Space.CORE in free:
            kept = _kept(units, config.core_depth * eighths // 8)
            free[Space.CORE] -= total(kept)
        left = [_without(unit, kept) for unit in units]
        cuts = _cuts(left, free, config)
        if cuts is not None:
            time, ends = cuts
            passes = [left[first:end] for first, end in pairwise((0, *ends))]
            found.append(Cut(time, program, free, kept, passes))
    return min(found, key=lambda cut: cut.time, default=None)


def _without(unit: Unit, kept: set[Need]) -> Unit:
    cores = tuple(need for need in unit.needs[Space.CORE] if need not in kept)
    return replace(unit, needs={**unit.needs, Space.CORE: cores})
