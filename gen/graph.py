"""Graphs of layers: images, windows, branches and sums, planned by the same search as chains.

A graph is cut into *segments*: a chain of linear layers, which share index names and whose tensors
may have any layout, or one layer of another kind. Each segment is planned between tensors whose
places are given (``gen.images``). A concatenation is no more than such a place, which its parts
fill (``gen.joins``). Then all tensors get addresses by when they live, and zeros are
written around images as far as they are not there yet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from drawbar.gen.align import Boundary, align, refine, refined
from drawbar.gen.arrange import NoBuffers, arrange
from drawbar.gen.artefact import TensorLayout
from drawbar.gen.config import EngineConfig
from drawbar.gen.cycles import stage_least
from drawbar.gen.errors import FitError
from drawbar.gen.fit import NoLayout, check_room, share_core
from drawbar.gen.images import Place, View, border_runs, places, view
from drawbar.gen.joins import parts, settled
from drawbar.gen.layout import Layout
from drawbar.gen.network import ContractionNetwork, Model, Source
from drawbar.gen.order import BATCH, OrderSearch, Step
from drawbar.gen.phases import with_copies
from drawbar.gen.place import place, written_by
from drawbar.gen.planned import Join, Plan, PlannedStage
from drawbar.gen.products import product_stage
from drawbar.gen.search import GOALS, Planner
from drawbar.gen.stage import Loop, Stage, fuse

#: The step of a stage that writes zeros.
FILL = Step((), (), (), (), (), 0, 0, 0, 0, 0)


@dataclass(frozen=True)
class _Segment:
    """Neighbouring layers that are planned together.

    Members
    -------
    model:
        The layers; ``first`` is the number of their first one in the graph.
    aligned, ends:
        As ``gen.search.Planner`` takes them.
    view:
        Of a segment of one layer that is no chain.
    """

    first: int
    model: Model
    aligned: tuple[tuple[ContractionNetwork, ...], tuple[Boundary, ...]]
    ends: tuple[Layout | None, Layout | None]
    view: View | None

    @property
    def last(self) -> int:
        return self.first + len(self.model.layers) - 1


def _linear(model: Model, number: int) -> bool:
    """Whether a layer is one of a chain: a feature vector, or a flat image, to a feature vector."""
    layer, sources = model.layers[number], model.sources[number]
    return (
        not layer.windows
        and len(sources) == 1
        and not (sources[0].steps or sources[0].starts)
        and len(model.shapes[number + 1]) == 1
        and layer.mixes
    )


def _segments(
    model: Model, placed: Sequence[Place], config: EngineConfig, batch: int
) -> list[_Segment]:
    segments = []
    number = 0
    while number < len(model.layers):
        layer = model.layers[number]
        if layer.paired or layer.joined:
            alone = Model(layer.name, (layer,))
            read, target = placed[model.sources[number][0].tensor], placed[number + 1]
            ends = (Layout({}, read.size), Layout({}, target.size))
            segments.append(_Segment(number, alone, ((layer,), ()), ends, None))
            number += 1
            continue
        if not _linear(model, number):
            seen = view(model, number, placed, batch)
            alone = Model(seen.network.name, (seen.network,))
            aligned = ((seen.network,), (Boundary(True), Boundary(True)))
            segments.append(_Segment(number, alone, aligned, (seen.read, seen.write), seen))
            number += 1
            continue
        last = number
        while (
            last + 1 < len(model.layers)
            and _linear(model, last + 1)
            and model.sources[last + 1] == (Source(last + 1),)
            and model.readers(last + 1) == [last + 1]
        ):
            last += 1
        segments.append(_chain(model, number, last, placed, batch))
        number = last + 1
    return segments


def _chain(model: Model, first: int, last: int, placed: Sequence[Place], batch: int) -> _Segment:
    """The segment of the linear layers ``first`` to ``last``."""
    layers = list(model.layers[first : last + 1])
    tensor = model.sources[first][0].tensor
    read = placed[tensor]
    factors = refine(layers[0].modes_in, read.shape)
    if len(read.shape) > 1 and factors is not None:
        layers[0] = refined(layers[0], factors)
    chain = Model(layers[0].name, tuple(layers))
    aligned = align(chain)
    networks, _ = aligned
    strides = {}
    contiguous = len(read.shape) == 1 or factors is None
    left = list(read.shape) if not contiguous else [prod(read.shape)]
    steps = list(read.strides) if not contiguous else [1]
    for index in reversed(networks[0].input):
        while left[-1] == 1:
            left.pop()
            steps.pop()
        strides[index] = steps[-1]
        size = networks[0].sizes[index]
        steps[-1] *= size
        left[-1] //= size
    if batch > 1:
        strides[BATCH] = read.sample
    free_input = tensor == 0 and len(read.shape) == 1 and model.readers(0) == [first]
    given = None if free_input else Layout(strides, read.size, read.origin)
    end = None
    if last + 1 < len(model.layers):
        target = placed[last + 1]
        strides, step = {}, 1
        for index in reversed(networks[-1].output):
            strides[index] = step
            step *= networks[-1].sizes[index]
        if batch > 1:
            strides[BATCH] = target.sample
        end = Layout(strides, target.size)
    return _Segment(first, chain, aligned, (given, end), None)


def _lives(model: Model) -> list[tuple[int, int]]:
    """For each tensor, the layers from its writer to its last reader."""
    lives = []
    states, within = model.states, parts(model)
    for tensor in range(len(model.shapes)):
        last = max([tensor - 1, *model.readers(tensor)])
        if tensor == len(model.layers) or tensor in states:
            last = len(model.layers)
        if tensor in within:
            # After the concatenation it is a part of that.
            last = within[tensor][0] - 1
        lives.append((-1 if tensor in states else tensor - 1, last))
    return lives


def plan_graph(
    model: Model, config: EngineConfig, *, batch: int = 1, buffers: int | None = None
) -> Plan:
    """Plan a graph of layers for an engine; deterministic. The arguments are those of
    ``gen.plan.plan_model``.

    Raises
    ------
    FitError:
        the model does not fit the engine; the error says which memory is short.
    """
    model = settled(with_copies(model, config.lanes), config)
    placed = places(model, config, batch)
    segments = _segments(model, placed, config, batch)
    searches = [
        [OrderSearch(n, config, batch) for n in segment.aligned[0] if not (n.paired or n.joined)]
        for segment in segments
    ]
    flat = [search for group in searches for search in group]
    # The zeros around images are products with a core of one vector, or of a wide one.
    border = config.fold if any(p.border for p in placed) else 0
    check_room(model, config, batch, flat, config.work_elements, border)
    depth = config.core_depth - border
    bound, shared = share_core([s.prices(config.work_elements) for s in flat], depth)
    # Products and concatenations have no cores.
    found = iter(shared)
    shares = [0 if y.paired or y.joined else next(found) for y in model.layers]
    lives = _lives(model)

    stages: list[PlannedStage] = []
    tensors: list[Layout] = []
    numbers: dict[int, int] = {}
    core = bias = cycles = 0

    def tensor_of(number: int, free: Layout | None) -> int:
        """The plan's number of a tensor of the model; ``free`` is the layout that was found where
        none was given.
        """
        if number not in numbers:
            numbers[number] = len(tensors)
            tensors.append(free or Layout({}, placed[number].size))
        return numbers[number]

    for segment, group in zip(segments, searches, strict=True):
        if not group:
            first = segment.first
            if model.layers[first].joined:
                whole = tensor_of(first + 1, None)
                if placed[first + 1].border:
                    stages += _fills(placed[first + 1], whole, first, config, batch)
                continue
            reads = [tensor_of(source.tensor, None) for source in model.sources[first]]
            writes = tensor_of(first + 1, None)
            made = product_stage(model, first, placed, reads, writes, config, batch)
            stages.append(made)
            least = stage_least(made.stage, first + 1 == len(model.layers), config)
            cycles, bound = cycles + least, bound + least
            continue
        own = shares[segment.first : segment.last + 1]
        later = sum(shares[segment.last + 1 :]) + border
        others = sum(
            placed[t].size
            for t, (begin, until) in enumerate(lives)
            if begin < segment.first - 1 and until > segment.last
        )
        best = None
        missing: FitError | None = None
        for goal in GOALS:
            planner = Planner(
                segment.model,
                config,
                batch,
                goal,
                work_limit=config.work_elements - others,
                searches=group,
                aligned=segment.aligned,
                ends=segment.ends,
            )
            try:
                best = planner.search(own, later=later, core=core, bias=bias)
                break
            except NoLayout as error:
                missing = error
        if best is None:
            assert missing is not None
            raise missing
        core, bias = best.core, best.bias
        cycles += best.cycles
        done = [
            replace(s, stage=replace(s.stage, layer=s.stage.layer + segment.first))
            for s in best.done
        ]
        sources = model.sources[segment.first]
        start, end = segment.ends
        free = best.tensors[0] if start is None else None
        before = [tensor_of(source.tensor, free) for source in sources]
        if segment.first == 0 and placed[0].border:
            stages += _fills(placed[0], numbers[0], 0, config, batch)
        for n, planned in enumerate(done):
            writes = len(tensors)
            if n == len(done) - 1:
                writes = tensor_of(segment.last + 1, best.tensors[-1] if end is None else None)
            else:
                tensors.append(best.tensors[n + 1])
            stages.append(replace(planned, reads=tuple(before), writes=writes))
            before = [writes]
        target = placed[segment.last + 1]
        if target.border:
            stages += _fills(target, before[0], segment.last, config, batch)

    offsets = {s.first: s.view.offsets for s in segments if s.view is not None}
    stages = [
        replace(p, x_offsets=offsets[p.layer]) if len(p.reads) > 1 and not p.x_offsets else p
        for p in stages
    ]
    zero = core
    stages = [replace(p, stage=replace(p.stage, core_base=zero)) if p.fills else p for p in stages]
    views = tuple(s.view for s in segments for _ in range(len(s.model.layers)))

    states = tuple(numbers[tensor] for tensor in model.states)
    within = {
        numbers[t]: (numbers[whole], before * placed[whole].strides[0])
        for t, (whole, before) in parts(model).items()
    }
    joins = tuple(
        Join(n, numbers[n + 1], tuple(numbers[s.tensor] for s in own), placed[n + 1])
        for n, (layer, own) in enumerate(zip(model.layers, model.sources, strict=True))
        if layer.joined
    )

    def finish(count: int, work_double: int) -> Plan:
        arranged, bases, peak = arrange(model.name, config, stages, tensors, count, states, within)
        kept = _needed(arranged, config)
        filled = any(planned.fills for planned in kept)
        made = place(
            model,
            config,
            batch,
            tuple(network for s in segments for network in s.aligned[0]),
            stages=kept,
            tensors=tensors,
            bound=bound,
            proven=not filled and cycles == bound,
            work_peak=peak,
            core_vectors=core + border * filled,
            bias_vectors=bias,
            bases=bases,
            work_double=work_double or (peak if count == 2 else 0),
            views=views,
            states=states,
            ends=(
                _border(placed[0], tensors[0], segments[0], batch, "input"),
                _border(placed[-1], tensors[-1], segments[-1], batch, "output"),
            ),
        )
        return replace(made, joins=joins)

    # The host's places: the input, the output, and what lies within that.
    outer, last = {0, numbers[len(model.layers)]}, -1
    while last != len(outer):
        last = len(outer)
        outer |= {tensor for tensor, (whole, _) in within.items() if whole in outer}
    return _buffered(model, config, stages, finish, buffers, outer)


def _buffered(
    model: Model,
    config: EngineConfig,
    stages: Sequence[PlannedStage],
    finish: Callable[[int, int], Plan],
    buffers: int | None,
    outer: set[int],
) -> Plan:
    """The plan with as many buffers as asked, or two where they cost nothing; ``outer`` are the
    tensors that lie elsewhere in each buffer.
    """
    if buffers == 1:
        return finish(1, 0)
    if any(outer & {*planned.reads} for planned in stages if len(planned.reads) > 1):
        # The distance of its sources would be another in each buffer.
        if buffers == 2:
            raise NoBuffers(
                f"model {model.name!r}, two buffers",
                "are for models whose input, and parts of whose output, are read one at a time",
                "a sum or a maximum of the input itself, or of such a part",
                "leave buffers out, or use one",
            )
        return finish(1, 0)
    try:
        double = finish(2, 0)
    except FitError:
        if buffers == 2:
            raise
        return finish(1, 0)
    single = finish(1, double.work_double)
    return double if buffers == 2 or double.total.total <= single.total.total else single


def _border(place: Place, layout: Layout, segment: _Segment, batch: int, side: str) -> TensorLayout:
    """The model's input or output: an image by its place, a feature vector by its layout."""
    if segment.view is not None or segment.ends[0 if side == "input" else 1] is not None:
        return TensorLayout(
            base=place.origin,
            shape=place.shape,
            strides=place.strides,
            batch_stride=place.sample if batch > 1 else 0,
            fraction_bits=0,
        )
    network = segment.aligned[0][0 if side == "input" else -1]
    indices = network.input if side == "input" else network.output
    return TensorLayout(
        base=0,
        shape=tuple(network.sizes[i] for i in indices),
        strides=tuple(layout.strides[i] for i in indices),
        batch_stride=layout.strides.get(BATCH, 0),
        fraction_bits=0,
    )


