"""What keeps a layer from the array's full speed: the stage that loses most, and why."""

from __future__ import annotations

from dataclasses import dataclass

from drawbar.gen.cycles import Cycles
from drawbar.gen.planned import Plan
from drawbar.gen.stage import Stage


@dataclass(frozen=True)
class Limit:
    """The stage of a layer that loses most.

    Members
    -------
    stage:
        Its number in the layer's part of the program, from 1; 0 for a layer without stages.
    lost:
        Cycles beyond its multiplications over the multipliers.
    text:
        For people: what is not full.
    """

    stage: int
    lost: float
    text: str


def layer_limit(plan: Plan, layer: int) -> Limit:
    """What limits a layer."""
    found: list[Limit] = []
    for (number, stage), cycles in zip(plan.program, plan.cycles, strict=True):
        if stage.layer != layer:
            continue
        place = len(found) + 1
        if plan.stages[number].fills:
            found.append(Limit(place, cycles.total, "zeros around the image"))
        else:
            lost = cycles.total - stage.multiplications / plan.config.multipliers
            found.append(Limit(place, lost, _reason(plan, stage, cycles)))
    return max(found, key=lambda limit: limit.lost, default=Limit(0, 0.0, "takes no stage"))


def _reason(plan: Plan, stage: Stage, cycles: Cycles) -> str:
    config = plan.config
    all_rows = stage.row_tiles(config) * config.rows * stage.fold
    all_lanes = stage.lane_tiles(config) * stage.lanes(config)
    rows, lanes = stage.rows / all_rows, stage.columns / all_lanes
    busy = cycles.busy / cycles.total
    least = min(rows, lanes, busy)
    if least == rows:
        return f"{stage.rows} of {all_rows} rows"
    if least == lanes:
        return f"{stage.columns} of {all_lanes} lanes"
    if cycles.stall_drain >= cycles.stall_fetch + cycles.flush:
        return (
            f"{stage.k} steps for each tile's {min(stage.row_vectors, config.rows)} rows to drain"
        )
    return "waits for results and descriptors"
