"""Addresses for the tensors of a graph, and the stages with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import FitError
from drawbar.gen.layout import Layout
from drawbar.gen.planned import PlannedStage, reading_apart
from drawbar.gen.products import affine, ties
from drawbar.gen.stage import Loop


class NoBuffers(FitError):
    """Two buffers do not fit."""


def addressed(
    stages: Sequence[PlannedStage], bases: Sequence[int], config: EngineConfig
) -> tuple[PlannedStage, ...]:
    """The stages with the addresses of their tensors."""
    return tuple(_addressed(planned, bases, config) for planned in stages)


def _addressed(planned: PlannedStage, bases: Sequence[int], config: EngineConfig) -> PlannedStage:
    stage = planned.stage
    y_base = bases[planned.writes] + planned.y_offset
    if planned.fills:
        return replace(planned, stage=reading_apart(replace(stage, y_base=y_base), config))
    if len(planned.reads) == 1:
        x_base = bases[planned.reads[0]] + planned.x_offset
        return replace(planned, stage=replace(stage, x_base=x_base, y_base=y_base))
    if stage.products:
        planned, stage = affine(planned, bases)
        return replace(planned, stage=replace(stage, y_base=y_base))
    # The sources are the values of the reduction index: their distance is its stride.
    places = [
        bases[tensor] + offset
        for tensor, offset in zip(planned.reads, planned.x_offsets, strict=True)
    ]
    first, second = places
    stage = replace(
        stage,
        k_loops=(Loop(2, x=abs(second - first)),),
        x_base=min(places),
        y_base=y_base,
    )
    if first <= second:
        return replace(planned, stage=stage)
    return replace(
        planned,
        stage=stage,
        reads=planned.reads[::-1],
        x_offsets=planned.x_offsets[::-1],
        turned=True,
    )


def _anchor(tensor: int, within: Mapping[int, tuple[int, int]]) -> tuple[int, int]:
    """The outermost tensor that one lies in, and its elements from the start of that."""
    offset = 0
    while tensor in within:
        tensor, more = within[tensor]
        offset += more
    return tensor, offset


def arrange(
    name: str,
    config: EngineConfig,
    stages: Sequence[PlannedStage],
    tensors: Sequence[Layout],
    buffers: int = 1,
    states: Sequence[int] = (),
    within: Mapping[int, tuple[int, int]] | None = None,
) -> tuple[tuple[PlannedStage, ...], tuple[tuple[int, ...], ...], int]:
    """Addresses for the tensors of a graph by when they live: each at the lowest place that is
    free all the time; ``states`` live always. With two buffers, input and output have two places
    each, which nothing else uses. ``within`` are tensors that lie in others: in which, and how many
    elements behind its start.

    Returns
    -------
    The stages with their addresses in the first buffer, the addresses in each, and the elements of
    work memory that they take.

    Raises
    ------
    NoBuffers:
        work memory is too small for two buffers.
    FitError:
        work memory is too small.
    """
    count, end = len(tensors), len(stages)
    sizes = [tensor.size for tensor in tensors]
    # Which tensor each place is for.
    whose = list(range(count))
    first, last = [end] * count, [-1] * count
    for number, planned in enumerate(stages):
        for tensor in (*planned.reads, planned.writes):
            first[tensor], last[tensor] = min(first[tensor], number), max(last[tensor], number)
    # The host writes the input before the run, and reads the output after it.
    outer = (0, count - 1)
    first[outer[0]], last[outer[1]] = -1, end
    for tensor in states:
        first[tensor], last[tensor] = -1, end
    if buffers == 2:
        for tensor in outer:
            first[tensor], last[tensor] = -1, end
            sizes.append(sizes[tensor])
            whose.append(tensor)
            first.append(-1)
            last.append(end)
    within = {**(within or {}), **ties(stages, tensors)}
    tied = {tensor: _anchor(tensor, within) for tensor in within}
    for tensor, (anchor, offset) in tied.items():
        # Placed together, and as long as one of them lives.
        sizes[anchor] = max(sizes[anchor], offset + sizes[tensor])
        first[anchor] = min(first[anchor], first[tensor])
        last[anchor] = max(last[anchor], last[tensor])
    alone = [n for n in range(len(sizes)) if n not in tied]
    orders = [
        alone,
        sorted(alone, key=lambda n: (-sizes[n], n)),
        sorted(alone, key=lambda n: (first[n] - last[n], n)),
    ]
    # What a stage reads and what it writes have no block of single-port memory in common.
    block = config.work_block if config.work_blocks else 1
    roots = [tied[n][0] if n in tied else n for n in range(count)]
    apart = {frozenset((roots[t], roots[p.writes])) for p in stages for t in p.reads}

    def span(base: int, m: int, n: int) -> tuple[int, int]:
        unit = block if frozenset((whose[m], whose[n])) in apart else 1
        return base // unit * unit, -(-(base + sizes[m]) // unit) * unit

    found = []
    for order in orders:
        bases: dict[int, int] = {}
        for n in order:
            live = [m for m in bases if first[m] <= last[n] and first[n] <= last[m]]
            taken = sorted(span(bases[m], m, n) for m in live)
            free = 0
            for low, high in taken:
                if low - free >= sizes[n]:
                    break
                free = max(free, high)
            bases[n] = free
        peak = max(bases[n] + sizes[n] for n in alone)
        bases |= {n: bases[anchor] + offset for n, (anchor, offset) in tied.items()}
        found.append((peak, tuple(bases[n] for n in range(len(sizes)))))
    peak, chosen = min(found, key=lambda pair: pair[0])
    if peak > config.work_elements:
        over = (peak - config.work_elements) * config.element_bytes
        raise (NoBuffers if buffers == 2 else FitError)(
            f"model {name!r}" + (", two buffers" if buffers == 2 else ""),
            f"needs at most the engine's {config.work_bytes} bytes of work memory",
            f"{peak * config.element_bytes} bytes for the tensors that live together, {over} too"
            " many",
            f"raise work_depth to at least {-(-peak // config.lanes)}",
        )
    whole = [chosen[:count]]
    if buffers == 2:
        moved = dict(zip(outer, chosen[count:], strict=True))
        moved |= {n: moved[a] + offset for n, (a, offset) in tied.items() if a in moved}
        whole.append(tuple(moved.get(n, base) for n, base in enumerate(chosen[:count])))
    return addressed(stages, whole[0], config), tuple(whole), peak
