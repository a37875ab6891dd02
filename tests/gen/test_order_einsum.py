"""The planner's multiplications against opt_einsum's, which knows nothing of engines or formats."""

from __future__ import annotations

import random
from math import prod

import opt_einsum
import pytest
from random_networks import small_layer

from drawbar.fuzz_layers import FORMATS
from drawbar.gen.align import align
from drawbar.gen.config import EngineConfig
from drawbar.gen.network import ContractionNetwork, Model
from drawbar.gen.order import OrderSearch

#: Samples: so many that products of cores alone cost nothing beside those with the input, as
#: offline merges do.
SAMPLES = 10**7


def best_of_planner(network: ContractionNetwork) -> int:
    """Multiplications for one sample in the order of the fewest among the planner's, whatever it
    takes of memory.
    """
    # No group is too large for such a core memory.
    search = OrderSearch(network, EngineConfig(core_depth=1 << 20), 1)
    totals = {search.all: 0}
    for state in search.states:
        for move in search.moves(state):
            total = totals[move.after] + search.step(state, move.group).multiplications
            totals[state] = min(total, totals.get(state, total))
    return totals[0]


def best_of_einsum(network: ContractionNetwork, optimiser: opt_einsum.paths.PathOptimizer) -> int:
    """Multiplications for one sample in opt_einsum's path, products of cores alone left out."""
    letters = {name: opt_einsum.get_symbol(n + 1) for n, name in enumerate(network.sizes)}
    batch = opt_einsum.get_symbol(0)

    def text(indices: tuple[str, ...]) -> str:
        return "".join(letters[i] for i in indices)

    terms = [batch + text(network.input), *(text(core.indices) for core in network.cores)]
    output = batch + text(network.output)
    sizes = {letters[name]: size for name, size in network.sizes.items()} | {batch: SAMPLES}
    operands = [frozenset(term) for term in terms]
    path = optimiser(list(operands), frozenset(output), sizes)
    total = 0
    for chosen in path:
        taken = [operands[n] for n in chosen]
        rest = [operand for n, operand in enumerate(operands) if n not in chosen]
        both = frozenset().union(*taken)
        if batch in both and len(taken) > 1:
            total += prod(sizes[letter] for letter in both)
        operands = [*rest, both & frozenset(output).union(*rest)]
    return total // SAMPLES


@pytest.mark.parametrize("form", FORMATS)
def test_the_fewest_multiplications(form: str) -> None:
    for seed in range(12):
        layer = small_layer(random.Random(f"{form} {seed}"), form)
        (network,), _ = align(Model("m", (layer,)))
        # Merged cores need not be neighbours, and neither need be what opt_einsum multiplies.
        optimiser = opt_einsum.DynamicProgramming(minimize="flops", search_outer=True)
        assert best_of_planner(network) == best_of_einsum(network, optimiser), seed
