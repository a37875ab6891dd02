"""The planner: a model and an engine in, stages with addresses out, at the fewest cycles that it
can find.

Layer by layer, contraction orders come from ``gen.order`` from the best lower bound upwards, and a
beam search gives each of their stages a lane block and each tensor a layout (``gen.layout``). The
search of a layer stops when no further order can beat what was found. A plan whose cycles equal the
sum of the best lower bounds is proven optimal; ``Plan.proven`` says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from drawbar.gen.align import Boundary, align
from drawbar.gen.artefact import TensorLayout
from drawbar.gen.config import EngineConfig
from drawbar.gen.cycles import Cycles, program_cycles, tile_cycles, utilisation
from drawbar.gen.errors import FitError
from drawbar.gen.layout import (
    Block,
    Layout,
    block_stride,
    lane_blocks,
    lane_tiles,
    layouts,
    nest,
    serves,
)
from drawbar.gen.network import ContractionNetwork, Model
from drawbar.gen.order import BATCH, Order, OrderSearch, Step
from drawbar.gen.program import descriptor_words
from drawbar.gen.stage import Loop, Stage

#: Partial plans kept after each stage; orders tried for each layer, and tried before giving up.
BEAM = 16
ORDERS = 32
RESCUE_ORDERS = 256


@dataclass(frozen=True)
class PlannedStage:
    """A stage, and what its rows, columns and reduction mean.

    Members
    -------
    stage:
        Sizes and addresses; its ``shift`` is set by quantisation.
    step:
        The cores that it absorbs, and index names.
    k_order, row_order:
        Index order of the core matrix's columns and rows, outermost first.
    column_order, block:
        Index order of the columns outside and inside the lane run.
    ends_layer:
        The result is the layer's output: bias and activation belong here.
    """

    stage: Stage
    step: Step
    k_order: tuple[str, ...]
    row_order: tuple[str, ...]
    column_order: tuple[str, ...]
    block: Block
    ends_layer: bool

    @property
    def layer(self) -> int:
        return self.stage.layer


@dataclass(frozen=True)
class Plan:
    """A planned model.

    Members
    -------
    networks:
        The layers, in the index names that the stages use.
    cycles:
        Exact cycles of each stage.
    bound:
        No plan of whole stages takes fewer cycles.
    proven:
        The plan reaches the bound.
    input, output:
        Layouts in work memory (their ``fraction_bits`` are set by quantisation).
    work_peak:
        Elements of the two live tensors of the largest stage, paddings included.
    """

    model: Model
    config: EngineConfig
    batch: int
    networks: tuple[ContractionNetwork, ...]
    stages: tuple[PlannedStage, ...]
    cycles: tuple[Cycles, ...]
    bound: int
    proven: bool
    input: TensorLayout
    output: TensorLayout
    work_peak: int
    core_vectors: int
    bias_vectors: int

    @property
    def total(self) -> Cycles:
        return sum(self.cycles, start=Cycles())

    @property
    def multiplications(self) -> int:
        return sum(s.stage.multiplications for s in self.stages)

    @property
    def core_bytes(self) -> int:
        return self.core_vectors * self.config.rows * self.config.element_bytes

    @property
    def work_bytes_peak(self) -> int:
        return self.work_peak * self.config.element_bytes

    def layer_cycles(self, layer: int) -> int:
        return sum(
            c.total for s, c in zip(self.stages, self.cycles, strict=True) if s.layer == layer
        )

    def layer_multiplications(self, layer: int) -> int:
        return sum(s.stage.multiplications for s in self.stages if s.layer == layer)

    def layer_utilisation(self, layer: int) -> float:
        return utilisation(self.layer_multiplications(layer), self.layer_cycles(layer), self.config)

    def layer_text(self, layer: int) -> str:
        """The contraction order, cores numbered from 1: ``(G1G2)(G3(G4(X(G5G6))))`` in sequence."""
        names = []
        for planned in self.stages:
            if planned.layer == layer:
                cores = "".join(f"G{n + 1}" for n in planned.step.group)
                names.append(f"({cores})" if len(planned.step.group) > 1 else cores)
        return "X " + " ".join(names)

    @property
    def text(self) -> str:
        return "; ".join(self.layer_text(n) for n in range(len(self.networks)))


class _NoLayout(FitError):
    """The sizes fit, but no layout was found."""


@dataclass(frozen=True)
class _Partial:
    """A plan up to a stage whose lanes and operand layout are chosen, and whose result layout is
    not.
    """

    cycles: int
    peak: int
    core: int
    bias: int
    step: Step
    layer: int
    ends_layer: bool
    block: Block
    read: Layout
    done: tuple[PlannedStage, ...]
    tensors: tuple[Layout, ...]

    def rank(self, lean: bool) -> tuple[int, int, int]:
        """What is better: fewer cycles, then less memory; for a lean search the other way round."""
        if lean:
            peak = max(self.peak, self.read.size + self.step.result)
            return (peak, self.bias, self.cycles)
        return (self.cycles, self.peak, self.bias)


def _fuse(loops: Iterable[tuple[int, int, int, bool]]) -> list[tuple[int, int, int, bool]]:
    """Merge neighbouring (count, x, y, is batch) loops, outermost first, that count as one."""
    fused: list[tuple[int, int, int, bool]] = []
    for count, x, y, is_batch in loops:
        if fused:
            outer = fused[-1]
            if outer[1] == count * x and outer[2] == count * y and outer[3] == is_batch:
                fused[-1] = (outer[0] * count, x, y, is_batch)
                continue
        fused.append((count, x, y, is_batch))
    return fused


class _Planner:
    def __init__(self, model: Model, config: EngineConfig, batch: int, *, lean: bool) -> None:
        self.lean = lean
        self.model = model
        self.config = config
        self.batch = batch
        self.networks, self.boundaries = align(model)
        self.searches = [OrderSearch(network, config, batch) for network in self.networks]
        self.sizes: dict[str, int] = {BATCH: batch}
        for network in self.networks:
            self.sizes |= network.sizes

    # -- geometry ----------------------------------------------------------------------------------

    def close(self, partial: _Partial, write: Layout) -> _Partial | None:
        """Give the last stage its result layout; None where the engine cannot run it so."""
        config, step, read = self.config, partial.step, partial.read
        if not serves(partial.block, self.sizes, write, config):
            return None
        if read.size + write.size > config.work_elements:
            return None
        network = self.networks[partial.layer]
        with_bias = partial.ends_layer and network.bias is not None

        def by(layout: Layout, indices: Iterable[str]) -> tuple[str, ...]:
            return tuple(sorted(indices, key=lambda i: (-layout.strides[i], i)))

        k_order = by(read, step.k)
        row_order = by(write, step.rows)
        column_order = by(read, (i for i in step.columns if i not in partial.block))
        k_loops = _fuse((self.sizes[i], read.strides[i], 0, False) for i in k_order)
        row_loops = _fuse((self.sizes[i], 0, write.strides[i], False) for i in row_order)
        column_loops = _fuse(
            (self.sizes[i], read.strides[i], write.strides[i], with_bias and i == BATCH)
            for i in column_order
        )
        if (
            len(k_loops) > config.k_loops
            or len(row_loops) > config.row_loops
            or len(column_loops) > config.column_loops
        ):
            return None
        lane_count = prod(self.sizes[i] for i in partial.block)
        biases = 0
        row_bias, column_bias = [0] * len(row_loops), [0] * len(column_loops)
        if with_bias:
            biases = -(-lane_count // config.lanes)
            for loops, strides in ((row_loops, row_bias), (column_loops, column_bias)):
                for j in reversed(range(len(loops))):
                    count, _, _, is_batch = loops[j]
                    if not is_batch:
                        strides[j] = biases
                        biases *= count
        if partial.bias + biases > config.bias_depth:
            return None
        stage = Stage(
            k_loops=tuple(Loop(count, x=x) for count, x, _, _ in k_loops) or (Loop(1),),
            row_loops=tuple(
                Loop(count, y=y, bias=b)
                for (count, _, y, _), b in zip(row_loops, row_bias, strict=True)
            )
            or (Loop(1),),
            column_loops=tuple(
                Loop(count, x=x, y=y, bias=b)
                for (count, x, y, _), b in zip(column_loops, column_bias, strict=True)
            ),
            lane_count=lane_count,
            lane_x=block_stride(partial.block, self.sizes, read) or 1,
            lane_y=block_stride(partial.block, self.sizes, write) or 1,
            lane_bias=int(with_bias),
            core_base=partial.core,
            bias_base=partial.bias if with_bias else None,
            activation=network.activation if partial.ends_layer else "none",
            layer=partial.layer,
        )
        planned = PlannedStage(
            stage=stage,
            step=step,
            k_order=k_order,
            row_order=row_order,
            column_order=column_order,
            block=partial.block,
            ends_layer=partial.ends_layer,
        )
        return replace(
            partial,
            peak=max(partial.peak, read.size + write.size),
            core=partial.core + step.core_vectors,
            bias=partial.bias + biases,
            done=(*partial.done, planned),
            tensors=(*partial.tensors, write),
        )

    def natural(self, indices: Sequence[str]) -> Layout:
        """Row-major, samples outermost: what layers use that share no factorisation."""
        batch = (BATCH,) if self.batch > 1 else ()
        return nest((*batch, *indices), self.sizes)

    # -- search ------------------------------------------------------------------------------------

    def open(
        self, before: _Partial | None, step: Step, layer: int, ends_layer: bool
    ) -> Iterator[_Partial]:
        """Ways to go on with a stage: its lane block, and the layout of the tensor it reads."""
        network = self.networks[layer]
        starts_layer = before is None or before.layer != layer
        boundary = self.boundaries[layer] if starts_layer else Boundary(shared=True)
        tensor = (*step.columns, *step.k)
        written: Block | None = None if before is None else before.block
        pinned = not boundary.shared
        for block in lane_blocks(
            step.columns, self.sizes, self.config, None if pinned else written
        ):
            if pinned:
                choices: Iterable[Layout] = (self.natural(network.input),)
            else:
                choices = layouts(tensor, self.sizes, self.config, written or (), block, step.k)
            for layout in choices:
                if not serves(block, self.sizes, layout, self.config):
                    continue
                tiles = lane_tiles(block, step.columns, self.sizes, self.config)
                k, rows = (prod(self.sizes[i] for i in group) for group in (step.k, step.rows))
                cycles = tile_cycles(rows, k, tiles, self.config).total
                if before is None:
                    yield _Partial(
                        cycles=cycles,
                        peak=0,
                        core=0,
                        bias=0,
                        step=step,
                        layer=layer,
                        ends_layer=ends_layer,
                        block=block,
                        read=layout,
                        done=(),
                        tensors=(layout,),
                    )
                    continue
                write = layout
                if pinned:
                    write = self.natural(self.networks[layer - 1].output)
                closed = self.close(before, write)
                if closed is not None:
                    yield replace(
                        closed,
                        cycles=closed.cycles + cycles,
                        step=step,
                        layer=layer,
                        ends_layer=ends_layer,
                        block=block,
                        read=layout,
                    )

    def prune(self, partials: Iterable[_Partial]) -> list[_Partial]:
        """The best partial plans, one for each (block, core vectors)."""
        lean = self.lean
        best: dict[tuple[Block, int], _Partial] = {}
        for partial in partials:
            key = (partial.block, partial.core)
            if key not in best or partial.rank(lean) < best[key].rank(lean):
                best[key] = partial
        return sorted(best.values(), key=lambda p: (p.rank(lean), p.core, p.block))[:BEAM]

    def run_order(
        self, frontier: list[_Partial] | None, order: Order, layer: int
    ) -> list[_Partial]:
        """The best ways to append one layer's stages."""
        current: list[_Partial] | None = frontier
        for number, step in enumerate(order):
            ends = number == len(order) - 1
            found: list[_Partial] = []
            for before in [None] if current is None else current:
                found += self.open(before, step, layer, ends)
            current = self.prune(found)
        return current or []

    def plan(self) -> Plan:
        config = self.config
        least_core = [search.least_core() for search in self.searches]
        self.check_room(least_core)
        frontier: list[_Partial] | None = None
        bound_total = 0
        for layer, search in enumerate(self.searches):
            reserve = sum(least_core[layer + 1 :])
            used = (
                min((p.core + p.step.core_vectors for p in frontier), default=0) if frontier else 0
            )
            limit = config.core_depth - reserve
            arrived = min((p.cycles for p in frontier), default=0) if frontier else 0
            results: list[_Partial] = []
            best_bound: int | None = None
            for count, (bound, order) in enumerate(
                search.orders(limit - used, config.work_elements)
            ):
                best_bound = bound if best_bound is None else best_bound
                if count >= (ORDERS if results else RESCUE_ORDERS):
                    break
                if results and arrived + bound > min(p.cycles for p in results):
                    break
                vectors = sum(step.core_vectors for step in order)
                fitting = frontier
                if frontier is not None:
                    fitting = [
                        p for p in frontier if p.core + p.step.core_vectors + vectors <= limit
                    ]
                    if not fitting:
                        continue
                results += self.run_order(fitting, order, layer)
            bound_total += best_bound or 0
            frontier = self.prune(results)
            if best_bound is None:
                self.no_order(layer, limit - used)
            if not frontier:
                self.no_plan(layer)
        assert frontier is not None
        final = [closed for p in frontier for closed in self.finish(p)]
        if not final:
            self.no_plan(len(self.networks) - 1)
        return self.place(min(final, key=lambda p: p.rank(False)), bound_total)

    def finish(self, partial: _Partial) -> Iterator[_Partial]:
        """Close the last stage of the last layer."""
        tensor = (*partial.step.columns, *partial.step.rows)
        for layout in layouts(tensor, self.sizes, self.config, partial.block, (), ()):
            closed = self.close(partial, layout)
            if closed is not None:
                yield closed

    # -- result ------------------------------------------------------------------------------------

    def place(self, best: _Partial, bound: int) -> Plan:
        """Addresses: the tensors take turns at the two ends of work memory."""
        config = self.config
        bases = [
            0 if number % 2 == 0 else config.work_elements - tensor.size
            for number, tensor in enumerate(best.tensors)
        ]
        stages = tuple(
            replace(
                planned,
                stage=replace(planned.stage, x_base=bases[number], y_base=bases[number + 1]),
            )
            for number, planned in enumerate(best.done)
        )
        words = len(stages) * descriptor_words(config)
        if words > config.program_depth:
            raise FitError(
                f"model {self.model.name!r}",
                f"has a program of at most {config.program_depth} words",
                f"{len(stages)} stages, {words} words",
                "raise program_depth",
            )
        first, last = self.networks[0], self.networks[-1]
        cycles = tuple(program_cycles([s.stage for s in stages], config))
        return Plan(
            model=self.model,
            config=config,
            batch=self.batch,
            networks=self.networks,
            stages=stages,
            cycles=cycles,
            bound=bound,
            proven=best.cycles == bound,
            input=self.border(best.tensors[0], bases[0], first.input),
            output=self.border(best.tensors[-1], bases[-1], last.output),
            work_peak=best.peak,
            core_vectors=best.core,
            bias_vectors=best.bias,
        )

    def border(self, layout: Layout, base: int, indices: Sequence[str]) -> TensorLayout:
        return TensorLayout(
            base=base,
            shape=tuple(self.sizes[i] for i in indices),
            strides=tuple(layout.strides[i] for i in indices),
            batch_stride=layout.strides.get(BATCH, 0),
            fraction_bits=0,
        )

    # -- errors ------------------------------------------------------------------------------------

    def check_room(self, least_core: list[int]) -> None:
        config = self.config
        vector = config.rows * config.element_bytes
        for number, search in enumerate(self.searches):
            need = search.least_work()
            if need > config.work_elements:
                raise FitError(
                    f"layer {self.networks[number].name!r}, batch {self.batch}",
                    f"needs at most the engine's {config.work_bytes} bytes of work memory",
                    f"{need * config.element_bytes} bytes in its smallest order, "
                    f"{(need - config.work_elements) * config.element_bytes} too many",
                    f"raise work_depth to at least {-(-need // config.lanes)}, or use smaller ranks"
                    " or a smaller batch",
                )
            if least_core[number] > config.core_depth:
                raise FitError(
                    f"layer {self.networks[number].name!r}",
                    f"needs at most the engine's {config.core_bytes} bytes of core memory",
                    f"{least_core[number] * vector} bytes in its smallest order, "
                    f"{(least_core[number] - config.core_depth) * vector} too many",
                    f"raise core_depth to at least {least_core[number]}, or use smaller ranks",
                )
        if sum(least_core) > config.core_depth:
            largest = max(range(len(least_core)), key=least_core.__getitem__)
            raise FitError(
                f"model {self.model.name!r}",
                f"needs at most the engine's {config.core_bytes} bytes of core memory",
                f"{sum(least_core) * vector} bytes, "
                f"{(sum(least_core) - config.core_depth) * vector} too many; most of it in "
                f"layer {self.networks[largest].name!r}",
                f"raise core_depth to at least {sum(least_core)}, or use smaller ranks there",
            )

    def no_order(self, layer: int, core_vectors: int) -> None:
        config = self.config
        vector = config.rows * config.element_bytes
        search = self.searches[layer]
        need_work = search.least_work(core_vectors) * config.element_bytes
        raise FitError(
            f"layer {self.networks[layer].name!r}, batch {self.batch}",
            f"fits the {core_vectors * vector} bytes of core memory that the other layers leave "
            f"and {config.work_bytes} bytes of work memory at once",
            f"{need_work} bytes of work memory in the smallest order with cores that small, "
            f"{need_work - config.work_bytes} too many",
            "raise work_depth or core_depth, or use smaller ranks or a smaller batch",
        )

    def no_plan(self, layer: int) -> None:
        config = self.config
        raise _NoLayout(
            f"layer {self.networks[layer].name!r}, batch {self.batch}",
            f"has a layout within {config.work_bytes} bytes of work memory, {config.bias_depth} "
            f"bias vectors, and {config.k_loops}/{config.row_loops}/{config.column_loops} "
            "k/row/column loops",
            f"none among the {RESCUE_ORDERS} best orders, paddings included",
            "raise work_depth, bias_depth or the loops of the engine",
        )


