"""Passes: a model that is larger than the engine's memories computes the same, and nothing is
written over what a pass needs that may still run.
"""

from __future__ import annotations

import random
import re
from dataclasses import replace
from itertools import accumulate, pairwise

import numpy as np
import pytest
from random_models import planner_config, random_model
from random_stages import random_config, random_stage

from drawbar.fuzz_graphs import random_graph
from drawbar.gen.artefact import Artefact, Load
from drawbar.gen.config import EngineConfig
from drawbar.gen.cycles import program_cycles
from drawbar.gen.errors import FitError
from drawbar.gen.formats import dense_network
from drawbar.gen.network import Model
from drawbar.gen.order import OrderSearch
from drawbar.gen.parts import parts
from drawbar.gen.passes import in_passes
from drawbar.gen.plan import Plan, plan_model
from drawbar.gen.presets import PRESETS
from drawbar.gen.protocol import WAIT_IDLE, Op, Space
from drawbar.gen.schedule import least_wait
from drawbar.gen.stage import Stage, check_stage
from drawbar.gen.timeline import artefact_streaming, plan_streaming
from drawbar.gen.transfers import STREAMS, LinkRate, row_of_runs, serial_rate
from drawbar.layer_suites import Layer
from drawbar.sim.golden import run_artefact, run_stage
from drawbar.sw.compress.quantise import quantise

SMALL = Layer("small", (4, 4, 4), (4, 4, 4), (1, 4, 4, 1)).model()
TINY = PRESETS["tiny"]
ROOMY = EngineConfig(
    name="roomy",
    rows=3,
    lanes=4,
    core_depth=1 << 14,
    work_depth=1500,
    bias_depth=1 << 12,
    program_depth=1 << 14,
    products=1,
)


# -- parts of a stage ------------------------------------------------------------------------------


