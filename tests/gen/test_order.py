"""The search over contraction orders, against all of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import pairwise
from math import prod

import numpy as np
import pytest
from random_models import random_modes, random_tt_layer
from random_networks import GENERAL, small_layer

from drawbar.gen.align import align
from drawbar.gen.config import EngineConfig
from drawbar.gen.cycles import fetch_cycles, tile_cycles
from drawbar.gen.formats import dense_network, tt_network
from drawbar.gen.network import ContractionNetwork, Model
from drawbar.gen.order import BATCH, OrderSearch

Groups = tuple[tuple[int, ...], ...]
AMPLE = 10**9


def chain(seed: int, least_rank: int = 2) -> ContractionNetwork:
    """A TT layer of 1 to 5 cores, all bonds larger than 1."""
    rng = random.Random(seed)
    depth = rng.randint(1, 5)
    modes_in, modes_out = random_modes(rng, depth, 8), random_modes(rng, depth, 8)
    while True:
        layer = random_tt_layer(
            rng, "chain", modes_in, modes_out, bias=rng.random() < 0.5, activation="none"
        )
        if min(layer.ranks[1:-1], default=least_rank) >= least_rank:
            return layer


def general(seed: int) -> ContractionNetwork:
    """A layer of 2 to 5 cores with indices that more than two share, or a loop of bonds."""
    rng = random.Random(seed)
    while True:
        layer = small_layer(rng, GENERAL[seed % len(GENERAL)])
        if len(layer.cores) <= 5:
            return layer


#: Chains, then other networks.
NETWORKS = [
    *(pytest.param(chain, seed, id=f"chain{seed}") for seed in range(24)),
    *(pytest.param(general, seed, id=f"general{seed}") for seed in range(24)),
]
Draw = Callable[[int], ContractionNetwork]


def engine(seed: int) -> EngineConfig:
    rng = random.Random(seed)
    # No group is too large for such a core memory.
    return EngineConfig(
        rows=rng.choice((1, 3, 4, 8)), lanes=rng.choice((1, 4, 8)), core_depth=1 << 20
    )


def all_orders(network: ContractionNetwork) -> Iterator[Groups]:
    """Every sequence of groups of cores that takes each core once."""

    def go(left: tuple[int, ...]) -> Iterator[Groups]:
        if not left:
            yield ()
        for mask in range(1, 1 << len(left)):
            group = tuple(n for bit, n in enumerate(left) if mask >> bit & 1)
            for rest in go(tuple(n for n in left if n not in group)):
                yield (group, *rest)

    return go(tuple(range(len(network.cores))))


def costs(
    network: ContractionNetwork, groups: Groups, config: EngineConfig, batch: int
) -> tuple[int, int, int, int]:
    """Cycles, core vectors, peak of work and multiplications, from the shapes of the tensors."""
    sizes = {**network.sizes, BATCH: batch}
    live = {*network.input, BATCH}
    cycles = vectors = peak = multiplications = 0
    for number, group in enumerate(groups):
        used = [set(network.cores[n].indices) for n in group]
        later = [set(network.cores[n].indices) for rest in groups[number + 1 :] for n in rest]
        needed = set(network.output).union(*later)
        merged = {i for i in set().union(*used) if i in live or i in needed}
        k, rows, columns = (merged & live) - needed, merged - live, live - merged
        shared = merged & live & needed
        m, reduction, n, s = (prod(sizes[i] for i in part) for part in (rows, k, columns, shared))
        issue = tile_cycles(m, reduction, s * -(-n // config.lanes), config)
        # While a stage runs the next one's descriptor is fetched.
        cycles += issue if number == len(groups) - 1 else max(issue, fetch_cycles(config))
        vectors += s * -(-m // config.rows) * reduction
        peak = max(peak, prod(sizes[i] for i in live) + s * m * n)
        multiplications += prod(sizes[i] for i in live | merged)
        live = rows | columns | shared
    assert live == {*network.output, BATCH}
    return cycles, vectors, peak, multiplications


@pytest.mark.parametrize(("draw", "seed"), NETWORKS)
def test_against_all_orders(draw: Draw, seed: int) -> None:
    network, config = draw(seed), engine(seed)
    batch = random.Random(seed).choice((1, 1, 3))
    search = OrderSearch(network, config, batch)
    everything = {groups: costs(network, groups, config, batch) for groups in all_orders(network)}
    found = []
    for bound, order in search.orders(AMPLE, AMPLE):
        groups = tuple(step.group for step in order)
        cycles, vectors, peak, multiplications = everything[groups]
        assert bound == cycles == sum(step.bound for step in order)
        assert vectors == sum(step.core_vectors for step in order)
        assert peak == max(step.live + step.result for step in order)
        assert multiplications == sum(step.multiplications for step in order)
        found.append((bound, groups))
        if len(found) == 300:
            break
    # In order, none twice, and none better left out.
    assert [bound for bound, _ in found] == sorted(bound for bound, _ in found)
    assert len({groups for _, groups in found}) == len(found)
    best = sorted(cycles for cycles, *_ in everything.values())
    assert [bound for bound, _ in found] == best[: len(found)]
    assert len(found) == min(300, len(everything))


@pytest.mark.parametrize(("draw", "seed"), NETWORKS)
def test_limits_are_kept_and_cost_nothing_else(draw: Draw, seed: int) -> None:
    network, config = draw(seed), engine(seed)
    search = OrderSearch(network, config, 1)
    everything = [costs(network, groups, config, 1) for groups in all_orders(network)]
    vectors = sorted(cost[1] for cost in everything)
    peaks = sorted(cost[2] for cost in everything)
    rng = random.Random(seed)
    for _ in range(4):
        core, work = rng.choice(vectors[: len(vectors) // 2 + 1]), rng.choice(peaks)
        fitting = sorted(cost[0] for cost in everything if cost[1] <= core and cost[2] <= work)
        found = []
        for bound, order in search.orders(core, work):
            assert sum(step.core_vectors for step in order) <= core
            assert max(step.live + step.result for step in order) <= work
            found.append(bound)
            if len(found) == 100:
                break
        assert found == fitting[:100]


@pytest.mark.parametrize(("draw", "seed"), NETWORKS)
def test_least_memories(draw: Draw, seed: int) -> None:
    network, config = draw(seed), engine(seed)
    batch = random.Random(seed).choice((1, 2))
    search = OrderSearch(network, config, batch)
    needs = [costs(network, groups, config, batch)[1:3] for groups in all_orders(network)]
    assert search.least_work() == min(peak for _, peak in needs)
    for limit in sorted({peak for _, peak in needs}):
        assert search.least_core(limit) == min(core for core, peak in needs if peak <= limit)
    assert search.least_core(search.least_work() - 1) is None
    for (core, peak), (more, less) in pairwise(search.trades):
        assert core < more
        assert peak > less


@pytest.mark.parametrize(("draw", "seed"), NETWORKS[12:36])
def test_the_multiplications_of_a_step_are_a_matrix_product(draw: Draw, seed: int) -> None:
    """Each step, done with einsum over its own index names, ends in the layer's own outputs."""
    (network,), _ = align(Model("m", (draw(seed),)))
    search = OrderSearch(network, engine(seed), 1)
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((1, network.inputs))
    letters = {index: number for number, index in enumerate(network.sizes)}
    for _, order in zip(range(20), search.orders(AMPLE, AMPLE), strict=False):
        names = network.input
        values = x.reshape([network.sizes[i] for i in names])
        for step in order[1]:
            assert set(names) == {*step.k, *step.columns, *step.shared}
            assert values.size == step.live
            operands: list[object] = [values, [letters[i] for i in names]]
            for number in step.group:
                core = network.cores[number]
                operands += [core.values, [letters[i] for i in core.indices]]
            names = (*step.shared, *step.rows, *step.columns)
            values = np.einsum(*operands, [letters[i] for i in names])  # type: ignore[call-overload]
            assert values.size == step.result
            parts = (step.rows, step.k, step.columns, step.shared)
            assert step.multiplications == prod(search.size(part) for part in parts)
        y = values.transpose([names.index(i) for i in network.output]).reshape(1, -1)
        if network.bias is not None:
            y = y + network.bias
        if network.activation == "relu":
            y = np.maximum(y, 0)
        np.testing.assert_allclose(y, network.forward(x), rtol=1e-9, atol=1e-12)


