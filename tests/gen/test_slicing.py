"""Slices: plans that run a chain of stages once for each value of some indices."""

from __future__ import annotations

import random
from functools import cache
from math import prod

import numpy as np
import pytest
from plan_checks import check_plan, run_in_float
from random_models import random_tt_layer

from drawbar.gen.align import align
from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import FitError, InputError
from drawbar.gen.formats import dense_network, tt_network
from drawbar.gen.network import Model
from drawbar.gen.order import BATCH, OrderSearch
from drawbar.gen.plan import MOST_EXTRA_CYCLES, Plan, plan_model
from drawbar.gen.presets import PRESETS
from drawbar.gen.program import decode
from drawbar.gen.search import Planner
from drawbar.gen.slicing import ENDLESS, order_peak, order_stages, sliced_orders
from drawbar.layer_suites import RANK_LAYERS
from drawbar.sim.golden import accumulate, round_shift, run_artefact, saturate
from drawbar.sw.compress.quantise import quantise


def fc6() -> Model:
    """VGG-FC6 in the modes of TIE, inner ranks 4."""
    rng = np.random.default_rng(6)
    modes_in, ranks = (2, 7, 8, 8, 7, 4), (1, 4, 4, 4, 4, 4, 1)
    cores = [
        rng.standard_normal((left, 4, n, right)) / np.sqrt(n * right)
        for left, n, right in zip(ranks, modes_in, ranks[1:], strict=False)
    ]
    return Model("FC6", (tt_network("FC6", cores),))


def random_case(seed: int) -> tuple[Model, EngineConfig, int]:
    """One or two layers of three to five cores, an engine with room for slices, and a batch."""
    rng = random.Random(seed)
    layers = []
    modes: tuple[int, ...] = ()
    for number in range(rng.choice((1, 1, 2))):
        count = rng.randint(3, 5) if number == 0 else len(modes)
        modes_in = modes or tuple(rng.choice((2, 3, 4)) for _ in range(count))
        if number and rng.random() < 0.3:
            # Another factorisation, without a refinement that both know.
            modes_in = (5, *modes_in[1:-1], 7)
        modes = tuple(rng.choice((2, 3, 4)) for _ in range(count))
        if number and prod(modes_in) != layers[-1].outputs:
            modes_in = layers[-1].modes_out
        layers.append(
            random_tt_layer(
                rng,
                f"layer{number}",
                modes_in,
                modes,
                bias=False,
                activation=rng.choice(("none", "relu")),
                most_rank=rng.randint(2, 8),
            )
        )
    config = EngineConfig(
        name="slices",
        rows=rng.choice((1, 2, 3, 4, 8)),
        lanes=rng.choice((1, 2, 4, 8)),
        core_depth=20000,
        work_depth=16000,
        bias_depth=1000,
        program_depth=1 << 14,
        k_loops=4,
        row_loops=4,
        column_loops=4,
    )
    return Model("random", tuple(layers)), config, rng.choice((1, 1, 2, 3))


