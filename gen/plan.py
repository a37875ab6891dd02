"""The planner: a model and an engine in, stages with addresses out, at the fewest cycles that it
can find.

Layer by layer, contraction orders come from ``gen.order`` from the best lower bound upwards, and a
beam search gives each of their stages a lane block and each tensor a layout (``gen.layout``). The
search of a layer stops when no further order can beat what was found. A plan whose cycles equal the
sum of the best lower bounds is proven optimal; ``Plan.proven`` says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import prod

from drawbar.gen.align import Boundary, align
from drawbar.gen.artefact import TensorLayout
from drawbar.gen.config import EngineConfig
from drawbar.gen.cycles import ISSUE_TO_WRITE, fetch_cycles, program_cycles, tile_cycles
from drawbar.gen.errors import FitError
from drawbar.gen.fit import NoLayout, check_room, no_layout, share_core, shortages
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
from drawbar.gen.network import Model
from drawbar.gen.order import BATCH, Order, OrderSearch, Step
from drawbar.gen.planned import Plan, PlannedStage, core_matrix
from drawbar.gen.program import descriptor_words
from drawbar.gen.schedule import schedule
from drawbar.gen.stage import Loop, Stage

__all__ = ["Plan", "PlannedStage", "core_matrix", "plan_model"]

#: Partial plans kept after each stage; orders tried for each layer, and tried before giving up.
BEAM = 16
ORDERS = 32
RESCUE_ORDERS = 256
#: What a search keeps its partial plans by. Where the fastest ones lead nowhere, the others look
#: for a plan that fits at all.
GOALS = ("cycles", "work", "bias")


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

    def rank(self, goal: str) -> tuple[int, int, int]:
        """What is better for a goal of ``GOALS``: fewer cycles, less work or less bias memory."""
        if goal == "cycles":
            return (self.cycles, self.peak, self.bias)
        peak = max(self.peak, self.read.size + self.step.result)
        return (peak, self.bias, self.cycles) if goal == "work" else (self.bias, peak, self.cycles)


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
    def __init__(self, model: Model, config: EngineConfig, batch: int, goal: str) -> None:
        self.goal = goal
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
        # Tensors whose layout is not free: only blocks that get along with it lead anywhere.
        fixed = [self.natural(network.input)] if pinned else []
        if ends_layer and not self.boundaries[layer + 1].shared:
            fixed.append(self.natural(network.output))

        def accept(block: Block) -> bool:
            return all(serves(block, self.sizes, tensor, self.config) for tensor in fixed)

        for block in lane_blocks(
            step.columns, self.sizes, self.config, None if pinned else written, accept
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
                cycles = tile_cycles(rows, k, tiles, self.config)
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
        goal = self.goal
        best: dict[tuple[Block, int], _Partial] = {}
        for partial in partials:
            key = (partial.block, partial.core)
            if key not in best or partial.rank(goal) < best[key].rank(goal):
                best[key] = partial
        return sorted(best.values(), key=lambda p: (p.rank(goal), p.core, p.block))[:BEAM]

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
        check_room(self.model, config, self.batch, self.searches)
        fronts = [search.prices(config.work_elements) for search in self.searches]
        bound_total, shares = share_core(fronts, config.core_depth)
        frontier: list[_Partial] | None = None
        for layer, search in enumerate(self.searches):
            reserve = sum(shares[layer + 1 :])
            used = (
                min((p.core + p.step.core_vectors for p in frontier), default=0) if frontier else 0
            )
            limit = config.core_depth - reserve
            arrived = min((p.cycles for p in frontier), default=0) if frontier else 0
            results: list[_Partial] = []
            for count, (bound, order) in enumerate(
                search.orders(limit - used, config.work_elements)
            ):
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
            frontier = self.prune(results)
            if not frontier:
                raise no_layout(search.network, config, self.batch, RESCUE_ORDERS)
        assert frontier is not None
        final = [closed for p in frontier for closed in self.finish(p)]
        if not final:
            raise no_layout(self.networks[-1], config, self.batch, RESCUE_ORDERS)
        return self.place(min(final, key=lambda p: p.rank("cycles")), bound_total)

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
        stages = self.timed(stages)
        words = len(stages) * descriptor_words(config)
        if words > config.program_depth:
            raise FitError(
                f"model {self.model.name!r}",
                f"has a program of at most {config.program_depth} words",
                f"{len(stages)} stages, {words} words, {words - config.program_depth} too many",
                f"raise program_depth to at least {words}",
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
            bound=fetch_cycles(config) + bound + ISSUE_TO_WRITE + 1,
            proven=best.cycles == bound,
            input=self.border(best.tensors[0], bases[0], first.input),
            output=self.border(best.tensors[-1], bases[-1], last.output),
            work_peak=best.peak,
            core_vectors=best.core,
            bias_vectors=best.bias,
        )

    def timed(self, stages: Sequence[PlannedStage]) -> tuple[PlannedStage, ...]:
        """The stages with their waits, and with the column orders that make these short."""
        scheduled, orders = schedule([planned.stage for planned in stages], self.config)
        result = []
        for planned, stage, order in zip(stages, scheduled, orders, strict=True):
            # Each column loop counts through one or more neighbouring indices.
            indices = iter(planned.column_order)
            groups = []
            for loop in planned.stage.column_loops:
                group: list[str] = []
                while prod(self.sizes[i] for i in group) < loop.count:
                    group.append(next(indices))
                groups.append(group)
            column_order = tuple(i for j in order for i in groups[j])
            result.append(replace(planned, stage=stage, column_order=column_order))
        return tuple(result)

    def border(self, layout: Layout, base: int, indices: Sequence[str]) -> TensorLayout:
        return TensorLayout(
            base=base,
            shape=tuple(self.sizes[i] for i in indices),
            strides=tuple(layout.strides[i] for i in indices),
            batch_stride=layout.strides.get(BATCH, 0),
            fraction_bits=0,
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
    missing: NoLayout | None = None
    for goal in GOALS:
        try:
            return _Planner(model, config, batch, goal).plan()
        except NoLayout as error:
            missing = error
    assert missing is not None
    raise _explained(missing, model, config, batch)


def _explained(missing: NoLayout, model: Model, config: EngineConfig, batch: int) -> FitError:
    """The same error, with what a plan that was found on a roomier engine needs."""
    # Memories and loops as large as they come; core memory is not what is short.
    roomy = config.replace(
        work_depth=1 << 20,
        bias_depth=1 << 20,
        program_depth=1 << 16,
        k_loops=4,
        row_loops=4,
        column_loops=6,
    )
    plans = []
    for goal in GOALS[1:]:
        with suppress(NoLayout):
            plans.append(_Planner(model, roomy, batch, goal).plan())
    if not plans:
        return missing
    shortest = min(plans, key=lambda plan: len(shortages(plan, config)))
    found, fixes = zip(*shortages(shortest, config), strict=True)
    return FitError(missing.subject, missing.rule, ", ".join(found), "raise " + ", ".join(fixes))
