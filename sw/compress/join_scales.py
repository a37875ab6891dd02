"""Scales of concatenations: whatever lies in one has its scale."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from drawbar.gen.plan import Plan
from drawbar.sw.compress.product_scales import ROUNDING


def scale_groups(plan: Plan) -> list[set[int]]:
    """The plan's tensors by what has one scale: a concatenation and its parts, and what is copied
    or compared without a change of scale.
    """
    groups = [{number} for number in range(len(plan.tensors))]
    links = [(join.tensor, *join.parts) for join in plan.joins]
    links += [
        (planned.writes, *planned.reads)
        for planned in plan.stages
        if not planned.fills and plan.networks[planned.layer].keeps_scale
    ]
    for link in links:
        touched = [group for group in groups if group & {*link}]
        groups = [group for group in groups if not group & {*link}]
        groups.append(set().union(*touched))
    return groups


def _joined(plan: Plan) -> list[tuple[set[int], list[int]]]:
    """The groups in which there are concatenations, and the stages that make their tensors."""
    wholes = {join.tensor for join in plan.joins}
    return [
        (group, [n for n, p in enumerate(plan.stages) if p.writes in group and not p.fills])
        for group in scale_groups(plan)
        if group & wholes
    ]


def joined_scales(
    plan: Plan, input_bits: int, results: Sequence[float], zero: Collection[int]
) -> list[float]:
    """The scales of the stages' results such that concatenations have one each: a given one, or
    that of their part of the largest values.

    Arguments
    ---------
    results:
        For each stage, the scale that suits its result.
    zero:
        Stages that any scale suits, as their results are all 0.
    """
    results = list(results)
    for group, stages in _joined(plan):
        chosen = [
            results[n]
            for n in stages
            if n not in zero and not plan.networks[plan.stages[n].layer].keeps_scale
        ]
        common = min(chosen, default=min(results[n] for n in stages))
        given = [
            plan.model.quantised[planned.layer + 1]
            for planned in (plan.stages[number] for number in stages)
            if planned.ends_layer
        ]
        if plan.stages[0].reads[0] in group:
            common = 2.0**input_bits
        for known in given:
            if known is not None:
                common = 2.0**known.fraction_bits
        for number in stages:
            results[number] = common
    return results


def uneven(plan: Plan, results: Sequence[float], made: Sequence[float]) -> list[float] | None:
    """Scales to try next where parts of a concatenation could not have the one that was wanted;
    None where each has one.

    Arguments
    ---------
    results, made:
        For each stage, the scale that its result was to have, and the one that it got.
    """
    lower = list(results)
    for _, stages in _joined(plan):
        found = [made[number] for number in stages]
        if max(found) > min(found) * (1 + ROUNDING):
            for number in stages:
                lower[number] = min(found)
    return lower if lower != list(results) else None
