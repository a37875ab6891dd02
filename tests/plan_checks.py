"""What every plan promises, and plans run in float: for tests of the planner."""

from __future__ import annotations

from itertools import pairwise

import naive
import numpy as np

from drawbar.gen.cycles import fetch_cycles, program_bound, program_cycles, tile_cycles
from drawbar.gen.plan import Plan, core_matrix
from drawbar.gen.program import decode, encode


def run_in_float(plan: Plan, x: np.ndarray) -> np.ndarray:
    """A plan's stages on float memories, at their addresses: ``(batch, inputs)`` to outputs."""
    work = np.full(plan.config.work_elements, np.nan)
    work[plan.input.addresses(plan.batch)] = x
    for number, stage in plan.program:
        planned = plan.stages[number]
        network = plan.networks[planned.layer]
        matrices = core_matrix(network, planned)
        assert matrices.shape == (stage.shared, stage.rows, stage.k)
        reads = naive.addresses(0, naive.columns(stage, "x"), "x")
        steps = naive.addresses(stage.x_base, stage.k_loops, "x")
        values = work[reads[:, None] + steps].reshape(stage.shared, -1, stage.k)
        values = (values @ matrices.swapaxes(1, 2)).reshape(-1, stage.rows)
        writes = naive.addresses(0, naive.columns(stage, "y"), "y")
        rows = naive.addresses(stage.y_base, stage.result_loops, "y")
        targets = writes[:, None] + rows
        assert len(np.unique(targets)) == targets.size
        work[targets] = values
        if planned.ends_layer and planned.layer + 1 < len(plan.networks):
            # Bias and activation where the next layer reads: in a factorisation that both know.
            following = plan.networks[planned.layer + 1]
            boundary = next(p for p in plan.stages if p.layer == planned.layer + 1)
            place = _features(plan, boundary, following)
            work[place] = _finish(network, work[place])
        elif planned.ends_layer:
            place = plan.output.addresses(plan.batch)
            work[place] = _finish(network, work[place])
    return work[plan.output.addresses(plan.batch)]


def _finish(network, values: np.ndarray) -> np.ndarray:
    if network.bias is not None:
        values = values + network.bias
    return np.maximum(values, 0) if network.activation == "relu" else values


def _features(plan: Plan, planned, network) -> np.ndarray:
    """Addresses of a layer's input features, ``(batch, inputs)``, from its first stage's loops."""
    stage = planned.stage
    sizes = {**network.sizes, "batch": plan.batch}
    slices = [
        naive.Loop(sizes[i], x=stride)
        for i, stride in zip(planned.step.sliced, planned.slice_x, strict=True)
    ]
    columns = (*slices, *naive.columns(stage, "x"))
    base = naive.addresses(stage.x_base, columns, "x")[:, None]
    place = base + naive.addresses(0, stage.k_loops, "x")
    order = (
        *planned.step.sliced,
        *planned.shared_order,
        *planned.column_order,
        *planned.block,
        *planned.k_order,
    )
    place = place.reshape([sizes[i] for i in order])
    wanted = (*(("batch",) if plan.batch > 1 else ()), *network.input)
    return place.transpose([order.index(i) for i in wanted]).reshape(plan.batch, -1)


def check_plan(plan: Plan) -> None:
    """All that a plan promises of itself."""
    config = plan.config
    stages = [stage for _, stage in plan.program]
    words = encode(stages, config)
    assert len(words) <= config.program_depth
    assert len(decode(words, config)) == len(stages)
    assert plan.cycles == tuple(program_cycles(stages, config))
    # Cores lie one after the other, none twice, and each layer's all; where the array folds, each
    # begins with a wide vector.
    ends = 0
    for planned in plan.stages:
        assert planned.stage.core_base == ends
        ends += planned.stage.core_vectors(config)
        ends += -ends % config.fold
    assert all(s.core_base == plan.stages[n].stage.core_base for n, s in plan.program)
    assert plan.core_vectors == ends <= config.core_depth
    assert plan.core_bytes == ends * config.rows * config.element_bytes <= config.core_bytes
    for number, network in enumerate(plan.networks):
        taken = [n for p in plan.stages if p.layer == number for n in p.step.group]
        assert sorted(taken) == list(range(len(network.cores)))
        endings = [p.ends_layer for p in plan.stages if p.layer == number]
        assert endings == [False] * (len(endings) - 1) + [True]
    # Biases: each vector is of one stage.
    used: list[int] = []
    for planned in plan.stages:
        stage = planned.stage
        biased = planned.ends_layer and plan.networks[planned.layer].bias is not None
        assert (stage.bias_base is not None) == biased
        if stage.bias_base is not None:
            part = config.lanes // stage.fold
            tiles = [naive.Loop(-(-stage.lane_count // part), bias=stage.lane_bias)]
            loops = (*stage.column_loops, *tiles, *stage.row_loops)
            vectors = set(naive.addresses(stage.bias_base, loops, "bias").tolist())
            assert not vectors & set(used)
            used += vectors
    assert len(used) == plan.bias_vectors <= config.bias_depth
    # What a stage reads and writes, from its lowest to its highest address.
    peak = 0
    spans = []
    for stage in stages:
        x = naive.addresses(stage.x_base, (*naive.columns(stage, "x"), *stage.k_loops), "x")
        y = naive.addresses(stage.y_base, (*naive.columns(stage, "y"), *stage.result_loops), "y")
        assert not set(x.tolist()) & set(y.tolist())
        peak = max(peak, int(np.ptp(x)) + 1 + int(np.ptp(y)) + 1)
        spans.append((x, y))
    peak = max([peak, *_chain_peaks(plan, spans)])
    assert plan.work_peak == peak <= config.work_elements
    assert plan.work_bytes_peak == peak * config.element_bytes
    assert plan.total.total >= plan.bound
    if len(plan.program) > len(plan.stages):
        assert not plan.proven
    else:
        least = 0
        for planned, stage in zip(plan.stages, stages, strict=True):
            issue = tile_cycles(stage.row_vectors, stage.k, stage.lane_tiles(config), config)
            least += issue if planned.ends_layer else max(issue, fetch_cycles(config))
        least = program_bound(least, config)
        assert plan.total.total >= least >= plan.bound
        assert plan.proven == (least == plan.bound)
    layers = range(len(plan.networks))
    assert sum(plan.layer_cycles(n) for n in layers) == plan.total.total
    assert sum(plan.layer_multiplications(n) for n in layers) == plan.multiplications


def _chain_peaks(plan: Plan, spans: list[tuple[np.ndarray, np.ndarray]]) -> list[int]:
    """Work elements of each chain of slices: what it reads, what it leaves, and in between."""
    peaks = []
    for first, planned in enumerate(plan.stages):
        if not planned.step.first:
            continue
        last = next(n for n in range(first, len(plan.stages)) if plan.stages[n].step.last)
        whole: dict[int, set[int]] = {first: set(), last + 1: set()}
        between: dict[int, set[int]] = {n: set() for n in range(first + 1, last + 1)}
        for (number, _), (x, y) in zip(plan.program, spans, strict=True):
            if first <= number <= last:
                for tensor, addresses in ((number, x), (number + 1, y)):
                    (whole if tensor in whole else between)[tensor].update(addresses.tolist())
        ends = [max(s) - min(s) + 1 for s in whole.values()]
        assert not set.intersection(*whole.values())
        assert not set.union(*whole.values()) & set.union(*between.values())
        inner = [max(s) - min(s) + 1 for s in between.values()]
        pairs = [a + b for a, b in pairwise(inner)]
        peaks.append(sum(ends) + max(pairs, default=inner[0]))
    return peaks
