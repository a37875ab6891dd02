"""Benchmarks on whole networks: LeNet-5 and ResNet-20, every layer on the simulated board.

Each row says what was measured, what is wanted, and whether that holds.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from drawbar.compress_checks import check_row
from drawbar.compress_suite import run_arms
from drawbar.device_rows import device_rows, layer_rows
from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import InputError
from drawbar.gen.network import Model
from drawbar.gen.plan import Plan, plan_model
from drawbar.gen.presets import load_config
from drawbar.layer_suites import BuildProgress, Report, Row
from drawbar.sim.golden import run_artefact
from drawbar.sw.compress.data import Dataset, load_dataset
from drawbar.sw.compress.quantise import quantise

#: The file of a trained model in a folder of ``drawbar compress``.
WEIGHTS = "weights.safetensors"
#: LeNet-5: 8 x 8 multipliers, 64 KB of cores, 128 KB for tensors.
LENET_ENGINE = load_config("small").replace(
    name="small, deeper", core_depth=4096, work_depth=8192, bias_depth=512, program_depth=4096
)
LENET_RECIPE, LENET_IMAGES, LENET_FEWER, LENET_LOSS = "lenet-5-tt", 200, 20.0, 0.3
#: What the suite trains where it is given no weights.
LENET_EPOCHS = {"dense_epochs": 2, "tuning_epochs": 2}
#: ResNet-20: 16 x 16 multipliers, 128 KB of cores, 256 KB for tensors. Its dense weights take 527
#: KB: another core memory, all else alike.
RESNET_ENGINE = load_config("large").replace(
    name="large, deeper", core_depth=4096, bias_depth=1024, program_depth=8192
)
DENSE_CORE_DEPTH = 20_480
RESNET_RECIPE, RESNET_IMAGES, RESNET_CYCLES = "resnet-20-tt-short", 4, 100_000
MEMORY = 512 * 1024
#: Samples that scales are chosen from; images of which golden and float answers are compared; and
#: those whose classes trained weights are judged by.
CALIBRATION, COMPARED, JUDGED = 64, 100, 1_000


def lenet5_suite(
    *,
    engine: str | None = None,
    data: str | Path | None = None,
    folder: str | Path | None = None,
    device: str = "sim",
    report: Report | None = None,
    build_progress: BuildProgress | None = None,
) -> list[Row]:
    """LeNet-5 on MNIST in tensor trains, at most a twentieth of its weights.

    Arguments
    ---------
    engine:
        A preset or a TOML file in place of ``LENET_ENGINE``.
    data:
        Folder of the data sets.
    folder:
        Of ``drawbar compress``, with trained weights; or where the suite keeps the checkpoint of
        its own short training.
    device:
        "sim", or "golden" without a simulator.

    Raises
    ------
    InputError:
        no MNIST in the folder.
    """
    recipes = import_module("drawbar.sw.compress.recipes")
    lower = import_module("drawbar.sw.compress.lowering").lower
    recipe = recipes.RECIPES[LENET_RECIPE]
    dataset = load_dataset(recipe.data, data)
    module = _trained(folder, recipe, dataset, report)
    model = lower(module, "lenet-5")
    config = LENET_ENGINE if engine is None else load_config(engine)
    plan = plan_model(model, config)
    artefact = quantise(plan, dataset.train_x[:CALIBRATION])
    dense = sum(p.numel() for p in recipes.reference_model(recipe.model).parameters())
    weights = sum(p.numel() for p in module.parameters())
    fewer = dense / weights
    rows = [
        check_row(
            f"LeNet-5, {weights:,} weights of {dense:,}",
            fewer,
            "times fewer",
            f"at least {LENET_FEWER:g}",
            fewer >= LENET_FEWER,
        )
    ]
    if report is not None:
        report("golden model, all test images", 0, 2)
    integers = artefact.quantise_input(dataset.test_x)
    golden = run_artefact(artefact, integers)
    floats = _right(model.forward(dataset.test_x), dataset.test_y)
    right = _right(golden, dataset.test_y)
    less = floats - right
    count = len(dataset.test_x)
    rows += [
        check_row(f"float, {count:,} images: right", floats, "%"),
        check_row(f"golden model, {count:,} images: right", right, "%"),
        check_row(
            "golden model, below float",
            less,
            "points",
            f"at most {LENET_LOSS:g}",
            less <= LENET_LOSS,
        ),
    ]
    if report is not None:
        report("simulated board", 1, 2)
    rows += device_rows(
        "", artefact, integers[:LENET_IMAGES], golden[:LENET_IMAGES], device, build_progress
    )
    rows += _memory_rows("", plan)
    rows += layer_rows("", plan)
    return rows


def _trained(
    folder: str | Path | None, recipe: Any, dataset: Dataset, report: Report | None
) -> Any:
    """The recipe's model: from a folder of ``drawbar compress``, or after a short training."""
    recipes = import_module("drawbar.sw.compress.recipes")
    compression = import_module("drawbar.sw.compress.compression")
    module = recipes.reference_model(recipe.model)
    if folder is not None and (Path(folder) / WEIGHTS).is_file():
        weights = import_module("drawbar.sw.compress.weights_file")
        return weights.load_weights(module, Path(folder) / WEIGHTS).eval()
    settings = replace(
        recipe.settings, method="direct", admm_epochs=0, seed=0, threads=1, **LENET_EPOCHS
    )

    def progress(done: int, total: int, text: str) -> None:
        if report is not None:
            report(f"training: {text}", done, total)

    if report is not None:
        report("training", 0, sum(LENET_EPOCHS.values()))
    found = compression.compress_model(
        module,
        lambda trained: compression.layer_specs(trained, recipe.layers),
        dataset,
        settings,
        config={"layers": LENET_RECIPE},
        folder=folder,
        progress=progress,
    )
    return found.model.eval()


