"""The search for one plan: a beam over lane blocks and layouts, order by order, layer by layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

from drawbar.gen.align import Boundary, align
from drawbar.gen.config import EngineConfig
from drawbar.gen.cycles import program_bound
from drawbar.gen.fit import check_room, no_layout, share_core
from drawbar.gen.folding import Way, ways_to_fold
from drawbar.gen.layout import (
    NO_FOLD,
    Block,
    Layout,
    block_stride,
    lane_blocks,
    layouts,
    nest,
    serves,
)
from drawbar.gen.network import ContractionNetwork, Model
from drawbar.gen.order import BATCH, Order, OrderSearch, Step
from drawbar.gen.place import NoPlaces, place
from drawbar.gen.planned import Plan, PlannedStage, chained
from drawbar.gen.program import descriptor_words
from drawbar.gen.slicing import (
    ENDLESS,
    group_room,
    order_stages,
    phased_orders,
    sliced_orders,
)
from drawbar.gen.stage import Loop, Stage, fuse, repeats_fit
from drawbar.gen.windows import through, through_block

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
    way: Way
    read: Layout
    done: tuple[PlannedStage, ...]
    tensors: tuple[Layout, ...]
    #: Of the chain of slices that the stage belongs to: ``gen.slicing.group_room``.
    whole: int = 0
    inner: int = 0

    def room(self, write: int) -> tuple[int, int, int]:
        return group_room(self.whole, self.inner, self.step, self.read.size, write)

    @property
    def core_end(self) -> int:
        """Core vectors up to the stage's own."""
        return self.core + self.way.core_vectors

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
    aligned:
        The layers in the names to plan with, and their boundaries, in place of what ``align`` says.
    ends:
        Layouts of the model's input and output, where they are given.
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
        aligned: tuple[tuple[ContractionNetwork, ...], tuple[Boundary, ...]] | None = None,
        ends: tuple[Layout | None, Layout | None] = (None, None),
    ) -> None:
        self.goal = goal
        self.slicing = slicing
        self.work_limit = config.work_elements if work_limit is None else work_limit
        self.most_cycles = most_cycles
        self.most_stages = ENDLESS
        if slicing:
            self.most_stages = config.program_depth // descriptor_words(config)
        self.first = (0, 0)
        self.model = model
        self.config = config
        self.batch = batch
        self.networks, self.boundaries = aligned or align(model)
        self.ends = ends
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
        fold = partial.way.fold
        if fold.index and write.strides[fold.index] % config.lanes != fold.lanes:
            return None
        network = self.networks[partial.layer]
        with_bias = partial.ends_layer and network.bias is not None
        biased = frozenset(network.bias_indices if with_bias else ())

        def by(layout: Layout, indices: Iterable[str]) -> tuple[str, ...]:
            return tuple(sorted(indices, key=lambda i: (-layout.strides[i], i)))

        k_order = by(read, step.k)
        row_order = (*by(write, (i for i in step.rows if i != fold.index)), *fold.indices)
        shared_order = by(read, step.shared)
        column_order = by(read, (i for i in step.columns if i not in partial.block))

        def column(index: str) -> tuple[Loop, bool]:
            x, y = read.strides[index], write.strides[index]
            shared = index in step.shared
            return Loop(self.sizes[index], x=x, y=y, shared=shared), index in biased

        k_loops, _ = fuse((Loop(self.sizes[i], x=read.strides[i]), False) for i in k_order)
        row_loops, row_biased = fuse(
            (fold.loop(i, self.sizes, write), i in biased) for i in row_order
        )
        column_loops, column_biased = fuse(column(i) for i in (*shared_order, *column_order))
        if (
            len(k_loops) > config.k_loops
            or len(row_loops) > config.row_loops
            or len(column_loops) > config.column_loops
        ):
            return None
        lane_count = prod(self.sizes[i] for i in partial.block)
        if not repeats_fit((*k_loops, *row_loops, *column_loops), lane_count, config):
            return None
        biases = 0
        # Where all lanes have the same bias, one vector is for all of their tiles.
        lane_biased = any(i in biased for i in partial.block)
        if with_bias:
            biases = -(-lane_count * fold.count // config.lanes) if lane_biased else 1
            for loops, own in ((row_loops, row_biased), (column_loops, column_biased)):
                for j in reversed(range(len(loops))):
                    if own[j]:
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
            lane_bias=int(lane_biased),
            core_base=partial.core,
            bias_base=partial.bias if with_bias else None,
            activation=network.activation if partial.ends_layer else "none",
            layer=partial.layer,
            fold=fold.count,
            fold_y=write.strides[fold.index] if fold.index else 0,
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
            slice_sizes=tuple(self.sizes[i] for i in step.sliced),
            x_offset=read.origin,
            y_offset=write.origin,
        )
        return replace(
            partial,
            peak=max(partial.peak, need),
            whole=whole,
            inner=inner,
            core=partial.core_end,
            bias=partial.bias + biases,
            done=(*partial.done, planned),
            tensors=(*partial.tensors, write),
        )

    def natural(self, indices: Sequence[str]) -> Layout:
        """Row-major, samples outermost: what layers use that share no factorisation."""
        batch = (BATCH,) if self.batch > 1 else ()
        return nest((*batch, *indices), self.sizes)

    def given(self, boundary: int, side: str) -> Layout | None:
        """The layout of the tensor of a boundary where it is not free, as the layer before it (side
        "output") or after it ("input") names it.
        """
        ends = {0: self.ends[0], len(self.networks): self.ends[1]}
        found = ends.get(boundary)
        if found is not None or self.boundaries[boundary].shared:
            return found
        after = side == "input"
        network = self.networks[boundary if after else boundary - 1]
        return self.natural(network.input if after else network.output)

    # -- search ------------------------------------------------------------------------------------

    def open(
        self, before: _Partial | None, step: Step, layer: int, ends_layer: bool, core_limit: int
    ) -> Iterator[_Partial]:
        """Ways to go on with a stage, up to so many core vectors of all stages: its lane block, the
        layout of the tensor it reads, and how it folds the array.
        """
        network = self.networks[layer]
        room = core_limit - (self.first[0] if before is None else before.core_end)
        starts_layer = before is None or before.layer != layer
        pinned = self.given(layer, "input") if starts_layer else None
        # What windows read is named by the tensor's own indices.
        terms: dict[str, str] = {}
        for index in step.opened:
            for term, _ in network.windows[index].terms:
                terms[term] = terms.get(index, index)
        # A chain of slices begins with a whole tensor.
        names = (*(step.sliced if step.first else ()), *step.shared, *step.columns, *step.k)
        live: Block = ()
        if before is not None and not starts_layer:
            live = (*before.step.rows, *before.step.shared, *before.step.columns)
        found = ((terms.get(i, i), *([i] if i in terms and i in live else ())) for i in names)
        tensor = tuple(dict.fromkeys(name for pair in found for name in pair))
        written: Block | None = None if before is None else before.block
        seen = None
        if before is not None:
            run = before.way.fold.with_block(before.block, self.sizes)
            seen = through_block(run, step, network)
        # Tensors whose layout is not free: only blocks that get along with it lead anywhere.
        fixed = [] if pinned is None else [through(pinned, step, network)]
        ending = self.given(layer + 1, "output") if ends_layer else None
        if ending is not None:
            fixed.append(ending)

        def accept(block: Block) -> bool:
            return all(serves(block, self.sizes, tensor, self.config) for tensor in fixed)

        for block in lane_blocks(
            step.columns, self.sizes, self.config, seen if pinned is None else None, accept
        ):
            if pinned is not None:
                choices: Iterable[Layout] = (pinned,)
            else:
                own = tuple(dict.fromkeys(terms.get(i, i) for i in block))
                fold = NO_FOLD if before is None else before.way.fold
                choices = layouts(tensor, self.sizes, self.config, written or (), own, step.k, fold)
            ways = list(ways_to_fold(step, block, self.sizes, ends_layer, room, self.config))
            for plain in choices:
                layout = through(plain, step, network)
                if not serves(block, self.sizes, layout, self.config):
                    continue
                if before is None:
                    closed: _Partial | None = _Partial(
                        cycles=0,
                        peak=0,
                        core=self.first[0],
                        bias=self.first[1],
                        step=step,
                        layer=layer,
                        ends_layer=ends_layer,
                        block=block,
                        way=ways[0],
                        read=layout,
                        done=(),
                        tensors=(layout,),
                    )
                else:
                    write = plain
                    if pinned is not None:
                        write = self.natural(self.networks[layer - 1].output)
                    closed = self.close(before, write)
                if closed is None:
                    continue
                for way in ways:
                    yield replace(
                        closed,
                        cycles=closed.cycles + way.cycles,
                        step=step,
                        layer=layer,
                        ends_layer=ends_layer,
                        block=block,
                        way=way,
                        read=layout,
                    )

    def prune(self, partials: Iterable[_Partial]) -> list[_Partial]:
        """The best partial plans, one for each (block, core vectors), and for phases of copies."""
        goal = self.goal
        best: dict[tuple[Block, Way, int, Block], _Partial] = {}
        for partial in partials:
            phases = () if self.slicing else partial.step.sliced
            key = (partial.block, partial.way, partial.core, phases)
            if key not in best or partial.rank(goal) < best[key].rank(goal):
                best[key] = partial
        return sorted(best.values(), key=lambda p: (p.rank(goal), p.core, p.block))[:BEAM]

    def run_order(
        self, frontier: list[_Partial] | None, order: Order, layer: int, core_limit: int
    ) -> list[_Partial]:
        """The best ways to append one layer's stages, within so many core vectors of all stages."""
        current: list[_Partial] | None = frontier
        for number, step in enumerate(order):
            ends = number == len(order) - 1
            later = sum(following.core_vectors for following in order[number + 1 :])
            found: list[_Partial] = []
            for before in [None] if current is None else current:
                found += self.open(before, step, layer, ends, core_limit - later)
            current = self.prune(found)
        return current or []

    def orders(
        self, search: OrderSearch, core_limit: int, most_stages: int
    ) -> Iterator[tuple[int, Order]]:
        if self.slicing:
            return sliced_orders(search, core_limit, self.work_limit, most_stages)
        return phased_orders(search, search.orders(core_limit, self.work_limit))

    def plan(self) -> Plan:
        config = self.config
        # Slices make do with less work memory than any order whose tensors are all whole.
        room = ENDLESS if self.slicing else self.work_limit
        check_room(self.model, config, self.batch, self.searches, room)
        fronts = [search.prices(room) for search in self.searches]
        bound_total, shares = share_core(fronts, config.core_depth)
        missing: NoPlaces | None = None
        found: Plan | None = None
        for best in self.ranked(shares):
            if found is not None and program_bound(best.cycles, config) >= found.total.total:
                break
            try:
                plan = place(
                    *(self.model, config, self.batch, self.networks),
                    stages=chained(best.done),
                    tensors=best.tensors,
                    bound=bound_total,
                    proven=best.cycles == bound_total,
                    work_peak=best.peak,
                    core_vectors=best.core,
                    bias_vectors=best.bias,
                )
            except NoPlaces as error:
                # In blocks of work memory; a slower plan may find them.
                missing = error
                continue
            # Only now it is known how long stages wait for each other.
            if found is None or plan.total.total < found.total.total:
                found = plan
        if found is None:
            assert missing is not None
            raise missing
        return found

    def search(
        self, shares: Sequence[int], *, later: int = 0, core: int = 0, bias: int = 0
    ) -> _Partial:
        """The first of ``ranked``."""
        return self.ranked(shares, later=later, core=core, bias=bias)[0]

    def ranked(
        self, shares: Sequence[int], *, later: int = 0, core: int = 0, bias: int = 0
    ) -> list[_Partial]:
        """The best plans of the layers, all their stages closed, the fastest one first.

        Arguments
        ---------
        shares:
            Core vectors for each layer.
        later:
            Core vectors to leave for what comes after them.
        core, bias:
            The first free vectors of core and bias memory.

        Raises
        ------
        NoLayout:
            none was found.
        """
        config = self.config
        self.first = (core, bias)
        frontier: list[_Partial] | None = None
        for layer, search in enumerate(self.searches):
            reserve = sum(shares[layer + 1 :]) + later
            used = core
            if frontier:
                used = min((p.core_end for p in frontier), default=0)
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
                        if p.core_end + vectors <= limit
                        and p.stages + order_stages(order) <= stages
                    ]
                    if not fitting:
                        continue
                results += self.run_order(fitting, order, layer, limit)
            frontier = self.prune(results)
            if not frontier:
                raise no_layout(search.network, config, self.batch, RESCUE_ORDERS)
        assert frontier is not None
        final = [closed for p in frontier for closed in self.finish(p)]
        if not final:
            raise no_layout(self.networks[-1], config, self.batch, RESCUE_ORDERS)
        return sorted(final, key=lambda p: p.rank("cycles"))

    def finish(self, partial: _Partial) -> Iterator[_Partial]:
        """Close the last stage of the last layer."""
        tensor = (*partial.step.shared, *partial.step.columns, *partial.step.rows)
        given = self.given(len(self.networks), "output")
        if given is not None:
            closed = self.close(partial, given)
            if closed is not None:
                yield closed
            return
        for layout in layouts(
            tensor, self.sizes, self.config, partial.block, (), (), partial.way.fold
        ):
            closed = self.close(partial, layout)
            if closed is not None:
                yield closed
