"""Benchmark of compression on a CPU: the networks of ``sw.compress.recipes``, trained and
compressed, and one of them on the simulated board.

Each row says what was measured, what is wanted, and whether that holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np

from drawbar import api
from drawbar.compress_checks import check_row, count_rows, left_out, speed_rows, svd_rows
from drawbar.gen.config import EngineConfig
from drawbar.gen.network import Model
from drawbar.gen.plan import plan_model
from drawbar.gen.presets import load_config
from drawbar.layer_suites import BuildProgress, Report, Row
from drawbar.sim.golden import run_artefact
from drawbar.sw.compress.data import Dataset, load_dataset

if TYPE_CHECKING:
    from drawbar.sw.compress.recipes import Arms

RECIPE, RESNET = "lenet-300-tt", "resnet-20-tt-short"
#: 8 x 8 multipliers.
ENGINE = "small"
SEEDS = (0, 1, 2)
IMAGES = 500
#: What is wanted of each row: at least or at most.
BEFORE, DIRECT, AFTER, WEIGHTS, CYCLES, LOSS = 96.0, 40.0, 98.0, 5_970, 2_400, 0.3
#: Of LeNet-5 in TT: times fewer weights, points below dense.
FEWER, NEAR = 25.0, 0.1
#: Of the networks in few bits: bytes, points below dense.
STORED = {"lenet-300-ada": 4_577, "lenet-5-ada": 2_495}
STORED_NEAR = 0.2
#: ResNet-20 by compression: what Yin et al. (CVPR 2021) have, and how far below we may be.
RESNET_PUBLISHED = {6.8: 91.03, 4.5: 91.47}
RESNET_NEAR = 0.5
#: Points are differences of percents of 10,000 images.
ROUNDING = 1e-9


def compress_quick_suite(
    *,
    data: str | Path | None = None,
    folder: str | Path | None = None,
    seeds: Sequence[int] = SEEDS,
    device: str = "sim",
    report: Report | None = None,
    build_progress: BuildProgress | None = None,
) -> list[Row]:
    """What compression reaches on MNIST: LeNet-300 in TT with ADMM and its control, for some seeds;
    the first seed's on the board; LeNet-5 in TT, and both in few bits, of the first seed. And
    published counts of weights, and speed.

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
    recipes = import_module("drawbar.sw.compress.recipes").RECIPES
    dataset = load_dataset(recipes[RECIPE].data, data)
    first = seeds[:1]
    rows = [*count_rows(), *speed_rows(recipes[RECIPE]), *svd_rows()]
    arms = run_arms(RECIPE, dataset, seeds, folder, report)
    rows += training_rows(seeds, arms)
    rows += board_rows(arms[0].compressed.model, dataset, device, build_progress)
    few = run_arms("lenet-300-ada", dataset, first, folder, report, dense=arms[:1])
    rows += stored_rows("lenet-300-ada", few[0])
    large = run_arms("lenet-5-tt", dataset, first, folder, report)
    rows += near_rows(large[0])
    few = run_arms("lenet-5-ada", dataset, first, folder, report, dense=large)
    rows += stored_rows("lenet-5-ada", few[0])
    rows.append(left_out("CIFAR-10, ResNet-20, short", "drawbar bench --suite compress-resnet"))
    full = "drawbar bench --suite compress-resnet-full"
    rows.append(left_out("CIFAR-10, ResNet-20, full", full))
    return rows