def resnet20_suite(
    *,
    engine: str | None = None,
    data: str | Path | None = None,
    folder: str | Path | None = None,
    device: str = "sim",
    report: Report | None = None,
    build_progress: BuildProgress | None = None,
) -> list[Row]:
    """ResNet-20 for CIFAR-10, in tensor trains and dense, on arrays of one size; dense also on the
    engine of the tensor trains, whose core memory is too small, so that cores stream in.

    Arguments
    ---------
    data:
        Folder of the data sets; without CIFAR-10 there, images are noise.
    folder:
        Of ``drawbar compress``, with trained weights; or the one that the suite
        "compress-resnet-full" or "compress-resnet" was given, whose checkpoints are those of both
        networks: what it has not finished goes on. Then classes are judged, too. Without a folder
        weights are random, decomposed as they are, and batch norms calibrated on the images: bits
        do not depend on them, and cycles on the ranks alone.

    The other arguments are those of ``lenet5_suite``.
    """
    recipes = import_module("drawbar.sw.compress.recipes")
    layers = import_module("drawbar.sw.compress.layers")
    compression = import_module("drawbar.sw.compress.compression")
    recipe = recipes.RECIPES[RESNET_RECIPE]
    images, judged, what = _images(recipe.data, data)
    trained: list[Any] = []
    names = [name for name, known in recipes.RECIPES.items() if known.model == recipe.model]
    kept = [] if folder is None else [name for name in names if (Path(folder) / name).is_dir()]
    if kept:
        arms = run_arms(kept[0], load_dataset(recipe.data, data), (0,), folder, report)[0]
        dense, module, made = arms.dense.model.eval(), arms.compressed.model.eval(), "trained"
        trained = [dense, module]
    else:
        dense = _with_statistics(recipes.reference_model(recipe.model), images)
        if folder is not None:
            weights = import_module("drawbar.sw.compress.weights_file")
            fresh = recipes.reference_model(recipe.model)
            module, made = weights.load_weights(fresh, Path(folder) / WEIGHTS).eval(), "trained"
            trained = [module]
        else:
            module = layers.decompose(dense, compression.layer_specs(dense, recipe.layers))
            module, made = _with_statistics(module, images), "random weights"
    count = sum(p.numel() for p in dense.parameters())
    config = RESNET_ENGINE if engine is None else load_config(engine)
    few = sum(p.numel() for p in module.parameters())
    rows = [
        check_row(
            f"ResNet-20 in tensor trains, {few:,} weights of {count:,}, {made}; {what}",
            count / few,
            "times fewer",
        )
    ]
    cycles: dict[str, int] = {}
    roomy = config.replace(
        name=f"{config.name}, larger core memory",
        core_depth=max(config.core_depth, DENSE_CORE_DEPTH),
    )
    for number, (title, network, own, most) in enumerate(
        (
            ("TT, ", module, config, RESNET_CYCLES),
            ("dense, ", dense, roomy, None),
            ("dense, streamed, ", dense, config, None),
        )
    ):
        if report is not None:
            report(f"ResNet-20, {title[:-2]}", number, 3)
        rows_of, cycles[title] = _resnet_rows(
            title,
            network,
            own,
            images,
            device,
            build_progress,
            most,
            judged if any(network is one for one in trained) else None,
        )
        rows += rows_of
    rows.append(
        check_row(
            "dense over TT, cycles on equal arrays", cycles["dense, "] / cycles["TT, "], "times"
        )
    )
    return rows


