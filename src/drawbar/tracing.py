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
from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import InputError
from drawbar.gen.network import Model
from drawbar.gen.plan import Plan, plan_model
from drawbar.gen.presets import load_config
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
    by_step:
        Of sequences: ``sqnr`` at each step. All else is of all steps together, but ``mismatches``,
        which are after the last one.
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
    by_step: list[float] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``; an infinite ratio is None."""
        ratios = {k: v if isfinite(v) else None for k, v in vars(self).items() if "sqnr" in k}
        steps = [ratio if isfinite(ratio) else None for ratio in self.by_step]
        return {**vars(self), **ratios, "by_step": steps}


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
        Inputs ``(samples, inputs)`` to compare on; of a model with states sequences ``(samples,
        steps, inputs)``.
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
    """Data as ``(samples, inputs)``, or ``(samples, steps, inputs)``."""
    where = f"data of model {model.name!r}"
    x = np.asarray(data)
    if x.dtype.kind not in "fiu":
        raise InputError(where, "holds numbers", x.dtype, "convert it to float")
    good = x.ndim >= 2 and len(x) > 0 and x[0].size == model.inputs
    rule = f"has shape (samples, {model.inputs})"
    if model.states:
        good = x.ndim == 3 and x.size > 0 and x.shape[2] == model.inputs
        rule = f"has shape (samples, steps, {model.inputs})"
    if not good:
        raise InputError(where, rule, x.shape, "give some real inputs, one row each")
    if not np.isfinite(x).all():
        raise InputError(where, "holds finite numbers", "NaN or infinity", "clean the data")
    return x.reshape(x.shape if model.states else (len(x), -1)).astype(np.float64)


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
        #: The first two of these, at each step of sequences.
        self.by_step = np.zeros((count, artefact.steps, 2))
        self.histograms = np.zeros((count, 2, BINS), np.int64)
        #: What the golden model has made of each layer, in sequences in the last step, to be
        #: compared with the device's.
        self.golden: list[list[np.ndarray]] = [[] for _ in self.results]

    def add(self, x: np.ndarray, integers: np.ndarray) -> None:
        """Take some samples: real and as integers."""
        model = self.plan.model
        batch, count = self.plan.batch, len(x)
        # A concatenation may end with its last part.
        wanted: dict[int, list[int]] = {}
        for n, result in enumerate(self.results):
            wanted.setdefault(result.stage, []).append(n)
        #: For each step, what the engine has made of each layer.
        engine: list[list[np.ndarray]] = []

        def observe(stage: int, work: np.ndarray) -> None:
            step, planned = self.plan.program[stage]
            if stage == 0:
                engine.append([np.empty(0)] * len(self.results))
            if stage not in wanted:
                whole = self.plan.stages[step]
                if not whole.fills and not whole.ends_layer:
                    values = work[: count // batch, planned.addresses("y")]
                    self.rows[planned.layer + 1].saturated_inside += self._saturated(values)
            for number in wanted.get(stage, ()):
                result = self.results[number]
                places = result.layout.addresses(batch)
                written = work[:, places].reshape(len(work) * batch, -1)[:count]
                engine[-1][number] = result.tensor(written.astype(np.int64))

        run_artefact(self.artefact, integers, observe=observe)
        # What does not go on from step to step is one.
        apart = x.swapaxes(0, 1) if model.states else x[None]
        given = integers.swapaxes(0, 1) if model.states else integers[None]
        read = [np.zeros((count, prod(shape))) for shape in model.shapes]
        for step, exact in enumerate(model.steps(apart)):
            made = [given[step], *engine[step]]
            read[0] = given[step] / self.rows[0].scale
            for number, row in enumerate(self.rows):
                own = exact[0]
                if number:
                    own = model.layers[number - 1].forward(model.read(number - 1, read))
                    read[number] = made[number] / row.scale
                self._compare(number, step, exact[number], read[number], own, made[number])
        for number, values in enumerate(engine[-1]):
            self.golden[number].append(values.astype(np.int32))

    def _compare(
        self,
        number: int,
        step: int,
        exact: np.ndarray,
        read: np.ndarray,
        own: np.ndarray,
        values: np.ndarray,
    ) -> None:
        """Take a tensor at a step: of the float model; as the engine has it, in real numbers; in
        float of what the engine has read; in integers.
        """
        config, row = self.plan.config, self.rows[number]
        sums = [np.square(v).sum() for v in (exact, exact - read, own, own - read)]
        self.power[number] += sums
        if self.artefact.steps:
            self.by_step[number, step] += sums[:2]
        top = config.data_max
        row.saturated += self._saturated(values)
        row.range_use = max(row.range_use, float(np.abs(values).max()) / top)
        scaled = exact * row.scale
        row.float_use = max(row.float_use, float(np.abs(scaled).max()) / top)
        inside = np.clip(np.rint(scaled), config.data_min, config.data_max)
        for side, found in enumerate((values, inside)):
            self.histograms[number, side] += np.histogram(found, self.edges)[0]

    def _saturated(self, values: np.ndarray) -> int:
        config = self.plan.config
        return int(((values == config.data_max) | (values == config.data_min)).sum())

    def layers(self) -> list[LayerTrace]:
        """The rows, complete."""
        for number, row in enumerate(self.rows):
            signal, noise, own, own_noise = self.power[number]
            row.sqnr, row.own_sqnr = _ratio(signal, noise), _ratio(own, own_noise)
            row.histogram, row.float_histogram = self.histograms[number].tolist()
            row.by_step = [_ratio(float(a), float(b)) for a, b in self.by_step[number]]
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
    """Run the program up to each layer, of sequences in their last step, and compare what it leaves
    with the golden model's.
    """
    device.load(artefact, progress=lambda done, total: told("load", done, total))
    found.rows[0].mismatches = 0
    for number, result in enumerate(found.results):
        y = device.run_until(integers, result.stage, result.layout)
        wrong = result.tensor(y) != np.concatenate(found.golden[number])
        found.rows[number + 1].mismatches = int(np.count_nonzero(wrong))
        told("device", number + 1, len(found.results))
