"""Where a compiled model loses accuracy: float, golden model and device, layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf, isfinite, log10, prod
from pathlib import Path
from typing import Any

import numpy as np

from drawbar.api import as_model, open
from drawbar.gen.artefact import Artefact
from drawbar.gen.config import EngineConfig, load_config
from drawbar.gen.errors import InputError
from drawbar.gen.network import Model
from drawbar.gen.plan import Plan, plan_model
from drawbar.gen.results import layer_results
from drawbar.sim.golden import run_artefact
from drawbar.sw.compress.quantise import Scales, calibrate, quantise, stage_integers
from drawbar.sw.driver import Device

#: Samples that are looked at where nobody says how many.
SAMPLES = 64
#: Samples at a time: all of a model's tensors are held for these.
CHUNK = 4
#: Bins of a histogram, over the range of the engine's integers.
BINS = 64

Progress = Callable[[str, int, int], None]


@dataclass
class LayerTrace:
    """One tensor: the model's input, or a layer's result.

    Members
    -------
    elements:
        Of one sample.
    scale:
        Real value times this is the integer.
    sqnr:
        Signal-to-quantisation-noise ratio against the float model, in dB: all noise so far.
        Infinite where there is none.
    own_sqnr:
        The same against the layer computed in float of the integers that it reads: its own noise.
    saturated:
        Results at the least or the greatest integer, in all samples.
    saturated_inside:
        The same of the layer's earlier stages.
    range_use:
        Largest magnitude over the greatest integer.
    float_use:
        The same of the float model's values: above 1 they do not fit.
    histogram, float_histogram:
        Results in ``BINS`` equal parts of the range of integers: of the golden model, and of the
        float model, which the ends of the range clip.
    mismatches:
        Results of the device that differ from the golden model's; None without a device.
    """

    name: str
    format: str
    elements: int
    scale: float
    sqnr: float = inf
    own_sqnr: float = inf
    saturated: int = 0
    saturated_inside: int = 0
    range_use: float = 0.0
    float_use: float = 0.0
    histogram: list[int] = field(default_factory=list)
    float_histogram: list[int] = field(default_factory=list)
    mismatches: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``; an infinite ratio is None."""
        ratios = {k: v if isfinite(v) else None for k, v in vars(self).items() if "sqnr" in k}
        return {**vars(self), **ratios}


@dataclass(frozen=True)
class Trace:
    """All tensors of a model, in the order in which they are made.

    Members
    -------
    samples:
        That were looked at.
    device:
        Its URL; None without one.
    layers:
        The input first.
    """

    model: str
    engine: str
    data_width: int
    samples: int
    device: str | None
    layers: tuple[LayerTrace, ...]

    @property
    def worst(self) -> LayerTrace:
        """The one that adds the most noise for its signal."""
        return min(self.layers, key=lambda layer: layer.own_sqnr)

    @property
    def mismatches(self) -> int:
        """Results of the device, of all layers, that differ from the golden model's."""
        return sum(layer.mismatches or 0 for layer in self.layers)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            **{name: value for name, value in vars(self).items() if name != "layers"},
            "worst": self.worst.name,
            "mismatches": self.mismatches,
            "layers": [layer.as_dict() for layer in self.layers],
        }


def trace(
    model: Any,
    engine: str | Path | EngineConfig = "small",
    *,
    data: np.ndarray,
    calibration: np.ndarray | None = None,
    device: str | None = None,
    batch: int = 1,
    samples: int = SAMPLES,
    scales: Scales | None = None,
    progress: Progress | None = None,
) -> Trace:
    """Compare float model, golden model and device, layer by layer.

    Arguments
    ---------
    model, engine, batch:
        As in ``drawbar.plan``.
    data:
        Inputs ``(samples, inputs)`` to compare on.
    calibration:
        Inputs from which the scales are chosen; without them ``data``.
    device:
        URL of a device, as in ``drawbar.open``; without one the golden model alone.
    samples:
        How many of ``data`` are looked at.
    scales:
        Scales in place of those that ``calibration`` gives.
    progress:
        Told (what, things done, things to do).

    Raises
    ------
    InputError:
        unusable data.
    """
    source = as_model(model, None)
    if source.states:
        raise InputError(
            f"trace of model {source.name!r}",
            "is of a model without states",
            f"{len(source.states)} states",
            "compare whole sequences: drawbar.golden, and the model's own forward",
        )
    if samples < 1:
        raise InputError("samples of a trace", "are at least one", samples, "raise samples")
    plan = plan_model(source, load_config(engine), batch=batch, buffers=1)
    x = _rows(data, source)[:samples]
    told = progress or (lambda *_: None)
    told("calibration", 0, 1)
    scales = scales or calibrate(plan, _rows(data if calibration is None else calibration, source))
    artefact = quantise(plan, x, scales=scales)
    integers = artefact.quantise_input(x)
    found = _Tensors(plan, artefact, scales)
    told("golden model", 0, len(x))
    for start in range(0, len(x), CHUNK):
        found.add(x[start : start + CHUNK], integers[start : start + CHUNK])
        told("golden model", min(start + CHUNK, len(x)), len(x))
    layers = found.layers()
    if device is not None:
        with open(device, progress=_building(told)) as opened:
            _on_device(opened, artefact, found, integers, told)
    names = {layer.name for layer in source.layers}
    shown = [row for row in layers if row is layers[0] or row.name in names]
    return Trace(
        model=plan.model.name,
        engine=plan.config.name,
        data_width=plan.config.data_width,
        samples=len(x),
        device=device,
        layers=tuple(shown),
    )