def compress_resnet_suite(
    *,
    full: bool = False,
    data: str | Path | None = None,
    folder: str | Path | None = None,
    seeds: Sequence[int] = SEEDS[:1],
    report: Report | None = None,
    build_progress: BuildProgress | None = None,
) -> list[Row]:
    """ResNet-20 on CIFAR-10, on a GPU where there is one: on a short schedule at 6.8x, ADMM against
    direct decomposition at equal epochs; or ``full``, on a long one, beside what is published.
    Nothing is built, so ``build_progress`` hears nothing.

    Raises
    ------
    InputError:
        no CIFAR-10 in the folder.
    """
    dataset = load_dataset(import_module("drawbar.sw.compress.recipes").RECIPES[RESNET].data, data)
    torch = import_module("drawbar.sw.compress.backend").torch
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if not full:
        return resnet_rows(seeds, run_arms(RESNET, dataset, seeds, folder, report, device))
    rows: list[Row] = []
    arms: list[Arms] = []
    for ratio in RESNET_PUBLISHED:
        name = f"resnet-20-tt-{ratio}x"
        arms = run_arms(name, dataset, seeds, folder, report, device, dense=arms)
        rows += resnet_full_rows(ratio, seeds, arms)
    return rows


def run_arms(
    name: str,
    dataset: Dataset,
    seeds: Sequence[int],
    folder: str | Path | None,
    report: Report | None,
    device: str = "cpu",
    *,
    dense: Sequence[Arms] = (),
) -> list[Arms]:
    """A recipe for some seeds; ``dense`` are arms that start from the same dense models."""
    recipes = import_module("drawbar.sw.compress.recipes")
    found = []
    for number, seed in enumerate(seeds):

        def progress(done: int, total: int, text: str, number: int = number) -> None:
            if report is not None:
                report(f"{name}, {text}", number * total + done, len(seeds) * total)

        found.append(
            recipes.run_recipe(
                recipes.RECIPES[name],
                dataset,
                seed=seed,
                dense=dense[number].dense if dense else None,
                folder=None if folder is None else Path(folder) / name,
                device=device,
                progress=progress,
            )
        )
    return found


def training_rows(seeds: Sequence[int], arms: Sequence[Arms]) -> list[Row]:
    """LeNet-300 in TT: means over the seeds."""
    weights = {_weights(arm.compressed.model) for arm in arms}
    return [
        check_row(
            "LeNet-300, TT rank 6, weights of 266,610",
            max(weights),
            "weights",
            f"{WEIGHTS:,}",
            weights == {WEIGHTS},
        ),
        *_mean_rows(
            seeds,
            (
                ("LeNet-300, dense", _dense(arms), "", 0.0),
                ("direct, before fine-tuning", _each(arms, "direct"), "below", DIRECT),
                ("ADMM, before fine-tuning", _each(arms, "decomposed"), "at least", BEFORE),
                ("ADMM, after", _each(arms, "tuned"), "at least", AFTER),
                ("control, after", _control(arms), "", 0.0),
            ),
        ),
    ]


def resnet_rows(seeds: Sequence[int], arms: Sequence[Arms]) -> list[Row]:
    """ResNet-20: means over the seeds, and whether ADMM ends above its control."""
    admm, control = mean(_each(arms, "tuned")), mean(_control(arms))
    rows = _resnet_rows(seeds, arms)
    rows += _mean_rows(seeds, [("control, after", _control(arms), "", 0.0)])
    ahead = check_row(
        "ADMM ahead of its control", admm - control, "points", "above 0", admm > control
    )
    return [*rows, ahead]


def resnet_full_rows(ratio: float, seeds: Sequence[int], arms: Sequence[Arms]) -> list[Row]:
    """ResNet-20 on the long schedule at a compression: means over the seeds, beside what is
    published.
    """
    rows = _resnet_rows(seeds, arms, ratio)
    return [{**row, "name": f"{ratio}x: {row['name']}"} for row in rows]


def _resnet_rows(
    seeds: Sequence[int], arms: Sequence[Arms], ratio: float | None = None
) -> list[Row]:
    """What every schedule of ResNet-20 has; with a compression that is published, it is to be so
    many times smaller, and right on as many images as published, nearly.
    """
    least = 0.0 if ratio is None else RESNET_PUBLISHED[ratio] - RESNET_NEAR
    return [
        fewer_row("ResNet-20", arms[0], ratio),
        *_mean_rows(
            seeds,
            (
                ("ResNet-20, dense", _dense(arms), "", 0.0),
                ("direct, before fine-tuning", _each(arms, "direct"), "", 0.0),
                ("ADMM, before fine-tuning", _each(arms, "decomposed"), "", 0.0),
                ("ADMM, after", _each(arms, "tuned"), "at least" if least else "", least),
            ),
        ),
    ]


