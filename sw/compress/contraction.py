"""Contraction of cores with each other and with activations, in PyTorch: the dense weight is formed
only where that is asked for.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from math import prod

from drawbar.sw.compress.backend import nn, torch
from drawbar.sw.compress.formats.base import Spec

#: What moving one element of the live tensor costs, and what starting a step costs, in
#: multiplications. Rough figures for a CPU: they decide between orders of about equal work.
MOVE_COST, STEP_COST = 8, 20_000
#: Cores are merged only up to this share of the dense weights, and three at a time.
MERGED_SHARE, MERGED_CORES = 1 / 8, 3
#: Beyond this many cores no merges are searched: the plain orders are many enough.
MOST_CORES_TO_MERGE = 9


@dataclass(frozen=True)
class Step:
    """One product of the live tensor with a group of merged cores.

    Members
    -------
    group:
        Numbers of the cores.
    shared:
        Indices of both that stay, since a later core has them too.
    summed:
        Indices of both that end here.
    new:
        Indices that the group brings.
    kernel:
        Indices of kernel positions that the group has: the product is a convolution.
    """

    group: tuple[int, ...]
    shared: tuple[str, ...]
    summed: tuple[str, ...]
    new: tuple[str, ...]
    kernel: tuple[str, ...]


def pair(
    a: torch.Tensor, a_indices: Sequence[str], b: torch.Tensor, b_indices: Sequence[str], keep: set
) -> tuple[torch.Tensor, tuple[str, ...]]:
    """Einsum of two tensors with named indices; those that are not in ``keep`` end here."""
    result = tuple(i for i in dict.fromkeys((*a_indices, *b_indices)) if i in keep)
    numbers = {i: n for n, i in enumerate(dict.fromkeys((*a_indices, *b_indices)))}
    value = torch.einsum(
        a,
        [numbers[i] for i in a_indices],
        b,
        [numbers[i] for i in b_indices],
        [numbers[i] for i in result],
    )
    return value, result


def merge(
    cores: Sequence[torch.Tensor], spec: Spec, group: Sequence[int]
) -> tuple[torch.Tensor, tuple[str, ...]]:
    """The product of some cores, one after the other, with the indices that the others or the
    outside still need.
    """
    outside = {*spec.input, *spec.output, *spec.kernel}
    outside.update(i for n, core in enumerate(spec.cores) if n not in group for i in core)
    value, indices = cores[group[0]], spec.cores[group[0]]
    for done, number in enumerate(group[1:], 2):
        keep = outside.union(*(spec.cores[n] for n in group[done:]))
        value, indices = pair(value, indices, cores[number], spec.cores[number], keep)
    left = [axis for axis, index in enumerate(indices) if index not in outside]
    if left:  # a bond of one core with itself, or of size 1 with nothing
        value = value.sum(left)
        indices = tuple(index for index in indices if index in outside)
    return value, indices


def dense_weight(cores: Sequence[torch.Tensor], spec: Spec) -> torch.Tensor:
    """The dense weight of ``spec.shape`` that the cores stand for; differentiable."""
    value, indices = merge(cores, spec, range(len(cores)))
    wanted = (*spec.output, *spec.input, *spec.kernel)
    value = value.permute([indices.index(i) for i in wanted])
    value = value.reshape(prod(spec.modes_out), prod(spec.modes_in), *spec.kernel_size)
    return value[: spec.outputs, : spec.inputs]


def contract(
    x: torch.Tensor,
    cores: Sequence[torch.Tensor],
    spec: Spec,
    *,
    space: tuple[int, int] | None = None,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
) -> tuple[torch.Tensor, tuple[int, int] | None]:
    """A layer without its bias, one group of cores at a time, in the cheapest order.

    Arguments
    ---------
    x:
        ``(inputs, samples)``. Samples are the fastest axis, so that most steps are one matrix
        product of the live tensor where it lies.
    space:
        Of a convolution: height and width; the samples are then ``(batch, height, width)``.

    Returns
    -------
    ``(outputs, samples)``, and the height and width that it has.
    """
    modes_in = spec.modes_in
    if prod(modes_in) != spec.inputs:
        x = nn.functional.pad(x, (0, 0, 0, prod(modes_in) - spec.inputs))
    samples = x.shape[1]
    live, indices = x.reshape(*modes_in, samples), spec.input
    # A power of two, so that few orders are searched; what it decides depends on it weakly.
    steps = contraction_order(_Structure.of(spec), 1 << max(samples, 1).bit_length())
    for number, step in enumerate(steps):
        core, core_indices = (
            merge(cores, spec, step.group)
            if len(step.group) > 1
            else (cores[step.group[0]], spec.cores[step.group[0]])
        )
        gone = [a for a, i in enumerate(core_indices) if i not in _held(step)]
        if gone:  # bonds that this group has alone
            core = core.sum(gone)
            core_indices = tuple(i for i in core_indices if i in _held(step))
        following = steps[number + 1].summed if number + 1 < len(steps) else ()
        before, summed, after, new = _arrange(indices, step, following)
        order = [indices.index(i) for i in (*step.shared, *before, *summed, *after)]
        live = live.permute(*order, len(order))
        matrix = core.permute(
            [core_indices.index(i) for i in (*step.shared, *new, *summed, *step.kernel)]
        )
        size = spec.sizes
        h, p, c, q, n = (
            prod(size[i] for i in part) for part in (step.shared, before, summed, after, new)
        )
        if step.kernel:
            assert space is not None
            # A kernel in two indices, rows and columns, may be in two cores.
            own = [len(spec.kernel) == 1 or i in step.kernel for i in (*spec.kernel, "")[:2]]
            size_2d, stride_2d, padding_2d, dilation_2d = (
                [value if mine else unused for value, mine in zip(values, own, strict=True)]
                for values, unused in (
                    (spec.kernel_size, 1),
                    (stride, 1),
                    (padding, 0),
                    (dilation, 1),
                )
            )
            live, space = _convolve(
                live.reshape(h, p, c, q, samples // prod(space), *space),
                matrix.reshape(h * n, c, *size_2d),
                stride_2d,
                padding_2d,
                dilation_2d,
            )
            samples = live.shape[-1]
        elif h == 1:
            live = matrix.reshape(1, n, c).expand(p, -1, -1) @ live.reshape(p, c, q * samples)
        else:
            live = matrix.reshape(h, 1, n, c) @ live.reshape(h, p, c, q * samples)
        indices = (*step.shared, *before, *new, *after)
        live = live.reshape(*(size[i] for i in indices), samples)
    live = live.permute(*(indices.index(i) for i in spec.output), len(indices))
    return live.reshape(prod(spec.modes_out), samples)[: spec.outputs], space


def _held(step: Step) -> tuple[str, ...]:
    return (*step.shared, *step.summed, *step.new, *step.kernel)


def _arrange(
    indices: tuple[str, ...], step: Step, following: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Before, summed, after, new: the live tensor's axes around those that are summed, which keep
    their places where they are neighbours, and the new ones such that what is summed next lies
    together.
    """
    places = [a for a, i in enumerate(indices) if i in step.summed]
    first = places[0] if places else len(indices)
    summed = tuple(indices[a] for a in places)
    rest = [(a, i) for a, i in enumerate(indices) if i not in (*step.summed, *step.shared)]
    before = tuple(i for a, i in rest if a < first)
    after = tuple(i for a, i in rest if a >= first)
    soon = [i for i in step.new if i in following]
    later = [i for i in step.new if i not in following]
    if before and before[-1] in following and not (after and after[0] in following):
        return before, summed, after, (*soon, *later)
    return before, summed, after, (*later, *soon)


