"""The planner: every plan runs, computes the model, and is as large as it says; or the error's
numbers are right.
"""

from __future__ import annotations

import random
import re
from math import prod

import numpy as np
import pytest
from plan_checks import check_plan, run_in_float
from random_models import factorisation, planner_config, random_model, random_tt_layer

from drawbar.gen.align import align
from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import FitError
from drawbar.gen.formats import dense_network, tt_network
from drawbar.gen.network import Model
from drawbar.gen.order import OrderSearch
from drawbar.gen.plan import plan_model
from drawbar.gen.presets import PRESETS
from drawbar.gen.program import descriptor_words, encode

BATCHES = (1, 1, 2, 3, 5)


def case(seed: int) -> tuple[Model, EngineConfig, int]:
    rng = random.Random(seed)
    return random_model(rng), planner_config(rng), rng.choice(BATCHES)


@pytest.mark.parametrize("block", range(8))
def test_random_models(block: int) -> None:
    planned = refused = 0
    for seed in range(40 * block, 40 * block + 40):
        model, config, batch = case(seed)
        try:
            plan = plan_model(model, config, batch=batch)
        except FitError:
            refused += 1
            continue
        planned += 1
        check_plan(plan)
        x = np.random.default_rng(seed).standard_normal((batch, model.inputs))
        np.testing.assert_allclose(
            run_in_float(plan, x), model.forward(x), rtol=1e-7, atol=1e-9, err_msg=f"seed {seed}"
        )
    assert planned >= 15
    assert refused >= 5


