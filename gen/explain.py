"""Why a plan is as it is: each stage with where its cycles go, and the orders that lost."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice

from drawbar.gen.artefact import Artefact
from drawbar.gen.bounds import operand_bound
from drawbar.gen.config import EngineConfig
from drawbar.gen.cycles import Cycles, program_cycles, utilisation
from drawbar.gen.order import Order, OrderSearch
from drawbar.gen.planned import Plan
from drawbar.gen.program import descriptor_words
from drawbar.gen.slicing import order_peak, order_stages
from drawbar.gen.stage import Stage
from drawbar.gen.timeline import Streaming, artefact_streaming, plan_streaming

#: A stage that wastes no more than this part of its cycles is limited by the array itself.
FULL = 0.05
#: Orders that lost, for each layer.
LOSERS = 5
#: Limits that no order reaches.
_ENDLESS = 1 << 62

#: Where a cycle can go instead of into useful products, and what to say of it.
LOSSES = {
    "ragged rows": "the last row tile is not full",
    "ragged lanes": "the last lane tile of a run is not full",
    "drain": "reductions are shorter than a tile takes to drain",
    "descriptor": "the next descriptor is not here yet",
    "pipeline": "waiting for words of the stage before; filling and emptying the pipeline",
}
#: The same for the fields of ``Cycles`` that are no products.
_CAUSES = {"stall_drain": "drain", "stall_fetch": "descriptor", "flush": "pipeline"}


@dataclass(frozen=True)
class StageReport:
    """One stage.

    Members
    -------
    cores:
        Those that are merged offline into its core matrix, as ``(G1G2)``.
    shared, rows, k, columns:
        The core is ``shared`` matrices ``rows x k``; the live tensor has that many columns of ``k``
        elements, each matrix an equal part of them.
    core_text:
        The core's sizes in words.
    row_tiles, lane_tiles:
        ``row_tiles * lane_tiles`` tiles of ``k`` steps.
    fold:
        How often the stage folds the array.
    lane_read, lane_write:
        Elements between neighbouring lanes where the stage reads and writes.
    start:
        Cycles from the start of the program.
    cycles:
        By cause.
    ideal:
        Cycles if every multiplier were useful in every one; a fraction.
    losses:
        The other cycles by what takes them, keys of ``LOSSES``; with ``ideal`` they sum to the
        stage's cycles.
    limit:
        "array" for a stage that wastes no more than ``FULL``, else the largest loss.
    """

    number: int
    layer: str
    cores: str
    shared: int
    rows: int
    k: int
    columns: int
    core_text: str
    row_tiles: int
    lane_tiles: int
    fold: int
    lane_read: int
    lane_write: int
    start: int
    cycles: Cycles
    multiplications: int
    utilisation: float
    ideal: float
    losses: Mapping[str, float]
    limit: str

    @property
    def intensity(self) -> float:
        """Multiplications for each pair of operand vectors read (one of the core, one of the live
        tensor, in every busy cycle).
        """
        return self.multiplications / self.cycles.busy


@dataclass(frozen=True)
class LostOrder:
    """A contraction order that was not chosen.

    Members
    -------
    cycles_bound:
        No layout makes it take fewer cycles, waits between stages aside.
    more:
        By how much that is above the chosen order's own bound; negative where it is below.
    cause:
        "core memory", "work memory", "cycles", "layout" or "tie".
    why:
        The same in words, with numbers.
    """

    order: str
    cycles_bound: int
    more: int
    core_bytes: int
    work_bytes: int
    cause: str
    why: str


@dataclass(frozen=True)
class LayerReport:
    """One layer: its order, and for a plan the orders that lost, best bound first.

    Members
    -------
    operand_bound:
        Of a plan's layer: ``gen.bounds``; None for an artefact, which does not know other orders.
    """

    name: str
    format: str
    modes_in: tuple[int, ...]
    modes_out: tuple[int, ...]
    ranks: tuple[int, ...]
    order: str
    cycles: int
    operand_bound: int | None
    lost: tuple[LostOrder, ...]


@dataclass(frozen=True)
class Explanation:
    """A whole plan or artefact.

    Members
    -------
    source:
        "plan" (which knows the orders that lost) or "artefact".
    proven:
        The plan takes no more cycles than the best lower bound.
    work_bytes_double:
        Work memory that two buffers need.
    program_words:
        Program of one buffer.
    pass_ends:
        For each pass of a run, the number of stages up to its end.
    streaming:
        What a run costs where many follow each other, over a serial line at the engine's rate.
    """

    name: str
    source: str
    config: EngineConfig
    batch: int
    layers: tuple[LayerReport, ...]
    stages: tuple[StageReport, ...]
    total: Cycles
    utilisation: float
    bound: int
    proven: bool
    core_bytes: int
    work_bytes_peak: int
    work_bytes_double: int
    program_words: int
    pass_ends: tuple[int, ...]
    streaming: Streaming

    def as_dict(self) -> dict[str, object]:
        """What JSON can hold."""
        return {
            "name": self.name,
            "source": self.source,
            "engine": self.config.name,
            "rows": self.config.rows,
            "lanes": self.config.lanes,
            "batch": self.batch,
            "cycles": {**dataclasses.asdict(self.total), "total": self.total.total},
            "utilisation": self.utilisation,
            "bound": self.bound,
            "proven": self.proven,
            "core_bytes": self.core_bytes,
            "core_bytes_available": self.config.core_bytes,
            "work_bytes_peak": self.work_bytes_peak,
            "work_bytes_available": self.config.work_bytes,
            "work_bytes_double": self.work_bytes_double,
            "program_words": self.program_words,
            "pass_ends": list(self.pass_ends),
            "streaming": self.streaming.as_dict(self.config.clock_hz),
            "layers": [dataclasses.asdict(layer) for layer in self.layers],
            "stages": [
                {
                    **{f.name: getattr(stage, f.name) for f in dataclasses.fields(stage)},
                    "cycles": {**dataclasses.asdict(stage.cycles), "total": stage.cycles.total},
                    "losses": dict(stage.losses),
                    "intensity": stage.intensity,
                }
                for stage in self.stages
            ],
        }


def _group_text(group: Sequence[int]) -> str:
    cores = "".join(f"G{number + 1}" for number in group)
    return f"({cores})" if len(group) > 1 else cores


def _order_text(groups: Sequence[Sequence[int]]) -> str:
    return " ".join(("X", *(_group_text(group) for group in groups)))


def stage_losses(
    stage: Stage, cycles: Cycles, config: EngineConfig
) -> tuple[float, dict[str, float]]:
    """A stage's ideal cycles, and where its other cycles go; together they are its cycles."""
    ideal = stage.multiplications / config.multipliers
    # Useful rows in full lane tiles; then useful lanes in full row tiles.
    rows_used = stage.row_vectors / (stage.row_tiles(config) * config.rows)
    ragged_rows = cycles.busy * (1 - rows_used)
    losses = dict.fromkeys(LOSSES, 0.0)
    losses["ragged rows"] = ragged_rows
    losses["ragged lanes"] = cycles.busy - ideal - ragged_rows
    for field in dataclasses.fields(cycles):
        if field.name != "busy":
            # A cause that this table does not know yet keeps its own name.
            name = _CAUSES.get(field.name, field.name)
            losses[name] = losses.get(name, 0.0) + getattr(cycles, field.name)
    return ideal, losses


