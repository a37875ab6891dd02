"""Compression in PyTorch: decompositions, layers, training, lowering, and the data sets.

The names are loaded on first use, so that the data sets need no PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drawbar.sw.compress.admm import Admm
    from drawbar.sw.compress.bonds import balance_bonds
    from drawbar.sw.compress.compression import Compressed, compress_model
    from drawbar.sw.compress.data import Dataset, load_dataset
    from drawbar.sw.compress.demo_model import train_demo
    from drawbar.sw.compress.layers import TTLinear, decompose
    from drawbar.sw.compress.lowering import lower
    from drawbar.sw.compress.modes import factorise
    from drawbar.sw.compress.qat import QuantisedModel, tune_quantised
    from drawbar.sw.compress.rank_choice import Target, choose_ranks
    from drawbar.sw.compress.recipes import reference_model, run_recipe
    from drawbar.sw.compress.settings import Settings
    from drawbar.sw.compress.train import accuracy, train_classifier
    from drawbar.sw.compress.tt import tt_reconstruct, tt_svd

__all__ = [
    "Admm",
    "Compressed",
    "Dataset",
    "QuantisedModel",
    "Settings",
    "TTLinear",
    "Target",
    "accuracy",
    "balance_bonds",
    "choose_ranks",
    "compress_model",
    "decompose",
    "factorise",
    "load_dataset",
    "lower",
    "reference_model",
    "run_recipe",
    "train_classifier",
    "train_demo",
    "tt_reconstruct",
    "tt_svd",
    "tune_quantised",
]

_MODULES = {
    "Admm": "admm",
    "Compressed": "compression",
    "QuantisedModel": "qat",
    "Settings": "settings",
    "Target": "rank_choice",
    "balance_bonds": "bonds",
    "choose_ranks": "rank_choice",
    "compress_model": "compression",
    "reference_model": "recipes",
    "run_recipe": "recipes",
    "tune_quantised": "qat",
    "Dataset": "data",
    "TTLinear": "layers",
    "accuracy": "train",
    "decompose": "layers",
    "factorise": "modes",
    "load_dataset": "data",
    "lower": "lowering",
    "train_classifier": "train",
    "train_demo": "demo_model",
    "tt_reconstruct": "tt",
    "tt_svd": "tt",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
