"""Windows in the planner: what a step reads, in the names of the terms of the windows it opens."""

from __future__ import annotations

from dataclasses import replace

from drawbar.gen.layout import Block, Layout
from drawbar.gen.network import ContractionNetwork
from drawbar.gen.order import Step


def through(layout: Layout, step: Step, network: ContractionNetwork) -> Layout:
    """The layout of what a step reads, with the terms of windows that it opens."""
    if not step.opened:
        return layout
    strides = dict(layout.strides)
    for index in step.opened:
        for term, stride in network.windows[index].terms:
            # A tap that is an index of the tensor itself moves along both.
            strides[term] = layout.strides.get(term, 0) + stride * strides[index]
    return replace(layout, strides=strides)


def through_block(block: Block, step: Step, network: ContractionNetwork) -> Block:
    """A lane block of the tensor that a step reads, in the names of its columns."""
    names = {
        index: term
        for index in step.opened
        for term, stride in network.windows[index].terms
        if stride == 1 and (term in step.columns or term in step.opened)
    }
    return tuple(names.get(names.get(i, i), names.get(i, i)) for i in block)
