"""Where each layer's result lies in work memory when its last stage has run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drawbar.gen.artefact import TensorLayout
from drawbar.gen.order import BATCH
from drawbar.gen.place import written_by
from drawbar.gen.planned import Plan, PlannedStage


@dataclass(frozen=True)
class LayerResult:
    """A layer's result, in the first buffer.

    Members
    -------
    step:
        The layer's last stage, by its number in ``Plan.stages``; of a concatenation a stage that
        makes one of its parts.
    stage:
        The layer's last stage by its number in the program, its last slice: whatever runs later may
        write over the result. Of a concatenation the last stage up to it.
    layout:
        Of what the stage writes.
    cells:
        Which element of the layer's tensor each of these is, -1 for what is written into the gaps
        of an image; None where they are the tensor.
    """

    step: int
    stage: int
    layout: TensorLayout
    cells: np.ndarray | None

    def tensor(self, written: np.ndarray) -> np.ndarray:
        """``(samples, features)`` of the tensor, of what the stage has written in this layout."""
        if self.cells is None:
            return written
        kept = self.cells >= 0
        found = np.empty((len(written), int(kept.sum())), written.dtype)
        found[:, self.cells[kept]] = written[:, kept]
        return found


def layer_results(plan: Plan) -> list[LayerResult]:
    """For each layer of the plan's model, where its result is. ``fraction_bits`` are 0."""
    last = {number: place for place, (number, _) in enumerate(plan.program)}
    found = {}
    for step, planned in enumerate(plan.stages):
        if planned.fills or not planned.ends_layer:
            continue
        view = plan.views[planned.layer] if plan.views else None
        cells = None if view is None else view.cells_out.reshape(-1)
        found[planned.layer] = LayerResult(step, last[step], _layout(plan, planned), cells)
    for join in plan.joins:
        made = [n for n, p in enumerate(plan.stages) if join.tensor in plan.wholes(p.writes)]
        before = max(n for n, (_, s) in enumerate(plan.program) if s.layer <= join.layer)
        place = join.place
        layout = TensorLayout(
            base=plan.bases[0][join.tensor] + place.origin,
            shape=place.shape,
            strides=place.strides,
            batch_stride=place.sample if plan.batch > 1 else 0,
            fraction_bits=0,
        )
        found[join.layer] = LayerResult(made[0], before, layout, None)
    return [found[layer] for layer in sorted(found)]


def _layout(plan: Plan, planned: PlannedStage) -> TensorLayout:
    """Of what a layer's last stage writes: by the layer's output indices, of products by the axes
    of their tensor.
    """
    if planned.stage.products:
        # Of one sample.
        shape = plan.model.shapes[planned.layer + 1]
        return _affine(written_by(planned).reshape(1, *shape), 1)
    network = plan.networks[planned.layer]
    sizes = {**network.sizes, BATCH: plan.batch}
    order = (
        *planned.shared_order,
        *planned.column_order,
        *planned.block,
        *planned.row_order,
        *planned.step.sliced,
    )
    indices = (BATCH, *network.output) if plan.batch > 1 else network.output
    addresses = written_by(planned).reshape([sizes[i] for i in order])
    addresses = addresses.transpose([order.index(i) for i in indices])
    return _affine(addresses if plan.batch > 1 else addresses[None], plan.batch)


def _affine(addresses: np.ndarray, batch: int) -> TensorLayout:
    """The layout that has these addresses, ``(batch, *shape)``."""
    first = (0,) * addresses.ndim
    strides = []
    for axis, count in enumerate(addresses.shape):
        second = (*first[:axis], 1, *first[axis + 1 :])
        strides.append(int(addresses[second] - addresses[first]) if count > 1 else 0)
    layout = TensorLayout(
        base=int(addresses[first]),
        shape=addresses.shape[1:],
        strides=tuple(strides[1:]),
        batch_stride=strides[0],
        fraction_bits=0,
    )
    assert np.array_equal(layout.addresses(batch).reshape(-1), addresses.reshape(-1))
    return layout