def _stage_reports(
    stages: Sequence[Stage],
    cycles: Sequence[Cycles],
    labels: Sequence[tuple[str, Sequence[int]]],
    config: EngineConfig,
) -> tuple[StageReport, ...]:
    reports = []
    start = 0
    for number, (stage, spent, (layer, group)) in enumerate(
        zip(stages, cycles, labels, strict=True)
    ):
        ideal, losses = stage_losses(stage, spent, config)
        wasted = spent.total - ideal
        worst = max(losses, key=lambda name: losses[name])
        reports.append(
            StageReport(
                number=number,
                layer=layer,
                cores=_group_text(group),
                shared=stage.shared,
                rows=stage.rows,
                k=stage.k,
                columns=stage.columns,
                core_text=stage.core_text,
                row_tiles=stage.row_tiles(config),
                lane_tiles=stage.lane_tiles(config),
                fold=stage.fold,
                lane_read=stage.lane_x,
                lane_write=stage.lane_y,
                start=start,
                cycles=spent,
                multiplications=stage.multiplications,
                utilisation=utilisation(stage.multiplications, spent.total, config),
                ideal=ideal,
                losses=losses,
                limit="array" if wasted <= FULL * spent.total else worst,
            )
        )
        start += spent.total
    return tuple(reports)


def lost_orders(
    search: OrderSearch,
    chosen: Order,
    config: EngineConfig,
    *,
    count: int = LOSERS,
    core_elsewhere: int = 0,
) -> tuple[LostOrder, ...]:
    """The best orders besides the chosen one, best bound first, whether they fit or not.

    Arguments
    ---------
    core_elsewhere:
        Core vectors of the plan's other layers.
    """
    # Chosen in slices, the order has lost as a whole.
    groups = None if order_stages(chosen) > len(chosen) else tuple(s.group for s in chosen)
    bound_chosen = sum(step.bound for step in chosen)
    peak_chosen = order_peak(chosen)
    vector = config.rows * config.element_bytes
    lost = []
    # One more than wanted, since the chosen one is among them.
    for bound, order in islice(search.orders(_ENDLESS, _ENDLESS), count + 1):
        found = tuple(step.group for step in order)
        if found == groups or len(lost) == count:
            continue
        core = sum(step.core_vectors for step in order)
        peak = max(step.live + step.result for step in order)
        core_over = core + core_elsewhere - config.core_depth
        work_over = peak - config.work_elements
        if core_over > 0:
            cause = "core memory"
            besides = " beside the other layers" if core_elsewhere else ""
            why = f"{core_over * vector:,} bytes of core memory too many{besides}"
        elif work_over > 0:
            cause = "work memory"
            why = f"{work_over * config.element_bytes:,} bytes of work memory too many"
        elif bound > bound_chosen:
            cause, why = "cycles", "takes more cycles"
        elif bound < bound_chosen:
            cause = "layout"
            why = "no layout within the memories and loops keeps it so fast"
        elif peak > peak_chosen:
            cause = "tie"
            why = f"as fast, {(peak - peak_chosen) * config.element_bytes:,} bytes more live"
        else:
            cause, why = "tie", "as fast, and no better otherwise"
        lost.append(
            LostOrder(
                order=_order_text(found),
                cycles_bound=bound,
                more=bound - bound_chosen,
                core_bytes=core * vector,
                work_bytes=peak * config.element_bytes,
                cause=cause,
                why=why,
            )
        )
    return tuple(lost)


