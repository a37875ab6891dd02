"""Random models of one kind each, for the fuzzer: every decomposition format, as linear layer and
as convolution where that is defined, and what models have besides: products, cells, concatenations.

The formats are ``sw.compress``'s own, and go through its lowering as a user's model does.
"""

from __future__ import annotations

import difflib
import random
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from itertools import pairwise
from typing import Any

import numpy as np

from drawbar.fuzz_graphs import random_graph
from drawbar.fuzz_layers import Modes, random_modes
from drawbar.gen.errors import InputError, NetworkError, RankWarning
from drawbar.gen.formats import dense_network
from drawbar.gen.formats.convolution import joined_network
from drawbar.gen.formats.tables import product_network
from drawbar.gen.network import ContractionNetwork, Model, Source

#: Features of a linear layer, and weights of all of a layer's cores, at most; rows and columns of
#: an image.
FEATURES, WEIGHTS, EDGE = 240, 4000, 8
_RANKS = (1, 2, 2, 3, 4, 4, 6, 8)
#: Steps of a cell's sequence.
STEPS = (1, 2, 3, 4)

#: What a format is asked for, one of these each time: for a convolution or not, and options.
_VARIANTS: dict[str, tuple[tuple[bool, dict[str, Any]], ...]] = {
    "dense": ((False, {}), (True, {})),
    "tt": ((False, {}), (True, {"layout": "garipov"}), (True, {"layout": "out_kernel_in"})),
    "tensor_train": ((False, {}), (True, {})),
    "tensor_ring": ((False, {}), (True, {})),
    "tucker": ((False, {}), (False, {"modes": False}), (True, {}), (True, {"modes": False})),
    "cp": ((False, {}), (True, {"modes": False})),
    "block_term": ((False, {"terms": 1}), (False, {"terms": 2}), (False, {"terms": 3})),
    "svd": ((False, {"modes": False}), (True, {"modes": False})),
    "stt": ((False, {}), (True, {})),
    "str": ((False, {}), (True, {})),
    "sttu": ((False, {}), (False, {"modes": False}), (True, {"modes": False})),
    "ada_tucker": ((False, {"modes": False}), (True, {}), (True, {"modes": False})),
}
#: Other names of formats.
ALIASES = {"tr": "tensor_ring", "bt": "block_term", "ada": "ada_tucker", "scada": "scada_tucker"}


def format_kinds() -> tuple[str, ...]:
    """What ``--formats`` may name."""
    return (*_VARIANTS, "scada_tucker", "products", "lstm", "gru", "concatenation")


def chosen_kinds(names: Sequence[str]) -> tuple[str, ...]:
    """The kinds of these names; "all" is all of them.

    Raises
    ------
    InputError:
        no such kind; the error lists the nearest.
    """
    kinds = format_kinds()
    found: list[str] = []
    for name in names:
        plain = name.strip().lower().replace("-", "_")
        plain = ALIASES.get(plain, plain)
        if plain != "all" and plain not in kinds:
            near = difflib.get_close_matches(plain, kinds, n=3, cutoff=0.4) or kinds
            raise InputError(
                f"format {name!r} of a fuzz run",
                f"is all, or some of {', '.join(kinds)}",
                name,
                f"did you mean {' or '.join(near)}?",
            )
        found += [kind for kind in (kinds if plain == "all" else (plain,)) if kind not in found]
    if not found:
        raise InputError("formats of a fuzz run", "are one or more", "none", "use all")
    return tuple(found)


def random_kind(rng: random.Random, kind: str, scale: float) -> Model:
    """A random model of a kind.

    Arguments
    ---------
    scale:
        Below 1 for smaller ones.
    """
    if kind == "concatenation":
        if rng.random() < 0.5:
            return random_graph(rng, most=max(5, round(EDGE * scale)), joined=1.0)
        return _joined_vectors(rng, max(2, round(40 * scale)))
    if kind == "products":
        return _products(rng, max(2, round(40 * scale)))
    torch = import_module("drawbar.sw.compress.backend").torch
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # Ranks that are drawn too large are clipped, as they are for anybody.
        warnings.simplefilter("ignore", RankWarning)
        torch.manual_seed(rng.getrandbits(32))
        while True:
            try:
                if kind in ("lstm", "gru"):
                    return _cells(rng, kind, scale)
                return _layers(rng, kind, scale)
            except NetworkError:
                # Modes, ranks or a kernel that do not go together: others.
                continue


# -- decompositions --------------------------------------------------------------------------------


