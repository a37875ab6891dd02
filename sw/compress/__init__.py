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
    from drawbar.sw.compress.formats import Format, Spec, format_names, get_format
    from drawbar.sw.compress.formats.ada_tucker import share_core
    from drawbar.sw.compress.importing import import_cores, import_layer
    from drawbar.sw.compress.layers import TTLinear, decompose
    from drawbar.sw.compress.lowering import lower
    from drawbar.sw.compress.modes import factorise
    from drawbar.sw.compress.qat import QuantisedModel, tune_quantised
    from drawbar.sw.compress.rank_choice import Target, choose_ranks
    from drawbar.sw.compress.recipes import reference_model, run_recipe
    from drawbar.sw.compress.recurrent import FactorisedRNN, recurrent_spec
    from drawbar.sw.compress.sequences import SequenceClassifier
    from drawbar.sw.compress.settings import Settings
    from drawbar.sw.compress.speech import load_speech
    from drawbar.sw.compress.train import accuracy, train_classifier
    from drawbar.sw.compress.tt import tt_reconstruct, tt_round, tt_svd
    from drawbar.sw.compress.weights_file import load_weights, save_weights

__all__ = [
    "Admm",
    "Compressed",
    "Dataset",
    "FactorisedRNN",
    "Format",
    "QuantisedModel",
    "SequenceClassifier",
    "Settings",
    "Spec",
    "TTLinear",
    "Target",
    "accuracy",
    "balance_bonds",
    "choose_ranks",
    "compress_model",
    "decompose",
    "factorise",
    "format_names",
    "get_format",
    "import_cores",
    "import_layer",
    "load_dataset",
    "load_speech",
    "load_weights",
    "lower",
    "recurrent_spec",
    "reference_model",
    "run_recipe",
    "save_weights",
    "share_core",
    "train_classifier",
    "train_demo",
    "tt_reconstruct",
    "tt_round",
    "tt_svd",
    "tune_quantised",
]

_MODULES = {
    "Admm": "admm",
    "Compressed": "compression",
    "Dataset": "data",
    "FactorisedRNN": "recurrent",
    "Format": "formats",
    "QuantisedModel": "qat",
    "SequenceClassifier": "sequences",
    "Settings": "settings",
    "Spec": "formats",
    "TTLinear": "layers",
    "Target": "rank_choice",
    "accuracy": "train",
    "balance_bonds": "bonds",
    "choose_ranks": "rank_choice",
    "compress_model": "compression",
    "decompose": "layers",
    "factorise": "modes",
    "format_names": "formats",
    "get_format": "formats",
    "import_cores": "importing",
    "import_layer": "importing",
    "load_dataset": "data",
    "load_speech": "speech",
    "load_weights": "weights_file",
    "lower": "lowering",
    "recurrent_spec": "recurrent",
    "reference_model": "recipes",
    "run_recipe": "recipes",
    "save_weights": "weights_file",
    "share_core": "formats.ada_tucker",
    "train_classifier": "train",
    "train_demo": "demo_model",
    "tt_reconstruct": "tt",
    "tt_round": "tt",
    "tt_svd": "tt",
    "tune_quantised": "qat",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
