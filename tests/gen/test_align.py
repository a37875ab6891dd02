"""Index names for a whole model: refinements of factorisations."""

from __future__ import annotations

import random
from itertools import pairwise
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_models import random_model, random_tt_layer

from drawbar.gen.align import align, refine
from drawbar.gen.network import Model

MODES = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def cuts(modes: tuple[int, ...] | list[int]) -> set[int]:
    """Sizes of the inner parts that a row-major factorisation can be cut into."""
    return {prod(modes[k:]) for k in range(len(modes) + 1)}


@given(st.data())
def test_groupings_of_one_factorisation_refine(data: st.DataObject) -> None:
    modes = data.draw(MODES)

    def grouped() -> list[int]:
        groups, at = [], 0
        while at < len(modes):
            size = data.draw(st.integers(1, len(modes) - at))
            groups.append(prod(modes[at : at + size]))
            at += size
        return groups

    first, second = grouped(), grouped()
    found = refine(first, second)
    assert found is not None
    assert all(factor > 1 for factor in found)
    # It has the cuts of both, and no other: it is a refinement, and the coarsest.
    assert cuts(found) == cuts(first) | cuts(second)
    assert refine(second, first) == found
    assert refine(found, first) == found


@given(MODES, MODES)
def test_two_factorisations_of_one_number(first: list[int], second: list[int]) -> None:
    second = [*second, prod(first)]
    first = [*first, prod(second[:-1])]
    found = refine(first, second)
    both = sorted(cuts(first) | cuts(second))
    compatible = all(outer % inner == 0 for inner, outer in pairwise(both))
    assert (found is not None) == compatible


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((4, 8, 8), (16, 16), (4, 4, 2, 8)),
        ((4, 8, 1), (16, 2), (4, 4, 2)),
        ((1, 1), (1,), ()),
        ((6,), (2, 3), (2, 3)),
        ((2, 3), (3, 2), None),
        ((4, 6), (6, 4), None),
        ((2, 2, 3), (3, 4), None),
        ((7,), (7, 1, 1), (7,)),
    ],
)
def test_refine_by_hand(first, second, expected) -> None:
    assert refine(first, second) == expected


@pytest.mark.parametrize("seed", range(40))
def test_an_aligned_model_is_the_same_map(seed: int) -> None:
    rng = random.Random(seed)
    model = random_model(rng)
    layers, boundaries = align(model)
    assert len(boundaries) == len(layers) + 1
    assert boundaries[0].shared
    assert boundaries[-1].shared
    for before, after, boundary in zip(layers, layers[1:], boundaries[1:], strict=False):
        assert boundary.shared == (refine(before.modes_out, after.modes_in) is not None)
        if boundary.shared:
            assert before.output == after.input
        else:
            assert not set(before.output) & set(after.input)
    for layer in layers:
        assert min(layer.sizes.values(), default=2) > 1
    x = np.random.default_rng(seed).standard_normal((3, model.inputs))
    expected, found = x, x
    for original, layer in zip(model.layers, layers, strict=True):
        expected, found = original.forward(expected), layer.forward(found)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_both_kinds_of_boundary_occur_in_random_models() -> None:
    kinds = {
        boundary.shared
        for seed in range(40)
        for boundary in align(random_model(random.Random(seed)))[1]
    }
    assert kinds == {True, False}


def test_a_model_of_ones() -> None:
    layer = random_tt_layer(
        random.Random(0), "ones", (1, 1), (1, 1), bias=True, activation="none", most_rank=1
    )
    (aligned,), _ = align(Model("ones", (layer,)))
    assert aligned.input == aligned.output == ()
    x = np.array([[2.0], [-3.0]])
    np.testing.assert_allclose(aligned.forward(x), layer.forward(x))