def near_rows(arms: Arms) -> list[Row]:
    """LeNet-5 in TT: how much smaller, and how far below the dense network."""
    dense, tuned = arms.dense.accuracy["tuned"], arms.compressed.accuracy["tuned"]
    rows = [
        fewer_row("LeNet-5, TT", arms, FEWER),
        check_row("LeNet-5, dense", dense, "%"),
        check_row(
            "LeNet-5, TT, ADMM, before fine-tuning", arms.compressed.accuracy["decomposed"], "%"
        ),
        below_row("LeNet-5, TT, ADMM, after", tuned, dense, NEAR),
    ]
    if arms.control is not None:
        rows.append(check_row("LeNet-5, TT, control, after", arms.control.accuracy["tuned"], "%"))
    return rows


def stored_rows(name: str, arms: Arms) -> list[Row]:
    """A network in few bits: the bytes of its file, and how far below the dense network it is."""
    found = arms.compressed
    most, size = STORED[name], len(found.packed)
    before = 4 * _weights(arms.dense.model)
    widths = {n: sum(1 for bits in found.bits.values() if bits == n) for n in found.bits.values()}
    bits = ", ".join(f"{widths[n]} tensors of {n} bits" for n in sorted(widths))
    row = check_row(
        f"{name}, file, {before / size:,.0f}x less",
        size,
        "bytes",
        f"at most {most:,}",
        size <= most,
    )
    return [
        {**row, "bits": found.bits},
        below_row(
            f"{name} ({bits})", found.accuracy["stored"], arms.dense.accuracy["tuned"], STORED_NEAR
        ),
    ]


def fewer_row(name: str, arms: Arms, ratio: float | None) -> Row:
    """Weights of the compressed network; with a ratio, so many times fewer are wanted."""
    before, after = _weights(arms.dense.model), _weights(arms.compressed.model)
    name = f"{name}, weights of {before:,}"
    if ratio is None:
        return check_row(name, after, "weights")
    most = int(before / ratio)
    return check_row(name, after, "weights", f"at most {most:,}", before >= ratio * after)


def below_row(name: str, found: float, dense: float, most: float) -> Row:
    """How many points an accuracy is below the dense network's."""
    return check_row(
        f"{name}: {found:.2f} %, below dense",
        dense - found,
        "points",
        f"at most {most:g}",
        dense - found <= most + ROUNDING,
    )


def _mean_rows(
    seeds: Sequence[int], parts: Sequence[tuple[str, Sequence[float], str, float]]
) -> list[Row]:
    """A row for each mean; name, a value for each seed, "below" or "at least", and what."""
    rows = []
    for name, found, sense, bound in parts:
        middle = mean(found)
        wanted = f"{sense} {bound:g}" if sense else ""
        good = {"": None, "below": middle < bound, "at least": middle >= bound}[sense]
        row = check_row(f"{name}, mean of seeds", middle, "%", wanted, good)
        each = ", ".join(f"{seed}: {value:.2f}" for seed, value in zip(seeds, found, strict=True))
        rows.append({**row, "seeds": each})
    return rows


def _each(arms: Sequence[Arms], mark: str) -> list[float]:
    return [arm.compressed.accuracy[mark] for arm in arms]


def _dense(arms: Sequence[Arms]) -> list[float]:
    return [arm.dense.accuracy["tuned"] for arm in arms]


def _control(arms: Sequence[Arms]) -> list[float]:
    return [arm.control.accuracy["tuned"] for arm in arms if arm.control is not None]


def _weights(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


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


def _right(outputs: np.ndarray, classes: np.ndarray) -> float:
    return 100.0 * float(np.mean(outputs.argmax(axis=1) == classes))
