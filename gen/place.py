"""Places: addresses for a plan's tensors, and its stages as the program that the engine runs.

Tensors take turns at the two ends of work memory. A chain of slices keeps the tensor that it reads
at one end and the one that it leaves at the other; the tensors in between take turns at the ends of
the gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from drawbar.gen.artefact import TensorLayout
from drawbar.gen.config import EngineConfig
from drawbar.gen.cycles import program_bound, program_cycles
from drawbar.gen.errors import FitError
from drawbar.gen.layout import Layout
from drawbar.gen.network import ContractionNetwork, Model
from drawbar.gen.order import BATCH
from drawbar.gen.planned import Plan, PlannedStage
from drawbar.gen.program import descriptor_words
from drawbar.gen.schedule import least_wait, schedule
from drawbar.gen.stage import Stage


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
) -> Plan:
    """The plan of these stages, whose tensors have these layouts, one more than stages.

    ``bound`` is the sum of the layers' lower bounds; the other arguments are as in ``Plan``.

    Raises
    ------
    FitError:
        the program is too long for its memory.
    """
    bases = _bases(stages, tensors, config)
    stages = tuple(
        replace(
            planned,
            stage=replace(planned.stage, x_base=bases[number], y_base=bases[number + 1]),
        )
        for number, planned in enumerate(stages)
    )
    count = sum(planned.step.slices for planned in stages)
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
    program = _program(stages, sizes, config)

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
        cycles=tuple(program_cycles([stage for _, stage in program], config)),
        bound=program_bound(bound, config),
        proven=proven,
        input=border(tensors[0], bases[0], networks[0].input),
        output=border(tensors[-1], bases[-1], networks[-1].output),
        work_peak=work_peak,
        core_vectors=core_vectors,
        bias_vectors=bias_vectors,
    )


def _bases(
    stages: Sequence[PlannedStage], tensors: Sequence[Layout], config: EngineConfig
) -> list[int]:
    """Element address of each tensor."""
    bases = [0]
    low, high = 0, config.work_elements
    at_end = False
    for number, planned in enumerate(stages):
        step, written = planned.step, tensors[number + 1]
        if step.first:
            last = next(n for n in range(number, len(stages)) if stages[n].step.last)
            read, left = tensors[number].size, tensors[last + 1].size
            low, high = (left, high - read) if at_end else (read, high - left)
            operand_at_end = at_end
        if step.last:
            low, high = 0, config.work_elements
            at_end = not operand_at_end
        else:
            at_end = not at_end
        bases.append(high - written.size if at_end else low)
    return bases


def _slices(
    stages: Sequence[PlannedStage], sizes: dict[str, int]
) -> list[tuple[int, tuple[int, ...]]]:
    """The program's order: numbers of stages, each with the values of its sliced indices."""
    order: list[tuple[int, tuple[int, ...]]] = []
    number = 0
    while number < len(stages):
        end = number
        if stages[number].step.first:
            while not stages[end].step.last:
                end += 1
        indices = stages[number].step.sliced
        for values in product(*(range(sizes[i]) for i in indices)):
            order += [(n, values) for n in range(number, end + 1)]
        number = end + 1
    return order


def _at(planned: PlannedStage, stage: Stage, values: tuple[int, ...]) -> Stage:
    """The stage for these values of its sliced indices."""
    x = sum(v * stride for v, stride in zip(values, planned.slice_x, strict=True))
    y = sum(v * stride for v, stride in zip(values, planned.slice_y, strict=True))
    return replace(stage, x_base=stage.x_base + x, y_base=stage.y_base + y)


def _program(
    stages: Sequence[PlannedStage], sizes: dict[str, int], config: EngineConfig
) -> tuple[tuple[int, Stage], ...]:
    """The stages as the engine runs them, with the column orders that make their waits short."""
    # Orders are chosen for a chain of slices as a whole: as it is entered and as it is left.
    outline = []
    for planned in stages:
        end = tuple(sizes[i] - 1 for i in planned.step.sliced)
        outline.append(replace(planned.stage, y_base=_at(planned, planned.stage, end).y_base))
    scheduled, _ = schedule(outline, config)
    if all(planned.step.slices == 1 for planned in stages):
        return tuple(enumerate(scheduled))

    order = _slices(stages, sizes)
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
