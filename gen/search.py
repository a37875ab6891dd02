"""The search for one plan: a beam over lane blocks and layouts, order by order, layer by layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

from drawbar.gen.align import Boundary, align
from drawbar.gen.config import EngineConfig
from drawbar.gen.fit import check_room, no_layout, share_core
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
from drawbar.gen.place import NoPlaces, place
from drawbar.gen.planned import Plan, PlannedStage
from drawbar.gen.program import descriptor_words
from drawbar.gen.slicing import (
    ENDLESS,
    group_room,
    order_stages,
    sliced_orders,
    stage_cycles,
)
from drawbar.gen.stage import Loop, Stage

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
    #: Of the chain of slices that the stage belongs to: ``gen.slicing.group_room``.
    whole: int = 0
    inner: int = 0

    def room(self, write: int) -> tuple[int, int, int]:
        return group_room(self.whole, self.inner, self.step, self.read.size, write)

    @property
    def stages(self) -> int:
        """Stages of the program."""
        return sum(s.step.slices for s in self.done) + self.step.slices

    def rank(self, goal: str) -> tuple[int, int, int]:
        """What is better for a goal of ``GOALS``: fewer cycles, less work or less bias memory."""
        if goal == "cycles":
            return (self.cycles, self.peak, self.bias)
        peak = max(self.peak, self.room(self.step.result)[2])
        return (peak, self.bias, self.cycles) if goal == "work" else (self.bias, peak, self.cycles)


def _fuse(loops: Iterable[tuple[Loop, bool]]) -> tuple[list[Loop], list[bool]]:
    """Merge neighbouring loops, outermost first, that count as one; a loop over samples (the flag)
    takes no other biases, so it stays on its own, and so do shared ones among the others.
    """
    fused: list[Loop] = []
    samples: list[bool] = []
    for loop, is_batch in loops:
        if fused:
            outer = fused[-1]
            if (outer.x, outer.y, outer.shared, samples[-1]) == (
                loop.count * loop.x,
                loop.count * loop.y,
                loop.shared,
                is_batch,
            ):
                fused[-1] = replace(loop, count=outer.count * loop.count)
                continue
        fused.append(loop)
        samples.append(is_batch)
    return fused, samples


def layer_searches(model: Model, config: EngineConfig, batch: int) -> list[OrderSearch]:
    """The search of each layer's orders."""
    return [OrderSearch(network, config, batch) for network in align(model)[0]]