def _building(told: Progress) -> Callable[[str, float | None], None]:
    return lambda phase, part: told(f"simulated board: {phase}", round(100 * (part or 0)), 100)


def _rows(data: np.ndarray, model: Model) -> np.ndarray:
    """Data as ``(samples, inputs)``."""
    where = f"data of model {model.name!r}"
    x = np.asarray(data)
    if x.dtype.kind not in "fiu":
        raise InputError(where, "holds numbers", x.dtype, "convert it to float")
    if x.ndim < 2 or len(x) == 0 or x[0].size != model.inputs:
        rule = f"has shape (samples, {model.inputs})"
        raise InputError(where, rule, x.shape, "give some real inputs, one row each")
    if not np.isfinite(x).all():
        raise InputError(where, "holds finite numbers", "NaN or infinity", "clean the data")
    return x.reshape(len(x), -1).astype(np.float64)


class _Tensors:
    """What is known of each tensor of the plan's model, over chunks of samples."""

    def __init__(self, plan: Plan, artefact: Artefact, scales: Scales) -> None:
        self.plan, self.artefact = plan, artefact
        self.results = layer_results(plan)
        made = stage_integers(plan, scales)
        model, top = plan.model, plan.config.data_max
        first = LayerTrace("input", "input", model.inputs, 2.0**artefact.input.fraction_bits)
        self.rows = [first] + [
            LayerTrace(layer.name, layer.format, prod(shape), made[result.step].scale_out)
            for layer, shape, result in zip(
                model.layers, model.shapes[1:], self.results, strict=True
            )
        ]
        self.edges = np.linspace(plan.config.data_min, top + 1, BINS + 1)
        count = len(self.rows)
        #: Of each tensor: power of its signal, of all noise, of its layer's result, of its noise.
        self.power = np.zeros((count, 4))
        self.histograms = np.zeros((count, 2, BINS), np.int64)
        #: What the golden model has made of each layer, to be compared with the device's.
        self.golden: list[list[np.ndarray]] = [[] for _ in self.results]

    def add(self, x: np.ndarray, integers: np.ndarray) -> None:
        """Take some samples: real and as integers."""
        model, config = self.plan.model, self.plan.config
        batch, count = self.plan.batch, len(x)
        # A concatenation may end with its last part.
        wanted: dict[int, list[int]] = {}
        for n, result in enumerate(self.results):
            wanted.setdefault(result.stage, []).append(n)
        engine: list[np.ndarray] = [integers] * (1 + len(self.results))

        def observe(stage: int, work: np.ndarray) -> None:
            step, planned = self.plan.program[stage]
            if stage not in wanted:
                whole = self.plan.stages[step]
                if not whole.fills and not whole.ends_layer:
                    values = work[: count // batch, planned.addresses("y")]
                    self.rows[planned.layer + 1].saturated_inside += self._saturated(values)
            for number in wanted.get(stage, ()):
                result = self.results[number]
                places = result.layout.addresses(batch)
                written = work[:, places].reshape(len(work) * batch, -1)[:count]
                engine[number + 1] = result.tensor(written.astype(np.int64))

        run_artefact(self.artefact, integers, observe=observe)
        exact, read = [x], [integers / self.rows[0].scale]
        for number, layer in enumerate(model.layers):
            exact.append(layer.forward(model.read(number, exact)))
            read.append(engine[number + 1] / self.rows[number + 1].scale)
            self.golden[number].append(engine[number + 1].astype(np.int32))
        for number, row in enumerate(self.rows):
            own = exact[0]
            if number:
                layer = model.layers[number - 1]
                own = layer.forward(model.read(number - 1, read))
            noise, own_noise = exact[number] - read[number], own - read[number]
            self.power[number] += [
                np.square(values).sum() for values in (exact[number], noise, own, own_noise)
            ]
            values = engine[number]
            row.saturated += self._saturated(values)
            top = config.data_max
            row.range_use = max(row.range_use, float(np.abs(values).max()) / top)
            scaled = exact[number] * row.scale
            row.float_use = max(row.float_use, float(np.abs(scaled).max()) / top)
            inside = np.clip(np.rint(scaled), config.data_min, config.data_max)
            for side, given in enumerate((values, inside)):
                self.histograms[number, side] += np.histogram(given, self.edges)[0]

    def _saturated(self, values: np.ndarray) -> int:
        config = self.plan.config
        return int(((values == config.data_max) | (values == config.data_min)).sum())

    def layers(self) -> list[LayerTrace]:
        """The rows, complete."""
        for number, row in enumerate(self.rows):
            signal, noise, own, own_noise = self.power[number]
            row.sqnr, row.own_sqnr = _ratio(signal, noise), _ratio(own, own_noise)
            row.histogram, row.float_histogram = self.histograms[number].tolist()
        return self.rows


def _ratio(signal: float, noise: float) -> float:
    """In dB; noise without a signal is the least ratio there is."""
    # What is left of exact results is the rounding of float64.
    if noise <= 1e-24 * signal:
        return inf
    return 10 * log10(signal / noise) if signal > 0 else -inf


def _on_device(
    device: Device,
    artefact: Artefact,
    found: _Tensors,
    integers: np.ndarray,
    told: Progress,
) -> None:
    """Run the program up to each layer, and compare what it leaves with the golden model's."""
    device.load(artefact, progress=lambda done, total: told("load", done, total))
    found.rows[0].mismatches = 0
    for number, result in enumerate(found.results):
        y = device.run_until(integers, result.stage, result.layout)
        wrong = result.tensor(y) != np.concatenate(found.golden[number])
        found.rows[number + 1].mismatches = int(np.count_nonzero(wrong))
        told("device", number + 1, len(found.results))
