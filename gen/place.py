"""Places: addresses for a plan's tensors, and its stages as the program that the engine runs.

Tensors take turns at the two ends of work memory. A chain of slices keeps the tensor that it reads
at one end and the one that it leaves at the other; the tensors in between take turns at the ends of
the gap. With two buffers, the second is the mirror image of the first::

    | input 0, output 0 |      what is live between       | output 1, input 1 |      or
    | output 1, input 0 |      what is live between       | input 1, output 0 |

A run leaves the other buffer's input and output alone, and may use all the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise, product

import numpy as np

from drawbar.gen.arrange import NoBuffers, addressed
from drawbar.gen.artefact import TensorLayout
from drawbar.gen.config import EngineConfig
from drawbar.gen.cycles import program_bound, program_cycles
from drawbar.gen.errors import FitError
from drawbar.gen.images import View
from drawbar.gen.layout import Layout
from drawbar.gen.network import ContractionNetwork, Model
from drawbar.gen.order import BATCH
from drawbar.gen.planned import Plan, PlannedStage
from drawbar.gen.program import descriptor_words
from drawbar.gen.schedule import least_wait, schedule
from drawbar.gen.stage import Stage


class NoPlaces(FitError):
    """The tensors fit work memory, but not its single-port blocks."""


def place(
    model: Model,
    config: EngineConfig,
    batch: int,
    networks: tuple[ContractionNetwork, ...],
    *,
    stages: Sequence[PlannedStage],
    tensors: Sequence[Layout],
    bound: int,
    proven: bool,
    work_peak: int,
    core_vectors: int,
    bias_vectors: int,
    bases: tuple[tuple[int, ...], ...] | None = None,
    work_double: int = 0,
    views: tuple[View | None, ...] = (),
    ends: tuple[TensorLayout, TensorLayout] | None = None,
    states: tuple[int, ...] = (),
) -> Plan:
    """The plan of these stages, whose tensors have these layouts.

    Arguments
    ---------
    bound:
        The sum of the layers' lower bounds.
    bases:
        Addresses of the tensors in each buffer, where the stages have those of the first; without
        them, there is one buffer, and tensors take turns.
    ends:
        Layouts of input and output from the start of their tensors; without them, those of the
        first tensor and of the last.

    The other arguments are as in ``Plan``.

    Raises
    ------
    FitError:
        the program is too long for its memory.
    """
    if bases is None:
        sizes_of = [tensor.size for tensor in tensors]
        turns = _bases(
            sizes_of, _neighbours(stages), {0: 0}, (), config.work_elements, config.work_block
        )
        if turns is None:
            # Without blocks there is always room: the search counts elements.
            raise NoPlaces(
                f"model {model.name!r}, batch {batch}",
                f"keeps what a stage reads and writes in different blocks of {config.work_block}",
                f"no places for {len(sizes_of)} tensors of up to {max(sizes_of)} elements",
                "raise work_depth, or use smaller ranks or dual-port memory (work_blocks = 0)",
            )
        stages, bases = addressed(stages, turns), (turns,)
    stages = tuple(stages)
    count = len(bases) * sum(planned.step.slices for planned in stages)
    words = count * descriptor_words(config)
    if words > config.program_depth:
        raise FitError(
            f"model {model.name!r}",
            f"has a program of at most {config.program_depth} words",
            f"{count} stages, {words} words, {words - config.program_depth} too many",
            f"raise program_depth to at least {words}",
        )
    sizes = {BATCH: batch}
    for network in networks:
        sizes |= network.sizes
    program = _program(stages, config)

    def border(layout: Layout, base: int, indices: Sequence[str]) -> TensorLayout:
        return TensorLayout(
            base=base,
            shape=tuple(sizes[i] for i in indices),
            strides=tuple(layout.strides[i] for i in indices),
            batch_stride=layout.strides.get(BATCH, 0),
            fraction_bits=0,
        )

    return Plan(
        model=model,
        config=config,
        batch=batch,
        networks=networks,
        stages=stages,
        program=program,
        tensors=tuple(tensors),
        bases=bases,
        cycles=tuple(program_cycles([stage for _, stage in program], config)),
        bound=program_bound(bound, config),
        proven=proven,
        input=(
            border(tensors[0], bases[0][0], networks[0].input)
            if ends is None
            else replace(ends[0], base=ends[0].base + bases[0][0])
        ),
        output=(
            border(tensors[-1], bases[0][-1], networks[-1].output)
            if ends is None
            else replace(ends[1], base=ends[1].base + bases[0][-1])
        ),
        work_peak=work_peak,
        core_vectors=core_vectors,
        bias_vectors=bias_vectors,
        work_double=work_double,
        views=views,
        states=states,
    )


def least_double(plan: Plan) -> int:
    """Elements of work memory that two buffers of this plan need."""
    sizes = [tensor.size for tensor in plan.tensors]
    # What lies between two pairs of inputs and outputs is never more than the peak.
    low, high = plan.work_peak, plan.work_peak + 2 * (sizes[0] + sizes[-1])
    unit = 1
    if plan.config.work_blocks:
        # Whole blocks; each tensor may have some of its own.
        unit = plan.config.work_block
        low, high = -(-low // unit), -(-high // unit) + 2 * len(sizes)
    while low < high:
        middle = (low + high) // 2
        if _double_bases(plan, middle * unit) is None:
            low = middle + 1
        else:
            high = middle
    return high * unit


def double(plan: Plan) -> Plan:
    """The same plan with two buffers.

    Raises
    ------
    NoBuffers:
        work or program memory is too small.
    """
    config = plan.config
    where = f"model {plan.model.name!r}, batch {plan.batch}, two buffers"
    words = 2 * len(plan.program) * descriptor_words(config)
    if words > config.program_depth:
        raise NoBuffers(
            where,
            f"have programs of at most {config.program_depth} words together",
            f"{words} words, {words - config.program_depth} too many",
            f"raise program_depth to at least {words}, or use one buffer",
        )
    need = least_double(plan)
    if need > config.work_elements:
        raise NoBuffers(
            where,
            f"need at most the engine's {config.work_bytes} bytes of work memory",
            f"{need * config.element_bytes} bytes, "
            f"{(need - config.work_elements) * config.element_bytes} too many",
            f"raise work_depth to at least {-(-need // config.lanes)}, or use one buffer",
        )
    bases = _double_bases(plan, config.work_elements)
    assert bases is not None
    mirrored = tuple(
        config.work_elements - base - tensor.size
        for base, tensor in zip(bases, plan.tensors, strict=True)
    )
    moved = replace(plan, bases=(plan.bases[0], bases))
    stages = addressed(plan.stages, bases)
    here = moved.buffers[1]
    return replace(
        plan,
        stages=stages,
        program=moved.buffer_program(1),
        input=here.input,
        output=here.output,
        bases=(bases, mirrored),
        work_double=need,
    )


def _double_bases(plan: Plan, elements: int) -> tuple[int, ...] | None:
    """Element address of each tensor of the first of two buffers, within so many elements; the
    second buffer is its mirror image. None where there is no room.

    A run keeps away from the other buffer's input and output, which the host fills and reads.
    """
    sizes = [tensor.size for tensor in plan.tensors]
    x, y = sizes[0], sizes[-1]
    end = len(sizes) - 1
    # What lies at the low end: this buffer's input and output, or the other one's output.
    for fixed in (
        {0: 0, end: x},
        {0: y, end: 0},
        {0: 0, end: elements - x - y},
        {0: y, end: elements - y},
    ):
        others = [(elements - fixed[n] - sizes[n], elements - fixed[n]) for n in (0, end)]
        own = [(fixed[n], fixed[n] + sizes[n]) for n in (0, end)]
        if min(others)[0] < 0 or min(own)[0] < 0 or not _apart([*others, *own]):
            continue
        block = plan.config.work_block if plan.config.work_blocks else elements
        found = _bases(sizes, _neighbours(plan.stages), fixed, others, elements, block)
        if found is not None:
            return found
    return None


def _apart(spans: Sequence[tuple[int, int]]) -> bool:
    ordered = sorted(spans)
    return all(a[1] <= b[0] for a, b in pairwise(ordered))


def _neighbours(stages: Sequence[PlannedStage]) -> list[set[int]]:
    """For each tensor, those that are live together with it at some time."""
    result: list[set[int]] = [set() for _ in range(len(stages) + 1)]

    def together(a: int, b: int) -> None:
        result[a].add(b)
        result[b].add(a)

    for number, planned in enumerate(stages):
        together(number, number + 1)
        if planned.step.first:
            last = next(n for n in range(number, len(stages)) if stages[n].step.last)
            together(number, last + 1)
            for inside in range(number + 1, last + 1):
                together(number, inside)
                together(inside, last + 1)
    return result


def _bases(
    sizes: Sequence[int],
    neighbours: Sequence[set[int]],
    fixed: Mapping[int, int],
    reserved: Sequence[tuple[int, int]],
    elements: int,
    block: int,
) -> tuple[int, ...] | None:
    """Element address of each tensor, such that those that are live together lie apart, and what a
    stage reads and writes in different blocks of so many elements, if there is more than one.

    Tensors take turns at the ends of what is free; where that is not enough, every other end is
    tried.

    Arguments
    ---------
    fixed:
        Addresses of some tensors.
    reserved:
        Spans that no other tensor may touch.
    """
    # One that lives along with a chain of slices goes before those within.
    order = sorted(
        (n for n in range(len(sizes)) if n not in fixed),
        key=lambda n: (min(neighbours[n]), -n),
    )
    hopeless: set[tuple[int, ...]] = set()

    def span(n: int, base: int, beside: int) -> tuple[int, int]:
        """Where ``beside`` may not lie: next to it in the chain, in no block that it touches."""
        if block >= elements or abs(n - beside) != 1:
            return base, base + sizes[n]
        return base // block * block, -(-(base + sizes[n]) // block) * block

    if any(
        n + 1 in fixed and not _apart([span(n, base, n + 1), span(n + 1, fixed[n + 1], n)])
        for n, base in fixed.items()
    ):
        return None

    def go(done: int, placed: dict[int, int]) -> dict[int, int] | None:
        if done == len(order):
            return placed
        coming = set(order[done:])
        state = (done, *(placed[n] for n in sorted(placed) if neighbours[n] & coming))
        if state in hopeless:
            return None
        tensor = order[done]
        taken = [span(n, placed[n], tensor) for n in neighbours[tensor] if n in placed]
        before = placed[min(neighbours[tensor])]
        for base in _ends(sizes[tensor], [*reserved, *taken], elements, before):
            found = go(done + 1, {**placed, tensor: base})
            if found is not None:
                return found
        hopeless.add(state)
        return None

    found = go(0, dict(fixed))
    return None if found is None else tuple(found[n] for n in range(len(sizes)))


def _ends(size: int, taken: Sequence[tuple[int, int]], elements: int, before: int) -> list[int]:
    """Addresses at the ends of each gap between ``taken``, the farthest from ``before`` first."""
    found = set()
    free = 0
    for low, high in sorted([*taken, (elements, elements)]):
        if low - free >= size:
            found |= {free, low - size}
        free = max(free, high)
    return sorted(found, key=lambda base: (-abs(base - before), base))


def _slices(stages: Sequence[PlannedStage]) -> list[tuple[int, tuple[int, ...]]]:
    """The program's order: numbers of stages, each with the values of its sliced indices."""
    order: list[tuple[int, tuple[int, ...]]] = []
    number = 0
    while number < len(stages):
        end = number
        if stages[number].step.first:
            while not stages[end].step.last:
                end += 1
        for values in product(*map(range, stages[number].slice_sizes)):
            order += [(n, values) for n in range(number, end + 1)]
        number = end + 1
    return order