def _bias_of(config: EngineConfig, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(-999, 999, (config.bias_depth, config.lanes))


def test_parts_of_a_stage_do_the_same() -> None:
    cut = whole = 0
    for seed in range(300):
        rng = random.Random(seed)
        config = random_config(rng)
        stage = random_stage(rng, config)
        most = rng.choice((1, 3, 8, 20))
        found = parts(stage, most, config)
        values = np.random.default_rng(seed)
        low, high = config.data_min, config.data_max
        core = values.integers(low, high, (config.core_depth, config.rows), endpoint=True)
        work = values.integers(low, high, (1, config.work_elements), endpoint=True)
        bias = _bias_of(config, values)
        expected = work.copy()
        run_stage(stage, config, core, bias, expected)
        # The parts' cores are the whole's, in order.
        begins = [stage.core_base + n for n in accumulate(p.core_vectors(config) for p in found)]
        assert [part.core_base for part in found] == [stage.core_base, *begins[:-1]]
        assert begins[-1] == stage.core_base + stage.core_vectors(config)
        for part in found:
            check_stage(part, config, "part")
            run_stage(part, config, core, bias, work)
        np.testing.assert_array_equal(work, expected, err_msg=f"seed {seed}")
        cut += len(found) > 1
        whole += len(found) == 1
        for part in found:
            # Where the array folds, each begins as far behind the first as wide vectors do.
            assert (part.core_base - stage.core_base) % config.fold == 0
            if part.core_vectors(config) > most:
                # One tile of rows, or rows whose nest has no whole tiles, or wide vectors, to cut
                # at.
                assert part.shared == 1 or config.fold > 1
                few = part.shared > 1 or part.row_tiles(config) <= config.fold
                assert few or len(part.row_loops) > 1
    assert cut > 60
    assert whole > 40


# -- plans -----------------------------------------------------------------------------------------


def _needed(artefact: Artefact, stages: list[Stage], address: int) -> dict[Space, set[int]]:
    """What of the memories a pass's program reads."""
    config = artefact.config
    words = len(artefact.program) // sum(
        len(own) for n in range(len(artefact.buffers)) for own in artefact.pass_stages(n)
    )
    cores: set[int] = set()
    biases: set[int] = set()
    for stage in stages:
        cores |= set(range(stage.core_base, stage.core_base + stage.core_vectors(config)))
        if stage.bias_base is not None:
            vectors = np.array([stage.bias_base])
            tiles = -(-stage.lane_count // stage.lanes(config))
            for count, step in (
                (tiles, stage.lane_bias),
                *((loop.count, loop.bias) for loop in (*stage.row_loops, *stage.column_loops)),
            ):
                vectors = (vectors[:, None] + np.arange(count) * step).reshape(-1)
            biases |= set(vectors.tolist())
    program = set(range(address, address + len(stages) * words))
    return {Space.CORE: cores, Space.BIAS: biases, Space.PROGRAM: program}


def check_row(artefact: Artefact, rate: LinkRate, runs: int = 5) -> None:
    """Walk through a row of runs: every load arrives before the pass that needs it, and none goes
    where a pass that may still run has what it reads.
    """
    config = artefact.config
    passes = [
        (one, _needed(artefact, stages, one.address))
        for n, buffer in enumerate(artefact.buffers)
        for one, stages in zip(buffer.passes, artefact.pass_stages(n), strict=True)
    ]
    length = len(artefact.buffers[0].passes)
    depths = {
        Space.CORE: config.core_depth,
        Space.BIAS: config.bias_depth,
        Space.PROGRAM: config.program_depth,
    }
    holds = {space: np.full(depth, -1) for space, depth in depths.items()}
    items = {Space.CORE: 1 << config.row_bits, Space.BIAS: config.lanes, Space.PROGRAM: 1}

    def write(load: Load) -> None:
        places = np.arange(load.target, load.target + load.count)
        holds[load.space][places] = np.arange(load.source, load.source + load.count)

    for load in artefact.loads:
        write(load)
    started: list[int] = []
    ended = written = 0
    row = row_of_runs(
        artefact.buffers,
        config,
        batch=artefact.batch,
        cycles=artefact.cycles,
        rate=rate,
        runs=runs,
    )
    waits = 0
    for transfer in row:
        match transfer.op:
            case Op.WRITE if transfer.space != Space.WORK:
                size = config.element_bytes if transfer.space == Space.CORE else 8
                size = 4 if transfer.space == Space.PROGRAM else size
                first, count = transfer.item, transfer.length // size
                per = items[transfer.space]
                rows = range(first // per, -(-(first + count) // per))
                sources = range(transfer.source // per, -(-(transfer.source + count) // per))
                for running in started[ended:]:
                    assert not set(rows) & passes[running][1][transfer.space]
                holds[transfer.space][list(rows)] = list(sources)
            case Op.WRITE:
                # The run of this buffer before has ended, and its results are out.
                assert ended >= (transfer.run - len(artefact.buffers) + 1) * length
                written = max(written, transfer.run + 1)
            case Op.READ:
                assert ended >= (transfer.run + 1) * length
            case Op.RUN:
                number = len(started) % len(passes)
                one, needed = passes[number]
                assert transfer.item == one.address
                assert written * length > len(started)
                # No third program: one runs, one is pending.
                assert len(started) - ended <= 1
                for load in (*one.loads, *artefact.loads):
                    places = np.arange(load.target, load.target + load.count)
                    own = np.isin(places, list(needed[load.space]))
                    found = holds[load.space][places][own]
                    wanted = places[own] - load.target + load.source
                    if load in one.loads:
                        np.testing.assert_array_equal(found, wanted)
                for space, rows in needed.items():
                    assert (holds[space][sorted(rows)] >= 0).all()
                started.append(number)
            case _:
                waits += 1
                ended = len(started) - (transfer.item != WAIT_IDLE)
    assert len(started) == waits == runs * length == ended


def check_streams(plan: Plan) -> None:
    """What a plan in passes promises of itself."""
    config = plan.config
    programs = plan.pass_programs(0)
    assert plan.turns is not None
    assert len(programs) > 1
    assert list(plan.turns.ends) == list(accumulate(map(len, programs)))
    cycles = [program_cycles([stage for _, stage in own], config) for own in programs]
    assert plan.cycles == tuple(c for own in cycles for c in own)
    for buffer in plan.buffers:
        assert [one.cycles for one in buffer.passes] == [
            sum(c.total for c in own) for own in cycles
        ]
    assert plan.total.total >= plan.bound
    assert not plan.proven
    # No stage reads what the one before it in the pass has not written yet.
    for own in programs:
        stages = [stage for _, stage in own]
        assert stages[0].wait == 0
        for before, after in pairwise(stages):
            assert after.wait >= least_wait(before, after, config)
    # Neighbours that have room side by side lie there, so that one loads while the other runs.
    stay = {space: 0 for space in Space}
    for load in plan.loads:
        stay[load.space] += load.count
    depths = (config.program_depth, config.core_depth, config.bias_depth)
    passes = [one for buffer in plan.buffers for one in buffer.passes]
    for one, other in pairwise(passes):
        room = all(
            sum(load.count for load in (*one.loads, *other.loads) if load.space == space)
            <= depth - stay[space]
            for space, depth in zip(Space, depths, strict=False)
        )
        assert other.evicts(one) == (not room)


def roomy_and_tight(seed: int, graph: bool) -> tuple[Artefact, Artefact, np.ndarray] | None:
    """A model on a large engine, and the same plan in passes on a small one."""
    rng = random.Random(f"{seed} {graph}")
    model = random_graph(rng, most=6) if graph else random_model(rng)
    batch = rng.choice((1, 1, 2, 3))
    fold = 1 if seed % 2 else 4
    roomy = ROOMY.replace(fold=fold, fetch_words=fold)
    try:
        plan = plan_model(model, roomy, batch=batch, buffers=rng.choice((1, 2, None)))
    except FitError:
        return None
    vectors = int(plan.core_vectors / rng.choice((0.9, 1.2, 2, 5)))
    tight = roomy.replace(
        core_depth=max(4, vectors // fold * fold),
        bias_depth=max(2, int(plan.bias_vectors / rng.choice((0.5, 1.5)))),
        program_depth=rng.choice((100, 300, 1000)),
    )
    try:
        cut = in_passes(plan, tight)
    except FitError:
        return None
    if not cut.streams:
        return None
    check_streams(cut)
    values = np.random.default_rng(seed)
    x = values.standard_normal((2 * batch + 1, model.inputs))
    whole, streamed = quantise(plan, x), quantise(cut, x)
    return whole, streamed, whole.quantise_input(x)


@pytest.mark.parametrize("graph", [False, True])
def test_a_plan_in_passes_computes_the_same(graph: bool) -> None:
    seen: dict[Space, int] = dict.fromkeys((Space.CORE, Space.BIAS, Space.PROGRAM), 0)
    buffers, folded = set(), 0
    for seed in range(60):
        found = roomy_and_tight(seed, graph)
        if found is None:
            continue
        whole, streamed, x = found
        np.testing.assert_array_equal(
            run_artefact(streamed, x), run_artefact(whole, x), err_msg=f"seed {seed}"
        )
        for rate in (STREAMS, serial_rate(streamed.config)):
            check_row(streamed, rate)
        buffers.add(len(streamed.buffers))
        stages = streamed.pass_stages(0)
        folded += sum(stage.fold > 1 for own in stages for stage in own)
        for one in streamed.buffers[0].passes:
            for load in one.loads:
                seen[load.space] += 1
    assert folded
    # Graphs of so small images have few biases.
    assert all(count > 0 for space, count in seen.items() if space != Space.BIAS or not graph)
    assert buffers == {1, 2}


def test_models_that_fit_do_not_stream() -> None:
    fitted = streamed = 0
    for seed in range(40):
        rng = random.Random(seed)
        model, config, batch = random_model(rng), planner_config(rng), rng.choice((1, 2, 5))
        try:
            whole = plan_model(model, config, batch=batch)
        except FitError:
            with_passes = None
            try:
                with_passes = plan_model(model, config, batch=batch, stream=True)
            except FitError:
                continue
            assert with_passes.streams
            check_streams(with_passes)
            streamed += 1
            continue
        found = plan_model(model, config, batch=batch, stream=True)
        assert (found.program, found.buffers) == (whole.program, whole.buffers)
        assert not whole.streams
        fitted += 1
    assert fitted > 10
    assert streamed > 3


def test_graphs_with_borders_stream_where_the_array_folds() -> None:
    """Every core lies at a wide vector, that of the zeros around images included."""
    streamed = filled = 0
    for seed in range(40):
        rng = random.Random(seed)
        config = ROOMY.replace(fold=4, core_depth=rng.choice((8, 16, 32, 60)))
        try:
            plan = plan_model(random_graph(rng, most=6), config, stream=True)
        except FitError:
            continue
        cores = [stage.core_base for own in plan.pass_programs(0) for _, stage in own]
        assert all(core % config.fold == 0 for core in cores)
        streamed += plan.streams
        filled += plan.streams and any(planned.fills for planned in plan.stages)
    assert streamed > 5
    assert filled


@pytest.mark.parametrize("times", [1.2, 5])
def test_a_model_so_much_larger(times: float) -> None:
    need = OrderSearch(SMALL.layers[0], TINY, 1).least_core(TINY.work_elements)
    assert need is not None
    config = TINY.replace(core_depth=int(need / times))
    with pytest.raises(FitError):
        plan_model(SMALL, config)
    plan = plan_model(SMALL, config, stream=True)
    check_streams(plan)
    stays = sum(load.count for load in plan.loads if load.space == Space.CORE)
    own = [load for one in plan.buffers[0].passes for load in one.loads]
    assert {load.space for load in own} == {Space.CORE}
    moved = sum(load.count for load in own)
    # Each vector stays, or comes once a run.
    assert stays + moved == plan.core_vectors == need
    assert plan_streaming(plan).bytes_loaded == moved * TINY.rows * TINY.element_bytes
    assert (stays > need / 4) == (times < 2)
    for rate in (STREAMS, serial_rate(config)):
        stream = plan_streaming(plan, rate)
        assert stream.period >= stream.latency >= stream.cycles == plan.total.total
        assert stream.idle > 0
        assert stream.limit == "link in"
    # A pass waits for what it needs at a byte a cycle at least.
    assert plan_streaming(plan, STREAMS).period > plan_streaming(plan, STREAMS).bytes_loaded


def test_more_cores_where_computing_takes_longer() -> None:
    """With many samples side by side the link has time: the plan is that of a larger memory."""
    layer = Layer("deep", (4, 4, 4), (4, 4, 4), (1, 2, 2, 1)).model()
    fast = EngineConfig(
        name="fast link",
        rows=2,
        lanes=1,
        core_depth=16,
        work_depth=1 << 15,
        program_depth=1000,
        clock_hz=1_000_000,
        baud=250_000,
    )
    plan = plan_model(layer, fast, batch=100, stream=True)
    stream = plan_streaming(plan)
    assert stream.passes > 1
    assert stream.cycles > stream.bytes_loaded


# -- errors ----------------------------------------------------------------------------------------


def test_one_stage_that_is_too_large() -> None:
    """A row tile of a dense layer is the least that can be loaded; doing what the error says mends
    it.
    """
    weight = np.random.default_rng(1).standard_normal((12, 90))
    model = Model("wide", (dense_network("fc", weight),))
    config = TINY.replace(core_depth=80)
    with pytest.raises(FitError) as caught:
        plan_model(model, config, stream=True)
    error = caught.value
    vector = config.rows * config.element_bytes
    assert "layer 'fc'" in error.subject
    assert f"{80 * vector} bytes of core memory" in error.rule
    assert f"{90 * vector} bytes, {10 * vector} too many" in str(error.value)
    need = re.search(r"core_depth to at least (\d+)", error.fix)
    assert need is not None
    assert int(need[1]) == 90
    plan = plan_model(model, config.replace(core_depth=90), stream=True)
    check_streams(plan)
    assert plan_streaming(plan).bytes_loaded == 3 * 90 * vector


def test_work_memory_is_short() -> None:
    """Streaming cores is no help there: the same error as without."""
    config = TINY.replace(work_depth=20, core_depth=20)
    with pytest.raises(FitError, match="work memory") as without:
        plan_model(SMALL, config)
    with pytest.raises(FitError, match="work memory") as caught:
        plan_model(SMALL, config, stream=True)
    assert str(caught.value) == str(without.value)


def test_an_artefact_in_passes_is_a_file(tmp_path) -> None:
    plan = plan_model(SMALL, TINY.replace(core_depth=40), stream=True)
    x = np.random.default_rng(1).standard_normal((4, 64))
    made = quantise(plan, x)
    made = replace(made, test_input=made.quantise_input(x), test_output=np.zeros((4, 64), int))
    made.save(tmp_path / "small.drawbar")
    found = Artefact.load(tmp_path / "small.drawbar")
    assert found.buffers == made.buffers
    assert found.loads == made.loads
    assert found.streams
    assert found.stages == made.stages
    assert artefact_streaming(found) == plan_streaming(plan)
