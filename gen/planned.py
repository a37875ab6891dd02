"""What the planner hands on: a model as stages with addresses, and what their indices mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from drawbar.gen.artefact import Buffer, Load, Pass, TensorLayout
from drawbar.gen.config import EngineConfig
from drawbar.gen.cycles import Cycles, utilisation
from drawbar.gen.images import Place, View
from drawbar.gen.layout import Block, Layout
from drawbar.gen.network import ContractionNetwork, Model
from drawbar.gen.order import Step
from drawbar.gen.program import descriptor_words
from drawbar.gen.protocol import Space
from drawbar.gen.stage import Stage


@dataclass(frozen=True)
class PlannedStage:
    """A stage, and what its rows, columns and reduction mean.

    Members
    -------
    stage:
        Sizes and addresses, of the first slice where it runs in slices; its ``shift`` is set by
        quantisation. ``Plan.program`` has the stages as the engine runs them.
    step:
        The cores that it absorbs, and index names.
    k_order, row_order:
        Index order of the core matrix's columns and rows, outermost first.
    shared_order:
        Index order of the core's matrices.
    column_order, block:
        Index order of the other columns, outside and inside the lane run.
    ends_layer:
        The result is the layer's output: bias and activation belong here.
    slice_x, slice_y:
        Elements from one value to the next of each index of ``step.sliced``, where the stage reads
        and where it writes; 0 where the tensor holds one slice.
    slice_sizes:
        Sizes of these indices.
    reads, writes:
        Numbers of the tensors: those that it reads, in the order of their addresses, and the one
        that it writes.
    x_offset, y_offset:
        Elements from the start of what it reads, and of what it writes, to its bases.
    x_offsets:
        Of each of several sources.
    turned:
        The reduction goes backwards through the core's last index: the sources lie the other way
        round in memory.
    """

    stage: Stage
    step: Step
    k_order: tuple[str, ...]
    row_order: tuple[str, ...]
    shared_order: tuple[str, ...]
    column_order: tuple[str, ...]
    block: Block
    ends_layer: bool
    slice_x: tuple[int, ...] = ()
    slice_y: tuple[int, ...] = ()
    slice_sizes: tuple[int, ...] = ()
    reads: tuple[int, ...] = (0,)
    writes: int = 0
    x_offset: int = 0
    y_offset: int = 0
    x_offsets: tuple[int, ...] = ()
    turned: bool = False

    @property
    def fills(self) -> bool:
        """Whether the stage writes zeros around what the layer's last one has written."""
        return not self.step.group and not self.stage.products

    @property
    def layer(self) -> int:
        return self.stage.layer

    @property
    def core_order(self) -> tuple[str, ...]:
        """Index order of what ``core_matrix`` gives, flat."""
        return (*self.shared_order, *self.row_order, *self.k_order)