def test_least_bias() -> None:
    config = EngineConfig(rows=4, lanes=4)
    weight = np.ones((7, 5))
    # One core: seven rows without columns, so seven vectors; none without a bias.
    biased = dense_network("d", weight, bias=np.ones(7))
    assert OrderSearch(biased, config, 1).least_bias() == 7
    assert OrderSearch(biased, config, 5).least_bias() == 7
    assert OrderSearch(dense_network("d", weight), config, 1).least_bias() == 0
    for seed in range(8):
        network = chain(seed)
        search = OrderSearch(network, config, 1)
        if network.bias is None:
            continue
        least = min(
            prod(network.sizes[i] for i in step.rows)
            * -(-prod(network.sizes[i] for i in step.columns) // 4)
            for state in search.states
            for move in search.moves(state)
            if move.after == search.all
            for step in [search.step(state, move.group)]
        )
        assert search.least_bias() == least >= -(-network.outputs // 4)


def test_only_so_many_groups_where_there_are_many_cores() -> None:
    """Beyond ten cores only connected ones are merged."""
    searches = {}
    for depth in (10, 11):
        ends = [1, *[2] * (depth - 1), 1]
        layer = tt_network("l", [np.ones((a, 2, 2, b)) for a, b in pairwise(ends)])
        searches[depth] = OrderSearch(layer, engine(1), 1)
    assert len(searches[10].groups) == 2**10 - 1
    assert len(searches[11].groups) == sum(range(1, 12))


def test_cores_without_indices_cost_no_stage() -> None:
    """Modes and ranks of 1 vanish; what is left of a core then, a number, joins another one."""
    layer = random_tt_layer(
        random.Random(1), "ones", (4, 1, 4), (4, 1, 4), bias=False, activation="none", most_rank=1
    )
    (network,), _ = align(Model("m", (layer,)))
    assert network.cores[1].values.shape == ()
    config = EngineConfig(rows=4, lanes=4)
    _, order = next(OrderSearch(network, config, 1).orders(AMPLE, AMPLE))
    assert sorted(len(step.group) for step in order) == [1, 2]
