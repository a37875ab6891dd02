"""Layouts: where the elements of each tensor lie, so that both of its stages move whole vectors.

A stage takes its lanes from one *lane block*, an ordered group of column indices that lies at one
fixed stride both in the tensor that it reads and in the one that it writes. A tensor thus serves
two blocks: its writer's and its reader's. They get along where one ends with the other (one run of
neighbours), or where they share nothing (one at stride 1, the other outside it at a padded stride);
the permutation between the two stages is then free.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from math import prod
from typing import NamedTuple

from drawbar.gen.config import EngineConfig
from drawbar.gen.stage import Loop, lane_skew, padded_stride

Block = tuple[str, ...]

#: Lane blocks that are tried for each stage, best first.
BLOCKS = 48


@dataclass(frozen=True)
class Layout:
    """Element strides by index, and the elements that they span; the first element may lie
    ``origin`` elements into the tensor.
    """

    strides: Mapping[str, int]
    size: int
    origin: int = 0


def nest(order: Sequence[str], sizes: Mapping[str, int]) -> Layout:
    """Dense row-major layout of indices, outermost first."""
    strides = {}
    span = 1
    for index in reversed(order):
        strides[index] = span
        span *= sizes[index]
    return Layout(strides, span)


def block_stride(block: Block, sizes: Mapping[str, int], layout: Layout) -> int | None:
    """The stride between neighbours of a block, or None where they lie at no one stride."""
    if not block:
        return 1
    stride = layout.strides[block[-1]]
    expected = stride
    for index in reversed(block):
        if layout.strides[index] != expected:
            return None
        expected *= sizes[index]
    return stride


class Fold(NamedTuple):
    """How a stage folds the array: ``count`` times, along the values of a row index, its innermost
    one. In the result, these lie ``lanes`` elements apart modulo the engine's lanes.
    """

    count: int = 1
    index: str = ""
    lanes: int = 0

    @property
    def indices(self) -> Block:
        return (self.index,) if self.index else ()

    def loop(self, index: str, sizes: Mapping[str, int], write: Layout) -> Loop:
        """The row loop of an index, in row vectors."""
        count = self.count if index == self.index else 1
        return Loop(sizes[index] // count, y=count * write.strides[index])

    def stride(self, least: int) -> int:
        """The smallest stride of the row index of at least ``least`` elements."""
        return self.lanes + max(0, -(-(least - self.lanes) // self.all_lanes)) * self.all_lanes

    @property
    def all_lanes(self) -> int:
        return self.lanes * self.count

    def with_block(self, block: Block, sizes: Mapping[str, int]) -> Block:
        """The run of neighbours that the stage writes; ``block`` are its columns."""
        size = prod(sizes[i] for i in block)
        return (*self.indices, *block) if self.index and self.stride(size) == size else block


NO_FOLD = Fold()


def serves(block: Block, sizes: Mapping[str, int], layout: Layout, config: EngineConfig) -> bool:
    """Whether a stage can take its lanes from this block of this tensor."""
    stride = block_stride(block, sizes, layout)
    return stride is not None and (not block or lane_skew(config, stride) is not None)


def lane_tiles(block: Block, columns: Sequence[str], sizes: Mapping[str, int], lanes: int) -> int:
    """Tiles of so many lanes of a stage whose lanes run over ``block``."""
    rest = prod(sizes[i] for i in columns if i not in block)
    return rest * -(-prod(sizes[i] for i in block) // lanes)


@lru_cache(maxsize=4096)
def _ranked(columns: tuple[str, ...], sizes: tuple[int, ...], lanes: int) -> list[frozenset[str]]:
    """Subsets of the columns from the fewest lane tiles upwards."""
    total = prod(sizes)
    size_of = dict(zip(columns, sizes, strict=True))
    ranked = []
    for count in range(len(columns) + 1):
        for chosen in combinations(columns, count):
            size = prod(size_of[i] for i in chosen)
            ranked.append((total // size * -(-size // lanes), count, chosen))
    ranked.sort()
    return [frozenset(chosen) for _, _, chosen in ranked]


def lane_blocks(
    columns: tuple[str, ...],
    sizes: Mapping[str, int],
    config: EngineConfig,
    before: Block | None,
    accept: Callable[[Block], bool],
) -> Iterator[Block]:
    """Lane blocks for a reader, best first, that get along with its writer's block ``before``, and
    that ``accept`` takes.
    """
    given = 0
    for subset in _ranked(columns, tuple(sizes[i] for i in columns), config.lanes):
        canonical = tuple(i for i in columns if i in subset)
        backwards = canonical[::-1]
        candidates: list[Block]
        if before is None or not subset & set(before):
            candidates = [canonical, backwards]
        elif subset >= set(before):
            candidates = [
                tuple(i for i in order if i not in before) + before
                for order in (canonical, backwards)
            ]
        elif set(before[len(before) - len(subset) :]) == subset:
            candidates = [before[len(before) - len(subset) :]]
        else:
            continue
        for block in dict.fromkeys(candidates):
            if accept(block):
                yield block
                given += 1
        if given >= BLOCKS:
            return


def layouts(
    indices: Sequence[str],
    sizes: Mapping[str, int],
    config: EngineConfig,
    written: Block,
    read: Block,
    k: Sequence[str],
    fold: Fold = NO_FOLD,
) -> Iterator[Layout]:
    """Layouts of one tensor for its writer's and its reader's block; reduction indices ``k`` lie
    together. ``fold`` is the writer's.
    """
    folded = fold.indices

    def build(inner: Block, outer: Block) -> Layout:
        layout = nest(inner, sizes)
        strides, span = dict(layout.strides), layout.size

        def place(block: Block, stride: int) -> None:
            nonlocal span
            for index in reversed(block):
                strides[index] = stride
                stride *= sizes[index]
            span = stride

        # The folded index lies outside of its writer's block, which is the inner or the outer one.
        outside = outer == written and bool(outer)
        if folded and not outside and not set(folded) & set(inner):
            place(folded, fold.stride(span))
        if outer:
            # The last run of the outer block need not be padded.
            stride = padded_stride(config, span)
            place(outer, stride)
            if folded and outside:
                place(folded, fold.stride(span))
        placed = {*inner, *outer, *folded}
        rest = [i for i in indices if i not in placed and i not in k]
        rest += [i for i in indices if i not in placed and i in k]
        for index in reversed(rest):
            strides[index] = span
            span *= sizes[index]
        used = 1 + sum((sizes[i] - 1) * stride for i, stride in strides.items())
        return Layout(strides, used)

    if read[len(read) - len(written) :] == written:
        yield build(read, ())
        if folded and read and not written:
            yield build((), read)
    elif written[len(written) - len(read) :] == read:
        yield build(written, ())
    elif not set(written) & set(read):
        yield build(written, read)
        yield build(read, written)