def plan_model(model: Model, config: EngineConfig, *, batch: int = 1) -> Plan:
    """Plan a model for an engine; deterministic.

    Arguments
    ---------
    batch:
        Samples that one run of the program takes.

    Raises
    ------
    FitError:
        the model does not fit the engine; the error says which memory is short, and by how many
        bytes.
    """
    if batch < 1:
        raise FitError(f"model {model.name!r}", "has a batch of at least 1", batch, "raise batch")
    try:
        return _Planner(model, config, batch, lean=False).plan()
    except _NoLayout:
        # The fastest partial plans led nowhere: look for one that fits at all.
        return _Planner(model, config, batch, lean=True).plan()


def core_matrix(network: ContractionNetwork, planned: PlannedStage) -> np.ndarray:
    """The stage's merged core as a float matrix, ``(rows, k)`` in the stage's index order."""
    letters = {index: number for number, index in enumerate(network.sizes)}
    operands: list[object] = []
    for number in planned.step.group:
        core = network.cores[number]
        operands += [core.values, [letters[i] for i in core.indices]]
    out = [letters[i] for i in (*planned.row_order, *planned.k_order)]
    merged = np.einsum(*operands, out, optimize="greedy")  # type: ignore[call-overload]
    return merged.reshape(planned.stage.rows, planned.stage.k)
