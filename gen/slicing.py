"""Slices: a chain of stages that runs once for each value of some indices, so that the tensors
between them shrink.

The indices of a slice are columns of each stage of the chain: no stage of it sums over them or
makes them, and none has a core matrix for each of their values. The tensor that the chain reads and
the one that it leaves are whole; those in between hold one slice. A chain starts with its layer and
ends before the layer's last stage, so that biases and activations never are within.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import islice

from drawbar.gen.config import EngineConfig
from drawbar.gen.cycles import folded_sizes, least_cycles, tiling
from drawbar.gen.order import Order, OrderSearch, Step
from drawbar.gen.pipeline import HANDOVER

#: Orders whose slices are tried.
SCANNED = 512
#: Limits that no order reaches.
ENDLESS = 1 << 62


def stage_cycles(
    step: Step, rows: int, k: int, lane_tiles: int, ends_layer: bool, config: EngineConfig
) -> int:
    """What a step of so many row vectors and lane tiles (of one slice) adds to a program.

    The least, but for waits. Slices may be shorter than it takes to drain their results.
    """
    cycles = least_cycles(rows, k, lane_tiles, ends_layer, config)
    if not step.sliced:
        return cycles
    tiles = tiling(rows, k, lane_tiles, config)
    # The first tile leaves the drain side the time to change stages.
    handed_on = tiles.rows_last + HANDOVER + tiles.issue - k
    return step.slices * max(cycles, handed_on)


def group_room(whole: int, inner: int, step: Step, read: int, write: int) -> tuple[int, int, int]:
    """Work elements of a step whose operand and result take ``read`` and ``write``.

    Arguments
    ---------
    whole, inner:
        Of the chain so far: its operand, and its largest two neighbours in between.

    Returns
    -------
    ``whole`` and ``inner`` after the step, and what the step needs, all live tensors together.
    """
    if not step.sliced:
        return 0, 0, read + write
    if step.first:
        whole, inner = read, 0
    between = (0 if step.first else read) + (0 if step.last else write)
    inner = max(inner, between)
    return whole, inner, whole + inner + (write if step.last else 0)


def order_peak(order: Order) -> int:
    """Work elements of an order's live tensors where they are largest, without paddings."""
    peak = whole = inner = 0
    for step in order:
        whole, inner, need = group_room(whole, inner, step, step.live, step.result)
        peak = max(peak, need)
    return peak


def order_stages(order: Order) -> int:
    """Stages of the program of an order."""
    return sum(step.slices for step in order)


def _subsets(names: tuple[str, ...], sizes: dict[str, int], most: int) -> Iterator[tuple[str, ...]]:
    """Subsets of the names, not empty, whose sizes multiply to at most ``most``."""
    if not names:
        return
    first, rest = names[0], names[1:]
    if sizes[first] <= most:
        yield (first,)
        for chosen in _subsets(rest, sizes, most // sizes[first]):
            yield (first, *chosen)
    yield from _subsets(rest, sizes, most)


def sliced(search: OrderSearch, order: Order, last: int, indices: tuple[str, ...]) -> Order:
    """The order with its steps up to ``last`` run for each value of ``indices``.

    ``live``, ``result`` of the steps become what lies in memory, ``bound`` the sum of all slices.
    """
    slices = search.size(indices)
    result = list(order)
    for number, step in enumerate(order[: last + 1]):
        columns = tuple(i for i in step.columns if i not in indices)
        found = step._replace(
            columns=columns,
            live=step.live if number == 0 else step.live // slices,
            result=step.result if number == last else step.result // slices,
            sliced=indices,
            slices=slices,
            first=number == 0,
            last=number == last,
        )
        config = search.config
        rows, k, shared, n = map(search.size, (step.rows, step.k, step.shared, columns))
        bound = min(
            stage_cycles(found, vectors, k, shared * tiles, False, config)
            for vectors, tiles in folded_sizes(rows, n, config)
        )
        result[number] = found._replace(bound=bound)
    return tuple(result)


def variants(
    search: OrderSearch, order: Order, work_limit: int, most_stages: int
) -> Iterator[Order]:
    """All ways to slice an order within so many work elements and stages of the program."""
    common = order[0].columns if order else ()
    for last in range(1, len(order) - 1):
        common = tuple(i for i in common if i in order[last].columns)
        most = (most_stages - (len(order) - 1 - last)) // (last + 1)
        ends = order[0].live + order[last].result
        neighbours = [order[s].live + order[s].result for s in range(1, last)]
        pairs = max(neighbours, default=order[0].result)
        outside = max(step.live + step.result for step in order[last + 1 :])
        if outside > work_limit or ends > work_limit:
            continue
        for indices in _subsets(common, search.sizes, most):
            if ends + pairs // search.size(indices) <= work_limit:
                yield sliced(search, order, last, indices)


def sliced_orders(
    search: OrderSearch,
    core_limit: int,
    work_limit: int,
    most_stages: int,
    scanned: int = SCANNED,
) -> Iterator[tuple[int, Order]]:
    """Orders whole and sliced within the limits, as (bound, steps), best first; of the ``scanned``
    best orders.
    """
    heap: list[tuple[int, int, int, Order]] = []
    number = 0
    for bound, order in islice(search.orders(core_limit, ENDLESS), scanned):
        while heap and heap[0][0] <= bound:
            total, _, _, found = heapq.heappop(heap)
            yield total, found
        whole = [order] if order_peak(order) <= work_limit else []
        for found in (*whole, *variants(search, order, work_limit, most_stages)):
            total = sum(step.bound for step in found)
            heapq.heappush(heap, (total, order_peak(found), number, found))
            number += 1
    while heap:
        total, _, _, found = heapq.heappop(heap)
        yield total, found


def phased_orders(
    search: OrderSearch, orders: Iterator[tuple[int, Order]]
) -> Iterator[tuple[int, Order]]:
    """The orders, and copies also as one stage for each phase, which takes fewer loops."""
    windows = search.network.windows
    for bound, order in orders:
        yield bound, order
        step = order[0]
        phases = tuple(
            term
            for index in step.opened
            for term, _ in windows[index].terms[1:]
            if term in step.columns
        )
        if len(order) == 1 and phases:
            columns = tuple(i for i in step.columns if i not in phases)
            slices = search.size(phases)
            yield (
                bound,
                (
                    step._replace(
                        columns=columns, sliced=phases, slices=slices, first=True, last=True
                    ),
                ),
            )