def tight(model: Model, config: EngineConfig, batch: int) -> EngineConfig:
    """The engine with so little core memory that cores can hardly be merged, and with too little
    work memory for what plan is left without slices.
    """
    needs = [OrderSearch(n, config, batch).trades[0] for n in align(model)[0]]
    return config.replace(
        core_depth=max(2, sum(core for core, _ in needs)),
        work_depth=max(2, (max(peak for _, peak in needs) - 1) // config.lanes),
    )


@cache
def tight_plans() -> dict[int, Plan]:
    """Plans in slices by seed, of all the cases where slices help."""
    plans = {}
    for seed in range(100):
        model, config, batch = random_case(seed)
        try:
            plans[seed] = plan_model(model, tight(model, config, batch), batch=batch)
        except FitError:
            continue
    return plans


def run_by_names(plan: Plan, cores: np.ndarray, shifts: list[int], x: np.ndarray) -> np.ndarray:
    """A plan's integers by index names, each step whole, without addresses: ``(samples, inputs)``
    to outputs.
    """
    config = plan.config
    live, indices = x, ("features",)
    for planned, shift in zip(plan.stages, shifts, strict=True):
        network, stage = plan.networks[planned.layer], planned.stage
        if indices == ("features",):
            indices = network.input
            live = live.reshape(len(x), *(network.sizes[i] for i in indices))
        shared = stage.shared
        image = cores[stage.core_base : stage.core_base + stage.core_vectors(config)]
        image = image.reshape(shared, -1, stage.k, config.rows).transpose(0, 1, 3, 2)
        matrices = image.reshape(shared, -1, stage.k)[:, : stage.rows]
        taken = (*planned.shared_order, *planned.k_order)
        columns = (*planned.shared_order, *(i for i in indices if i not in taken))
        axes = [1 + indices.index(i) for i in (*columns, *planned.k_order)]
        operand = live.transpose(0, *axes).reshape(len(x), shared, -1, stage.k)
        result = round_shift(accumulate(matrices, operand, config.acc_width), shift)
        result = saturate(result, config.data_width, stage.activation)
        indices = (*columns, *planned.row_order)
        live = result.reshape(len(x), *(network.sizes[i] for i in indices))
        if planned.ends_layer:
            axes = [1 + indices.index(i) for i in network.output]
            live, indices = live.transpose(0, *axes).reshape(len(x), -1), ("features",)
    return live


def check_bits(plan: Plan, x: np.ndarray) -> np.ndarray:
    """A program in slices in the golden model's memories against its whole steps without addresses;
    real outputs.
    """
    artefact = quantise(plan, x)
    integers = artefact.quantise_input(x)
    decoded = decode(artefact.program, plan.config)
    shifts = [0] * len(plan.stages)
    for (number, _), stage in zip(plan.program, decoded, strict=True):
        shifts[number] = stage.shift
    found = run_artefact(artefact, integers)
    np.testing.assert_array_equal(found, run_by_names(plan, artefact.cores, shifts, integers))
    slices = [plan.stages[n].step.slices for n, _ in plan.program]
    assert [entry["slices"] for entry in artefact.meta["stages"]] == slices
    return artefact.dequantise_output(found)


# -- VGG-FC6 ---------------------------------------------------------------------------------------


def test_fc6_in_96_kib_of_work_memory() -> None:
    model, config = fc6(), PRESETS["large"]
    fastest = plan_model(model, config)
    assert (fastest.total.total, fastest.work_bytes_peak) == (12606, 172158)
    plan = plan_model(model, config, minimise="memory")
    check_plan(plan)
    assert plan.layer_text(0) == "X 14 x [(G5G6) G4 G3] (G1G2)"
    assert plan.minimise == "memory"
    assert plan.layer_slices(0) == 14
    assert plan.work_bytes_peak == 91262 <= 96 * 1024
    assert plan.total.total == 12723 <= 1.1 * fastest.total.total
    assert len(plan.program) == 43


def test_fc6_is_sliced_where_nothing_else_fits() -> None:
    model, config = fc6(), PRESETS["large"].replace(work_depth=3072)
    assert config.work_bytes == 96 * 1024
    plan = plan_model(model, config)
    check_plan(plan)
    assert plan.minimise == "cycles"
    assert plan.layer_slices(0) > 1
    assert plan.total.total <= 12741
    check_bits(plan, np.random.default_rng(1).standard_normal((2, model.inputs)))


# -- forced by tight memories ----------------------------------------------------------------------


def test_slices_where_paddings_of_whole_tensors_do_not_fit() -> None:
    """VGG-FC7 at rank 16 fits as a whole, but only with half-empty tiles."""
    layer = next(layer for layer in RANK_LAYERS if layer.name == "VGG-FC7, rank 16")
    config = PRESETS["large"].replace(core_depth=2048)
    whole = Planner(layer.model(), config, 1, "cycles").plan()
    plan = plan_model(layer.model(), config)
    assert max(planned.step.slices for planned in plan.stages) > 1
    assert plan.total.total <= 1.04 * 41_472 < whole.total.total / 2


def test_tight_memories_force_slices() -> None:
    plans = tight_plans()
    assert len(plans) >= 60
    batches = layers = 0
    for seed, plan in plans.items():
        check_plan(plan)
        assert len(plan.program) > len(plan.stages)
        batches += any(BATCH in planned.step.sliced for planned in plan.stages)
        layers += any(planned.step.first and planned.layer for planned in plan.stages)
        x = np.random.default_rng(seed).standard_normal((plan.batch, plan.model.inputs))
        np.testing.assert_allclose(
            run_in_float(plan, x),
            plan.model.forward(x),
            rtol=1e-7,
            atol=1e-9,
            err_msg=f"seed {seed}",
        )
    assert batches >= 3
    assert layers >= 3


def test_slices_change_no_bit() -> None:
    for seed, plan in tight_plans().items():
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((3 * plan.batch, plan.model.inputs))
        found = check_bits(plan, x)
        wanted = plan.model.forward(x)
        assert ((found - wanted) ** 2).mean() <= 1e-5 * (wanted**2).mean() + 1e-12


# -- least memory ----------------------------------------------------------------------------------


def test_least_memory_takes_less_memory_and_little_longer() -> None:
    smaller = 0
    for seed in range(20):
        model, config, batch = random_case(seed)
        fastest = plan_model(model, config, batch=batch)
        plan = plan_model(model, config, batch=batch, minimise="memory")
        check_plan(plan)
        assert plan.minimise == "memory"
        assert plan.work_peak <= fastest.work_peak
        assert plan.total.total <= (1 + MOST_EXTRA_CYCLES) * fastest.total.total
        smaller += plan.work_peak < fastest.work_peak
        x = np.random.default_rng(seed).standard_normal((batch, model.inputs))
        np.testing.assert_allclose(run_in_float(plan, x), model.forward(x), rtol=1e-7, atol=1e-9)
        if seed < 5:
            again = plan_model(model, config, batch=batch, minimise="memory")
            assert (again.program, again.input) == (plan.program, plan.input)
    assert smaller >= 8


def test_least_memory_of_a_model_that_fits_no_plan_that_fast() -> None:
    """Slower plans are left when work memory is that tight: the fastest of them."""
    plans = [
        (plan, plan_model(plan.model, plan.config, batch=plan.batch, minimise="memory"))
        for plan in list(tight_plans().values())[:10]
    ]
    slow = 0
    for plan, least in plans:
        check_plan(least)
        roomy = plan.config.replace(work_depth=1 << 16)
        fastest = plan_model(plan.model, roomy, batch=plan.batch)
        limit = (1 + MOST_EXTRA_CYCLES) * fastest.total.total
        slow += least.total.total > limit
        if least.total.total > limit:
            assert least.program == plan.program
    assert slow >= 2


def test_what_does_not_fit_says_so_whatever_is_minimised() -> None:
    model = Model("m", (dense_network("fc", np.ones((30, 50))),))
    config = EngineConfig(name="small", rows=3, lanes=4, core_depth=4000, work_depth=19)
    messages = []
    for minimise in ("cycles", "memory"):
        with pytest.raises(FitError, match="8 too many") as caught:
            plan_model(model, config, minimise=minimise)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    with pytest.raises(InputError, match="cycles, memory"):
        plan_model(model, config, minimise="bytes")


# -- orders ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_sliced_orders_keep_to_their_limits(seed: int) -> None:
    model, config, batch = random_case(seed)
    search = OrderSearch(align(model)[0][0], config, batch)
    whole = dict.fromkeys(order for _, order in search.orders(config.core_depth, ENDLESS))
    most = max(order_peak(order) for order in whole)
    limit, stages = most * 2 // 3, 40
    found = list(sliced_orders(search, config.core_depth, limit, stages, 50))
    bounds = [bound for bound, _ in found]
    assert bounds == sorted(bounds)
    for bound, order in found:
        assert bound == sum(step.bound for step in order)
        assert order_peak(order) <= limit
        slices = {step.slices for step in order if step.sliced}
        if not slices:
            assert order in whole
            continue
        assert order_stages(order) <= stages
        chain = [n for n, step in enumerate(order) if step.sliced]
        assert chain == list(range(len(chain)))
        assert 2 <= len(chain) < len(order)
        (count,) = slices
        indices = order[0].sliced
        assert count == search.size(indices)
        for n in chain:
            step = order[n]
            assert (step.first, step.last) == (n == 0, n == chain[-1])
            assert not {*indices} & {*step.columns, *step.rows, *step.k}
            # The same products as the whole order's.
            products = search.size((*step.columns, *step.rows, *step.k)) * count
            assert products == step.multiplications
        between = [order[n].result for n in chain[:-1]]
        assert between == [order[n + 1].live for n in chain[:-1]]
