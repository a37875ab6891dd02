"""Recurrent cells as graphs of layers: one step of a sequence, with what it keeps as states.

All gates are one table of tanh: ``sigmoid(x) = (1 + tanh(x / 2)) / 2``, whose halves go into the
gates' weights and into the table. The gates are in the order in which the products take them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from drawbar.gen.errors import NetworkError
from drawbar.gen.formats import dense_network
from drawbar.gen.formats.tables import (
    KNOTS,
    Table,
    knots_network,
    lookup_network,
    product_network,
    tabulate,
)
from drawbar.gen.network import ContractionNetwork, Core, Model, Source
from drawbar.sw.compress.backend import nn
from drawbar.sw.compress.factorised import FactorisedLinear, as_array
from drawbar.sw.compress.formats import get_format
from drawbar.sw.compress.recurrent import FactorisedRNN

#: What a gate's weights, and its tanh, are multiplied by, and what is added to that.
SIGMOID, TANH, REST = (0.5, 0.5, 0.5), (1.0, 1.0, 0.0), (0.5, -0.5, 0.5)
#: Gates in the order in which they lie in memory: the number of each in PyTorch's order, and what
#: it is. An LSTM's are i, f, o, g, and then comes c: both i and g, and f and c, are three gates
#: apart.
LSTM = ((0, SIGMOID), (1, SIGMOID), (3, SIGMOID), (2, TANH))
#: A GRU's are r, z, 1 - z, and what its n is made of.
GRU = ((0, SIGMOID), (1, SIGMOID), (1, REST), (2, TANH))


def lower_cell(
    cell: nn.LSTM | nn.GRU | FactorisedRNN, head: Model, name: str, *, knots: int = KNOTS
) -> Model:
    """One step of an LSTM or GRU, followed by the layers of ``head`` on its state h.

    Arguments
    ---------
    knots:
        Of the tables of sigmoid and tanh.

    Raises
    ------
    NetworkError:
        cells of several layers, of two directions, or with a projection.
    """
    kind, inputs, states, hidden = _maps(cell, name)
    table = tabulate(np.tanh, knots)
    made = (_lstm if kind == "lstm" else _gru)(name, inputs, states, hidden, table)
    layers, sources, h = made
    # The layers of the head begin with h, and then follow their own order.
    behind = tuple(
        tuple(replace(source, tensor=source.tensor + h) for source in own) for own in head.sources
    )
    layers = (*layers, *head.layers)
    shapes: list[tuple[int, ...]] = [(layer.outputs,) for layer in layers]
    shapes.insert(0, (inputs.inputs,))
    if kind == "lstm" and len(states.input) == 2:
        # The first digit of h is columns of the state's map: lanes run across the rows.
        shapes[h] = states.modes_in
    return Model(name, layers, (*sources, *behind), tuple(shapes))


#: Layers, what each reads, and the number of the tensor h.
Cell = tuple[tuple[ContractionNetwork, ...], tuple[tuple[Source, ...], ...], int]


def _lstm(
    name: str, inputs: ContractionNetwork, states: ContractionNetwork, hidden: int, table: Table
) -> Cell:
    """``c = f * c + i * g``, ``h = o * tanh(c)``."""
    bias = np.zeros(4 * hidden)
    bias = bias + sum(net.bias for net in (inputs, states) if net.bias is not None)
    layers = (
        _gates(replace(inputs, bias=bias), LSTM, hidden),
        _gates(replace(states, bias=None), LSTM, hidden),
        knots_network(f"{name}.gates.knots", table, 4 * hidden, sources=2),
        lookup_network(f"{name}.gates", table, hidden, [(a, b) for _, (_, a, b) in LSTM]),
        product_network(f"{name}.c", hidden, 2),
        knots_network(f"{name}.tanh.knots", table, hidden),
        lookup_network(f"{name}.tanh", table, hidden),
        product_network(f"{name}.h", hidden, 1),
    )
    in_map, state_map, gate_knots, gates, c, c_knots, c_tanh, h = range(1, len(layers) + 1)
    i, f, o, g = (_part(gates, n, hidden) for n in range(4))
    sources = (
        (Source(0),),
        (Source(h),),
        (Source(in_map), Source(state_map)),
        (Source(gate_knots),),
        (i, g, f, Source(c)),
        (Source(c),),
        (Source(c_knots),),
        (o, Source(c_tanh)),
    )
    return layers, sources, h


def _gru(
    name: str, inputs: ContractionNetwork, states: ContractionNetwork, hidden: int, table: Table
) -> Cell:
    """``n = tanh(x + r * y)`` of what the two maps give for it, ``h = z * h + (1 - z) * n``."""
    # What n gets from the state is multiplied by r, its bias too.
    own = np.zeros(3 * hidden) if states.bias is None else states.bias
    apart = np.where(np.arange(3 * hidden) < 2 * hidden, 0.0, own)
    bias = (0.0 if inputs.bias is None else inputs.bias) + own - apart
    layers = (
        _gates(replace(inputs, bias=bias), GRU, hidden),
        _gates(replace(states, bias=apart), GRU, hidden),
        knots_network(f"{name}.gates.knots", table, 3 * hidden, sources=2),
        lookup_network(f"{name}.gates", table, hidden, [(a, b) for _, (_, a, b) in GRU[:3]]),
        product_network(f"{name}.reset", hidden, 1),
        knots_network(f"{name}.n.knots", table, hidden, sources=2),
        lookup_network(f"{name}.n", table, hidden),
        product_network(f"{name}.h", hidden, 2),
    )
    in_map, state_map, gate_knots, gates, reset, n_knots, n, h = range(1, len(layers) + 1)
    r, z, rest = (_part(gates, number, hidden) for number in range(3))
    sources = (
        (Source(0),),
        (Source(h),),
        (Source(in_map, (0,), (1,)), Source(state_map, (0,), (1,))),
        (Source(gate_knots),),
        (r, _part(state_map, 3, hidden)),
        (_part(in_map, 3, hidden), Source(reset, (0,), (1,))),
        (Source(n_knots),),
        (z, Source(h), rest, Source(n)),
    )
    return layers, sources, h


def _part(tensor: int, number: int, hidden: int) -> Source:
    """A gate of a tensor of gates."""
    return Source(tensor, (number * hidden,), (1,))


def _maps(cell: nn.Module, name: str) -> tuple[str, ContractionNetwork, ContractionNetwork, int]:
    """The kind, the maps from input and from state to gates, and the units."""
    where = f"cells {name!r}"
    if isinstance(cell, FactorisedRNN):
        maps = [
            _network(m, f"{name}.{what}")
            for m, what in ((cell.input_map, "input"), (cell.hidden_map, "state"))
        ]
        return cell.kind, maps[0], maps[1], cell.hidden_size
    kind = {nn.LSTM: "lstm", nn.GRU: "gru"}.get(type(cell))
    if kind is None:
        raise NetworkError(
            where,
            "are an LSTM or a GRU (FactorisedRNN, nn.LSTM, nn.GRU)",
            type(cell).__name__,
            "use one of these",
        )
    assert isinstance(cell, (nn.LSTM, nn.GRU))
    if cell.num_layers != 1 or cell.bidirectional or cell.proj_size:
        raise NetworkError(
            where,
            "have one layer and one direction, without projection",
            f"{cell.num_layers} layers, bidirectional={cell.bidirectional}, "
            f"proj_size={cell.proj_size}",
            "split it into single layers",
        )
    arrays = {key: as_array(where, value) for key, value in cell.named_parameters()}
    made = [
        dense_network(
            f"{name}.{what}", arrays[f"weight_{key}_l0"], bias=arrays.get(f"bias_{key}_l0")
        )
        for key, what in (("ih", "input"), ("hh", "state"))
    ]
    return kind, made[0], made[1], cell.hidden_size


def _network(module: nn.Module, name: str) -> ContractionNetwork:
    if isinstance(module, FactorisedLinear):
        return get_format(module.spec.format).network(module, name)
    assert isinstance(module, nn.Linear)
    bias = None if module.bias is None else as_array(name, module.bias)
    return dense_network(name, as_array(name, module.weight), bias=bias)


def _gates(
    network: ContractionNetwork, gates: Sequence[tuple[int, Sequence[float]]], hidden: int
) -> ContractionNetwork:
    """A map to gates, which are the slowest digit of its first output mode, to these ones."""
    first = network.output[0]
    order = [number for number, _ in gates]
    factors = np.array([scale[0] for _, scale in gates])
    count = max(order) + 1
    if network.sizes[first] % count:
        raise NetworkError(
            f"layer {network.name!r}",
            f"has {count} gates as the slowest digit of its first output mode",
            network.modes_out,
            "use recurrent_spec",
        )
    cores = list(network.cores)
    scale = factors
    for number, core in enumerate(cores):
        if first not in core.indices:
            continue
        axis = core.indices.index(first)
        split = np.moveaxis(core.values, axis, 0)
        split = split.reshape(count, -1, *split.shape[1:])[order]
        split = split * scale.reshape(-1, *[1] * (split.ndim - 1))
        # The other cores of this index only follow.
        scale = np.ones(len(gates))
        values = np.moveaxis(split.reshape(-1, *split.shape[2:]), 0, axis)
        cores[number] = Core(core.indices, np.ascontiguousarray(values))
    bias = network.bias
    if bias is not None:
        bias = (bias.reshape(count, hidden)[order] * factors[:, None]).reshape(-1)
    sizes = {**network.sizes, first: network.sizes[first] // count * len(gates)}
    return replace(network, sizes=sizes, cores=tuple(cores), bias=bias)
