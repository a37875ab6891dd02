"""Compression in PyTorch: decompositions, layers, training, lowering, and the data sets.

The names are loaded on first use, so that the data sets need no PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drawbar.sw.compress.data import Dataset, load_dataset
    from drawbar.sw.compress.demo_model import train_demo
    from drawbar.sw.compress.layers import TTLinear, decompose
    from drawbar.sw.compress.lowering import lower
    from drawbar.sw.compress.modes import factorise
    from drawbar.sw.compress.train import accuracy, train_classifier
    from drawbar.sw.compress.tt import tt_reconstruct, tt_svd

__all__ = [
    "Dataset",
    "TTLinear",
    "accuracy",
    "decompose",
    "factorise",
    "load_dataset",
    "lower",
    "train_classifier",
    "train_demo",
    "tt_reconstruct",
    "tt_svd",
]

_MODULES = {
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
