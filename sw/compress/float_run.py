"""A plan's stages in float, by index names: what the engine would compute without rounding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from drawbar.gen.network import ContractionNetwork
from drawbar.gen.order import BATCH
from drawbar.gen.plan import Plan, PlannedStage, core_matrix


@dataclass(frozen=True)
class LiveTensor:
    """The live tensor after a stage, in float: ``values`` has samples first, then ``indices``."""

    indices: tuple[str, ...]
    values: np.ndarray


#: The result of a stage that writes zeros.
_NOTHING = LiveTensor((), np.zeros((1,)))


def _flatten(network: ContractionNetwork, live: LiveTensor) -> np.ndarray:
    """Result of a layer's last stage as ``(samples, outputs)``."""
    axes = [1 + live.indices.index(i) for i in network.output]
    return live.values.transpose(0, *axes).reshape(len(live.values), -1)


def _float_stage(
    network: ContractionNetwork, planned: PlannedStage, matrices: np.ndarray, live: LiveTensor
) -> LiveTensor:
    """One stage in float: the same product as on the engine, by index names."""
    # In float, slices are further columns.
    live = _through_windows(network, planned, live)
    order = (*planned.step.sliced, *planned.column_order, *planned.block)
    columns = (*planned.shared_order, *(i for i in order if i != BATCH))
    axes = [1 + live.indices.index(i) for i in (*columns, *planned.k_order)]
    batched = (len(live.values), len(matrices), -1, planned.stage.k)
    operand = live.values.transpose(0, *axes).reshape(batched)
    result = operand @ matrices.swapaxes(1, 2)
    indices = (*columns, *planned.row_order)
    shape = [network.sizes[i] for i in indices]
    return LiveTensor(indices, result.reshape(len(live.values), *shape))


def _through_windows(
    network: ContractionNetwork, planned: PlannedStage, live: LiveTensor
) -> LiveTensor:
    """The live tensor with the terms of the windows that the stage opens."""
    values, indices = live.values, list(live.indices)
    for index in planned.step.opened:
        window = network.windows[index]
        axis = indices.index(index)
        values = np.take(values, window.positions(network.sizes), axis=axis + 1)
        terms = [term for term, _ in window.terms]
        indices[axis : axis + 1] = terms
        for term in terms:
            if indices.count(term) == 2:
                # A tap that was an index of the tensor: both move together.
                first = indices.index(term)
                second = indices.index(term, first + 1)
                values = np.diagonal(values, axis1=first + 1, axis2=second + 1)
                indices = [i for i in indices if i != term] + [term]
    return LiveTensor(tuple(indices), values)


def float_stages(
    plan: Plan, x: np.ndarray
) -> Iterator[tuple[PlannedStage, np.ndarray, LiveTensor]]:
    """Each stage with its core matrices and its float result, bias and activation included; of a
    model with states, of every step of each sequence, as if that were a sample.
    """
    model = plan.model
    # The tensors of the model, as feature vectors; what nobody reads any more is dropped.
    tensors = model.before_steps(x) if model.states else {0: x}
    until = [max([0, *model.readers(t)]) for t in range(len(model.shapes))]
    # What takes no stage.
    joins = [join.layer for join in plan.joins]
    live: LiveTensor | None = None
    for planned in plan.stages:
        if planned.fills:
            yield planned, core_matrix(plan.networks[planned.layer], planned), _NOTHING
            continue
        network = plan.networks[planned.layer]
        if planned.stage.products:
            features = network.forward(model.read(planned.layer, tensors))
            tensors[planned.layer + 1] = features
            yield planned, core_matrix(network, planned), LiveTensor(("output",), features)
            continue
        if live is None:
            while joins and joins[0] < planned.layer:
                number = joins.pop(0)
                tensors[number + 1] = model.read(number, tensors)
            live = _sources(plan, planned, tensors)
        matrices = core_matrix(network, planned)
        live = result = _float_stage(network, planned, matrices, live)
        if planned.ends_layer:
            features = _flatten(network, live)
            if network.bias is not None:
                features = features + network.spread_bias()
            if network.activation == "relu":
                features = np.maximum(features, 0)
            view = plan.views[planned.layer] if plan.views else None
            if view is not None:
                # Without what is written into gaps.
                cells = view.cells_out.reshape(-1)
                found = np.zeros((len(features), prod(model.shapes[planned.layer + 1])))
                found[:, cells[cells >= 0]] = features[:, cells >= 0]
                features = found
            for tensor in [t for t in tensors if until[t] <= planned.layer]:
                del tensors[tensor]
            tensors[planned.layer + 1] = features
            result, live = LiveTensor(("output",), features), None
        yield planned, matrices, result


def _sources(plan: Plan, planned: PlannedStage, tensors: Mapping[int, np.ndarray]) -> LiveTensor:
    """What a layer's first stage reads, by its indices; zeros where it reads beyond an image."""
    network = plan.networks[planned.layer]
    sources = plan.model.sources[planned.layer]
    view = plan.views[planned.layer] if plan.views else None
    values = [tensors[source.tensor] for source in sources]
    if view is None:
        (features,) = values
        shape = [network.sizes[i] for i in network.input]
        return LiveTensor(network.input, features.reshape(len(features), *shape))
    found = []
    for features, cells in zip(values, view.cells_in, strict=True):
        found.append(np.where(cells >= 0, features[:, np.maximum(cells, 0)], 0.0))
    if len(found) == 1:
        return LiveTensor(network.input, found[0])
    # The stage's core matrix has the sources in the order of their addresses.
    if planned.turned:
        found.reverse()
    return LiveTensor(network.input, np.stack(found, axis=1))
