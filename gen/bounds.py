"""What no engine of this kind can beat: bounds of arrays that are fed so much and no more."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

from drawbar.gen.order import OrderSearch, Step


def _operand_cycles(search: OrderSearch, step: Step) -> Fraction:
    config = search.config
    m, k, n = (search.size(indices) for indices in (step.rows, step.k, step.columns))
    # A step with shared indices is so many products of its own.
    return search.size(step.shared) * max(
        Fraction(m * k * n, config.multipliers),
        Fraction(k * n, config.lanes),
        Fraction(m * k, config.rows * config.fold),
        Fraction(m * n, config.lanes),
    )


def operand_bound(search: OrderSearch) -> int:
    """Cycles that one layer takes at least on any array of ``rows x lanes`` multipliers.

    The array is fed one vector of ``rows`` elements of a core (``rows * fold`` where it folds) and
    one of ``lanes`` elements of the live tensor a cycle, and hands on one vector of ``lanes``
    results; how it tiles, and how large its memories are, is free. A stage of M rows, N columns and
    reductions of K then takes ``max(MKN / RC, KN / C, MK / RF, MN / C)`` cycles, F the fold, as
    every element is read or written at least once; the bound is that of the best contraction order.
    """
    best = {search.all: Fraction(0)}
    for state in search.states:
        found = [
            best[move.after] + _operand_cycles(search, search.step(state, move.group))
            for move in search.moves(state)
            if move.after in best
        ]
        if found:
            best[state] = min(found)
    return ceil(best[0])
