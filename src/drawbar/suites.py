"""Benchmarks: every number that the project promises, measured by a command.

Cycles are the engine's own, counted by the simulated board, and exact. Seconds are this machine's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from drawbar.compress_suite import compress_quick_suite, compress_resnet_suite
from drawbar.gen.errors import InputError
from drawbar.gen.presets import load_config
from drawbar.hardware_suites import area_suite, cells_suite, estimates_suite, timing_suite
from drawbar.icebreaker_suite import icebreaker_suite
from drawbar.layer_suites import (
    FC6,
    BuildProgress,
    Report,
    Row,
    ette_suite,
    layer_artefact,
    ranks_suite,
    shapes_suite,
    tie_suite,
)
from drawbar.network_suites import lenet5_suite, resnet20_suite
from drawbar.sim.golden import run_artefact
from drawbar.speech_suite import fsdd_lstm_suite
from drawbar.streaming_suite import streaming_suite

__all__ = ["SUITES", "Suite", "run_suite"]


def simulator_suite(
    *,
    engine: str = "large",
    batch: int = 64,
    seconds: float = 5.0,
    report: Report | None = None,
    build_progress: BuildProgress | None = None,
) -> list[Row]:
    """Speed of the simulated board and of the golden model on VGG-FC6, on this machine."""
    from drawbar.sim.board import SimBoard
    from drawbar.sw.driver import Device

    config = load_config(engine)
    artefact, x = layer_artefact(FC6, config, 1)

    def tell(title: str, done: int, total: int) -> None:
        if report is not None:
            report(title, done, total)

    tell("simulated board", 0, 2)
    transport = SimBoard(config, progress=build_progress)
    with Device(transport) as board:
        board.load(artefact)
        cycles, spent = transport.cycles, transport.seconds
        started = time.perf_counter()
        while time.perf_counter() - started < seconds:
            board.run_integers(x)
        speed = (transport.cycles - cycles) / (transport.seconds - spent)

    tell("golden model", 1, 2)
    samples = np.tile(x, (batch // len(x) + 1, 1))[:batch]
    run_artefact(artefact, samples)
    runs = 0
    started = time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        run_artefact(artefact, samples)
        runs += 1
    tell("done", 2, 2)
    return [
        {
            "name": f"simulated board, {config.rows} x {config.lanes}",
            "value": speed,
            "unit": "cycles/s",
        },
        {
            "name": f"golden model, VGG-FC6, batch {batch}",
            "value": runs * batch / elapsed,
            "unit": "inferences/s",
        },
    ]


@dataclass(frozen=True)
class Suite:
    """A benchmark: its function, what it measures, and what its rows are: "layers", "streams" (runs
    one after the other), "values" (name, value and unit), or "checks" (values, and what is wanted).
    """

    run: Callable[..., list[Row]]
    text: str
    rows: str
    options: tuple[str, ...]


#: Options that some suites have, and others not.
OPTIONS = ("engine", "batch", "minimise", "data", "folder", "seeds")
#: Options of the suites of layers.
LAYER_OPTIONS = ("engine", "batch", "minimise")

#: Suites by name.
SUITES: dict[str, Suite] = {
    "tie": Suite(tie_suite, "six TT layers at 16 x 16, next to TIE", "layers", LAYER_OPTIONS),
    "ranks": Suite(
        ranks_suite,
        "VGG-FC6 and FC7 with inner ranks 2, 8, 16, also with 16 KB of core memory",
        "layers",
        LAYER_OPTIONS,
    ),
    "ette": Suite(
        ette_suite, "tensor trains over single modes, as in ETTE", "layers", LAYER_OPTIONS
    ),
    "shapes": Suite(
        shapes_suite,
        "layers that starve a square array, on as many multipliers with more lanes",
        "layers",
        LAYER_OPTIONS,
    ),
    "icebreaker": Suite(
        icebreaker_suite, "VGG-FC6 and FC7 on the engine of an iCEBreaker", "layers", ()
    ),
    "streaming": Suite(
        streaming_suite,
        "many runs with one buffer and with two: cycles from one to the next",
        "streams",
        ("batch",),
    ),
    "simulator": Suite(
        simulator_suite,
        "speed of the simulated board and of the golden model",
        "values",
        ("engine", "batch"),
    ),
    "timing": Suite(
        timing_suite, "clock of 4 x 4 boards on an ECP5-25F, by yosys and nextpnr", "values", ()
    ),
    "area": Suite(
        area_suite,
        "cells of engines of 256 multipliers on an ECP5, by yosys",
        "values",
        ("engine",),
    ),
    "compress-quick": Suite(
        compress_quick_suite,
        "LeNets on MNIST in TT and in few bits; one of them on an 8 x 8 engine; counts and speed",
        "checks",
        ("data", "folder", "seeds"),
    ),
    "compress-resnet": Suite(
        compress_resnet_suite,
        "ResNet-20 on CIFAR-10, short: ADMM and its control",
        "checks",
        ("data", "folder", "seeds"),
    ),
    "compress-resnet-full": Suite(
        partial(compress_resnet_suite, full=True),
        "ResNet-20 on CIFAR-10 at 6.8x and 4.5x on a long schedule",
        "checks",
        ("data", "folder", "seeds"),
    ),
    "fsdd-lstm": Suite(
        fsdd_lstm_suite,
        "an LSTM for spoken digits: trained, and whole on a 16 x 16 engine, a step in each run",
        "checks",
        ("data", "folder"),
    ),
    "lenet5": Suite(
        lenet5_suite,
        "LeNet-5 on MNIST in tensor trains, whole, on an 8 x 8 engine",
        "checks",
        ("engine", "data", "folder"),
    ),
    "resnet20": Suite(
        resnet20_suite,
        "ResNet-20 in tensor trains and dense, whole, on 16 x 16 engines",
        "checks",
        ("engine", "data", "folder"),
    ),
    "cells": Suite(
        cells_suite, "cells of engines on three families: the estimate's calibration", "values", ()
    ),
    "estimates": Suite(
        estimates_suite, "the estimate against what six boards' engines take", "checks", ()
    ),
}


def run_suite(name: str, **options: Any) -> list[Row]:
    """Run a suite of ``SUITES``; ``options`` are those of its function, without the ones left None.

    Raises
    ------
    InputError:
        no such suite, or an option that it does not have.
    DrawbarError:
        of whatever the suite uses: a missing tool, a device that does not answer.
    """
    if name not in SUITES:
        raise InputError(
            f"benchmark suite {name!r}", f"is one of {', '.join(SUITES)}", name, "use one of these"
        )
    suite = SUITES[name]
    given = {key: value for key, value in options.items() if value is not None}
    for option in OPTIONS:
        if option in given and option not in suite.options:
            raise InputError(
                f"benchmark suite {name!r}",
                f"takes {' and '.join(suite.options) or 'no engine and no batch'}",
                f"{option} {given[option]!r}",
                f"leave {option} out",
            )
    return suite.run(**given)
