"""Benchmarks: every number that the project promises, measured by a command.

Cycles are the engine's own, counted by the simulated board, and exact. Seconds are this machine's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from drawbar import api
from drawbar.gen.artefact import Artefact
from drawbar.gen.config import EngineConfig, load_config
from drawbar.gen.cycles import utilisation
from drawbar.gen.errors import InputError
from drawbar.gen.formats import tt_network
from drawbar.gen.network import Model
from drawbar.sim.golden import run_artefact

Report = Callable[[str, int, int], None]
BuildProgress = Callable[[str, float | None], None]

#: The four layers of TIE (ISCA 2019, table 1), all inner ranks 4: name, input modes, output modes.
TIE_LAYERS = (
    ("VGG-FC6", (2, 7, 8, 8, 7, 4), (4, 4, 4, 4, 4, 4)),
    ("VGG-FC7", (4, 4, 4, 4, 4, 4), (4, 4, 4, 4, 4, 4)),
    ("LSTM-UCF11", (8, 20, 20, 18), (4, 4, 4, 4)),
    ("LSTM-Youtube", (4, 20, 20, 36), (4, 4, 4, 4)),
)
RANK = 4
#: Inputs that each layer of a suite runs, back to back.
SAMPLES = 2
#: Samples that scales are chosen from.
CALIBRATION = 16


def random_tt_model(
    name: str, modes_in: tuple[int, ...], modes_out: tuple[int, ...], rank: int, seed: int
) -> Model:
    """A TT layer with random cores, scaled so that unit inputs give outputs of about unit size."""
    rng = np.random.default_rng(seed)
    ranks = [1, *[rank] * (len(modes_in) - 1), 1]
    cores = [
        rng.standard_normal((left, m, n, right)) / np.sqrt(n * right)
        for left, m, n, right in zip(ranks, modes_out, modes_in, ranks[1:], strict=False)
    ]
    return Model(name, (tt_network(name, cores),))


def layer_artefact(
    layer: tuple[str, tuple[int, ...], tuple[int, ...]], config: EngineConfig, batch: int
) -> tuple[Artefact, np.ndarray]:
    """One of ``TIE_LAYERS`` with random cores, compiled, and random integer inputs for it."""
    name, modes_in, modes_out = layer
    seed = sum(name.encode())
    model = random_tt_model(name, modes_in, modes_out, RANK, seed)
    rng = np.random.default_rng(seed + 1)
    calibration = rng.standard_normal((CALIBRATION, model.inputs))
    artefact = api.compile(model, config, calibration=calibration, batch=batch)
    x = rng.standard_normal((SAMPLES * batch, model.inputs))
    return artefact, artefact.quantise_input(x)


def tie_suite(
    *,
    engine: str = "large",
    device: str = "sim",
    batch: int = 1,
    report: Report | None = None,
    build_progress: BuildProgress | None = None,
) -> list[dict[str, Any]]:
    """TIE's layers on a device: exact cycles, bits compared with the golden model."""
    config = load_config(engine)
    rows = []
    with api.open(device, engine=config, progress=build_progress) as board:
        for number, layer in enumerate(TIE_LAYERS):
            if report is not None:
                report(layer[0], number, len(TIE_LAYERS))
            artefact, x = layer_artefact(layer, config, batch)
            board.load(artefact)
            found = board.run_integers(x)
            run = board.last_run
            assert run is not None
            assert run.counters is not None
            multiplications = sum(part.multiplications for part in artefact.layers)
            rows.append(
                {
                    "layer": layer[0],
                    "engine": config.name,
                    "batch": batch,
                    "multiplications": multiplications,
                    "cycles_predicted": artefact.cycles,
                    "cycles_measured": run.counters.cycles,
                    "utilisation": utilisation(multiplications, run.counters.cycles, config),
                    "core_bytes": artefact.meta["core_bytes"],
                    "work_bytes_peak": artefact.meta["work_bytes_peak"],
                    "mismatches": int(np.count_nonzero(found != run_artefact(artefact, x))),
                    "plan": artefact.layers[0].plan,
                }
            )
    if report is not None:
        report("done", len(TIE_LAYERS), len(TIE_LAYERS))
    return rows


def simulator_suite(
    *,
    engine: str = "large",
    batch: int = 64,
    seconds: float = 5.0,
    report: Report | None = None,
    build_progress: BuildProgress | None = None,
) -> list[dict[str, Any]]:
    """Speed of the simulated board and of the golden model on VGG-FC6, on this machine."""
    from drawbar.sim.board import SimBoard
    from drawbar.sw.driver import Device

    config = load_config(engine)
    artefact, x = layer_artefact(TIE_LAYERS[0], config, 1)

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


#: Suites by name.
SUITES: dict[str, Callable[..., list[dict[str, Any]]]] = {
    "tie": tie_suite,
    "simulator": simulator_suite,
}


def run_suite(name: str, **options: Any) -> list[dict[str, Any]]:
    """Run a suite of ``SUITES``; ``options`` are those of its function, without the ones left None."""
    if name not in SUITES:
        raise InputError(
            f"benchmark suite {name!r}", f"is one of {', '.join(SUITES)}", name, "use one of these"
        )
    return SUITES[name](**{k: v for k, v in options.items() if v is not None})
