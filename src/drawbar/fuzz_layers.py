"""Random layers of every format, for the fuzzer: modes of 1 to 64, ranks of 1 to 32, and cores of
no more weights than asked for wherever that can be.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from drawbar.gen.formats import (
    block_term_network,
    cp_network,
    dense_network,
    tensor_ring_network,
    tensor_train_network,
    tt_network,
    tucker_network,
)
from drawbar.gen.network import ContractionNetwork, Core

#: The largest mode; the modes, ranks and numbers of terms that are drawn.
MOST_MODE = 64
_MODES = (1, 2, 2, 3, 3, 4, 4, 4, 5, 6, 7, 8, 8, 9, 12, 16, 20, 28, 32, 49, 64)
_RANKS = (1, 1, 2, 2, 3, 4, 4, 4, 5, 6, 7, 8, 8, 12, 16, 24, 32)
_TERMS = (1, 2, 2, 3, 4)
#: Modes of a layer's input or output at most.
MOST_DEPTH = 5

Modes = tuple[int, ...]


def random_modes(rng: random.Random, count: int, most: int) -> Modes:
    """Modes of 1 to 64 with a product of at most ``most``."""
    modes = [1] * count
    for place in rng.sample(range(count), count):
        room = most // prod(modes)
        modes[place] = rng.choice([mode for mode in _MODES if mode <= room])
    return tuple(modes)


def factor_modes(rng: random.Random, number: int, count: int) -> Modes:
    """``number`` as a product of ``count`` modes of 1 to 64, or of more where it takes more."""
    modes = [1] * count
    rest, divisor = number, 2
    while rest > 1:
        while rest % divisor:
            divisor += 1
        places = [n for n, mode in enumerate(modes) if mode * divisor <= MOST_MODE]
        if places:
            modes[rng.choice(places)] *= divisor
        else:
            modes.append(divisor)
        rest //= divisor
    return tuple(modes)


class _Draw:
    """Draws of ranks and values for one layer's cores."""

    def __init__(self, rng: random.Random, weights: int) -> None:
        self.rng = rng
        self.weights = weights
        self.values = np.random.default_rng(rng.getrandbits(64))

    def rank(self, *others: int) -> int:
        """A rank of a core whose other ways have these sizes; half of them are large, so that core
        memory is short.
        """
        room = max(1, self.weights // prod(others))
        ranks = [rank for rank in _RANKS if rank <= room]
        return self.rng.choice(ranks[len(ranks) // 2 :] if self.rng.random() < 0.5 else ranks)

    def core(self, *shape: int) -> np.ndarray:
        return self.values.standard_normal(shape)


def _tt(draw: _Draw, name: str, modes_in: Modes, modes_out: Modes) -> ContractionNetwork:
    ranks = [1]
    for m, n in zip(modes_out[:-1], modes_in[:-1], strict=True):
        ranks.append(draw.rank(ranks[-1], m, n))
    shapes = zip(ranks, modes_out, modes_in, [*ranks[1:], 1], strict=True)
    return tt_network(name, [draw.core(*shape) for shape in shapes])


def _single(draw: _Draw, modes: Sequence[int], closing: int) -> list[np.ndarray]:
    """Cores of a train of single modes that begins and ends with the rank ``closing``."""
    ranks = [closing]
    for mode in modes[:-1]:
        ranks.append(draw.rank(ranks[-1], mode))
    shapes = zip(ranks, modes, [*ranks[1:], closing], strict=True)
    return [draw.core(*shape) for shape in shapes]


def _train(draw: _Draw, name: str, modes_in: Modes, modes_out: Modes) -> ContractionNetwork:
    cores = _single(draw, (*modes_in, *modes_out), 1)
    return tensor_train_network(name, cores, inputs=len(modes_in))


def _ring(draw: _Draw, name: str, modes_in: Modes, modes_out: Modes) -> ContractionNetwork:
    modes = (*modes_in, *modes_out)
    cores = _single(draw, modes, draw.rank(max(modes[0], modes[-1]), 2))
    return tensor_ring_network(name, cores, inputs=len(modes_in))


def _tucker(draw: _Draw, name: str, modes_in: Modes, modes_out: Modes) -> ContractionNetwork:
    ranks: list[int] = []
    for mode in (*modes_out, *modes_in):
        ranks.append(min(draw.rank(mode), draw.rank(*ranks)))
    out = [draw.core(m, q) for m, q in zip(modes_out, ranks, strict=False)]
    into = [draw.core(n, s) for n, s in zip(modes_in, ranks[len(modes_out) :], strict=True)]
    return tucker_network(name, draw.core(*ranks), out, into)


def _cp(draw: _Draw, name: str, modes_in: Modes, modes_out: Modes) -> ContractionNetwork:
    rank = draw.rank(max(*modes_in, *modes_out))
    out, into = ([draw.core(mode, rank) for mode in modes] for modes in (modes_out, modes_in))
    return cp_network(name, out, into)


def _block_term(draw: _Draw, name: str, modes_in: Modes, modes_out: Modes) -> ContractionNetwork:
    terms = min(draw.rng.choice(_TERMS), draw.weights)
    ranks: list[int] = []
    for m, n in zip(modes_out, modes_in, strict=True):
        ranks.append(min(draw.rank(terms, m, n), draw.rank(terms, *ranks)))
    shapes = zip(modes_out, modes_in, ranks, strict=True)
    return block_term_network(
        name, [draw.core(terms, *shape) for shape in shapes], draw.core(terms, *ranks)
    )


def _dense(draw: _Draw, name: str, modes_in: Modes, modes_out: Modes) -> ContractionNetwork:
    return dense_network(name, draw.core(prod(modes_out), prod(modes_in)))


#: Every format, and what draws a layer of it.
FORMATS: dict[str, Callable[[_Draw, str, Modes, Modes], ContractionNetwork]] = {
    "tt": _tt,
    "tensor-train": _train,
    "tensor-ring": _ring,
    "tucker": _tucker,
    "cp": _cp,
    "block-term": _block_term,
    "dense": _dense,
}
#: Formats whose cores carry an input mode and an output mode each.
PAIRED = ("tt", "block-term")


def random_layer(
    rng: random.Random,
    name: str,
    form: str,
    modes_in: Modes,
    *,
    features: int,
    weights: int,
) -> ContractionNetwork:
    """A layer of a format of ``FORMATS``, whose outputs are about as large as its inputs.

    Arguments
    ---------
    features:
        Outputs at most.
    weights:
        Of one core, at most, as far as the modes allow.
    """
    if form == "dense":
        most = max(1, min(MOST_MODE, features, weights // prod(modes_in)))
        modes_out: Modes = (rng.randint(1, most),)
    else:
        count = len(modes_in) if form in PAIRED else rng.randint(1, MOST_DEPTH - 1)
        modes_out = random_modes(rng, count, features)
    layer = FORMATS[form](_Draw(rng, weights), name, modes_in, modes_out)
    bias = np.random.default_rng(rng.getrandbits(64)).standard_normal(layer.outputs) * 0.5
    return replace(
        layer,
        cores=_normalised(layer),
        bias=bias if rng.random() < 0.5 else None,
        activation=rng.choice(("none", "relu")),
    )


def _normalised(layer: ContractionNetwork) -> tuple[Core, ...]:
    """Normally distributed cores scaled such that outputs have the variance of the inputs: each is
    a sum over all indices that are not of the output.
    """
    summed = prod(size for index, size in layer.sizes.items() if index not in layer.output)
    scale = summed ** (-0.5 / len(layer.cores))
    return tuple(Core(core.indices, core.values * scale) for core in layer.cores)
