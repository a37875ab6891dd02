"""Where a program's cycles go on a device, stage by stage.

The engine counts the cycles of a whole run. A run of the program's first stages alone takes the
cycles that they take within the whole, and then empties the pipeline; so the differences between
such runs are the stages' own, measured on the device itself. Cycle counts do not depend on data.
Where a run has several passes, each of them is measured by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from drawbar.gen.artefact import Artefact
from drawbar.gen.cycles import Cycles, program_cycles, stage_tiling
from drawbar.gen.errors import InputError
from drawbar.gen.protocol import Counters, Space
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
    config = artefact.config
    passes = artefact.pass_stages()
    total = sum(map(len, passes))
    described = artefact.meta.get("stages", [{} for _ in range(total)])
    result: list[StageCycles] = []
    for stages in passes:
        before = Cycles()
        predicted = program_cycles(stages, config)
        for inside, stage in enumerate(stages):
            number = len(result)
            with ending_after(device.link, artefact, number) as shorter:
                counters = _run_last_pass(device, shorter)
            # Each run also empties the pipeline at its end, which the whole program does only once.
            emptying = Cycles(flush=stage_tiling(stage, config).emptying)
            now = _cycles(counters) - emptying
            own = now - before
            before = now
            if inside == len(stages) - 1:
                own += emptying
            result.append(
                StageCycles(
                    layer=described[number].get("layer", ""),
                    number=number,
                    text=f"{stage.core_text} by {stage.columns}",
                    predicted=predicted[inside],
                    measured=own,
                )
            )
            if progress is not None:
                progress(number + 1, total)
    return tuple(result)


def _run_last_pass(device: Device, artefact: Artefact) -> Counters:
    """Run an artefact's last pass, whose cycles need none of its data."""
    one = artefact.buffers[0].passes[-1]
    for load in one.loads:
        if load.space == Space.PROGRAM:
            words = artefact.program[load.source : load.source + load.count]
            device.link.write(Space.PROGRAM, load.target, words.astype("<u4").tobytes(), 4)
    return device.link.run(one.address)
