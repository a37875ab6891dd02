"""Transfers: what goes over the link for each run, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from drawbar.gen.artefact import TensorLayout

_T = TypeVar("_T")


def layout_span(layout: TensorLayout, batch: int) -> tuple[int, int]:
    """First element of a tensor in work memory, and elements from there to its last, gaps
    included: what one transfer moves.
    """
    counts = (batch, *layout.shape)
    strides = (layout.batch_stride, *layout.strides)
    last = sum((count - 1) * stride for count, stride in zip(counts, strides, strict=True))
    return layout.base, last + 1


def spread(reads: Sequence[_T], writes: Sequence[_T]) -> list[_T]:
    """Reads evenly among writes, so that both directions of the link are busy: each read comes as
    early as that allows.
    """
    places = [(number / len(reads), 0, read) for number, read in enumerate(reads)]
    places += [((number + 0.5) / len(writes), 1, write) for number, write in enumerate(writes)]
    return [transfer for _, _, transfer in sorted(places, key=lambda place: place[:2])]
