"""Drawbar: tensor-decomposed neural networks on a generated inference engine.

``compile`` turns a model into an artefact, ``open`` gives a device that runs it. The names here are
all that a user needs; each is loaded on first use, so that plain installs need neither PyTorch nor
Amaranth.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drawbar.api import compile, generate, golden, load_model, open, plan
    from drawbar.bitstream import BuildReport, build
    from drawbar.boards import list_boards, program
    from drawbar.compressing import compress, compress_file
    from drawbar.demo import run_demo
    from drawbar.fuzz import Mismatch, replay_case, run_fuzz
    from drawbar.gen.artefact import Artefact
    from drawbar.gen.config import EngineConfig
    from drawbar.gen.errors import DrawbarError
    from drawbar.gen.network import ContractionNetwork, Model
    from drawbar.gen.presets import PRESETS, load_config
    from drawbar.plots import check_plot, plot_explanation, plot_pareto, plot_stages
    from drawbar.sim.tools import tool_report
    from drawbar.sizing import estimate, explore
    from drawbar.suites import SUITES
    from drawbar.suites import run_suite as bench
    from drawbar.sw.driver import Device
    from drawbar.trace_plot import plot_trace
    from drawbar.tracing import Trace, trace

__version__ = "0.1.0"

__all__ = [
    "PRESETS",
    "SUITES",
    "Artefact",
    "BuildReport",
    "ContractionNetwork",
    "Device",
    "DrawbarError",
    "EngineConfig",
    "Mismatch",
    "Model",
    "Trace",
    "bench",
    "build",
    "check_plot",
    "compile",
    "compress",
    "compress_file",
    "estimate",
    "explore",
    "generate",
    "golden",
    "list_boards",
    "load_config",
    "load_model",
    "open",
    "plan",
    "plot_explanation",
    "plot_pareto",
    "plot_stages",
    "plot_trace",
    "program",
    "replay_case",
    "run_demo",
    "run_fuzz",
    "tool_report",
    "trace",
]

#: Name: the module that defines it, and its name there.
_PLACES = {
    "PRESETS": ("drawbar.gen.presets", "PRESETS"),
    "SUITES": ("drawbar.suites", "SUITES"),
    "Artefact": ("drawbar.gen.artefact", "Artefact"),
    "BuildReport": ("drawbar.bitstream", "BuildReport"),
    "ContractionNetwork": ("drawbar.gen.network", "ContractionNetwork"),
    "Device": ("drawbar.sw.driver", "Device"),
    "DrawbarError": ("drawbar.gen.errors", "DrawbarError"),
    "EngineConfig": ("drawbar.gen.config", "EngineConfig"),
    "Mismatch": ("drawbar.fuzz", "Mismatch"),
    "Model": ("drawbar.gen.network", "Model"),
    "Trace": ("drawbar.tracing", "Trace"),
    "bench": ("drawbar.suites", "run_suite"),
    "build": ("drawbar.bitstream", "build"),
    "check_plot": ("drawbar.plots", "check_plot"),
    "compile": ("drawbar.api", "compile"),
    "compress": ("drawbar.compressing", "compress"),
    "compress_file": ("drawbar.compressing", "compress_file"),
    "estimate": ("drawbar.sizing", "estimate"),
    "explore": ("drawbar.sizing", "explore"),
    "generate": ("drawbar.api", "generate"),
    "golden": ("drawbar.api", "golden"),
    "list_boards": ("drawbar.boards", "list_boards"),
    "load_config": ("drawbar.gen.presets", "load_config"),
    "load_model": ("drawbar.api", "load_model"),
    "open": ("drawbar.api", "open"),
    "plan": ("drawbar.api", "plan"),
    "plot_explanation": ("drawbar.plots", "plot_explanation"),
    "plot_pareto": ("drawbar.plots", "plot_pareto"),
    "plot_stages": ("drawbar.plots", "plot_stages"),
    "plot_trace": ("drawbar.trace_plot", "plot_trace"),
    "program": ("drawbar.boards", "program"),
    "replay_case": ("drawbar.fuzz", "replay_case"),
    "run_demo": ("drawbar.demo", "run_demo"),
    "run_fuzz": ("drawbar.fuzz", "run_fuzz"),
    "tool_report": ("drawbar.sim.tools", "tool_report"),
    "trace": ("drawbar.tracing", "trace"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
