"""Contraction of cores with each other and with activations, in PyTorch: the dense weight is formed
only where that is asked for.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from math import prod

from drawbar.sw.compress.backend import nn, torch
from drawbar.sw.compress.spec import Spec

#: What moving one element of the live tensor costs, what starting a step and what one more matrix
#: product in a batch costs, in multiplications. Rough figures for a CPU: they decide between orders
#: of about equal work.
MOVE_COST, STEP_COST, BATCH_COST = 8, 20_000, 4_000
#: Cores are merged only up to this share of the dense weights, and three at a time.
MERGED_SHARE, MERGED_CORES = 1 / 8, 3
#: A GPU's matrix units take channels of 16-bit numbers by so many; others are copied to such first.
GPU_CHANNELS = 8
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
        Indices of both that stay, since a later core has them too: one product for each value.
    before, summed, after:
        The other axes of the live tensor as this step takes them. Those that are summed keep their
        places where they are neighbours; then nothing has to be moved.
    new:
        Indices that the group brings, in the place of those that are summed.
    kernel:
        Indices of kernel positions that the group has: the product is a convolution.
    """

    group: tuple[int, ...]
    shared: tuple[str, ...]
    before: tuple[str, ...]
    summed: tuple[str, ...]
    after: tuple[str, ...]
    new: tuple[str, ...]
    kernel: tuple[str, ...]

    @property
    def live(self) -> tuple[str, ...]:
        """The live tensor's axes as this step takes them."""
        return (*self.shared, *self.before, *self.summed, *self.after)

    @property
    def core(self) -> tuple[str, ...]:
        """The merged core's axes as this step takes them."""
        return (*self.shared, *self.new, *self.summed, *self.kernel)

    @property
    def result(self) -> tuple[str, ...]:
        """The live tensor's axes afterwards."""
        return (*self.shared, *self.before, *self.new, *self.after)