def _layers(rng: random.Random, kind: str, scale: float) -> Model:
    """A layer of a format, now and then with a ReLU or a dense layer behind it."""
    compress = import_module("drawbar.sw.compress")
    nn = import_module("drawbar.sw.compress.backend").nn
    features = max(2, round(FEATURES * scale))
    if kind == "scada_tucker":
        parts = _shared_core(rng, features, scale)
        return compress.lower(nn.Sequential(*parts).double(), "fuzz")
    convolution, asked = rng.choice(_VARIANTS[kind])
    options = {key: value for key, value in asked.items() if key != "modes"}
    with_modes = asked.get("modes", True)
    if not convolution:
        depth = rng.randint(1, 4)
        modes_in = random_modes(rng, depth, features)
        modes_out = random_modes(rng, depth, features)
        layer = _layer(rng, kind, (), modes_out, modes_in, with_modes, options, scale)
        parts = [layer] + ([nn.ReLU()] if rng.random() < 0.5 else [])
        if rng.random() < 0.3:
            parts.append(nn.Linear(int(np.prod(modes_out)), rng.randint(1, 12)))
        return compress.lower(nn.Sequential(*parts).double(), "fuzz")
    depth, channels = rng.randint(1, 3), max(2, round(24 * scale))
    modes_in, modes_out = (random_modes(rng, depth, channels) for _ in range(2))
    edge = max(3, round(EDGE * scale))
    size = (rng.randint(3, edge), rng.randint(3, edge))
    kernel = (rng.choice((1, 2, 3, 3)), rng.choice((1, 2, 3, 3)))
    layer = _layer(rng, kind, kernel, modes_out, modes_in, with_modes, options, scale)
    parts = [layer] + ([nn.ReLU()] if rng.random() < 0.5 else [])
    shape = (int(np.prod(modes_in)), *size)
    return compress.lower(nn.Sequential(*parts).double(), "fuzz", input_shape=shape)


def _layer(
    rng: random.Random,
    kind: str,
    kernel: tuple[int, ...],
    modes_out: Modes,
    modes_in: Modes,
    with_modes: bool,
    options: Mapping[str, Any],
    scale: float,
) -> Any:
    """A PyTorch layer of a format, with random weights."""
    nn = import_module("drawbar.sw.compress.backend").nn
    outputs, inputs = int(np.prod(modes_out)), int(np.prod(modes_in))
    bias = rng.random() < 0.6
    geometry: dict[str, Any] = {}
    if kernel:
        geometry = {
            "stride": rng.choice((1, 1, (2, 1), 2)),
            "padding": rng.choice((0, 1, (1, 0))),
            "dilation": rng.choice((1, 1, (1, 2))),
        }
    if kind == "dense":
        if kernel:
            return nn.Conv2d(inputs, outputs, kernel, bias=bias, **geometry)
        return nn.Linear(inputs, outputs, bias=bias)
    chosen = import_module("drawbar.sw.compress.formats").get_format(kind)
    modes = {"modes_out": modes_out, "modes_in": modes_in} if with_modes else {}
    rank = rng.choice(_RANKS)
    spec = chosen.spec(
        (outputs, inputs, *kernel), name="layer", max_rank=rank, grow=True, **modes, **options
    )
    if spec.parameters > WEIGHTS * scale:
        raise NetworkError("layer 'layer'", "has few weights", spec.parameters, "draw another")
    return chosen.layer(spec, bias=bias, **geometry)


def _shared_core(rng: random.Random, features: int, scale: float) -> list[Any]:
    """Two or three layers of ADA-Tucker with one core (SCADA-Tucker)."""
    nn = import_module("drawbar.sw.compress.backend").nn
    ada = import_module("drawbar.sw.compress.formats.ada_tucker")
    chosen, rank = ada.ADATucker(), rng.choice((1, 2, 3))
    sizes = [rng.randint(16, max(17, features)) for _ in range(rng.choice((3, 3, 4)))]
    layers = []
    for number, (inputs, outputs) in enumerate(pairwise(sizes)):
        spec = chosen.spec((outputs, inputs), name=f"fc{number}", max_rank=rank, grow=True)
        if spec.parameters > WEIGHTS * scale:
            raise NetworkError("layer 'fc'", "has few weights", spec.parameters, "draw another")
        layers.append(chosen.layer(spec, bias=rng.random() < 0.6))
    ada.share_core({f"fc{number}": layer for number, layer in enumerate(layers)})
    parts: list[Any] = []
    for layer in layers:
        parts += [layer, nn.ReLU()]
    return parts[:-1] if rng.random() < 0.5 else parts


