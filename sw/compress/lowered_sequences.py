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
from drawbar.gen.formats.tables import knots_network, lookup_network, product_network, tabulate
from drawbar.gen.network import ContractionNetwork, Core, Model, Source
from drawbar.sw.compress.backend import nn
from drawbar.sw.compress.factorised import FactorisedLinear, as_array
from drawbar.sw.compress.formats import get_format
from drawbar.sw.compress.recurrent import FactorisedRNN

#: Knots of the tables.
KNOTS = 16
#: PyTorch has the gates i, f, g, o. With i, f, o, g and then c in memory, both i and g, and f and
#: c, are three gates apart.
LSTM_ORDER = (0, 1, 3, 2)
#: What a gate's weights, and its tanh, are multiplied by, and what is added to that.
SIGMOID, TANH = (0.5, 0.5, 0.5), (1.0, 1.0, 0.0)
LSTM_GATES = (SIGMOID, SIGMOID, SIGMOID, TANH)


def lower_cell(
    cell: nn.LSTM | nn.GRU | FactorisedRNN, head: Model, name: str, *, knots: int = KNOTS
) -> Model:
    """One step of an LSTM, followed by the layers of ``head`` on its state h.

    Arguments
    ---------
    knots:
        Of the tables of sigmoid and tanh.

    Raises
    ------
    NetworkError:
        cells of another kind, of several layers, of two directions, or with a projection.
    """
    inputs, states, hidden = _maps(cell, name)
    factors = [gate[0] for gate in LSTM_GATES]
    bias = sum(net.bias for net in (inputs, states) if net.bias is not None)
    bias = np.zeros(4 * hidden) + bias
    inputs = _gates(replace(inputs, bias=bias), LSTM_ORDER, factors, hidden)
    states = _gates(replace(states, bias=None), LSTM_ORDER, factors, hidden)
    table = tabulate(np.tanh, knots)
    layers = (
        inputs,
        states,
        knots_network(f"{name}.gates.knots", table, 4 * hidden, sources=2),
        lookup_network(f"{name}.gates", table, hidden, [gate[1:] for gate in LSTM_GATES]),
        product_network(f"{name}.c", hidden, 2),
        knots_network(f"{name}.tanh.knots", table, hidden),
        lookup_network(f"{name}.tanh", table, hidden),
        product_network(f"{name}.h", hidden, 1),
    )
    in_map, state_map, gate_knots, gates, c, c_knots, c_tanh, h = range(1, len(layers) + 1)
    i, f, o, g = (Source(gates, (n * hidden,), (1,)) for n in range(4))
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
    # The layers of the head begin with h, and then follow their own order.
    behind = tuple(
        tuple(replace(source, tensor=source.tensor + h) for source in own) for own in head.sources
    )
    layers = (*layers, *head.layers)
    shapes = [(inputs.inputs,), *((layer.outputs,) for layer in layers)]
    if len(states.input) == 2:
        # The first digit of h is columns of the state's map: lanes run across the rows.
        shapes[h] = states.modes_in
    return Model(name, layers, (*sources, *behind), tuple(shapes))


def _maps(
    cell: nn.Module, name: str
) -> tuple[ContractionNetwork, ContractionNetwork, int]:
    """The maps from input and from state to gates, and the units."""
    where = f"cells {name!r}"
    kind = cell.kind if isinstance(cell, FactorisedRNN) else type(cell).__name__.lower()
    if kind != "lstm":
        raise NetworkError(
            where, "are an LSTM (FactorisedRNN or nn.LSTM)", kind, "use an LSTM"
        )
    if isinstance(cell, FactorisedRNN):
        maps = [
            _network(m, f"{name}.{what}")
            for m, what in ((cell.input_map, "input"), (cell.hidden_map, "state"))
        ]
        return maps[0], maps[1], cell.hidden_size
    assert isinstance(cell, nn.LSTM)
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
        dense_network(f"{name}.{what}", arrays[f"weight_{key}_l0"], bias=arrays.get(f"bias_{key}_l0"))
        for key, what in (("ih", "input"), ("hh", "state"))
    ]
    return made[0], made[1], cell.hidden_size


def _network(module: nn.Module, name: str) -> ContractionNetwork:
    if isinstance(module, FactorisedLinear):
        return get_format(module.spec.format).network(module, name)
    bias = None if module.bias is None else as_array(name, module.bias)
    return dense_network(name, as_array(name, module.weight), bias=bias)


def _gates(
    network: ContractionNetwork, order: Sequence[int], factors: Sequence[float], hidden: int
) -> ContractionNetwork:
    """A map to gates, which are the slowest digit of its first output mode, in another order; gate
    n of the new order is multiplied by ``factors[n]``.
    """
    first, gates = network.output[0], len(order)
    if network.sizes[first] % gates:
        raise NetworkError(
            f"layer {network.name!r}",
            f"has {gates} gates as the slowest digit of its first output mode",
            network.modes_out,
            "use recurrent_spec",
        )
    cores = list(network.cores)
    scale = np.array(factors)
    for number, core in enumerate(cores):
        if first not in core.indices:
            continue
        axis = core.indices.index(first)
        split = np.moveaxis(core.values, axis, 0)
        split = split.reshape(gates, -1, *split.shape[1:])[list(order)]
        split = split * scale.reshape(-1, *[1] * (split.ndim - 1))
        # The other cores of this index only follow.
        scale = np.ones(gates)
        values = np.moveaxis(split.reshape(-1, *split.shape[2:]), 0, axis)
        cores[number] = Core(core.indices, np.ascontiguousarray(values))
    bias = network.bias
    if bias is not None:
        bias = bias.reshape(gates, hidden)[list(order)] * np.array(factors)[:, None]
        bias = bias.reshape(-1)
    return replace(network, cores=tuple(cores), bias=bias)
