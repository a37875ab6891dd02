"""Benchmark of compression on a CPU: LeNet-300 on MNIST, from training to the simulated board.

Each row says what was measured, what is wanted, and whether that holds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np

from drawbar import api
from drawbar.gen.config import EngineConfig, load_config
from drawbar.gen.network import Model
from drawbar.gen.plan import plan_model
from drawbar.layer_suites import BuildProgress, Report, Row
from drawbar.sim.golden import run_artefact
from drawbar.sw.compress.data import Dataset, load_dataset

if TYPE_CHECKING:
    from drawbar.sw.compress.recipes import Arms

RECIPE = "lenet-300-tt"
#: 8 x 8 multipliers.
ENGINE = "small"
SEEDS = (0, 1, 2)
IMAGES = 500
#: What is wanted of each row: at least or at most.
BEFORE, DIRECT, AFTER, WEIGHTS, CYCLES, LOSS, SLOWER = 96.0, 40.0, 98.0, 5_970, 2_400, 0.3, 1.5


def check_row(
    name: str, value: float, unit: str, wanted: str = "", passed: bool | None = None
) -> Row:
    """A row; without anything wanted it is there to compare."""
    return {"name": name, "value": value, "unit": unit, "wanted": wanted, "passed": passed}


def compress_quick_suite(
    *,
    data: str | Path | None = None,
    folder: str | Path | None = None,
    seeds: Sequence[int] = SEEDS,
    device: str = "sim",
    report: Report | None = None,
    build_progress: BuildProgress | None = None,
) -> list[Row]:
    """LeNet-300 with ADMM and its control, for some seeds; the first seed's on the board.

    Arguments
    ---------
    data:
        Folder of the data sets.
    folder:
        Keeps checkpoints, so that a run that was killed goes on.
    device:
        Where the quantised network runs: "sim", or "golden" without a simulator.

    Raises
    ------
    InputError:
        no MNIST in the folder.
    """
    recipes = import_module("drawbar.sw.compress.recipes")
    recipe = recipes.RECIPES[RECIPE]
    dataset = load_dataset(recipe.data, data)
    arms: list[Arms] = []
    for number, seed in enumerate(seeds):

        def progress(done: int, total: int, text: str, number: int = number) -> None:
            if report is not None:
                report(text, number * total + done, len(seeds) * total)

        arms.append(
            recipes.run_recipe(recipe, dataset, seed=seed, folder=folder, progress=progress)
        )
    rows = training_rows(seeds, arms)
    rows += board_rows(arms[0].admm.model, dataset, device, build_progress)
    rows.append(speed_row(recipe))
    return rows


def training_rows(seeds: Sequence[int], arms: Sequence[Arms]) -> list[Row]:
    """A row for each seed and their mean."""
    rows: list[Row] = []
    weights = {sum(p.numel() for p in arm.admm.model.parameters()) for arm in arms}
    rows.append(
        check_row(
            "LeNet-300, TT rank 6, weights of 266,610",
            max(weights),
            "weights",
            f"{WEIGHTS:,}",
            weights == {WEIGHTS},
        )
    )
    for name, found, sense, bound in (
        ("dense", [arm.dense.accuracy["tuned"] for arm in arms], "", 0.0),
        ("direct, before fine-tuning", _each(arms, "direct"), "below", DIRECT),
        ("ADMM, before fine-tuning", _each(arms, "decomposed"), "at least", BEFORE),
        ("ADMM, after", _each(arms, "tuned"), "at least", AFTER),
        ("control, after", [arm.control.accuracy["tuned"] for arm in arms], "", 0.0),
    ):
        middle = mean(found)
        wanted = f"{sense} {bound:g}" if sense else ""
        good = {"": None, "below": middle < bound, "at least": middle >= bound}[sense]
        row = check_row(f"{name}, mean of seeds", middle, "%", wanted, good)
        each = ", ".join(f"{seed}: {value:.2f}" for seed, value in zip(seeds, found, strict=True))
        rows.append({**row, "seeds": each})
    return rows


def _each(arms: Sequence[Arms], mark: str) -> list[float]:
    return [arm.admm.accuracy[mark] for arm in arms]


def board_rows(
    module: Any, dataset: Dataset, device: str, build_progress: BuildProgress | None
) -> list[Row]:
    """The whole network, quantised, on the simulated board: at 16 bits, and at 8 with bases along
    its bonds and fine-tuning in integers.
    """
    lower = import_module("drawbar.sw.compress.lowering").lower
    model = lower(module, "lenet-300")
    x, y = dataset.test_x[:IMAGES], dataset.test_y[:IMAGES]
    rows: list[Row] = []
    float_right = _right(model.forward(dataset.test_x), dataset.test_y)
    for config in (load_config(ENGINE), load_config(f"{ENGINE}-8bit")):
        bits = config.data_width
        artefacts = {"": api.compile(model, config, calibration=dataset.train_x)}
        if bits == 8:
            artefacts[", bases and tuning"] = eight_bit(model, config, dataset)
        for what, artefact in artefacts.items():
            where = f"8 x 8, {bits} bit{what}"
            with api.open(device, engine=config, progress=build_progress) as board:
                board.load(artefact)
                integers = artefact.quantise_input(x)
                found = board.run_integers(integers)
                run = board.last_run
            assert run is not None
            assert run.counters is not None
            cycles = run.counters.cycles
            wrong = int(np.count_nonzero(found != run_artefact(artefact, integers)))
            right = _right(api.golden(artefact, dataset.test_x), dataset.test_y)
            here = float(100 * np.mean(found.argmax(axis=1) == y))
            less = float_right - right
            exactly = cycles <= CYCLES and cycles == artefact.cycles
            rows += [
                check_row(f"{where}, cycles", cycles, "cycles", f"at most {CYCLES:,}", exactly),
                check_row(f"{where}, {len(x)} images: differ", wrong, "outputs", "0", wrong == 0),
                check_row(f"{where}, {len(x)} images: right", here, "%"),
                check_row(
                    f"{where}, below float", less, "points", f"at most {LOSS:g}", less <= LOSS
                ),
            ]
    return rows


def eight_bit(model: Model, config: EngineConfig, dataset: Dataset) -> Any:
    """The artefact after changes of basis along bonds, and one epoch in the engine's integers."""
    bonds = import_module("drawbar.sw.compress.bonds")
    qat = import_module("drawbar.sw.compress.qat")
    quantise = import_module("drawbar.sw.compress.quantise")
    samples = quantise.check_calibration(plan_model(model, config), dataset.train_x)
    plan, _ = bonds.balance_bonds(
        plan_model(model, config), samples, partial(qat.output_error, samples=samples)
    )
    tuned = qat.tune_quantised(plan, dataset, calibration=samples, epochs=1, lr=3e-4)
    return quantise.quantise(tuned.plan(), samples, scales=tuned.scales)


def speed_row(recipe: Any, *, batch: int = 128, steps: int = 40) -> Row:
    """Time of a training step of the compressed network over the dense one's, on this CPU: the
    least of many of each, taken in turn.
    """
    recipes = import_module("drawbar.sw.compress.recipes")
    compression = import_module("drawbar.sw.compress.compression")
    layers = import_module("drawbar.sw.compress.layers")
    train = import_module("drawbar.sw.compress.train")
    dense = recipes.reference_model(recipe.model)
    cores = layers.decompose(dense, compression.layer_specs(dense, recipe.layers))
    least = {}
    step = train.timed_step(batch, dense)
    for _ in range(steps):
        for name, model in (("dense", dense), ("cores", cores)):
            started = time.perf_counter()
            step(model)
            least[name] = min(least.get(name, float("inf")), time.perf_counter() - started)
    ratio = least["cores"] / least["dense"]
    return check_row(
        f"training step of the cores over dense ({1e3 * least['dense']:.1f} ms), batch {batch}",
        ratio,
        "times",
        f"at most {SLOWER:g}",
        ratio <= SLOWER,
    )


def _right(outputs: np.ndarray, classes: np.ndarray) -> float:
    return 100.0 * float(np.mean(outputs.argmax(axis=1) == classes))