def _at(planned: PlannedStage, stage: Stage, values: tuple[int, ...]) -> Stage:
    """The stage for these values of its sliced indices."""
    x = sum(v * stride for v, stride in zip(values, planned.slice_x, strict=True))
    y = sum(v * stride for v, stride in zip(values, planned.slice_y, strict=True))
    return replace(stage, x_base=stage.x_base + x, y_base=stage.y_base + y)


def written_by(planned: PlannedStage) -> np.ndarray:
    """Addresses that a stage writes, in all of its slices."""
    found = planned.stage.addresses("y")
    for stride, count in zip(planned.slice_y, planned.slice_sizes, strict=True):
        found = (found[:, None] + np.arange(count) * stride).reshape(-1)
    return found


def _program(stages: Sequence[PlannedStage], config: EngineConfig) -> tuple[tuple[int, Stage], ...]:
    """The stages as the engine runs them, with the column orders that make their waits short."""
    # Orders are chosen for a chain of slices as a whole: as it is entered and as it is left.
    outline = []
    for planned in stages:
        end = tuple(size - 1 for size in planned.slice_sizes)
        outline.append(replace(planned.stage, y_base=_at(planned, planned.stage, end).y_base))
    scheduled, _ = schedule(outline, config)
    if all(planned.step.slices == 1 for planned in stages):
        return tuple(enumerate(scheduled))

    order = _slices(stages)
    program: list[tuple[int, Stage]] = []
    waits: dict[tuple[int, int], int] = {}
    for number, values in order:
        chosen = replace(scheduled[number], y_base=stages[number].stage.y_base, wait=0)
        stage = _at(stages[number], chosen, values)
        if program:
            before_number, before = program[-1]
            pair = (before_number, number)
            # Within a chain every slice has its tensors at the same place; from one slice to the
            # next none is handed on.
            inside = stages[before_number].step.slices > 1 and not stages[before_number].step.last
            wait = waits.get(pair) if inside else None
            if wait is None:
                wait = least_wait(before, stage, config)
                waits[pair] = wait
            stage = replace(stage, wait=wait)
        program.append((number, stage))
    return tuple(program)
