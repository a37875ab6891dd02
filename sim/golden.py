"""The golden model: what the engine computes, to the last bit, in NumPy.

One function for each hardware unit, with the unit's name: ``accumulate`` and ``products``
(``hw.array``), ``add_bias``, ``round_shift`` and ``saturate`` (``hw.requantise``). It runs encoded
programs out of the same memories as the hardware, on any number of samples at a time, and takes its
cycle counts from the cycle model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.lib.stride_tricks import as_strided

from drawbar.gen.artefact import Artefact, Load
from drawbar.gen.config import EngineConfig
from drawbar.gen.cycles import Cycles, program_cycles
from drawbar.gen.program import decode
from drawbar.gen.protocol import Space
from drawbar.gen.stage import Loop, Stage, check_stage

#: Samples that ``run_artefact`` takes at a time: enough to fill the caches, little enough to fit
#: memory.
CHUNK = 64


def accumulate(core: np.ndarray, live: np.ndarray, acc_width: int) -> np.ndarray:
    """Exact integer products: ``live (..., columns, k)`` by ``core (..., rows, k)`` to
    ``(..., columns, rows)``, modulo ``2**acc_width``; leading axes are broadcast.

    The product runs in float64, which is exact here: every partial sum is an integer below 2**53,
    since operands have at most 16 bits and a reduction at most 2**20 steps.
    """
    total = (live.astype(np.float64) @ core.swapaxes(-1, -2).astype(np.float64)).astype(np.int64)
    half = 1 << (acc_width - 1)
    if total.size and max(total.max(), -1 - total.min()) >= half:
        total = ((total + half) & ((1 << acc_width) - 1)) - half
    return total


def products(live: np.ndarray, acc_width: int) -> np.ndarray:
    """Exact sums of products of the elements of ``live (..., columns, k)``, two and two along k, as
    ``(..., columns, 1)``, modulo ``2**acc_width``.
    """
    pairs = live.astype(np.int64).reshape(*live.shape[:-1], -1, 2)
    total = pairs.prod(axis=-1).sum(axis=-1)[..., None]
    half = 1 << (acc_width - 1)
    return ((total + half) & ((1 << acc_width) - 1)) - half


def add_bias(acc: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """Sum of accumulators and biases; exact, one bit wider."""
    return acc if bias is None else acc + bias


def round_shift(value: np.ndarray, shift: int) -> np.ndarray:
    """``value / 2**shift`` rounded half to even."""
    if shift == 0:
        return value
    odd = (value >> shift) & 1
    return (value + odd + ((1 << (shift - 1)) - 1)) >> shift


def saturate(value: np.ndarray, data_width: int, activation: str) -> np.ndarray:
    """Clipped to ``data_width`` bits signed, or to its positive half by ReLU."""
    most = (1 << (data_width - 1)) - 1
    return np.clip(value, 0 if activation == "relu" else -1 - most, most)


def _strided(memory: np.ndarray, base: int, loops: list[tuple[int, int]]) -> np.ndarray:
    """A view of ``memory (samples, elements)``: one axis for each (count, stride)."""
    sample, element = memory.strides
    return as_strided(
        memory[:, base:],
        shape=(memory.shape[0], *(count for count, _ in loops)),
        strides=(sample, *(stride * element for _, stride in loops)),
    )


def run_stage(
    stage: Stage, config: EngineConfig, core: np.ndarray, bias: np.ndarray, work: np.ndarray
) -> None:
    """Run one stage.

    Arguments
    ---------
    core, bias:
        Core memory ``(vectors, rows)`` and bias memory ``(vectors, lanes)``.
    work:
        Work memories ``(samples, elements)``; changed in place.
    """
    check_stage(stage, config, "stage of the program")
    shared, k, rows = stage.shared, stage.k, stage.rows
    columns = stage.column_loops
    read = [(c.count, c.x) for c in columns] + [(stage.lane_count, stage.lane_x)]
    read += [(loop.count, loop.x) for loop in stage.k_loops]
    live = _strided(work, stage.x_base, read)
    # One core matrix serves all samples at once.
    flat = live.reshape((-1, k) if shared == 1 else (len(work), shared, -1, k))
    if stage.products:
        acc = products(flat, config.acc_width)
    else:
        vectors = core[stage.core_base : stage.core_base + stage.core_vectors(config)]
        tiles = vectors.reshape(shared, -1, k, stage.fold, config.rows).transpose(0, 1, 4, 3, 2)
        matrices = tiles.reshape(shared, -1, k)[:, :rows]
        acc = accumulate(matrices, flat, config.acc_width)
    shape = (len(work), *(c.count for c in columns), stage.lane_count)
    result = acc.reshape(*shape, rows)
    if stage.bias_base is not None:
        result = add_bias(result, _bias(stage, config, bias))
    result = saturate(round_shift(result, stage.shift), config.data_width, stage.activation)
    write = [(c.count, c.y) for c in columns] + [(stage.lane_count, stage.lane_y)]
    write += [(loop.count, loop.y) for loop in stage.result_loops]
    target = _strided(work, stage.y_base, write)
    target[...] = result.reshape(target.shape)


def _bias(stage: Stage, config: EngineConfig, bias: np.ndarray) -> np.ndarray:
    """Biases of a stage, ``(*columns, lanes, rows)``."""
    lanes, own = np.arange(stage.lane_count), stage.lanes(config)
    vector = np.array(stage.bias_base, np.int64)
    for loop in (*stage.column_loops, Loop(stage.lane_count), *stage.result_loops):
        vector = vector[..., None] + np.arange(loop.count) * loop.bias
    lane_axis = (slice(None),) + (None,) * len(stage.result_loops)
    vector = vector + (lanes // own * stage.lane_bias)[lane_axis]
    # Each row of a row vector has its group of lanes.
    place = (lanes % own)[lane_axis] + np.arange(stage.fold) * own
    values = bias[vector, np.broadcast_to(place, vector.shape)]
    return values.reshape(*vector.shape[: len(stage.column_loops) + 1], stage.rows)


class GoldenEngine:
    """An engine's memories and its ``run``, one sample at a time: the golden twin of ``hw.engine``.

    Members
    -------
    program, core, bias, work:
        The memories: uint32 words, ``(core_depth, rows)``, ``(bias_depth, lanes)``,
        ``(work_elements,)``.
    """

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.program = np.zeros(config.program_depth, np.uint32)
        self.core = np.zeros((config.core_depth, config.rows), np.int64)
        self.bias = np.zeros((config.bias_depth, config.lanes), np.int64)
        self.work = np.zeros(config.work_elements, np.int64)

    def load(self, artefact: Artefact, loads: Iterable[Load]) -> None:
        """Write parts of an artefact's images to the memories."""
        memories = {Space.PROGRAM: self.program, Space.CORE: self.core, Space.BIAS: self.bias}
        for load in loads:
            values = artefact.image(load.space)[load.source : load.source + load.count]
            memories[load.space][load.target : load.target + load.count] = values

    def run(self, address: int) -> list[Cycles]:
        """Run the program at this word; cycles of each stage."""
        stages = decode(self.program[address:], self.config)
        for stage in stages:
            run_stage(stage, self.config, self.core, self.bias, self.work[None])
        return program_cycles(stages, self.config)


