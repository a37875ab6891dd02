"""The public functions: they compose generator, golden model, simulator and driver."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from drawbar.gen.artefact import Artefact
from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import InputError, LinkError
from drawbar.gen.model_file import load_model
from drawbar.gen.network import Model
from drawbar.gen.plan import Plan, plan_model
from drawbar.gen.presets import load_config
from drawbar.sim.any_board import AnyBoard
from drawbar.sim.golden import run_artefact
from drawbar.sw.compress.quantise import quantise
from drawbar.sw.driver import Device, parse_url

if TYPE_CHECKING:
    from drawbar.sim.verilator import Progress

__all__ = ["compile", "generate", "golden", "load_model", "open", "plan"]

#: Samples of the calibration data that become the artefact's self-test.
SELF_TEST = 8
#: How the names of ONNX files end.
ONNX = ".onnx"


def _load_onnx(path: str | Path) -> Model:
    return import_module("drawbar.sw.onnx").load_onnx(path)


def as_model(model: Any, name: str | None, input_shape: Sequence[int] | None = None) -> Model:
    """A ``Model`` from whatever the user has: one, a model file, an ONNX file, or a PyTorch
    module.
    """
    if isinstance(model, Model):
        return replace(model, name=name) if name else model
    if isinstance(model, (str, Path)):
        loaded = _load_onnx(model) if Path(model).suffix == ONNX else load_model(model)
        return replace(loaded, name=name) if name else loaded
    if type(model).__module__.split(".")[0] == "drawbar" or hasattr(model, "state_dict"):
        lowering = import_module("drawbar.sw.compress.lowering")
        return lowering.lower(model, name or "model", input_shape=input_shape)
    raise InputError(
        "model to compile",
        "is a torch.nn.Module, a drawbar.Model, or the path of a model or ONNX file",
        type(model).__name__,
        "pass one of these",
    )


def plan(
    model: Any,
    engine: str | Path | EngineConfig = "small",
    *,
    batch: int = 1,
    minimise: str = "cycles",
    buffers: int | None = None,
    stream: bool = True,
    name: str | None = None,
    input_shape: Sequence[int] | None = None,
) -> Plan:
    """Plan a model for an engine: contraction order, memory, and exact cycles. No data, no
    simulator.

    Arguments
    ---------
    model:
        A ``torch.nn.Module``, a ``drawbar.Model``, a model file, or an ONNX file (``.onnx``).
    engine:
        A preset's name, a TOML file, or a configuration.
    batch:
        Samples that one run of the program takes.
    minimise:
        "cycles", or "memory": the least work memory for at most 10 % more cycles.
    buffers:
        Places for inputs and outputs that runs use in turn: with two, transfers go beside a run.
        Without it two where that takes no more cycles and fits, but one to minimise memory.
    stream:
        Cores, biases and program of a model that is too large for the engine's memories stream in
        over the link while it computes. ``Plan.streams`` and ``Artefact.streams`` say whether they
        do. With False such a model is an error.
    input_shape:
        Shape of one sample, for a PyTorch model that reads images: ``(channels, height, width)``.

    Raises
    ------
    FitError:
        the model, or a second buffer that was asked for, does not fit; the error says which memory
        is short, and by how many bytes.
    """
    return plan_model(
        as_model(model, name, input_shape),
        load_config(engine),
        batch=batch,
        minimise=minimise,
        buffers=buffers,
        stream=stream,
    )


def compile(
    model: Any,
    engine: str | Path | EngineConfig = "small",
    *,
    calibration: np.ndarray,
    batch: int = 1,
    minimise: str = "cycles",
    buffers: int | None = None,
    stream: bool = True,
    name: str | None = None,
) -> Artefact:
    """Compile a model for an engine: plan, quantise, encode, and add self-test vectors.

    Arguments
    ---------
    calibration:
        ``(samples, inputs)``, or ``(samples, channels, height, width)``: real inputs, from which
        the scales are chosen. A few hundred are plenty. For a model with states ``(sequences,
        steps, inputs)``, as long as any that will come.

    The other arguments are those of ``plan``.
    """
    data = np.asarray(calibration)
    shape = data.shape[1:] if data.ndim > 2 else None
    planned = plan(
        model,
        engine,
        batch=batch,
        minimise=minimise,
        buffers=buffers,
        stream=stream,
        name=name,
        input_shape=shape,
    )
    data = data.reshape(len(data), -1) if data.ndim > 2 and not planned.states else data
    artefact = quantise(planned, data)
    x = artefact.quantise_input(data[:SELF_TEST])
    return replace(
        artefact,
        test_input=x,
        test_output=run_artefact(artefact, x),
        meta={**artefact.meta, "versions": _versions()},
    )


def golden(
    artefact: Artefact,
    x: np.ndarray,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Real inputs ``(samples, inputs)``, of sequences ``(samples, steps, inputs)``, to real outputs
    ``(samples, outputs)`` in the golden model.

    Whole batches at a time, without a device: the fast way to a quantised model's accuracy.
    """
    y = run_artefact(artefact, artefact.quantise_input(x), progress=progress)
    return artefact.dequantise_output(y)


def open(
    url: str = "sim",
    *,
    engine: str | Path | EngineConfig | None = None,
    progress: Progress | None = None,
) -> Device:
    """Open a device.

    Arguments
    ---------
    url:
        ``sim``: the generated RTL in Verilator, behind the link protocol; ``golden``: the golden
        model behind the same protocol, which needs no compiler; ``serial:///PATH?baud=N``: a board.
    engine:
        Engine of a simulated device. Without it, the device becomes what the first artefact needs.
    progress:
        Told (phase, fraction or None) while the simulated board is built.
    """
    device = parse_url(url)
    if device.scheme == "serial":
        if engine is not None:
            raise LinkError(
                f"device {url!r}", "brings its own engine", f"engine {engine!r}", "leave engine out"
            )
        from drawbar.sw.driver import SerialTransport

        return Device(SerialTransport(device.path, device.baud))
    make: Callable[[EngineConfig], Any]
    if device.scheme == "golden":
        from drawbar.sim.golden_board import GoldenBoard

        make = GoldenBoard
    else:
        # Only here: the simulated board needs amaranth.
        from drawbar.sim.board import SimBoard

        make = partial(SimBoard, progress=progress)

    if engine is not None:
        return Device(make(load_config(engine)))
    return Device(AnyBoard(url, make))


def generate(engine: str | Path | EngineConfig, directory: str | Path) -> Path:
    """Write an engine's Verilog and its manifest into a folder; returns the Verilog's path.

    Raises
    ------
    ToolError:
        Amaranth is missing, or the folder cannot be written.
    """
    from drawbar.gen.verilog import emit

    return emit(load_config(engine), directory)


def _versions() -> dict[str, str]:
    """What made an artefact."""
    versions = {"python": platform.python_version()}
    for package in ("drawbar", "numpy", "torch"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