def pair(
    a: torch.Tensor,
    a_indices: Sequence[str],
    b: torch.Tensor,
    b_indices: Sequence[str],
    keep: Set[str],
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
    modes_in, size = spec.modes_in, spec.sizes
    if prod(modes_in) != spec.inputs:
        x = nn.functional.pad(x, (0, 0, 0, prod(modes_in) - spec.inputs))
    samples = x.shape[1]
    live, indices = x, spec.input
    # A power of two, so that few orders are searched; what it decides depends on it weakly.
    for step in contraction_order(_Structure.of(spec), 1 << max(samples, 1).bit_length()):
        if step.live != indices:
            live = live.reshape(*spec.modes(indices), samples)
            live = live.permute(*(indices.index(i) for i in step.live), len(indices))
        h, p, c, q, n = (
            prod([size[i] for i in part])
            for part in (step.shared, step.before, step.summed, step.after, step.new)
        )
        matrix = _merged(cores, spec, step)
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
        elif h > 1:
            live = matrix.reshape(h, 1, n, c) @ live.reshape(h, p, c, q * samples)
        elif p > 1:
            live = matrix.reshape(1, n, c).expand(p, -1, -1) @ live.reshape(p, c, q * samples)
        else:
            live = matrix.reshape(n, c) @ live.reshape(c, q * samples)
        indices = step.result
    if indices != spec.output:
        live = live.reshape(*spec.modes(indices), samples)
        live = live.permute(*(indices.index(i) for i in spec.output), len(indices))
    live = live.reshape(prod(spec.modes_out), samples)
    return (live if len(live) == spec.outputs else live[: spec.outputs]), space


def convolve_chain(
    x: torch.Tensor,
    cores: Sequence[torch.Tensor],
    spec: Spec,
    *,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> torch.Tensor | None:
    """``contract`` of a convolution ``(batch, inputs, height, width)`` whose steps, in the cheapest
    order, are whole convolutions: of 1 x 1, and one of the kernel. Nothing is moved between them.

    Returns
    -------
    ``(batch, outputs, height', width')``, or None where a step is no such convolution.
    """
    batch, _, height, width = x.shape
    if prod(spec.modes_in) != spec.inputs or prod(spec.modes_out) != spec.outputs:
        return None
    samples = 1 << max(batch * height * width, 1).bit_length()
    steps = contraction_order(_Structure.of(spec), samples)
    live, sizes = spec.input, spec.sizes
    for step in steps:
        rest = (*step.shared, *step.before, *step.after)
        if step.live != live or any(sizes[i] > 1 for i in rest):
            return None
        if step.kernel and step.kernel != spec.kernel:
            return None
        live = step.result
    if live != spec.output:
        return None
    for step in steps:
        outputs = prod(sizes[i] for i in step.new)
        size = spec.kernel_size if step.kernel else (1, 1)
        kernel = _merged(cores, spec, step).reshape(outputs, -1, *size)
        if (multiple := channel_multiple(x)) > 1:
            kernel = _padded(kernel, x.shape[1], 1 if step is steps[-1] else multiple)
        if step.kernel:
            x = nn.functional.conv2d(x, kernel, None, stride, padding, dilation)
        else:
            x = nn.functional.conv2d(x, kernel)
    return x


def channel_multiple(x: torch.Tensor) -> int:
    """What the channels between two convolutions are best a multiple of."""
    return GPU_CHANNELS if x.is_cuda and x.element_size() == 2 else 1


def _padded(kernel: torch.Tensor, inputs: int, multiple: int) -> torch.Tensor:
    """The same kernel for so many inputs, and a multiple of outputs: the others are zeros."""
    more_outputs = -len(kernel) % multiple
    more_inputs = inputs - kernel.shape[1]
    if more_outputs or more_inputs:
        kernel = nn.functional.pad(kernel, (0, 0, 0, 0, 0, more_inputs, 0, more_outputs))
    return kernel.contiguous(memory_format=torch.channels_last)


def _merged(cores: Sequence[torch.Tensor], spec: Spec, step: Step) -> torch.Tensor:
    """The group's core with the axes of the step."""
    if len(step.group) == 1:
        (number,) = step.group
        core, indices = cores[number], spec.cores[number]
    else:
        core, indices = merge(cores, spec, step.group)
    gone = [axis for axis, index in enumerate(indices) if index not in step.core]
    if gone:  # bonds that no other core has
        core = core.sum(gone)
        indices = tuple(index for index in indices if index in step.core)
    return core if indices == step.core else core.permute([indices.index(i) for i in step.core])


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


#: Which cores the live tensor has absorbed, and the order of its axes.
_State = tuple[frozenset[int], tuple[str, ...]]


@lru_cache(maxsize=4096)
def contraction_order(structure: _Structure, samples: int) -> tuple[Step, ...]:
    """The cheapest order in which the live tensor absorbs groups of cores (Dijkstra over the cores
    that it has absorbed and the order of its axes).

    A step costs its multiplications, the elements that it moves, and, once for all samples, the
    merging of its group.
    """
    sizes = dict(structure.sizes)
    everything = frozenset(range(len(structure.cores)))
    groups = _groups(structure, sizes)
    start: _State = (frozenset(), structure.input)
    queue: list[tuple[int, int, _State, tuple[Step, ...]]] = [(0, 0, start, ())]
    settled: set[_State] = set()
    ticket = 0
    while queue:
        cost, _, state, path = heapq.heappop(queue)
        done, live = state
        if done == everything:
            return path
        if state in settled:
            continue
        settled.add(state)
        for group, merging in groups.items():
            if done.isdisjoint(group):
                step = _step(structure, done, live, group)
                if step is None:
                    continue
                ticket += 1
                total = cost + merging + _cost(step, live, sizes, samples)
                after = (done.union(group), step.result)
                heapq.heappush(queue, (total, ticket, after, (*path, step)))
    raise AssertionError("every core can be absorbed")


def _step(
    structure: _Structure, done: frozenset[int], live: tuple[str, ...], group: tuple[int, ...]
) -> Step | None:
    """Absorb a group, or None where another one is connected and this one is not."""
    cores = structure.cores
    own = {i for n in group for i in cores[n]}
    rest = {i for n, core in enumerate(cores) if n not in done and n not in group for i in core}
    both = own.intersection(live)
    if not both and rest.intersection(live):
        return None
    needed = rest.union(structure.output)
    summed = tuple(i for i in live if i in both and i not in needed)
    shared = tuple(i for i in live if i in both and i in needed)
    first = live.index(summed[0]) if summed else len(live)
    before = tuple(i for i in live[:first] if i not in both)
    after = tuple(i for i in live[first:] if i not in both)
    fresh = [i for n in group for i in cores[n] if i in needed and i not in live]
    fresh = list(dict.fromkeys(fresh))
    # What is summed later lies next to what it is summed with.
    later, last = [i for i in fresh if i in rest], [i for i in fresh if i not in rest]
    if before and before[-1] in rest and not (after and after[0] in rest):
        new = (*later, *last)
    else:
        new = (*last, *later)
    kernel = tuple(i for i in structure.kernel if i in own)
    return Step(group, shared, before, summed, after, new, kernel)


def _cost(step: Step, live: tuple[str, ...], sizes: dict[str, int], samples: int) -> int:
    """In multiplications."""
    area = prod(sizes[i] for i in (*step.live, *step.new, *step.kernel))
    read, written = (prod(sizes[i] for i in axes) for axes in (step.live, step.result))
    moved = read + written + (2 * read if step.live != live else 0)
    batch = prod(sizes[i] for i in (*step.shared, *step.before))
    return samples * (area + MOVE_COST * moved) + STEP_COST + BATCH_COST * batch


def _groups(structure: _Structure, sizes: dict[str, int]) -> dict[tuple[int, ...], int]:
    """Single cores, and connected groups that may be merged, each with what merging costs."""
    cores = structure.cores
    groups: dict[tuple[int, ...], int] = {(n,): 0 for n in range(len(cores))}
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
