"""Benchmarks on layers: cycles of the simulated board, bits compared with the golden model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from drawbar import api
from drawbar.gen.artefact import Artefact
from drawbar.gen.bounds import operand_bound
from drawbar.gen.config import EngineConfig
from drawbar.gen.cycles import utilisation
from drawbar.gen.errors import FitError, InputError
from drawbar.gen.formats import tensor_train_network, tt_network
from drawbar.gen.network import ContractionNetwork, Model
from drawbar.gen.order import OrderSearch
from drawbar.gen.plan import plan_model
from drawbar.gen.presets import load_config
from drawbar.gen.timeline import artefact_streaming, artefact_timeline
from drawbar.gen.transfers import STREAMS
from drawbar.sim.golden import run_artefact
from drawbar.sw.driver import Device, RunReport

Row = dict[str, Any]
#: Told what is going on: a title, things done, things to do.
Report = Callable[[str, int, int], None]
BuildProgress = Callable[[str, float | None], None]

#: Inputs that each layer of a suite runs, back to back, in programs' batches.
RUNS = 2
#: Samples that scales are chosen from.
CALIBRATION = 16
#: The deepest memory that an engine may have, and a limit that nothing reaches.
MOST_DEPTH = 1 << 20
UNLIMITED = 1 << 62
PROGRAM_WORD_BYTES = 4


@dataclass(frozen=True)
class Layer:
    """A layer of a suite.

    Members
    -------
    ranks:
        All of them, the boundary ranks included.
    format:
        "tt": a core for each pair of modes; "tensor-train": a core for each mode, inputs first.
    known:
        Published or ideal cycles of one inference on 256 multipliers, by what they are.
    """

    name: str
    modes_in: tuple[int, ...]
    modes_out: tuple[int, ...]
    ranks: tuple[int, ...]
    format: str = "tt"
    known: tuple[tuple[str, int], ...] = ()

    def model(self) -> Model:
        """With random cores, scaled so that unit inputs give outputs of about unit size."""
        rng = np.random.default_rng(sum(self.name.encode()))
        pairs = list(zip(self.ranks, self.ranks[1:], strict=False))
        network: ContractionNetwork
        if self.format == "tt":
            modes = zip(pairs, self.modes_out, self.modes_in, strict=True)
            network = tt_network(
                self.name,
                [
                    rng.standard_normal((left, m, n, right)) / np.sqrt(n * right)
                    for (left, right), m, n in modes
                ],
            )
        else:
            # Inputs: a sum over (left, mode); outputs: over the left rank only.
            terms = [left * n for (left, _), n in zip(pairs, self.modes_in, strict=False)]
            terms += [left for left, _ in pairs[len(self.modes_in) :]]
            every = (*self.modes_in, *self.modes_out)
            network = tensor_train_network(
                self.name,
                [
                    rng.standard_normal((left, mode, right)) / np.sqrt(count)
                    for (left, right), mode, count in zip(pairs, every, terms, strict=True)
                ],
                inputs=len(self.modes_in),
            )
        return Model(self.name, (network,))


def _tt(name: str, n: tuple[int, ...], m: tuple[int, ...], rank: int, **known: int) -> Layer:
    return Layer(name, n, m, (1, *[rank] * (len(n) - 1), 1), known=tuple(known.items()))


_FC6 = ((2, 7, 8, 8, 7, 4), (4, 4, 4, 4, 4, 4))
_FC7 = ((4, 4, 4, 4, 4, 4), (4, 4, 4, 4, 4, 4))
_UCF11, _YOUTUBE = (8, 20, 20, 18), (4, 20, 20, 36)

FC6 = _tt("VGG-FC6", *_FC6, 4, tie=26_912)
#: The layers of TIE (ISCA 2019, table 1), all inner ranks 4, and its LSTM layers with four gates
#: as one layer.
TIE_LAYERS = (
    FC6,
    _tt("VGG-FC7", *_FC7, 4, tie=4_608),
    _tt("LSTM-UCF11", _UCF11, (4, 4, 4, 4), 4),
    _tt("LSTM-Youtube", _YOUTUBE, (4, 4, 4, 4), 4),
    _tt("LSTM-UCF11, four gates", _UCF11, (16, 4, 4, 4), 4),
    _tt("LSTM-Youtube, four gates", _YOUTUBE, (16, 4, 4, 4), 4),
)
#: Other ranks; ideal: the multiplications of the best order over the multipliers.
RANK_LAYERS = (
    _tt("VGG-FC6, rank 2", *_FC6, 2, ideal=3_984),
    _tt("VGG-FC6, rank 8", *_FC6, 8, ideal=36_008),
    _tt("VGG-FC6, rank 16", *_FC6, 16, ideal=115_360),
    _tt("VGG-FC7, rank 2", *_FC7, 2, ideal=1_280),
    _tt("VGG-FC7, rank 8", *_FC7, 8, ideal=12_416),
    _tt("VGG-FC7, rank 16", *_FC7, 16, ideal=41_472),
)
#: Core memory that makes another plan necessary.
SMALL_CORE_BYTES = 16 * 1024
#: Layers of ETTE: every core carries an input or an output mode. rigid: what a 16 x 16 array takes
#: that cannot spread rows over lanes.
ETTE_LAYERS = (
    Layer(
        "VGG-FC6, ETTE",
        (16, 14, 8, 14),
        (16, 16, 16),
        (1, 4, 4, 8, 4, 4, 4, 1),
        "tensor-train",
        (("ideal", 602), ("rigid", 2_248)),
    ),
    Layer(
        "VGG-FC7, ETTE",
        (16, 16, 16),
        (16, 16, 16),
        (1, 4, 4, 8, 4, 2, 1),
        "tensor-train",
        (("ideal", 124), ("rigid", 464)),
    ),
    Layer(
        "LSTM-UCF11, four gates, ETTE",
        (8, 20, 20, 18),
        (16, 8, 8),
        (1, 4, 5, 9, 12, 6, 3, 1),
        "tensor-train",
        (("ideal", 971), ("rigid", 4_469)),
    ),
)
#: What a square array cannot fill, since it is fed one vector of each operand a cycle.
STARVED_LAYERS = (*(layer for layer in RANK_LAYERS if max(layer.ranks) == 2), *ETTE_LAYERS)
#: Factors by which the lanes grow and the rows shrink in the suite of shapes.
SHAPES = (1, 2, 4)


def layer_artefact(
    layer: Layer, config: EngineConfig, batch: int, minimise: str = "cycles"
) -> tuple[Artefact, np.ndarray]:
    """A layer compiled, and random integer inputs ``(RUNS * batch, inputs)`` for it."""
    model = layer.model()
    rng = np.random.default_rng(sum(layer.name.encode()) + 1)
    calibration = rng.standard_normal((CALIBRATION, model.inputs))
    artefact = api.compile(model, config, calibration=calibration, batch=batch, minimise=minimise)
    return artefact, artefact.quantise_input(rng.standard_normal((RUNS * batch, model.inputs)))


def enlarged(config: EngineConfig, **changes: int) -> EngineConfig:
    """The engine with other memories, its name saying so."""
    if not changes:
        return config
    text = ", ".join(f"{name}={value}" for name, value in sorted(changes.items()))
    return config.replace(**changes, name=f"{config.name}, {text}")


def fitting_engine(layers: Sequence[Layer], config: EngineConfig, batch: int) -> dict[str, int]:
    """What must change in the engine's memories for all layers to fit; nothing where they do.

    Memories are doubled one at a time, core memory only where a layer's smallest order needs it, as
    more of it than that would make another plan possible. At ``MOST_DEPTH`` that ends: what does
    not fit then does not fit.
    """
    changes: dict[str, int] = {}
    models = [layer.model() for layer in layers]
    elements = max(batch * (model.inputs + model.outputs) for model in models)
    while config.replace(**changes).work_elements < elements:
        if 2 * changes.get("work_depth", config.work_depth) > MOST_DEPTH:
            return changes
        changes["work_depth"] = 2 * changes.get("work_depth", config.work_depth)
    while True:
        wanted = config.replace(**changes)
        try:
            for model in models:
                plan_model(model, wanted, batch=batch)
            return changes
        except FitError:
            pass
        least = max(
            OrderSearch(model.layers[0], wanted, batch).least_core(UNLIMITED) or 0
            for model in models
        )
        name = "core_depth" if least > wanted.core_depth else "work_depth"
        if 2 * getattr(wanted, name) > MOST_DEPTH:
            return changes
        changes[name] = 2 * getattr(wanted, name)


def _row(layer: Layer, config: EngineConfig, batch: int) -> Row:
    network = layer.model().layers[0]
    return {
        "layer": layer.name,
        "format": layer.format,
        "modes_in": list(layer.modes_in),
        "modes_out": list(layer.modes_out),
        "ranks": list(layer.ranks),
        "engine": config.name,
        "batch": batch,
        "dense_weights": network.dense_weights,
        "core_weights": network.core_weights,
        "compression": network.dense_weights / network.core_weights,
        "core_bytes_available": config.core_bytes,
        "work_bytes_available": config.work_bytes,
        "operand_bound": operand_bound(OrderSearch(network, config, batch)),
        "known": dict(layer.known),
    }


def run_layer(
    board: Device,
    layer: Layer,
    config: EngineConfig,
    batch: int,
    minimise: str = "cycles",
    *,
    timed: bool = True,
) -> Row:
    """One layer on an open device; where it does not fit, the row holds the error. ``timed``: the
    device takes as long as the simulated board.
    """
    row = _row(layer, config, batch)
    try:
        artefact, x = layer_artefact(layer, config, batch, minimise)
    except FitError as error:
        return {**row, "error": error.as_dict()}
    board.load(artefact)
    found = board.run_integers(x)
    run = board.last_run
    assert run is not None
    assert run.counters is not None
    multiplications = sum(part.multiplications for part in artefact.layers)
    counted = pass_cycles(artefact, run)
    return {
        **row,
        **(stream_facts(artefact, run, timed=timed) if artefact.streams else {}),
        "multiplications": multiplications,
        "cycles_ideal": -(-multiplications // config.multipliers),
        "cycles_predicted": artefact.cycles,
        "cycles_measured": counted,
        "cycles_per_inference": counted / batch,
        "utilisation": utilisation(multiplications, counted, config),
        "core_bytes": artefact.meta["core_bytes"],
        "work_bytes_peak": artefact.meta["work_bytes_peak"],
        "work_bytes_double": artefact.meta["work_bytes_double"],
        "program_bytes": len(artefact.program) * PROGRAM_WORD_BYTES,
        "buffers": len(artefact.buffers),
        "proven": artefact.meta["proven"],
        "mismatches": int(np.count_nonzero(found != run_artefact(artefact, x))),
        "plan": artefact.layers[0].plan,
    }


def pass_cycles(artefact: Artefact, run: RunReport) -> int:
    """Counted cycles of the last run, all its passes: there is a WAIT for each."""
    return sum(counters.cycles for counters in run.waits[-len(artefact.buffers[0].passes) :])


def stream_facts(artefact: Artefact, run: RunReport, *, timed: bool) -> Row:
    """Of a model that streams in: what of it, and where the link is ``timed``, a byte a cycle, its
    last run from start to end.
    """
    # Only here: the simulated board needs amaranth.
    from drawbar.streaming_suite import host_gap

    stream = artefact_streaming(artefact, STREAMS, host_gap(1))
    facts = {
        "passes": stream.passes,
        "bytes_loaded": stream.bytes_loaded,
        "limit": stream.limit,
        "cycles_link": stream.cycles_link,
    }
    if timed:
        first, *others = run.waits[-stream.passes :]
        facts |= {
            "latency_predicted": artefact_timeline(
                artefact, STREAMS, run.runs, host_gap(1)
            ).latency,
            "latency_measured": first.cycles + sum(c.cycles + c.idle for c in others),
        }
    return facts


def run_layers(
    layers: Sequence[Layer],
    config: EngineConfig,
    *,
    batch: int,
    minimise: str = "cycles",
    device: str = "sim",
    report: Report | None = None,
    build_progress: BuildProgress | None = None,
) -> list[Row]:
    """Layers one after the other on one device."""
    rows = []
    with api.open(device, engine=config, progress=build_progress) as board:
        for number, layer in enumerate(layers):
            if report is not None:
                report(layer.name, number, len(layers))
            rows.append(run_layer(board, layer, config, batch, minimise, timed=device == "sim"))
    if report is not None:
        report("done", len(layers), len(layers))
    return rows


def fixed_suite(
    layers: Sequence[Layer], *, engine: str = "large", batch: int = 1, **options: Any
) -> list[Row]:
    """Layers on one engine. A batch that is too large for its memories gets larger ones.
    ``options`` are those of ``run_layers``.
    """
    return run_layers(layers, _fitted(layers, load_config(engine), batch), batch=batch, **options)


def _fitted(layers: Sequence[Layer], config: EngineConfig, batch: int) -> EngineConfig:
    """The engine, with larger memories where the layers need them."""
    return enlarged(config, **fitting_engine(layers, config, batch))


#: TIE's layers.
tie_suite = partial(fixed_suite, TIE_LAYERS)


def ette_suite(*, engine: str = "wide", **options: Any) -> list[Row]:
    """ETTE's layers: other networks than TIE's, of other compression."""
    return fixed_suite(ETTE_LAYERS, engine=engine, **options)


def ranks_suite(*, engine: str = "wide", batch: int = 1, **options: Any) -> list[Row]:
    """Other ranks, with ample core memory and with ``SMALL_CORE_BYTES`` of it. What does not fit
    there streams its cores in. ``options`` are those of ``run_layers``.
    """
    base = load_config(engine)
    ample = fitting_engine(RANK_LAYERS, base, batch)
    small = {**ample, "core_depth": SMALL_CORE_BYTES // (base.rows * base.element_bytes)}
    return [
        row
        for changes in (ample, small)
        for row in run_layers(RANK_LAYERS, enlarged(base, **changes), batch=batch, **options)
    ]


def reshaped(config: EngineConfig, factor: int) -> EngineConfig:
    """The engine with as many multipliers and as large memories, ``factor`` times the lanes."""
    if factor == 1:
        return config
    rows, lanes = config.rows // factor, config.lanes * factor
    return config.replace(
        name=f"{config.name}, {rows} x {lanes}",
        rows=rows,
        lanes=lanes,
        core_depth=config.core_depth * factor,
        work_depth=config.work_depth // factor,
        bias_depth=config.bias_depth // factor,
    )


def shapes(base: EngineConfig) -> list[EngineConfig]:
    """The engine in the shapes of ``SHAPES``; one that folds, so that it has all of them; and that
    with a short pipeline.
    """
    most = max(SHAPES)
    found = [reshaped(base, factor) for factor in SHAPES]
    folding = found[-1].replace(name=f"{found[-1].name}, folds {most}", fold=most)
    return [*found, folding, folding.replace(name=f"{folding.name}, short", short_pipeline=1)]


def shapes_suite(*, engine: str = "large", batch: int = 1, **options: Any) -> list[Row]:
    """The layers that starve a square array, on as many multipliers in other shapes: more lanes
    take more of the live tensor a cycle, and more results. ``options`` are those of ``run_layers``.

    Raises
    ------
    InputError:
        an engine whose rows and memories do not divide by the factors of ``SHAPES``.
    """
    base = load_config(engine)
    most = max(SHAPES)
    depths = (base.work_depth, base.bias_depth)
    if base.rows % most or base.lanes * most > 64 or any(depth % most for depth in depths):
        raise InputError(
            f"suite 'shapes', engine {base.name!r}",
            f"has rows and depths that divide by {most}, and at most {64 // most} lanes",
            f"{base.rows} x {base.lanes}, work_depth {base.work_depth}, "
            f"bias_depth {base.bias_depth}",
            "use large",
        )
    fitted = [_fitted(STARVED_LAYERS, shape, batch) for shape in shapes(base)]
    return [
        row for shape in fitted for row in run_layers(STARVED_LAYERS, shape, batch=batch, **options)
    ]