def _fills(
    place: Place, tensor: int, layer: int, config: EngineConfig, batch: int
) -> list[PlannedStage]:
    """Stages that write zeros around an image."""
    stages = []
    for start, loops in border_runs(place):
        nest = [(batch, place.sample), *loops] if batch > 1 else loops
        # Lanes along whatever takes the fewest tiles.
        choices = []
        for n, (count, stride) in enumerate(nest):
            if config.lanes == 1 or stride % config.lanes == 1:
                rest = prod(c for m, (c, _) in enumerate(nest) if m != n)
                choices.append((rest * -(-count // config.lanes), n))
        _, chosen = min(choices)
        around = [Loop(c, y=s) for n, (c, s) in enumerate(nest) if n != chosen and c > 1]
        columns, _ = fuse((loop, False) for loop in around)
        count, stride = nest[chosen]
        if len(columns) > config.column_loops:
            raise FitError(
                "zeros around an image",
                f"take at most {config.column_loops} column loops",
                len(columns),
                "raise column_loops of the engine",
            )
        stages.append(
            PlannedStage(
                stage=Stage(
                    k_loops=(Loop(1),),
                    row_loops=(Loop(1),),
                    column_loops=tuple(columns),
                    lane_count=count,
                    lane_x=1,
                    lane_y=stride if count > 1 else 1,
                    layer=layer,
                ),
                step=FILL,
                k_order=(),
                row_order=(),
                shared_order=(),
                column_order=(),
                block=(),
                ends_layer=False,
                reads=(tensor,),
                writes=tensor,
                y_offset=start,
            )
        )
    return stages


def _needed(stages: Sequence[PlannedStage], config: EngineConfig) -> list[PlannedStage]:
    """The stages without those that write zeros where there are zeros already."""
    zero = np.zeros(config.work_elements, bool)
    kept = []
    for planned in stages:
        written = written_by(planned)
        if planned.fills:
            if zero[written].all():
                continue
            zero[written] = True
        else:
            zero[written] = False
        kept.append(planned)
    return kept
