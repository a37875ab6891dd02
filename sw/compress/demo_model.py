"""The demo's model: a three-layer perceptron whose two large layers are TT-matrices."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from math import prod

from drawbar.gen.errors import InputError
from drawbar.sw.compress.backend import nn, torch
from drawbar.sw.compress.data import Dataset
from drawbar.sw.compress.layers import decompose
from drawbar.sw.compress.train import Progress, train_classifier


@dataclass(frozen=True)
class Recipe:
    """How one data set's model is built and trained; chosen on held-out training samples.

    Members
    -------
    modes_in, modes_1, modes_2:
        Modes of the input and of the outputs of fc1 and fc2; their products are the sizes.
    ranks_1, ranks_2:
        Inner ranks of fc1 and fc2.
    dense_epochs, tuning_epochs:
        Epochs before and after the decomposition.
    noise:
        Deviation of what is added to the inputs in training. It also makes the model bear the
        rounding of 8-bit integers.
    threads:
        CPU threads to train with; None for PyTorch's own choice. A small model trains fastest in
        one, even on a busy machine, and then its sums do not depend on the number of cores.
    """

    modes_in: tuple[int, ...]
    modes_1: tuple[int, ...]
    modes_2: tuple[int, ...]
    ranks_1: tuple[int, ...]
    ranks_2: tuple[int, ...]
    dense_epochs: int
    tuning_epochs: int
    batch_size: int
    noise: float
    threads: int | None = None
    lr: float = 2e-3
    tuning_lr: float = 1e-2
    weight_decay: float = 0.05


_LARGE = Recipe(
    modes_in=(4, 7, 7, 4),
    modes_1=(4, 8, 8, 4),
    modes_2=(4, 4, 4, 4),
    ranks_1=(8, 8, 8),
    ranks_2=(8, 8, 8),
    dense_epochs=3,
    tuning_epochs=8,
    batch_size=256,
    noise=0.1,
)
RECIPES = {
    "digits": Recipe(
        modes_in=(4, 4, 4),
        modes_1=(4, 8, 8),
        modes_2=(4, 8, 8),
        ranks_1=(8, 8),
        ranks_2=(8, 8),
        dense_epochs=30,
        tuning_epochs=100,
        batch_size=64,
        noise=0.3,
        threads=1,
    ),
    "mnist": _LARGE,
    "fashion-mnist": _LARGE,
}


def train_demo(
    dataset: Dataset, name: str, seed: int = 0, progress: Progress | None = None
) -> nn.Sequential:
    """Train the dense model, decompose layers fc1 and fc2 by TT-SVD, and fine-tune the cores.

    Arguments
    ---------
    name:
        Whose recipe to use: a key of ``RECIPES``.
    progress:
        Called after each epoch with epochs done, epochs in all (both phases), and a text.

    Returns
    -------
    fc1 (TT), relu1, fc2 (TT), relu2, fc3 (dense), set to inference. The same seed gives the same
    model on the same machine and PyTorch.

    Raises
    ------
    InputError:
        no recipe of that name, or data of another size than the recipe's.
    """
    if name not in RECIPES:
        raise InputError(
            f"demo model {name!r}", f"is one of {', '.join(RECIPES)}", name, "use one of these"
        )
    recipe = RECIPES[name]
    if dataset.features != prod(recipe.modes_in):
        raise InputError(
            f"data set {dataset.name!r}",
            f"has the {prod(recipe.modes_in)} features of the {name} model",
            dataset.features,
            "use the model of the same name",
        )
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(recipe.threads or threads)
        return _train(dataset, recipe, seed, progress)
    finally:
        torch.set_num_threads(threads)


def _train(dataset: Dataset, recipe: Recipe, seed: int, progress: Progress | None) -> nn.Sequential:
    hidden_1, hidden_2 = prod(recipe.modes_1), prod(recipe.modes_2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[tuple[str, nn.Module]] = [
            ("fc1", nn.Linear(dataset.features, hidden_1)),
            ("relu1", nn.ReLU()),
            ("fc2", nn.Linear(hidden_1, hidden_2)),
            ("relu2", nn.ReLU()),
            ("fc3", nn.Linear(hidden_2, dataset.classes)),
        ]
    model: nn.Module = nn.Sequential(OrderedDict(layers))
    total = recipe.dense_epochs + recipe.tuning_epochs

    def phase(text: str, before: int) -> Progress | None:
        if progress is None:
            return None
        report = progress
        return lambda done, _, what: report(before + done, total, f"{text}: {what}")

    train_classifier(
        model,
        dataset.train_x,
        dataset.train_y,
        epochs=recipe.dense_epochs,
        lr=recipe.lr,
        batch_size=recipe.batch_size,
        seed=seed,
        progress=phase("dense", 0),
        weight_decay=recipe.weight_decay,
        noise=recipe.noise,
    )
    model = decompose(
        model,
        {
            "fc1": {
                "modes_out": recipe.modes_1,
                "modes_in": recipe.modes_in,
                "ranks": recipe.ranks_1,
            },
            "fc2": {
                "modes_out": recipe.modes_2,
                "modes_in": recipe.modes_1,
                "ranks": recipe.ranks_2,
            },
        },
    )
    train_classifier(
        model,
        dataset.train_x,
        dataset.train_y,
        epochs=recipe.tuning_epochs,
        lr=recipe.tuning_lr,
        batch_size=recipe.batch_size,
        seed=seed + 1,
        progress=phase("TT cores", recipe.dense_epochs),
        weight_decay=recipe.weight_decay,
        noise=recipe.noise,
    )
    assert isinstance(model, nn.Sequential)
    return model