def reading_apart(stage: Stage, config: EngineConfig) -> Stage:
    """A stage that multiplies by zero, with what it reads beside what it writes; in single-port
    memory, in another block.
    """
    block = config.work_block if config.work_blocks else 1
    first, last = stage.span("y")
    free = first // block * block >= stage.lane_count
    return replace(stage, x_base=0 if free else (last // block + 1) * block)


def chained(stages: Sequence[PlannedStage]) -> tuple[PlannedStage, ...]:
    """Stages each of which reads what the one before has written."""
    return tuple(
        replace(planned, reads=(number,), writes=number + 1)
        for number, planned in enumerate(stages)
    )


@dataclass(frozen=True)
class Join:
    """A concatenation in a plan.

    Members
    -------
    layer:
        Its number.
    tensor, parts:
        Numbers of the whole and of the tensors that lie within it.
    place:
        Of the whole, from its base on.
    """

    layer: int
    tensor: int
    parts: tuple[int, ...]
    place: Place


@dataclass(frozen=True)
class Turns:
    """How what does not fit the engine's memories takes turns there (``gen.passes``).

    Members
    -------
    ends:
        For each pass, the number of the program's stages up to its end.
    loads:
        What stays in the memories.
    passes:
        Of each buffer.
    bases:
        For each buffer, the core and the bias vectors at which each of the program's stages begins.
    """

    ends: tuple[int, ...]
    loads: tuple[Load, ...]
    passes: tuple[tuple[Pass, ...], ...]
    bases: tuple[tuple[tuple[int, int | None], ...], ...]


@dataclass(frozen=True)
class Plan:
    """A planned model.

    Members
    -------
    networks:
        The layers, in the index names that the stages use.
    stages:
        Each step of the plan once.
    program:
        What the engine runs: the number of its step in ``stages``, and the stage with its final
        addresses, order of columns, and wait. Steps in slices are here once for each slice, and
        cores that are too large once for each part. With two buffers, this is the program of the
        first: see ``buffer_program``.
    tensors:
        Layouts of the tensors: the input, and each stage's result.
    bases:
        Element address of each tensor, for each buffer.
    cycles:
        Exact cycles of each stage of the program.
    bound:
        No plan takes fewer cycles: what the best orders would take if all their columns lay side by
        side and no stage waited for another.
    proven:
        The plan reaches the bound but for waits between stages and the drain of its last tile.
    input, output:
        Layouts in work memory (their ``fraction_bits`` are set by quantisation), in the first
        buffer.
    work_peak:
        Elements of the live tensors of one run, paddings included, where they are largest.
    work_double:
        Elements of work memory that two buffers need; 0 where nobody asked.
    states:
        Numbers of the tensors that are kept from one run to the next.
    views:
        How each layer of a graph reads and writes images; None for linear layers. Empty for chains.
    joins:
        The concatenations of a graph.
    minimise:
        What it was planned for: "cycles" or "memory".
    turns:
        Of a model that does not fit the engine and runs in passes; None where it fits. Cores and
        biases of ``stages`` are then numbered as if the memories had no end.
    """

    model: Model
    config: EngineConfig
    batch: int
    networks: tuple[ContractionNetwork, ...]
    stages: tuple[PlannedStage, ...]
    program: tuple[tuple[int, Stage], ...]
    tensors: tuple[Layout, ...]
    bases: tuple[tuple[int, ...], ...]
    cycles: tuple[Cycles, ...]
    bound: int
    proven: bool
    input: TensorLayout
    output: TensorLayout
    work_peak: int
    core_vectors: int
    bias_vectors: int
    minimise: str = "cycles"
    work_double: int = 0
    views: tuple[View | None, ...] = ()
    states: tuple[int, ...] = ()
    joins: tuple[Join, ...] = ()
    turns: Turns | None = None

    def buffer_program(self, buffer: int) -> tuple[tuple[int, Stage], ...]:
        """The program of a buffer: the same stages at other addresses.

        A stage's waits depend on one tensor, which it reads and its neighbour writes, so they are
        the same wherever that lies.
        """
        moves = [
            there - here for there, here in zip(self.bases[buffer], self.bases[0], strict=True)
        ]
        program = []
        for place, (number, stage) in enumerate(self.program):
            planned = self.stages[number]
            if self.turns is not None:
                core, bias = self.turns.bases[buffer][place]
                stage = replace(stage, core_base=core, bias_base=bias)
            moved = replace(
                stage,
                x_base=stage.x_base + moves[planned.reads[0]],
                y_base=stage.y_base + moves[planned.writes],
            )
            program.append((number, reading_apart(moved, self.config) if planned.fills else moved))
        return tuple(program)

    @property
    def kept(self) -> tuple[tuple[int, int], ...]:
        """First element and number of elements of each state."""
        return tuple((self.bases[0][n], self.tensors[n].size) for n in self.states)

    def wholes(self, tensor: int) -> list[int]:
        """The concatenations that a tensor is, or lies in, the innermost first."""
        found = [tensor]
        for join in self.joins:
            if found[-1] in join.parts:
                found.append(join.tensor)
        return found

    @property
    def is_graph(self) -> bool:
        """Whether the model is more than a chain of linear layers."""
        return bool(self.views)

    def pass_programs(self, buffer: int) -> list[tuple[tuple[int, Stage], ...]]:
        """The program of a buffer, pass by pass."""
        program = self.buffer_program(buffer)
        ends = (len(program),) if self.turns is None else self.turns.ends
        return [program[first:end] for first, end in pairwise((0, *ends))]

    @property
    def streams(self) -> bool:
        """Whether cores, biases or programs stream in while it computes."""
        return self.turns is not None

    @property
    def loads(self) -> tuple[Load, ...]:
        """What is written to the engine's memories before the first run."""
        if self.turns is not None:
            return self.turns.loads
        words = len(self.bases) * len(self.program) * descriptor_words(self.config)
        counts = (
            (Space.PROGRAM, words),
            (Space.CORE, self.core_vectors),
            (Space.BIAS, self.bias_vectors),
        )
        return tuple(Load(space, 0, 0, count) for space, count in counts if count)

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """The buffers, their programs one after the other."""
        words = len(self.program) * descriptor_words(self.config)
        return tuple(
            Buffer(
                (Pass(number * words, number * words, self.total.total),)
                if self.turns is None
                else self.turns.passes[number],
                replace(self.input, base=self.input.base + bases[0] - self.bases[0][0]),
                replace(self.output, base=self.output.base + bases[-1] - self.bases[0][-1]),
            )
            for number, bases in enumerate(self.bases)
        )

    @property
    def total(self) -> Cycles:
        return sum(self.cycles, start=Cycles())

    @property
    def multiplications(self) -> int:
        return sum(self._useful(number, stage) for number, stage in self.program)

    def _useful(self, number: int, stage: Stage) -> int:
        """Multiplications of a stage; none where it writes zeros."""
        return 0 if self.stages[number].fills else stage.multiplications

    @property
    def core_bytes(self) -> int:
        return self.core_vectors * self.config.rows * self.config.element_bytes

    @property
    def work_bytes_peak(self) -> int:
        return self.work_peak * self.config.element_bytes

    @property
    def work_bytes_double(self) -> int:
        return self.work_double * self.config.element_bytes

    def layer_cycles(self, layer: int) -> int:
        return sum(
            cycles.total
            for (_, stage), cycles in zip(self.program, self.cycles, strict=True)
            if stage.layer == layer
        )

    def layer_multiplications(self, layer: int) -> int:
        return sum(self._useful(n, stage) for n, stage in self.program if stage.layer == layer)

    def layer_utilisation(self, layer: int) -> float:
        return utilisation(self.layer_multiplications(layer), self.layer_cycles(layer), self.config)

    def layer_slices(self, layer: int) -> int:
        """Slices that the layer's first stages run in; 1 for none."""
        return max((s.step.slices for s in self.stages if s.layer == layer), default=1)

    def layer_text(self, layer: int) -> str:
        """The contraction order, cores numbered from 1: ``X (G5G6) G4 G3 (G1G2)`` in sequence; with
        slices, ``X 14 x [(G5G6) G4 G3] (G1G2)``; of a concatenation "in place".
        """
        text = "in place" if self.networks[layer].joined else "X"
        for planned in self.stages:
            if planned.layer == layer:
                step = planned.step
                if not step.group:
                    text += " zeros" if planned.fills else " products"
                    continue
                cores = "".join(f"G{n + 1}" for n in step.group)
                name = f"({cores})" if len(step.group) > 1 else cores
                before = f"{step.slices} x [" if step.first else ""
                text += f" {before}{name}" + ("]" if step.last else "")
        return text

    @property
    def text(self) -> str:
        return "; ".join(self.layer_text(n) for n in range(len(self.networks)))


def core_matrix(network: ContractionNetwork, planned: PlannedStage) -> np.ndarray:
    """The stage's merged core as float matrices, ``(shared, rows, k)`` in the stage's index
    order.
    """
    if not planned.step.group:
        return np.zeros((1, 1, 1))
    letters = {index: number for number, index in enumerate(network.sizes)}
    operands: list[object] = []
    for number in planned.step.group:
        core = network.cores[number]
        operands += [core.values, [letters[i] for i in core.indices]]
    out = [letters[i] for i in planned.core_order]
    merged = np.einsum(*operands, out, optimize="greedy")  # type: ignore[call-overload]
    merged = merged.reshape(planned.stage.shared, planned.stage.rows, planned.stage.k)
    return merged[..., ::-1] if planned.turned else merged
