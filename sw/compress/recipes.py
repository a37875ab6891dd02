"""Reference models, and how each is compressed in the benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from drawbar.gen.errors import InputError
from drawbar.sw.compress.backend import nn
from drawbar.sw.compress.compression import Compressed, compress_model, layer_specs
from drawbar.sw.compress.data import Dataset
from drawbar.sw.compress.settings import PHASES, Settings, json_values
from drawbar.sw.compress.train import Progress, seeded


def perceptron(*sizes: int) -> nn.Sequential:
    """Linear layers fc1, fc2, ... with ReLU in between."""
    model = nn.Sequential()
    for number, (inputs, outputs) in enumerate(pairwise(sizes), 1):
        if number > 1:
            model.add_module(f"relu{number - 1}", nn.ReLU())
        model.add_module(f"fc{number}", nn.Linear(inputs, outputs))
    return model


def lenet_300() -> nn.Sequential:
    """LeNet-300-100 (LeCun et al. 1998): 784-300-100-10, 266,610 weights with biases."""
    return perceptron(784, 300, 100, 10)


def lenet_5() -> nn.Sequential:
    """LeNet-5 as in Caffe: two convolutions of 5 x 5 with 20 and 50 channels, 500 and 10 features;
    431,080 weights with biases. Takes flat images, as all models here.
    """
    model = nn.Sequential()
    for name, module in (
        ("image", nn.Unflatten(1, (1, 28, 28))),
        ("conv1", nn.Conv2d(1, 20, 5)),
        ("pool1", nn.MaxPool2d(2)),
        ("conv2", nn.Conv2d(20, 50, 5)),
        ("pool2", nn.MaxPool2d(2)),
        ("flatten", nn.Flatten()),
        ("fc1", nn.Linear(800, 500)),
        ("relu", nn.ReLU()),
        ("fc2", nn.Linear(500, 10)),
    ):
        model.add_module(name, module)
    return model


def digits_mlp() -> nn.Sequential:
    """64-256-256-10, for scikit-learn's digits of 8 x 8 pixels: 85,002 weights with biases."""
    return perceptron(64, 256, 256, 10)


MODELS: dict[str, Callable[[], nn.Sequential]] = {
    "lenet-300": lenet_300,
    "lenet-5": lenet_5,
    "digits-mlp": digits_mlp,
}


def reference_model(name: str, seed: int = 0) -> nn.Sequential:
    """A fresh reference model; the same seed gives the same weights.

    Raises
    ------
    InputError:
        there is no such model.
    """
    if name not in MODELS:
        raise InputError(
            f"reference model {name!r}", f"is one of {', '.join(MODELS)}", name, "use one of these"
        )
    with seeded(seed):
        return MODELS[name]()


@dataclass(frozen=True)
class Recipe:
    """How a reference model is compressed.

    Members
    -------
    model, data:
        Names of the model and of the data set.
    layers:
        What ``layers.layer_spec`` takes, for each layer that is compressed.
    settings:
        Of the training; its seed is replaced.
    """

    model: str
    data: str
    layers: Mapping[str, Mapping[str, Any]]
    settings: Settings


@dataclass(frozen=True)
class Arms:
    """A recipe's results, all from the same trained dense model.

    Members
    -------
    dense:
        The dense model.
    admm:
        As the recipe says.
    control:
        The same epochs, but the dense model is decomposed as it is, and the epochs of ADMM go into
        the fine-tuning.
    """

    dense: Compressed
    admm: Compressed
    control: Compressed


def run_recipe(
    recipe: Recipe,
    dataset: Dataset,
    *,
    seed: int = 0,
    folder: str | Path | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Arms:
    """Train a recipe's model, and compress it with ADMM and without.

    ``folder`` keeps the checkpoints of each of the three runs.
    """
    settings = replace(recipe.settings, seed=seed)
    later = settings.admm_epochs + settings.tuning_epochs
    total = settings.dense_epochs + 2 * later
    done = 0

    def run(
        what: str, model: nn.Module, layers: Mapping[str, Mapping[str, Any]], **changes: Any
    ) -> Compressed:
        nonlocal done
        before, chosen = done, replace(settings, **changes)

        def report(now: int, _total: int, text: str) -> None:
            if progress is not None:
                progress(before + now, total, f"seed {seed}, {what}: {text}")

        found = compress_model(
            model,
            lambda trained: layer_specs(trained, layers),
            dataset,
            chosen,
            config={"layers": json_values(layers)},
            folder=None if folder is None else Path(folder) / f"{what}-{seed}",
            device=device,
            progress=report,
        )
        done += sum(chosen.epochs(phase) for phase in PHASES)
        return found

    fresh = reference_model(recipe.model, seed)
    dense = run("dense", fresh, {}, method="direct", tuning_epochs=0)
    admm = run("admm", dense.model, recipe.layers, dense_epochs=0)
    control = run(
        "control",
        dense.model,
        recipe.layers,
        method="direct",
        dense_epochs=0,
        tuning_epochs=later,
    )
    return Arms(dense, admm, control)


RECIPES = {
    # 266,610 weights to 5,970, 44.7x: TT rank 6 on fc1 and fc2. Many modes have that count. These
    # take 2,302 cycles on an 8 x 8 engine, fc3 dense, and the first two and the last two modes of
    # the input are the rows and the columns of pixels.
    "lenet-300-tt": Recipe(
        model="lenet-300",
        data="mnist",
        layers={
            "fc1": {
                "format": "tt",
                "modes_in": (2, 14, 7, 4),
                "modes_out": (10, 5, 3, 2),
                "max_rank": 6,
            },
            "fc2": {
                "format": "tt",
                "modes_in": (10, 3, 10),
                "modes_out": (5, 2, 10),
                "max_rank": 6,
            },
        },
        settings=Settings(
            dense_epochs=10,
            admm_epochs=20,
            tuning_epochs=5,
            admm_lr=2e-3,
            tuning_lr=1e-2,
            rho_first=1e-3,
            rho_last=1e-1,
            threads=1,
        ),
    ),
    # 431,080 weights to 16,960, 25.4x.
    "lenet-5-tt": Recipe(
        model="lenet-5",
        data="mnist",
        layers={
            "conv2": {
                "format": "tt",
                "layout": "out_kernel_in",
                "modes_in": (20,),
                "modes_out": (50,),
                "max_rank": 16,
            },
            "fc1": {
                "format": "tt",
                "modes_in": (4, 5, 5, 8),
                "modes_out": (5, 4, 5, 5),
                "max_rank": 8,
            },
        },
        settings=Settings(
            dense_epochs=8,
            admm_epochs=10,
            tuning_epochs=5,
            admm_lr=1e-3,
            tuning_lr=5e-3,
            rho_first=1e-3,
            rho_last=1e-1,
        ),
    ),
}