def test_work_memories_that_just_fit() -> None:
    """As much work memory as the tensors take without paddings, or a little more."""
    planned = 0
    for seed in range(3000, 3060):
        model, config, batch = case(seed)
        config = config.replace(
            core_depth=1 << 18, bias_depth=4000, program_depth=4000, k_loops=4, row_loops=4
        )
        need = max(OrderSearch(n, config, batch).least_work() for n in align(model)[0])
        config = config.replace(work_depth=max(2, -(-need // config.lanes) + seed % 3))
        if _refused(model, config, batch) is None:
            planned += 1
            check_plan(plan_model(model, config, batch=batch))
    assert planned >= 57


def test_plans_are_deterministic() -> None:
    for seed in (0, 3, 7, 11, 20):
        model, config, batch = case(seed)
        config = config.replace(core_depth=20000, work_depth=16000, bias_depth=1000)
        first, second = (plan_model(model, config, batch=batch) for _ in range(2))
        assert first.stages == second.stages
        assert (first.input, first.output) == (second.input, second.output)


#: Name, input modes, output modes, cycles, the limit that the project set itself.
TIE = [
    ("VGG-FC6", (2, 7, 8, 8, 7, 4), (4, 4, 4, 4, 4, 4), 12606, 12750, 3211264),
    ("VGG-FC7", (4, 4, 4, 4, 4, 4), (4, 4, 4, 4, 4, 4), 4158, 4250, 1048576),
    ("LSTM-UCF11", (8, 20, 20, 18), (4, 4, 4, 4), 7499, 7650, 1904640),
    ("LSTM-Youtube", (4, 20, 20, 36), (4, 4, 4, 4), 5579, 5650, 1413120),
]


@pytest.mark.parametrize(("name", "modes_in", "modes_out", "cycles", "limit", "products"), TIE)
def test_the_layers_of_tie(name, modes_in, modes_out, cycles, limit, products) -> None:
    ranks = [1, *[4] * (len(modes_in) - 1), 1]
    cores = [
        np.ones((left, m, n, right))
        for left, m, n, right in zip(ranks, modes_out, modes_in, ranks[1:], strict=False)
    ]
    plan = plan_model(Model(name, (tt_network(name, cores),)), PRESETS["large"])
    check_plan(plan)
    assert plan.proven
    assert plan.multiplications == products
    assert plan.total.total == cycles <= limit


# -- what does not fit -----------------------------------------------------------------------------

ROOMY = EngineConfig(
    name="roomy", rows=3, lanes=4, core_depth=20000, work_depth=4000, bias_depth=1000
)


def refusal(model: Model, config: EngineConfig, batch: int = 1) -> FitError:
    with pytest.raises(FitError) as caught:
        plan_model(model, config, batch=batch)
    return caught.value


def too_many(error: FitError) -> int:
    found = re.search(r"(\d+) too many", str(error.value))
    assert found is not None, error
    return int(found[1])


def test_core_memory_is_short_by_so_many_bytes() -> None:
    # 7 rows on 3: 3 row tiles of 10 steps, 30 vectors of 3 elements of 2 bytes.
    model = Model("m", (dense_network("fc", np.ones((7, 10))),))
    assert plan_model(model, ROOMY.replace(core_depth=30)).core_bytes == 180
    error = refusal(model, ROOMY.replace(core_depth=29))
    assert "'fc'" in error.subject
    assert "174 bytes of core memory" in error.rule
    assert "180 bytes" in str(error.value)
    assert too_many(error) == 6
    assert "core_depth to at least 30" in error.fix


def test_core_memory_is_short_for_the_layers_together() -> None:
    layers = (dense_network("a", np.ones((6, 10))), dense_network("b", np.ones((9, 6))))
    assert plan_model(Model("m", layers), ROOMY.replace(core_depth=38)).core_vectors == 38
    error = refusal(Model("m", layers), ROOMY.replace(core_depth=36))
    assert "'m'" in error.subject
    assert too_many(error) == 12
    assert "'a'" in str(error.value)
    assert "at least 38" in error.fix


def test_work_memory_is_short_by_so_many_bytes() -> None:
    model = Model("m", (dense_network("fc", np.ones((30, 50))),))
    assert plan_model(model, ROOMY.replace(work_depth=20)).work_bytes_peak == 160
    error = refusal(model, ROOMY.replace(work_depth=19))
    assert "152 bytes of work memory" in error.rule
    assert too_many(error) == 8
    assert "work_depth to at least 20" in error.fix


@pytest.mark.parametrize("stages_held", [1, 3])
def test_a_layout_is_short_of_bias_vectors(stages_held: int) -> None:
    """An engine that holds one stage has no room for the addresses of a roomier one."""
    cores = [np.ones((1, 4, 3, 2)), np.ones((2, 3, 3, 1))]
    model = Model("m", (tt_network("tt", cores, bias=np.ones(12)),))
    config = EngineConfig(
        rows=3, lanes=2, work_depth=60, bias_depth=6, k_loops=1, row_loops=1, column_loops=1
    )
    error = refusal(model, config.replace(stages_held=stages_held))
    assert "has a layout" in error.rule
    assert too_many(error) == 6
    assert "bias_depth to at least 12" in error.fix


def test_bias_memory_is_short_by_so_many_vectors() -> None:
    model = Model("m", (dense_network("fc", np.ones((30, 50)), bias=np.ones(30)),))
    assert plan_model(model, ROOMY.replace(bias_depth=30)).bias_vectors == 30
    error = refusal(model, ROOMY.replace(bias_depth=27))
    assert "27 bias vectors" in error.rule
    # 3 vectors of 4 lanes of 40 bits.
    assert "3 too many (60 bytes)" in str(error.value)
    assert "bias_depth to at least 30" in error.fix


def test_program_memory_is_short_by_so_many_words() -> None:
    rng = random.Random(1)
    layers = [
        random_tt_layer(rng, f"l{n}", (4, 4), (4, 4), bias=False, activation="none")
        for n in range(6)
    ]
    model = Model("deep", tuple(layers))
    plan = plan_model(model, ROOMY)
    words = len(encode([stage for _, stage in plan.program], ROOMY))
    error = refusal(model, ROOMY.replace(program_depth=words - 1))
    assert too_many(error) == 1
    assert f"program_depth to at least {words}" in error.fix
    plan_model(model, ROOMY.replace(program_depth=words))


def test_core_and_work_memory_are_short_together() -> None:
    """Small cores one by one need much work memory; merged, they need much core memory."""
    rng = random.Random(4)
    layer = random_tt_layer(
        rng, "tt", (2, 4, 4, 2), (4, 4, 4, 4), bias=False, activation="none", most_rank=8
    )
    model = Model("m", (layer,))
    trades = OrderSearch(align(model)[0][0], ROOMY, 1).trades
    assert len(trades) > 1
    few, peak = trades[0]
    more, lower = trades[1]
    # Enough core memory for the first, enough work memory for the second: neither fits. No room for
    # slices in program memory either.
    config = ROOMY.replace(
        core_depth=max(few, more - 1),
        work_depth=-(-(peak - 1) // 4) - 1,
        program_depth=4 * descriptor_words(ROOMY),
    )
    assert lower <= config.work_elements < peak
    error = refusal(model, config)
    assert too_many(error) == (more - config.core_depth) * 6 > 0
    assert f"core_depth to at least {more}" in error.fix
    # That is all it takes.
    need = re.search(r"program_depth to at least (\d+) for slices", error.fix)
    assert need is not None, error
    assert f"in slices, {need[1]} program words" in str(error.value)
    plan = plan_model(model, config.replace(program_depth=int(need[1])))
    check_plan(plan)
    assert len(plan.program) > len(plan.stages)


def test_a_batch_below_one() -> None:
    model = Model("m", (dense_network("fc", np.ones((2, 2))),))
    assert "at least 1" in refusal(model, ROOMY, batch=0).rule


FIX = re.compile(r"(\w+_(?:depth|loops)) to at least (\d+)")


@pytest.mark.parametrize("block", range(4))
def test_doing_what_the_error_says_mends_it(block: int) -> None:
    """Each fix raises something, and a few of them in a row end in a plan."""
    refused = 0
    for seed in range(1000 + 60 * block, 1060 + 60 * block):
        model, config, batch = case(seed)
        for _ in range(12):
            error = _refused(model, config, batch)
            if error is None:
                break
            refused += 1
            fixes = {name: int(number) for name, number in FIX.findall(error.fix)}
            assert fixes, error
            assert all(number > getattr(config, name) for name, number in fixes.items()), error
            assert too_many(error) > 0
            config = config.replace(**fixes)
        else:
            pytest.fail(f"seed {seed}: no end of errors")
    assert refused > 10


def _refused(model: Model, config: EngineConfig, batch: int) -> FitError | None:
    try:
        plan_model(model, config, batch=batch)
    except FitError as error:
        return error
    return None


def test_the_search_seldom_fails_where_the_sizes_fit() -> None:
    """Memories that hold a model's tensors may be too small for every layout; that is rare."""
    fitting = failed = 0
    for seed in range(2000, 2200):
        model, config, batch = case(seed)
        try:
            plan_model(model, config, batch=batch)
            fitting += 1
        except FitError as error:
            failed += "layout" in error.rule
    assert fitting > 80
    assert failed <= 4


@pytest.mark.parametrize("seed", range(40))
def test_factorisations_without_a_refinement_always_have_a_plan_in_ample_memories(
    seed: int,
) -> None:
    rng = random.Random(seed)
    modes = [rng.choice((2, 3, 4, 5)) for _ in range(3)]
    number = prod(modes)
    middle = factorisation(rng, number, 3)
    first = random_tt_layer(
        rng, "a", (4, 3, 5), tuple(modes), bias=rng.random() < 0.5, activation="relu"
    )
    second = random_tt_layer(rng, "b", middle, (3, 4, 2), bias=False, activation="none")
    config = EngineConfig(
        rows=4, lanes=8, core_depth=60000, work_depth=8000, k_loops=4, row_loops=4, column_loops=4
    )
    batch = rng.choice((1, 2, 4))
    plan = plan_model(Model("m", (first, second)), config, batch=batch)
    check_plan(plan)
    x = np.random.default_rng(seed).standard_normal((batch, plan.model.inputs))
    np.testing.assert_allclose(run_in_float(plan, x), plan.model.forward(x), rtol=1e-7, atol=1e-9)