def _resnet_rows(
    title: str,
    module: Any,
    config: EngineConfig,
    images: np.ndarray,
    device: str,
    build_progress: BuildProgress | None,
    most: int | None,
    judged: tuple[np.ndarray, np.ndarray] | None,
) -> tuple[list[Row], int]:
    lower = import_module("drawbar.sw.compress.lowering").lower
    model: Model = lower(module, "resnet-20")
    plan = plan_model(model, config, stream=True)
    artefact = quantise(plan, images[:CALIBRATION])
    compared = images[-COMPARED:]
    integers = artefact.quantise_input(compared)
    golden = run_artefact(artefact, integers)
    floats = model.forward(compared)
    same = 100 * float(np.mean(floats.argmax(axis=1) == golden.argmax(axis=1)))
    noise = artefact.dequantise_output(golden) - floats
    ratio = 10 * np.log10(float((floats**2).sum() / max(1e-300, (noise**2).sum())))
    rows = device_rows(
        title,
        artefact,
        integers[:RESNET_IMAGES],
        golden[:RESNET_IMAGES],
        device,
        build_progress,
        most=most,
    )
    rows += [
        check_row(f"{title}golden as float, {len(compared)} images: same class", same, "%"),
        check_row(f"{title}outputs over quantisation noise", ratio, "dB"),
    ]
    if judged is not None:
        x, y = judged
        right = _right(model.forward(x), y)
        found = _right(run_artefact(artefact, artefact.quantise_input(x)), y)
        rows += [
            check_row(f"{title}float, {len(x):,} test images: right", right, "%"),
            check_row(f"{title}golden model, {len(x):,} test images: right", found, "%"),
            check_row(f"{title}golden model, below float", right - found, "points"),
        ]
    rows += _memory_rows(title, plan, MEMORY if most is not None else None)
    rows += layer_rows(title, plan)
    return rows, plan.total.total


def _images(
    name: str, data: str | Path | None
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray] | None, str]:
    """Images to run on, images with their classes, and what they are."""
    try:
        dataset = load_dataset(name, data)
    except InputError:
        noise = np.random.default_rng(0).random((CALIBRATION + COMPARED, 3072))
        return noise.astype(np.float32), None, "images of noise, as there is no CIFAR-10"
    judged = (dataset.test_x[:JUDGED], dataset.test_y[:JUDGED])
    return dataset.test_x[: CALIBRATION + COMPARED], judged, "images of CIFAR-10"


def _with_statistics(module: Any, images: np.ndarray) -> Any:
    """The module with the batch norms' statistics of these images."""
    torch = import_module("drawbar.sw.compress.backend").torch
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.reset_running_stats()
            part.momentum = None
    module.train()
    with torch.no_grad():
        module(torch.from_numpy(np.asarray(images[:CALIBRATION], np.float32)))
    return module.eval()


def _memory_rows(title: str, plan: Plan, most: int | None = None) -> list[Row]:
    """What is on the chip: the engine's memories, and what the plan takes of them."""
    config = plan.config
    whole = config.core_bytes + config.work_bytes
    wanted = "" if most is None else f"at most {most:,}"
    return [
        check_row(f"{title}cores", plan.core_bytes, "bytes"),
        check_row(f"{title}tensors, where they are most", plan.work_bytes_peak, "bytes"),
        check_row(
            f"{title}core and work memory of the engine",
            whole,
            "bytes",
            wanted,
            None if most is None else whole <= most,
        ),
    ]


def _right(outputs: np.ndarray, classes: np.ndarray) -> float:
    return 100.0 * float(np.mean(outputs.argmax(axis=1) == classes))
