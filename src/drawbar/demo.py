"""The demonstration: real data, a tensor-train network, the same bits in NumPy and hardware."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from drawbar import api
from drawbar.gen.artefact import Artefact
from drawbar.gen.config import EngineConfig
from drawbar.gen.cycles import utilisation
from drawbar.gen.errors import InputError
from drawbar.gen.model_file import load_pretrained, pretrained_names
from drawbar.gen.network import Model
from drawbar.gen.presets import load_config
from drawbar.sim.golden import run_artefact
from drawbar.sw.compress.data import Dataset, load_dataset
from drawbar.sw.driver import Device
from drawbar.sw.driver.profile import StageCycles, profile

#: Data sets, and the engine that each one's model is compiled for.
DATASETS = {"digits": "small", "mnist": "ulx3s-85f", "fashion-mnist": "ulx3s-85f"}

#: Told what is going on: a title, things done, things to do (0: unknown).
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class DemoResult:
    """Everything that the demonstration found; ``as_dict`` is its JSON document."""

    dataset: str
    artefact: Artefact
    accuracy_float: float
    accuracy_golden: float
    accuracy_device: float
    samples: int
    mismatches: int
    cycles_measured: int
    stages: tuple[StageCycles, ...]
    device: str

    def layer_measured(self, name: str) -> int:
        return sum(stage.measured.total for stage in self.stages if stage.layer == name)

    def as_dict(self) -> dict[str, Any]:
        config = self.artefact.config
        layers = []
        for layer in self.artefact.layers:
            measured = self.layer_measured(layer.name)
            layers.append(
                {
                    "name": layer.name,
                    "format": layer.format,
                    "modes_in": list(layer.modes_in),
                    "modes_out": list(layer.modes_out),
                    "ranks": list(layer.ranks),
                    "dense_weights": layer.dense_weights,
                    "core_weights": layer.core_weights,
                    "multiplications": layer.multiplications,
                    "cycles_predicted": layer.cycles,
                    "cycles_measured": measured,
                    "utilisation": utilisation(layer.multiplications, measured, config),
                }
            )
        return {
            "dataset": self.dataset,
            "engine": config.name,
            "data_width": config.data_width,
            "device": self.device,
            "accuracy": {
                "float": self.accuracy_float,
                "golden": self.accuracy_golden,
                "device": self.accuracy_device,
            },
            "samples": self.samples,
            "mismatches": self.mismatches,
            "cycles_predicted": self.artefact.cycles,
            "cycles_measured": self.cycles_measured,
            "utilisation": utilisation(
                sum(layer.multiplications for layer in self.artefact.layers),
                self.cycles_measured,
                config,
            ),
            "layers": layers,
        }


def _percent_right(outputs: np.ndarray, classes: np.ndarray) -> float:
    return 100.0 * float(np.mean(outputs.argmax(axis=1) == classes))


def demo_model(
    dataset: Dataset, *, pretrained: bool, seed: int = 0, report: Report | None = None
) -> Model:
    """The demo's float model: trained here, or the one that ships with the package."""
    if pretrained:
        if dataset.name not in pretrained_names():
            raise InputError(
                f"pretrained model for {dataset.name!r}",
                f"is one of those that ship with the package: {', '.join(pretrained_names())}",
                dataset.name,
                "leave out --pretrained to train it here",
            )
        return load_pretrained(dataset.name)
    # Only here: training needs PyTorch.
    from drawbar.sw.compress import lower, train_demo

    def epoch(done: int, total: int, text: str) -> None:
        if report is not None:
            report(f"train, {text}", done, total)

    module = train_demo(dataset, dataset.name, seed=seed, progress=epoch)
    return lower(module, dataset.name)


def run_demo(
    *,
    dataset: str = "digits",
    data: str | Path | None = None,
    pretrained: bool = False,
    engine: str | Path | EngineConfig | None = None,
    data_width: int = 16,
    device: str = "sim",
    samples: int | None = None,
    seed: int = 0,
    report: Report | None = None,
    build_progress: Callable[[str, float | None], None] | None = None,
) -> DemoResult:
    """Train (or load), compile, and run the test split on a device.

    Arguments
    ---------
    dataset, data:
        A key of ``DATASETS``, and the folder of the larger ones.
    engine:
        By default the data set's, at ``data_width`` bits.
    samples:
        Test samples to run on the device; by default all of them.
    report, build_progress:
        Told of every step, and of the simulated board's build.

    Raises
    ------
    DrawbarError:
        of whatever step it was.
    """
    if dataset not in DATASETS:
        raise InputError(
            f"demo data set {dataset!r}",
            f"is one of {', '.join(DATASETS)}",
            dataset,
            "use one of these",
        )
    if engine is None:
        if data_width not in (8, 16):
            raise InputError("demo data width", "is 8 or 16 bits", data_width, "use 16 or 8")
        engine = DATASETS[dataset] + ("-8bit" if data_width == 8 else "")
    config = load_config(engine)
    loaded = load_dataset(dataset, data)
    model = demo_model(loaded, pretrained=pretrained, seed=seed, report=report)
    artefact = api.compile(model, config, calibration=loaded.train_x, name=dataset)

    test_x, test_y = loaded.test_x[:samples], loaded.test_y[:samples]
    x = artefact.quantise_input(test_x)

    def count(title: str) -> Callable[[int, int], None] | None:
        return None if report is None else partial(report, title)

    expected = run_artefact(artefact, x, progress=count("golden model"))
    with api.open(device, engine=config, progress=build_progress) as board:
        found, stages, measured = _run_on(board, artefact, x, count)
    return DemoResult(
        dataset=dataset,
        artefact=artefact,
        accuracy_float=_percent_right(model.forward(test_x), test_y),
        accuracy_golden=_percent_right(expected, test_y),
        accuracy_device=_percent_right(found, test_y),
        samples=len(x),
        mismatches=int(np.count_nonzero(found != expected)),
        cycles_measured=measured,
        stages=stages,
        device=device,
    )


def _run_on(
    board: Device,
    artefact: Artefact,
    x: np.ndarray,
    count: Callable[[str], Callable[[int, int], None] | None],
) -> tuple[np.ndarray, tuple[StageCycles, ...], int]:
    """All samples, then the cycles of each stage, on an open device."""
    board.load(artefact, progress=count("load"))
    found = board.run_integers(x, progress=count("device"))
    run = board.last_run
    assert run is not None
    assert run.counters is not None
    return found, profile(board), run.counters.cycles