def _for_memory(lost: Sequence[LostOrder]) -> tuple[LostOrder, ...]:
    """Orders that lost to a plan of least work memory: the faster ones lost for that."""
    why = "takes more work memory, or too many cycles"
    return tuple(
        dataclasses.replace(order, cause="memory", why=why)
        if order.cause in ("layout", "tie", "work memory")
        else order
        for order in lost
    )


def explain_plan(plan: Plan, *, losers: int = LOSERS) -> Explanation:
    """Explain a plan, with the best ``losers`` orders that it did not take in each layer."""
    config = plan.config
    labels = [(plan.networks[s.layer].name, plan.stages[n].step.group) for n, s in plan.program]
    stages = _stage_reports([s for _, s in plan.program], plan.cycles, labels, config)
    layers = []
    for number, network in enumerate(plan.networks):
        chosen = tuple(s.step for s in plan.stages if s.layer == number)
        lost: tuple[LostOrder, ...] = ()
        # Products and concatenations have no cores, and so no orders.
        alone = network.paired or network.joined
        search = None if alone else OrderSearch(network, config, plan.batch)
        if losers and search is not None:
            lost = lost_orders(
                search,
                chosen,
                config,
                count=losers,
                core_elsewhere=plan.core_vectors - sum(step.core_vectors for step in chosen),
            )
        # The model's own layer: the plan's may have its modes split to match its neighbours.
        layer = plan.model.layers[number]
        layers.append(
            LayerReport(
                name=layer.name,
                format=layer.format,
                modes_in=layer.modes_in,
                modes_out=layer.modes_out,
                ranks=tuple(layer.ranks),
                order=plan.layer_text(number),
                cycles=plan.layer_cycles(number),
                operand_bound=None if search is None else operand_bound(search),
                lost=_for_memory(lost) if plan.minimise == "memory" else lost,
            )
        )
    return Explanation(
        name=plan.model.name,
        source="plan",
        config=config,
        batch=plan.batch,
        layers=tuple(layers),
        stages=stages,
        total=plan.total,
        utilisation=utilisation(plan.multiplications, plan.total.total, config),
        bound=plan.bound,
        proven=plan.proven,
        core_bytes=plan.core_bytes,
        work_bytes_peak=plan.work_bytes_peak,
        work_bytes_double=plan.work_bytes_double,
        program_words=len(plan.program) * descriptor_words(config),
        pass_ends=tuple(accumulate(len(own) for own in plan.pass_programs(0))),
        streaming=plan_streaming(plan),
    )


def explain_artefact(artefact: Artefact) -> Explanation:
    """Explain an artefact from its program; it does not know the orders that lost."""
    config = artefact.config
    passes = artefact.pass_stages()
    stages = [stage for own in passes for stage in own]
    cycles = [own for one in passes for own in program_cycles(one, config)]
    described = artefact.meta["stages"]
    labels = [(str(entry["layer"]), tuple(entry["cores"])) for entry in described]
    reports = _stage_reports(stages, cycles, labels, config)
    total = sum((report.cycles for report in reports), start=Cycles())
    layers = tuple(
        LayerReport(
            name=layer.name,
            format=layer.format,
            modes_in=layer.modes_in,
            modes_out=layer.modes_out,
            ranks=layer.ranks,
            order=layer.plan,
            cycles=layer.cycles,
            operand_bound=None,
            lost=(),
        )
        for layer in artefact.layers
    )
    return Explanation(
        name=artefact.name,
        source="artefact",
        config=config,
        batch=artefact.batch,
        layers=layers,
        stages=reports,
        total=total,
        utilisation=utilisation(
            sum(stage.multiplications for stage in stages), total.total, config
        ),
        bound=int(artefact.meta["bound"]),
        proven=bool(artefact.meta["proven"]),
        core_bytes=int(artefact.meta["core_bytes"]),
        work_bytes_peak=int(artefact.meta["work_bytes_peak"]),
        work_bytes_double=int(artefact.meta["work_bytes_double"]),
        program_words=len(artefact.program) // len(artefact.buffers),
        pass_ends=tuple(accumulate(map(len, passes))),
        streaming=artefact_streaming(artefact),
    )
