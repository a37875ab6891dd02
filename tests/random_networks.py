"""Random small layers of every format, for tests."""

from __future__ import annotations

import random

from drawbar.fuzz_layers import FORMATS, PAIRED, random_layer
from drawbar.gen.network import ContractionNetwork, Model

#: Formats with an index that more than two cores have, or with a loop of bonds.
GENERAL = ("tensor-ring", "tucker", "cp", "block-term")
assert set(GENERAL) < set(FORMATS)


def small_layer(
    rng: random.Random,
    form: str,
    *,
    name: str = "layer",
    modes_in: tuple[int, ...] = (),
    most_mode: int = 6,
    weights: int = 200,
) -> ContractionNetwork:
    """A layer of at most 8 cores; its input modes, if not given, are 1 to ``most_mode``."""
    depth = rng.randint(1, 4 if form in PAIRED else 3)
    modes = modes_in or tuple(rng.randint(1, most_mode) for _ in range(depth))
    return random_layer(rng, name, form, modes, features=120, weights=weights)


def small_model(rng: random.Random, form: str) -> Model:
    """A layer of a format, now and then with a layer of any format behind it."""
    layers = [small_layer(rng, form, name="layer0")]
    if rng.random() < 0.4:
        other = rng.choice(sorted(FORMATS))
        modes = layers[0].modes_out
        layers.append(small_layer(rng, other, name="layer1", modes_in=modes))
    return Model("small", tuple(layers))
