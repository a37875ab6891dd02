"""Scales of tensors that are multiplied with each other, and of states.

A product has its factors' scales multiplied, and requantisation divides by a power of two. So what
is added up has the same product of scales, and a state that is a sum of products with itself has
its other factors scaled by a power of two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from drawbar.gen.errors import FitError
from drawbar.gen.plan import Plan, PlannedStage

#: What two scales that are equal may differ by, rounding of floats alone.
ROUNDING = 1e-9


def product_scales(plan: Plan, input_bits: int, results: Sequence[float]) -> list[float]:
    """The scales of the stages' results such that products can be added up: the factors of several
    pairs have one scale, a power of two. (Any scales do for one pair.)
    """
    results = list(results)
    made = {p.writes: n for n, p in enumerate(plan.stages) if not p.fills}

    def scale_of(tensor: int) -> float:
        return results[made[tensor]] if tensor in made else 2.0**input_bits

    for planned in plan.stages:
        if planned.stage.products and len(planned.reads) > 2:
            common = 2.0 ** np.floor(np.log2(min(map(scale_of, planned.reads))))
            for tensor in {*planned.reads} & {*made}:
                results[made[tensor]] = float(common)
    for number, planned in enumerate(plan.stages):
        if planned.stage.products:
            product = scale_of(planned.reads[0]) * scale_of(planned.reads[1])
            results[number] = product / 2.0 ** _bits(product, results[number])
    return results


def _bits(product: float, wanted: float) -> int:
    """Bits to drop of a product of this scale, for a result of at most the wanted one."""
    return max(0, int(np.ceil(np.log2(product / wanted) - ROUNDING)))


def product_shift(
    plan: Plan, planned: PlannedStage, found: Mapping[int, float], wanted: float
) -> tuple[int, float]:
    """The shift of a stage of products, and its result's scale.

    Raises
    ------
    FitError:
        scales of pairs that do not agree, or an accumulator that could overflow.
    """
    where = f"layer {plan.networks[planned.layer].name!r}"
    scales = [found[tensor] for tensor in planned.reads]
    products = [first * second for first, second in zip(scales[::2], scales[1::2], strict=True)]
    if max(products) > min(products) * (1 + ROUNDING):
        raise FitError(
            where,
            "adds products of one scale",
            f"scales {scales} of its factors",
            "scale the layers before it, so that their results have a range in common",
        )
    config = plan.config
    if len(products) << 2 * (config.data_width - 1) >= 1 << (config.acc_width - 1):
        raise FitError(
            where,
            f"adds products in {config.acc_width}-bit accumulators",
            f"{len(products)} pairs",
            "raise acc_width",
        )
    shift = _bits(products[0], wanted)
    return shift, products[0] / 2.0**shift


def state_scales(plan: Plan, results: Sequence[float]) -> dict[int, float]:
    """The scale of each state, by tensor."""
    return {p.writes: results[n] for n, p in enumerate(plan.stages) if p.writes in plan.states}


def check_states(plan: Plan, read: Mapping[int, float], written: Mapping[int, float]) -> None:
    """Raise a FitError if a state is written with another scale than it was read with."""
    for tensor, scale in read.items():
        if abs(written[tensor] / scale - 1) > ROUNDING:
            raise FitError(
                f"model {plan.model.name!r}, a state",
                "has one scale in all steps",
                f"{scale:.6g} read, {written[tensor]:.6g} written",
                "end the step with a product, or with weights that are not so small",
            )
