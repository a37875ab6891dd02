"""Reference models, and how each is compressed in the benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from drawbar.gen.errors import InputError
from drawbar.sw.compress.backend import nn, torch
from drawbar.sw.compress.compression import Compressed, choose_specs, compress_model
from drawbar.sw.compress.counts import resnet_convolutions
from drawbar.sw.compress.data import Dataset
from drawbar.sw.compress.rank_choice import Target
from drawbar.sw.compress.resnet import ResNet
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
    # With channels innermost a training step takes two thirds of the time on a CPU.
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def digits_mlp() -> nn.Sequential:
    """64-256-256-10, for scikit-learn's digits of 8 x 8 pixels: 85,002 weights with biases."""
    return perceptron(64, 256, 256, 10)


def resnet(depth: int) -> nn.Module:
    """A residual network for CIFAR-10; see ``resnet.ResNet``."""
    return ResNet(depth).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


MODELS: dict[str, Callable[[], nn.Module]] = {
    "lenet-300": lenet_300,
    "lenet-5": lenet_5,
    "digits-mlp": digits_mlp,
    "resnet-20": partial(resnet, 20),
    "resnet-32": partial(resnet, 32),
}


def reference_model(name: str, seed: int = 0) -> nn.Module:
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
    compression:
        As in ``rank_choice.Target``: then the ranks are chosen, and the layers name none.
    bits, share:
        As in ``compression.compress_model``.
    control:
        What the control arm changes in the settings, beside the method; None: there is no such arm.
    """

    model: str
    data: str
    layers: Mapping[str, Mapping[str, Any]]
    settings: Settings
    compression: float | None = None
    bits: Mapping[str, int] = field(default_factory=dict)
    share: tuple[str, ...] = ()
    control: Mapping[str, Any] | None = field(default_factory=dict)


@dataclass(frozen=True)
class Arms:
    """A recipe's results, all from the same trained dense model.

    Members
    -------
    dense:
        The dense model.
    compressed:
        As the recipe says.
    control:
        The same epochs, but the dense model is decomposed as it is, and the epochs of ADMM go into
        the fine-tuning.
    """

    dense: Compressed
    compressed: Compressed
    control: Compressed | None


def run_recipe(
    recipe: Recipe,
    dataset: Dataset,
    *,
    seed: int = 0,
    dense: Compressed | None = None,
    folder: str | Path | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Arms:
    """Train a recipe's model, compress it, and do so again without ADMM.

    Arguments
    ---------
    dense:
        What another recipe has trained of the same model in the same way and with the same seed:
        then it is not trained again.
    folder:
        Keeps the checkpoints of each of these runs.
    """
    settings = replace(recipe.settings, seed=seed)
    later = settings.epochs("admm") + settings.tuning_epochs
    total = 0 if dense is not None else settings.dense_epochs
    total += (1 if recipe.control is None else 2) * (later + settings.storage_epochs)
    done = 0

    def run(
        what: str, model: nn.Module, layers: Mapping[str, Mapping[str, Any]], **changes: Any
    ) -> Compressed:
        nonlocal done
        before, chosen = done, replace(settings, **changes)
        asked = recipe if layers else replace(recipe, compression=None, bits={}, share=())
        ratio = asked.compression
        target = None if ratio is None else Target(compression=ratio)

        def report(now: int, _total: int, text: str) -> None:
            if progress is not None:
                progress(before + now, total, f"seed {seed}, {what}: {text}")

        found = compress_model(
            model,
            lambda trained: choose_specs(trained, layers, target),
            dataset,
            chosen,
            bits=asked.bits,
            share=asked.share,
            config={"layers": json_values(layers), "compression": ratio},
            folder=None if folder is None else Path(folder) / f"{what}-{seed}",
            device=device,
            progress=report,
        )
        done += sum(chosen.epochs(phase) for phase in (PHASES if asked.bits else PHASES[:-1]))
        return found

    if dense is None:
        fresh = reference_model(recipe.model, seed)
        dense = run("dense", fresh, {}, method="direct", tuning_epochs=0, storage_epochs=0)
    compressed = run(settings.method, dense.model, recipe.layers, dense_epochs=0)
    control = None
    if recipe.control is not None:
        changes = {"dense_epochs": 0, "tuning_epochs": later, **recipe.control}
        control = run("control", dense.model, recipe.layers, method="direct", **changes)
    return Arms(dense, compressed, control)


def resnet_layers(depth: int, ranks: Mapping[int, int] | None = None) -> dict[str, dict[str, Any]]:
    """All convolutions of a residual network but the first in TT, a core each for outputs, kernel
    and inputs; ``ranks`` by output channels, or none where they are chosen.
    """
    return {
        conv.name: {
            "format": "tt",
            "layout": "out_kernel_in",
            "modes_out": conv.shape[:1],
            "modes_in": conv.shape[1:2],
            **({} if ranks is None else {"max_rank": ranks[conv.shape[0]]}),
        }
        for conv in resnet_convolutions(depth)
        if conv.name != "conv1"
    }


#: The cores of the decomposed network are trained end to end, and the dense network teaches them.
FEW_BITS = Settings(
    method="direct",
    dense_epochs=10,
    tuning_epochs=15,
    storage_epochs=15,
    tuning_lr=5e-3,
    storage_lr=3e-3,
    distillation=0.5,
    threads=1,
)

#: Of the convolutions of ResNet-20, by output channels.
RESNET_RANKS = {16: 5, 32: 10, 64: 16}


#: Of ResNet-20: the dense network teaches in all that follows.
RESNET_SETTINGS = Settings(
    optimiser="sgd",
    precision="bfloat16",
    weight_decay=5e-4,
    shift=4,
    mirror=0.5,
)


def resnet_recipe(compression: float, **changes: Any) -> Recipe:
    """ResNet-20 on a long schedule, for a GPU, with ranks chosen for a compression."""
    settings = replace(
        RESNET_SETTINGS,
        cuda_graph=True,
        dense_epochs=120,
        admm_epochs=30,
        tuning_epochs=160,
        lr=0.2,
        admm_lr=0.1,
        tuning_lr=0.1,
        warmup=3,
        batch_size=250,
        rho_first=2e-3,
        rho_last=2e-1,
        distillation=0.9,
        measure_every=10,
    )
    return Recipe(
        model="resnet-20",
        data="cifar10",
        layers=resnet_layers(20),
        compression=compression,
        control=None,
        settings=replace(settings, **changes),
    )


RECIPES = {
    # 266,610 weights to 5,970, 44.7x: TT rank 6 on fc1 and fc2. Many modes have that count. These
    # take 2,302 cycles on an 8 x 8 engine, fc3 dense, and the first two and the last two modes of
    # the input are the rows and the columns of pixels. Fine-tuning sees images moved by a pixel.
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
            shift=1,
            augment_from="tuning",
            threads=1,
        ),
    ),
    # 431,080 weights to 16,960, 25.4x. The first two modes of fc1's input are the 50 channels, the
    # others the rows and columns of the 4 x 4 that are left of the image.
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
                "modes_in": (10, 5, 4, 4),
                "modes_out": (4, 5, 5, 5),
                "max_rank": 8,
            },
        },
        settings=Settings(
            dense_epochs=10,
            admm_epochs=15,
            tuning_epochs=5,
            admm_lr=1e-3,
            tuning_lr=5e-3,
            rho_first=1e-3,
            rho_last=1e-1,
            threads=1,
        ),
    ),
    # 1,066,440 bytes to at most 4,577, 233x: 4 bits a weight.
    "lenet-300-ada": Recipe(
        model="lenet-300",
        data="mnist",
        layers={
            "fc1": {"format": "ada_tucker", "ranks": (7, 7, 10, 10)},
            "fc2": {"format": "ada_tucker", "ranks": (6, 6, 6, 6)},
        },
        bits={"*": 4},
        control=None,
        settings=FEW_BITS,
    ),
    # 1,724,320 bytes to at most 2,495, 691x.
    "lenet-5-ada": Recipe(
        model="lenet-5",
        data="mnist",
        layers={
            "conv2": {"format": "ada_tucker", "order": 2, "ranks": (8, 5)},
            "fc1": {"format": "ada_tucker", "ranks": (6, 6, 6, 6)},
            "fc2": {"format": "ada_tucker", "order": 3, "ranks": (8, 7, 7)},
        },
        bits={"*": 4, "fc1.cores.*": 3},
        control=None,
        settings=FEW_BITS,
    ),
    # 269,722 weights to at most 39,665 and 59,938, as in Yin et al.
    "resnet-20-tt-6.8x": resnet_recipe(6.8, tuning_epochs=240, cycles=2),
    "resnet-20-tt-4.5x": resnet_recipe(4.5),
    # 39,448 weights, 6.8x, on a schedule for a CPU. What ADMM leaves has little to gain from a high
    # rate and much to lose; a direct decomposition has to go a long way, at the control's rate.
    "resnet-20-tt-short": Recipe(
        model="resnet-20",
        data="cifar10",
        layers=resnet_layers(20, RESNET_RANKS),
        control={"tuning_lr": 0.03, "warmup": 0},
        settings=replace(
            RESNET_SETTINGS,
            dense_epochs=40,
            admm_epochs=8,
            tuning_epochs=4,
            lr=0.1,
            admm_lr=0.03,
            tuning_lr=0.01,
            warmup=1,
            rho_first=2e-2,
            rho_last=1.0,
            distillation=0.7,
            measure_every=0,
        ),
    ),
}