# -- cells -----------------------------------------------------------------------------------------


def _cells(rng: random.Random, kind: str, scale: float) -> Model:
    """A cell and a dense layer on its state; both maps dense, or of one format."""
    compress = import_module("drawbar.sw.compress")
    nn = import_module("drawbar.sw.compress.backend").nn
    recurrent = import_module("drawbar.sw.compress.recurrent")
    sequences = import_module("drawbar.sw.compress.sequences")
    formats = import_module("drawbar.sw.compress.formats")
    most = max(2, round(24 * scale))
    modes_in, modes = random_modes(rng, 2, most), random_modes(rng, 2, most)
    inputs, units = int(np.prod(modes_in)), int(np.prod(modes))
    format, bias = rng.choice(("dense", "tt", "tensor_ring", "block_term", "cp")), True
    if format == "dense":
        made = {"lstm": nn.LSTM, "gru": nn.GRU}[kind]
        cell = made(inputs, units, batch_first=True, bias=bias)
    else:
        maps = []
        for name, size, own in (("input", inputs, modes_in), ("state", units, modes)):
            spec = recurrent.recurrent_spec(
                kind,
                size,
                units,
                format=format,
                name=name,
                modes_in=own,
                modes_out=modes,
                max_rank=rng.choice((1, 2, 3)),
                grow=True,
            )
            maps.append(formats.get_format(format).layer(spec, bias=bias))
        cell = recurrent.FactorisedRNN(kind, *maps, batch_first=True)
    return compress.lower(
        sequences.SequenceClassifier(cell, nn.Linear(units, rng.randint(1, 5))).double(), "fuzz"
    )


# -- what models have besides ----------------------------------------------------------------------


def _dense(rng: random.Random, name: str, inputs: int, outputs: int) -> ContractionNetwork:
    values = np.random.default_rng(rng.getrandbits(32))
    weight = values.standard_normal((outputs, inputs)) / np.sqrt(inputs)
    bias = values.standard_normal(outputs) * 0.3 if rng.random() < 0.5 else None
    return dense_network(name, weight, bias=bias, activation=rng.choice(("none", "relu")))


def _products(rng: random.Random, most: int) -> Model:
    """Factors in two tensors, or pairs of parts of one, and their products added up."""
    inputs, size = rng.randint(1, most), rng.randint(1, most)
    layers: list[ContractionNetwork] = []
    factors: tuple[Source, ...] = (Source(1), Source(2))
    pairs = 1
    if rng.random() < 0.5:
        layers += [_dense(rng, name, inputs, size) for name in ("a", "b")]
    else:
        pairs = rng.choice((1, 2, 3))
        layers.append(_dense(rng, "a", inputs, 2 * pairs * size))
        factors = tuple(Source(1, (n * size,), (1,)) for n in range(2 * pairs))
    sources: list[tuple[Source, ...]] = [(Source(0),) for _ in layers]
    layers.append(product_network("product", size, pairs))
    sources.append(factors)
    shapes = [(inputs,), *((layer.outputs,) for layer in layers)]
    if rng.random() < 0.5:
        layers.append(_dense(rng, "last", size, rng.randint(1, 8)))
        sources.append((Source(len(layers) - 1),))
        shapes.append((layers[-1].outputs,))
    return Model("products", tuple(layers), tuple(sources), tuple(shapes))


def _joined_vectors(rng: random.Random, most: int) -> Model:
    """Dense layers, each of some of the vectors so far, one behind the other."""
    shapes: list[tuple[int, ...]] = [(rng.randint(1, most),)]
    layers: list[ContractionNetwork] = []
    sources: list[tuple[Source, ...]] = []

    def add(layer: ContractionNetwork, *tensors: int) -> int:
        layers.append(layer)
        sources.append(tuple(Source(t) for t in tensors))
        shapes.append((layer.outputs,))
        return len(layers)

    at = add(_dense(rng, "dense0", shapes[0][0], rng.randint(1, most)), 0)
    for number in range(1, rng.choice((2, 3, 4))):
        others = rng.choices(range(len(shapes)), k=rng.choice((1, 1, 2)))
        parts = [at, *others]
        rng.shuffle(parts)
        joined = joined_network(f"joined{number}", (sum(shapes[t][0] for t in parts),))
        at = add(joined, *parts)
        if number > 1 or rng.random() < 0.7:
            name = f"dense{number}"
            at = add(_dense(rng, name, joined.outputs, rng.randint(1, most)), at)
    return Model("joined", tuple(layers), tuple(sources), tuple(shapes))
