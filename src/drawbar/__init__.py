"""Drawbar: tensor-decomposed neural networks on a generated inference engine.

``compile`` turns a model into an artefact, ``open`` gives a device that runs it. The names here are
all that a user needs; each is loaded on first use, so that plain installs need neither PyTorch nor
Amaranth.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drawbar.api import compile, golden, load_model, open, plan
    from drawbar.gen.artefact import Artefact
    from drawbar.gen.config import PRESETS, EngineConfig, load_config
    from drawbar.gen.errors import DrawbarError
    from drawbar.gen.network import ContractionNetwork, Model
    from drawbar.sw.driver import Device

__version__ = "0.1.0"

__all__ = [
    "PRESETS",
    "Artefact",
    "ContractionNetwork",
    "Device",
    "DrawbarError",
    "EngineConfig",
    "Model",
    "compile",
    "golden",
    "load_config",
    "load_model",
    "open",
    "plan",
]

_MODULES = {
    "PRESETS": "drawbar.gen.config",
    "Artefact": "drawbar.gen.artefact",
    "ContractionNetwork": "drawbar.gen.network",
    "Device": "drawbar.sw.driver",
    "DrawbarError": "drawbar.gen.errors",
    "EngineConfig": "drawbar.gen.config",
    "Model": "drawbar.gen.network",
    "compile": "drawbar.api",
    "golden": "drawbar.api",
    "load_config": "drawbar.gen.config",
    "load_model": "drawbar.api",
    "open": "drawbar.api",
    "plan": "drawbar.api",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