def _convolve(
    live: torch.Tensor,
    kernel: torch.Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> tuple[torch.Tensor, tuple[int, int]]:
    """``(h, p, c, q, batch, height, width)`` to ``(h, p, n, q, samples)``: h are groups of
    channels, c and n the channels of a group; p and q are further samples.
    """
    h, p, c, q, batch, *space = live.shape
    live = live.permute(1, 3, 4, 0, 2, 5, 6).reshape(p * q * batch, h * c, *space)
    y = nn.functional.conv2d(
        live, kernel, None, tuple(stride), tuple(padding), tuple(dilation), groups=h
    )
    height, width = y.shape[2:]
    y = y.reshape(p, q, batch, h, -1, height, width).permute(3, 0, 4, 1, 2, 5, 6)
    return y.reshape(h, p, y.shape[2], q, batch * height * width), (height, width)


@dataclass(frozen=True)
class _Structure:
    """What the order depends on, hashable."""

    sizes: tuple[tuple[str, int], ...]
    cores: tuple[tuple[str, ...], ...]
    input: tuple[str, ...]
    output: tuple[str, ...]
    kernel: tuple[str, ...]
    dense_weights: int

    @classmethod
    def of(cls, spec: Spec) -> _Structure:
        return cls(
            tuple(spec.sizes.items()),
            spec.cores,
            spec.input,
            spec.output,
            spec.kernel,
            spec.dense_weights,
        )


@lru_cache(maxsize=4096)
def contraction_order(structure: _Structure, samples: int) -> tuple[Step, ...]:
    """The cheapest order in which the live tensor absorbs groups of cores (Dijkstra over the sets
    of cores that it has absorbed).

    What a step costs depends only on the set before it and on its group: its multiplications, the
    elements that it moves, and, once for all samples, the merging of its group.
    """
    sizes = dict(structure.sizes)
    everything = frozenset(range(len(structure.cores)))
    groups = _groups(structure, sizes)

    def step(done: frozenset[int], group: tuple[int, ...]) -> tuple[Step, int] | None:
        live = _live(structure, done)
        own = {i for n in group for i in structure.cores[n]}
        rest = everything - done - {*group}
        # What other cores or the outside still need.
        needed = {*structure.output}.union(*(structure.cores[n] for n in rest))
        both = own & live
        if not both and live & {i for n in everything - done for i in structure.cores[n]}:
            return None  # join what is connected first
        kernel = tuple(i for i in structure.kernel if i in own)
        new = tuple(sorted((own - live) & needed))
        found = Step(
            group,
            shared=tuple(sorted(both & needed)),
            summed=tuple(sorted(both - needed)),
            new=new,
            kernel=kernel,
        )
        area = prod(sizes[i] for i in live | {*new, *kernel})
        moved = prod(sizes[i] for i in live) + prod(
            sizes[i] for i in (live - both) | (own & needed)
        )
        return found, samples * (area + MOVE_COST * moved) + STEP_COST

    queue: list[tuple[int, int, frozenset[int], tuple[Step, ...]]] = [(0, 0, frozenset(), ())]
    settled: set[frozenset[int]] = set()
    ticket = 0
    while queue:
        cost, _, done, path = heapq.heappop(queue)
        if done == everything:
            return path
        if done in settled:
            continue
        settled.add(done)
        for group, merging in groups.items():
            if done.isdisjoint(group):
                following = step(done, group)
                after = done.union(group)
                if following is not None and after not in settled:
                    ticket += 1
                    total = cost + following[1] + merging
                    heapq.heappush(queue, (total, ticket, after, (*path, following[0])))
    raise AssertionError("every core can be absorbed")


def _live(structure: _Structure, done: frozenset[int]) -> set[str]:
    """The live tensor's indices when these cores are in it."""
    rest = {i for n, core in enumerate(structure.cores) if n not in done for i in core}
    own = {*structure.input}.union(*(structure.cores[n] for n in done))
    ended = {i for n in done for i in structure.cores[n]} - rest - {*structure.output}
    return own - ended - {*structure.kernel}


def _groups(structure: _Structure, sizes: dict[str, int]) -> dict[tuple[int, ...], int]:
    """Single cores, and connected groups that may be merged, each with what merging costs."""
    cores = structure.cores
    groups = {(n,): 0 for n in range(len(cores))}
    if len(cores) > MOST_CORES_TO_MERGE:
        return groups
    most = structure.dense_weights * MERGED_SHARE
    for count in range(2, min(MERGED_CORES, len(cores) - 1) + 1):
        for group in combinations(range(len(cores)), count):
            merged, cost = {*cores[group[0]]}, STEP_COST
            for n in group[1:]:
                if not any(sizes[i] > 1 for i in merged & {*cores[n]}):
                    break
                outside = {*structure.input, *structure.output, *structure.kernel}
                others = (c for k, c in enumerate(cores) if k not in group or k > n)
                outside.update(i for core in others for i in core)
                joined = merged | {*cores[n]}
                cost += prod(sizes[i] for i in joined)
                merged = joined & outside
            else:
                if prod(sizes[i] for i in merged) <= most:
                    groups[group] = cost
    return groups
