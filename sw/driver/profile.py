"""Where a program's cycles go on a device, stage by stage.

The engine counts the cycles of a whole run. A run of the program's first stages alone takes the
cycles that they take within the whole, and then empties the pipeline; so the differences between
such runs are the stages' own, measured on the device itself. Cycle counts do not depend on data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from drawbar.gen.cycles import Cycles, program_cycles, stage_tiling
from drawbar.gen.errors import InputError
from drawbar.gen.program import decode
from drawbar.gen.protocol import Counters
from drawbar.sw.driver.device import Device
from drawbar.sw.driver.ending import ending_after


@dataclass(frozen=True)
class StageCycles:
    """One stage: what it does, and its predicted and measured cycles by cause."""

    layer: str
    number: int
    text: str
    predicted: Cycles
    measured: Cycles


def _cycles(counters: Counters) -> Cycles:
    return Cycles(counters.busy, counters.stall_drain, counters.stall_fetch, counters.flush)


def profile(
    device: Device, progress: Callable[[int, int], None] | None = None
) -> tuple[StageCycles, ...]:
    """Measure each stage of the loaded artefact; the artefact is loaded and whole again afterwards.

    Raises
    ------
    InputError:
        nothing is loaded.
    LinkError:
        silence.
    """
    artefact = device.artefact
    if artefact is None:
        raise InputError(
            device.transport.describe(),
            "has an artefact loaded before it is profiled",
            "nothing loaded",
            "call load(artefact) first",
        )
    config, program = artefact.config, np.asarray(artefact.program, np.uint32)
    stages = decode(program, config)
    predicted = program_cycles(stages, config)
    described = artefact.meta.get("stages", [{} for _ in stages])
    result = []
    before = Cycles()
    for number, stage in enumerate(stages):
        with ending_after(device.link, artefact, number):
            counters = device.link.run(0)
        # Each run also empties the pipeline at its end, which the whole program does only once.
        emptying = Cycles(flush=stage_tiling(stage, config).emptying)
        now = _cycles(counters) - emptying
        own = now - before
        before = now
        if number == len(stages) - 1:
            own += emptying
        result.append(
            StageCycles(
                layer=described[number].get("layer", ""),
                number=number,
                text=f"{stage.core_text} by {stage.columns}",
                predicted=predicted[number],
                measured=own,
            )
        )
        if progress is not None:
            progress(number + 1, len(stages))
    return tuple(result)