def run_artefact(
    artefact: Artefact,
    x: np.ndarray,
    *,
    progress: Callable[[int, int], None] | None = None,
    observe: Callable[[int, np.ndarray], None] | None = None,
) -> np.ndarray:
    """Integers ``(samples, inputs)`` to integers ``(samples, outputs)``, many samples at a time, in
    the artefact's first buffer. Where it has states, sequences ``(samples, steps, inputs)`` to the
    outputs of their last steps.

    ``progress(done, total)`` counts samples. ``observe(stage, work)`` sees the work memories
    ``(runs, elements)`` after each stage.
    """
    config, batch = artefact.config, artefact.batch
    engine = GoldenEngine(config)
    engine.load(artefact, artefact.loads)
    passes = list(zip(artefact.buffers[0].passes, artefact.pass_stages(), strict=True))
    read, write = artefact.output.addresses(batch), artefact.input.addresses(batch)
    outputs = np.zeros((len(x), artefact.output.features), np.int64)
    sequences = x if artefact.steps else x[:, None]
    step = max(1, CHUNK // batch) * batch
    for start in range(0, len(x), step):
        samples = sequences[start : start + step]
        runs = -(-len(samples) // batch)
        padded = np.zeros((runs * batch, *sequences.shape[1:]), np.int32)
        padded[: len(samples)] = samples
        work = np.zeros((runs, config.work_elements), np.int32)
        for now in padded.swapaxes(0, 1):
            work[:, write] = now.reshape(runs, batch, -1)
            number = 0
            for one, stages in passes:
                engine.load(artefact, one.loads)
                for stage in stages:
                    run_stage(stage, config, engine.core, engine.bias, work)
                    if observe:
                        observe(number, work)
                    number += 1
        outputs[start : start + step] = work[:, read].reshape(runs * batch, -1)[: len(samples)]
        if progress:
            progress(min(start + step, len(x)), len(x))
    return outputs