class Planner:
    """The search for one plan.

    Arguments
    ---------
    goal:
        One of ``GOALS``.
    slicing:
        Orders may run in slices.
    work_limit:
        Elements of work memory that a plan may take, if less than all.
    most_cycles:
        Plans that take longer are not wanted.
    searches:
        The search of each layer's orders, from ``layer_searches``, where many plans share it. Their
        engine may differ in its work memory.
    """

    def __init__(
        self,
        model: Model,
        config: EngineConfig,
        batch: int,
        goal: str,
        *,
        slicing: bool = False,
        work_limit: int | None = None,
        most_cycles: int = ENDLESS,
        searches: Sequence[OrderSearch] = (),
    ) -> None:
        self.goal = goal
        self.slicing = slicing
        self.work_limit = config.work_elements if work_limit is None else work_limit
        self.most_cycles = most_cycles
        self.most_stages = ENDLESS
        if slicing:
            self.most_stages = config.program_depth // descriptor_words(config)
        self.model = model
        self.config = config
        self.batch = batch
        self.networks, self.boundaries = align(model)
        self.searches = searches or layer_searches(model, config, batch)
        self.sizes: dict[str, int] = {BATCH: batch}
        for network in self.networks:
            self.sizes |= network.sizes

    # -- geometry ----------------------------------------------------------------------------------

    def close(self, partial: _Partial, write: Layout) -> _Partial | None:
        """Give the last stage its result layout; None where the engine cannot run it so."""
        config, step, read = self.config, partial.step, partial.read
        if not serves(partial.block, self.sizes, write, config):
            return None
        whole, inner, need = partial.room(write.size)
        if need > self.work_limit:
            return None
        network = self.networks[partial.layer]
        with_bias = partial.ends_layer and network.bias is not None

        def by(layout: Layout, indices: Iterable[str]) -> tuple[str, ...]:
            return tuple(sorted(indices, key=lambda i: (-layout.strides[i], i)))

        k_order = by(read, step.k)
        row_order = by(write, step.rows)
        shared_order = by(read, step.shared)
        column_order = by(read, (i for i in step.columns if i not in partial.block))

        def column(index: str) -> tuple[Loop, bool]:
            x, y = read.strides[index], write.strides[index]
            shared = index in step.shared
            return Loop(self.sizes[index], x=x, y=y, shared=shared), with_bias and index == BATCH

        k_loops, _ = _fuse((Loop(self.sizes[i], x=read.strides[i]), False) for i in k_order)
        row_loops, row_samples = _fuse(
            (Loop(self.sizes[i], y=write.strides[i]), False) for i in row_order
        )
        column_loops, column_samples = _fuse(column(i) for i in (*shared_order, *column_order))
        if (
            len(k_loops) > config.k_loops
            or len(row_loops) > config.row_loops
            or len(column_loops) > config.column_loops
        ):
            return None
        lane_count = prod(self.sizes[i] for i in partial.block)
        repeats = [loop.count for loop in (*k_loops, *row_loops, *column_loops)]
        if max(*repeats, -(-lane_count // config.lanes), 1) > 1 << config.count_bits:
            return None
        biases = 0
        if with_bias:
            biases = -(-lane_count // config.lanes)
            for loops, samples in ((row_loops, row_samples), (column_loops, column_samples)):
                for j in reversed(range(len(loops))):
                    if not samples[j]:
                        loops[j] = replace(loops[j], bias=biases)
                        biases *= loops[j].count
        if partial.bias + biases > config.bias_depth:
            return None
        stage = Stage(
            k_loops=tuple(k_loops) or (Loop(1),),
            row_loops=tuple(row_loops) or (Loop(1),),
            column_loops=tuple(column_loops),
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
            shared_order=shared_order,
            column_order=column_order,
            block=partial.block,
            ends_layer=partial.ends_layer,
            slice_x=tuple(read.strides.get(i, 0) for i in step.sliced),
            slice_y=tuple(write.strides.get(i, 0) for i in step.sliced),
        )
        return replace(
            partial,
            peak=max(partial.peak, need),
            whole=whole,
            inner=inner,
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
        # A chain of slices begins with a whole tensor.
        tensor = (*(step.sliced if step.first else ()), *step.shared, *step.columns, *step.k)
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
                k, rows, shared = (
                    prod(self.sizes[i] for i in group) for group in (step.k, step.rows, step.shared)
                )
                cycles = stage_cycles(step, rows, k, shared * tiles, ends_layer, self.config)
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

    def orders(
        self, search: OrderSearch, core_limit: int, most_stages: int
    ) -> Iterator[tuple[int, Order]]:
        if self.slicing:
            return sliced_orders(search, core_limit, self.work_limit, most_stages)
        return search.orders(core_limit, self.work_limit)

    def plan(self) -> Plan:
        config = self.config
        # Slices make do with less work memory than any order whose tensors are all whole.
        room = ENDLESS if self.slicing else self.work_limit
        check_room(self.model, config, self.batch, self.searches, room)
        fronts = [search.prices(room) for search in self.searches]
        bound_total, shares = share_core(fronts, config.core_depth)
        frontier: list[_Partial] | None = None
        for layer, search in enumerate(self.searches):
            reserve = sum(shares[layer + 1 :])
            used = (
                min((p.core + p.step.core_vectors for p in frontier), default=0) if frontier else 0
            )
            limit = config.core_depth - reserve
            arrived = min((p.cycles for p in frontier), default=0) if frontier else 0
            stages = self.most_stages - (len(self.searches) - layer - 1)
            stages_left = stages - (min(p.stages for p in frontier) if frontier else 0)
            results: list[_Partial] = []
            for count, (bound, order) in enumerate(self.orders(search, limit - used, stages_left)):
                if count >= (ORDERS if results else RESCUE_ORDERS):
                    break
                if results and arrived + bound > min(p.cycles for p in results):
                    break
                if arrived + bound > self.most_cycles:
                    break
                vectors = sum(step.core_vectors for step in order)
                fitting = frontier
                if frontier is not None:
                    fitting = [
                        p
                        for p in frontier
                        if p.core + p.step.core_vectors + vectors <= limit
                        and p.stages + order_stages(order) <= stages
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
        missing: NoPlaces | None = None
        for best in sorted(final, key=lambda p: p.rank("cycles")):
            try:
                return place(
                    self.model,
                    config,
                    self.batch,
                    self.networks,
                    stages=best.done,
                    tensors=best.tensors,
                    bound=bound_total,
                    proven=best.cycles == bound_total,
                    work_peak=best.peak,
                    core_vectors=best.core,
                    bias_vectors=best.bias,
                )
            except NoPlaces as error:
                missing = missing or error
        assert missing is not None
        raise missing

    def finish(self, partial: _Partial) -> Iterator[_Partial]:
        """Close the last stage of the last layer."""
        tensor = (*partial.step.shared, *partial.step.columns, *partial.step.rows)
        for layout in layouts(tensor, self.sizes, self.config, partial.block, (), ()):
            closed = self.close(partial, layout)
            if closed is not None:
                yield closed
