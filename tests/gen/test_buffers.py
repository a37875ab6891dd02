"""Two buffers: runs keep away from what the host fills and reads, and cost nothing else."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import naive
import numpy as np
import pytest
from plan_checks import check_plan, run_in_float
from random_models import planner_config, random_model, random_tt_layer

from drawbar.gen.arrange import NoBuffers
from drawbar.gen.cycles import program_cycles
from drawbar.gen.errors import FitError, InputError
from drawbar.gen.network import Model
from drawbar.gen.place import double, least_double
from drawbar.gen.plan import plan_model
from drawbar.gen.planned import Plan
from drawbar.gen.program import descriptor_words
from drawbar.gen.schedule import least_wait
from drawbar.gen.transfers import layout_span


def in_buffer(plan: Plan, buffer: int) -> Plan:
    """The plan as if this buffer were its only one."""
    program = plan.buffer_program(buffer)
    first = {number: stage for number, stage in reversed(program)}
    stages = tuple(
        replace(p, stage=replace(p.stage, x_base=first[n].x_base, y_base=first[n].y_base))
        for n, p in enumerate(plan.stages)
    )
    layouts = plan.buffers[buffer]
    return replace(
        plan,
        program=program,
        stages=stages,
        input=layouts.input,
        output=layouts.output,
        bases=(plan.bases[buffer],),
    )


def touched(plan: Plan) -> set[int]:
    """Every element that a run reads or writes."""
    result: set[int] = set()
    for _, stage in plan.program:
        result |= set(
            naive.addresses(stage.x_base, (*naive.columns(stage, "x"), *stage.k_loops), "x")
        )
        result |= set(
            naive.addresses(stage.y_base, (*naive.columns(stage, "y"), *stage.result_loops), "y")
        )
    return result


def doubled(seeds: range, **options) -> list[tuple[int, Plan]]:
    found = []
    for seed in seeds:
        rng = random.Random(seed)
        model, config, batch = random_model(rng), planner_config(rng), rng.choice((1, 1, 2, 3))
        try:
            found.append((seed, plan_model(model, config, batch=batch, buffers=2, **options)))
        except FitError:
            continue
    return found


@pytest.mark.parametrize("minimise", ["cycles", "memory"])
def test_runs_keep_away_from_the_other_buffer(minimise: str) -> None:
    plans = doubled(range(60) if minimise == "cycles" else range(100, 125), minimise=minimise)
    assert len(plans) >= 8
    for seed, plan in plans:
        x = np.random.default_rng(seed).standard_normal((plan.batch, plan.model.inputs))
        for buffer in (0, 1):
            alone = in_buffer(plan, buffer)
            check_plan(alone)
            np.testing.assert_allclose(
                run_in_float(alone, x), plan.model.forward(x), rtol=1e-7, atol=1e-9
            )
            other = plan.buffers[1 - buffer]
            spans = [layout_span(layout, plan.batch) for layout in (other.input, other.output)]
            kept = {address for first, count in spans for address in range(first, first + count)}
            assert not touched(alone) & kept
            stages = [stage for _, stage in alone.program]
            # The same cycles; and every wait is long enough at these addresses, too.
            assert tuple(program_cycles(stages, plan.config)) == plan.cycles
            for before, after in pairwise(stages):
                assert after.wait >= least_wait(before, after, plan.config)
        spans = [
            layout_span(layout, plan.batch)
            for buffer in plan.buffers
            for layout in (buffer.input, buffer.output)
        ]
        ordered = sorted(spans)
        assert all(a + size <= b for (a, size), (b, _) in pairwise(ordered))


def test_the_second_program_follows_the_first() -> None:
    for _, plan in doubled(range(10)):
        words = len(plan.program) * descriptor_words(plan.config)
        assert [buffer.passes[0].address for buffer in plan.buffers] == [0, words]
        assert 2 * words <= plan.config.program_depth


def test_two_buffers_fit_what_they_say_they_need() -> None:
    tried = 0
    for seed in range(200, 230):
        rng = random.Random(seed)
        model, config, batch = random_model(rng), planner_config(rng), rng.choice((1, 2))
        config = config.replace(program_depth=4000)
        try:
            plan = plan_model(model, config, batch=batch, buffers=1)
        except FitError:
            continue
        tried += 1
        assert (len(plan.bases), plan.work_double) == (1, least_double(plan))
        sizes = [tensor.size for tensor in plan.tensors]
        assert 2 * (sizes[0] + sizes[-1]) <= plan.work_double
        assert plan.work_double <= plan.work_peak + 2 * (sizes[0] + sizes[-1])
        depth = -(-plan.work_double // config.lanes)
        assert len(double(replace(plan, config=config.replace(work_depth=depth))).bases) == 2
        if plan.work_double - config.lanes > plan.work_peak and depth > 2:
            with pytest.raises(NoBuffers) as caught:
                double(replace(plan, config=config.replace(work_depth=depth - 1)))
            over = (plan.work_double - (depth - 1) * config.lanes) * config.element_bytes
            assert f"{over} too many" in str(caught.value.value)
            assert f"work_depth to at least {depth}" in caught.value.fix
    assert tried >= 8


def small_model() -> Model:
    rng = random.Random(5)
    layer = random_tt_layer(rng, "fc", (4, 4, 4), (2, 4, 4), bias=False, activation="none")
    return Model("small", (layer,))


def test_one_or_two_by_default() -> None:
    config = planner_config(random.Random(1)).replace(
        rows=4, lanes=4, fold=1, core_depth=2000, work_depth=1000, program_depth=2048, fetch_words=1
    )
    model = small_model()
    two = plan_model(model, config)
    one = plan_model(model, config, buffers=1)
    assert (len(two.bases), len(one.bases)) == (2, 1)
    assert (two.cycles, two.work_peak, two.work_double) == (
        one.cycles,
        one.work_peak,
        one.work_double,
    )
    assert len(plan_model(model, config, minimise="memory").bases) == 1
    assert len(plan_model(model, config, minimise="memory", buffers=2).bases) == 2

    tight = config.replace(work_depth=-(-one.work_peak // config.lanes))
    assert len(plan_model(model, tight).bases) == 1
    assert plan_model(model, tight).cycles == plan_model(model, tight, buffers=1).cycles
    # At a price there is another plan, but not where inputs and outputs alone do not fit.
    assert len(plan_model(model, tight, buffers=2).bases) == 2
    no_room = config.replace(work_depth=2 * (model.inputs + model.outputs) // config.lanes - 1)
    assert len(plan_model(model, no_room).bases) == 1
    with pytest.raises(NoBuffers, match="two buffers: need at most the engine's"):
        plan_model(model, no_room, buffers=2)

    loops = config.replace(k_loops=4, column_loops=6)  # for longer programs
    words = 2 * len(one.program) * descriptor_words(loops)
    short = loops.replace(program_depth=words - 1)
    assert len(plan_model(model, short).bases) == 1
    with pytest.raises(NoBuffers, match=f"programs of at most {words - 1} words") as caught:
        plan_model(model, short, buffers=2)
    assert caught.value.value == f"{words} words, 1 too many"


@pytest.mark.parametrize("buffers", [0, 3])
def test_other_numbers_of_buffers(buffers: int) -> None:
    with pytest.raises(InputError, match="one or two"):
        plan_model(small_model(), planner_config(random.Random(1)), buffers=buffers)
