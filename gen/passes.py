"""Passes: a model whose cores, biases or program are larger than the engine's memories runs as
several programs one after the other, and while one of them computes, the host writes what the next
one needs.

The planner first plans as if those memories had no end. Here its stages are cut into consecutive
*passes*. Tensors stay where they are in work memory: a pass goes on where the one before has
stopped. Of each memory that is too small some things stay (whole cores, as many as leave room for
the others), and the rest takes turns at the two ends of what is free::

    core memory    | stays | pass 0 ...           ... pass 1 |      then
                   | stays | pass 2 ..            ... pass 1 |      and so on

so what a pass needs is written beside the pass before it wherever the two have room together;
where they have not, the host waits for its end. ``gen.cuts`` says where to cut, and what stays. A
core that is too large for such turns is itself cut in parts (``gen.parts``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

from drawbar.gen.artefact import Load, Pass
from drawbar.gen.config import EngineConfig
from drawbar.gen.cuts import SPACES, Cut, best_cut, bias_need, depths_of, runs, total, units_of
from drawbar.gen.cycles import fetch_cycles, program_cycles
from drawbar.gen.errors import FitError
from drawbar.gen.parts import parts
from drawbar.gen.planned import Plan, Turns
from drawbar.gen.program import descriptor_words
from drawbar.gen.protocol import Space
from drawbar.gen.schedule import least_wait
from drawbar.gen.stage import Stage

#: Cores are cut into parts of at most these fractions of core memory, so that turns can be short.
PARTS = (2, 8)


def _turns(sizes: Sequence[int], low: int, high: int) -> list[int]:
    """Where each of so many things goes that take turns between ``low`` and ``high``: apart from
    the one before it, and the last also from the first, as it begins anew; if there is room.
    """
    places: list[int] = []
    for number, size in enumerate(sizes):
        taken = [number - 1] if number else []
        if number == len(sizes) - 1 and number > 1:
            taken.append(0)
        ends = [(places[n], places[n] + sizes[n]) for n in taken if sizes[n]]
        choices = [low, high - size, *(e for _, e in ends), *(b - size for b, _ in ends)]
        apart = [
            sum(place + size <= begin or end <= place for begin, end in ends)
            for place in choices
            if low <= place <= high - size
        ]
        inside = [place for place in choices if low <= place <= high - size]
        places.append(inside[apart.index(max(apart))])
    return places


def in_passes(plan: Plan, config: EngineConfig) -> Plan:
    """A plan that was made for larger core, bias and program memories, on this engine: in passes,
    or whole if it fits.

    Raises
    ------
    FitError:
        one stage's core or biases are larger than the memory.
    """
    found = []
    for fraction in PARTS:
        most = max(1, config.core_depth // fraction)
        program = [
            (number, part)
            for number, stage in plan.program
            for part in ([stage] if plan.stages[number].fills else parts(stage, most, config))
        ]
        cut = best_cut(plan, program, config)
        if cut is not None:
            found.append(cut)
    if not found:
        raise _too_large(plan, program, config)
    return _placed(plan, config, min(found, key=lambda cut: cut.time))


def _placed(plan: Plan, config: EngineConfig, cut: Cut) -> Plan:
    """The plan with its cores, biases and programs in their places."""
    words, depths = descriptor_words(config), depths_of(config)
    length, buffers = len(cut.units), len(plan.bases)
    ends = [*accumulate(len(units) for units in cut.units)]
    program = _waiting(plan, cut.program, ends, config)
    cycles = [
        own
        for first, end in pairwise((0, *ends))
        for own in program_cycles([stage for _, stage in program[first:end]], config)
    ]
    spent = [sum(c.total for c in cycles[first:end]) for first, end in pairwise((0, *ends))]
    loads, stay = _staying(cut, plan, program, words)
    # Of each buffer's each pass: where what streams lies.
    needs = [
        {space: runs({n: None for unit in units for n in unit.needs[space]}) for space in cut.free}
        for units in cut.units
    ] * buffers
    low = {space: depths[space] - free for space, free in cut.free.items()}
    places = {
        space: _turns([total(own[space]) for own in needs], low[space], depths[space])
        for space in cut.free
    }
    passes: list[tuple[Pass, ...]] = []
    bases: list[tuple[tuple[int, int | None], ...]] = []
    for buffer in range(buffers):
        own_passes, own_bases = [], []
        offset = buffer * len(program) * words
        for number, (first, end) in enumerate(pairwise((0, *ends))):
            turn = buffer * length + number
            own_loads, here = [], dict(stay)
            for space in cut.free:
                target = places[space][turn]
                for source, count in needs[turn][space]:
                    begin = source + (offset if space == Space.PROGRAM else 0)
                    own_loads.append(Load(space, begin, target, count))
                    here |= {(space, source + n): target + n for n in range(count)}
                    target += count
            source = first * words
            address = here[Space.PROGRAM, source]
            if Space.PROGRAM not in cut.free:
                address += offset
            own_passes.append(Pass(address, source + offset, spent[number], tuple(own_loads)))
            own_bases += [
                _base(plan, planned, stage, here, config) for planned, stage in program[first:end]
            ]
        passes.append(tuple(own_passes))
        bases.append(tuple(own_bases))
    # A pass begins when all before it is done: longer descriptors are not meant.
    more = fetch_cycles(plan.config) - fetch_cycles(config)
    steps = sum(len(network.cores) + 1 for network in plan.networks)
    whole = not cut.free
    turns = None if whole else Turns(tuple(ends), loads, tuple(passes), tuple(bases))
    return replace(
        plan,
        config=config,
        program=tuple(
            (number, replace(stage, core_base=core, bias_base=bias))
            for (number, stage), (core, bias) in zip(program, bases[0], strict=True)
        ),
        cycles=tuple(cycles),
        bound=plan.bound - more * (1 + steps),
        proven=False,
        turns=turns,
    )


def _waiting(
    plan: Plan, program: Sequence[tuple[int, Stage]], ends: Sequence[int], config: EngineConfig
) -> list[tuple[int, Stage]]:
    """The program with the waits that its cuts leave: none at the start of a pass."""
    whole = {stage for _, stage in plan.program}
    result: list[tuple[int, Stage]] = []
    for place, (number, stage) in enumerate(program):
        if place == 0 or place in ends:
            stage = replace(stage, wait=0)
        elif stage not in whole or program[place - 1][1] not in whole:
            stage = replace(stage, wait=least_wait(program[place - 1][1], stage, config))
        result.append((number, stage))
    return result


def _staying(
    cut: Cut, plan: Plan, program: Sequence[tuple[int, Stage]], words: int
) -> tuple[tuple[Load, ...], dict[tuple[Space, int], int]]:
    """What is loaded once, and where each of its words and vectors lies."""
    counts = {
        Space.CORE: plan.core_vectors,
        Space.BIAS: plan.bias_vectors,
        Space.PROGRAM: len(plan.bases) * len(program) * words,
    }
    loads = [
        Load(space, 0, 0, count)
        for space, count in counts.items()
        if space not in cut.free and count
    ]
    target = 0
    if Space.CORE in cut.free:
        for first, count in runs({need: None for need in cut.kept}):
            loads.append(Load(Space.CORE, first, target, count))
            target += count
    stay = {
        (load.space, load.source + n): load.target + n for load in loads for n in range(load.count)
    }
    return tuple(loads), stay


def _base(
    plan: Plan,
    number: int,
    stage: Stage,
    here: dict[tuple[Space, int], int],
    config: EngineConfig,
) -> tuple[int, int | None]:
    """The core and bias vectors at which a stage begins."""
    core = here[Space.CORE, stage.core_base] if stage.core_vectors(config) else 0
    need = bias_need(plan.stages[number].stage, config)
    if need is None or stage.bias_base is None:
        return core, None
    return core, here[Space.BIAS, need[0]] + stage.bias_base - need[0]


def _too_large(plan: Plan, program: Sequence[tuple[int, Stage]], config: EngineConfig) -> FitError:
    """The error for a stage that is larger than a memory."""
    depths = depths_of(config)
    sizes = {
        Space.CORE: config.rows * config.element_bytes,
        Space.BIAS: config.lanes * config.acc_width // 8,
        Space.PROGRAM: 4,
    }
    worst = max(
        (total(unit.needs[space]) - depths[space], space, place)
        for place, unit in enumerate(units_of(plan, program, config))
        for space in SPACES
    )
    over, space, place = worst
    stage = program[place][1]
    name, size = space.name.lower(), sizes[space]
    whole = stage in {own for _, own in plan.program}
    part = "" if whole else "a part, with "
    return FitError(
        f"layer {plan.networks[stage.layer].name!r}, batch {plan.batch}",
        f"has stages that each fit the engine's {depths[space] * size} bytes of {name} memory, so "
        "that they can take turns",
        f"{part}a core of {stage.core_text} that takes {(depths[space] + over) * size} bytes, "
        f"{over * size} too many",
        f"raise {name}_depth to at least {depths[space] + over}, or use smaller ranks or modes",
    )
