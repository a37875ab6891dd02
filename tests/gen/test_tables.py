"""Tables with interpolation: how far they are from the function, and as layers."""

from __future__ import annotations

import numpy as np
import pytest

from drawbar.gen.formats.tables import (
    KNOTS,
    knots_network,
    lookup_network,
    product_network,
    tabulate,
)
from drawbar.gen.network import Model

X = np.linspace(-20, 20, 4001)


@pytest.mark.parametrize(("knots", "most"), [(8, 0.017), (KNOTS, 0.0043), (32, 0.0011)])
def test_the_error_falls_with_the_square_of_the_knots(knots: int, most: float) -> None:
    table = tabulate(np.tanh, knots)
    assert len(table.knots) == knots
    assert most / 2 < np.abs(table(X) - np.tanh(X)).max() < most
    assert abs(table.slopes.sum()) < 1e-12


def test_two_layers_are_the_table() -> None:
    table = tabulate(np.tanh, 9)
    scales = ((0.5, 0.5), (1.0, 0.0), (-0.5, 0.25))
    model = Model("tables", (knots_network("k", table, 12), lookup_network("t", table, 4, scales)))
    x = np.random.default_rng(1).standard_normal((5, 12)) * 3
    expected = [s * table(part) + o for (s, o), part in zip(scales, np.split(x, 3, 1), strict=True)]
    np.testing.assert_allclose(model.forward(x), np.concatenate(expected, 1), atol=1e-12)


def test_knots_of_a_sum() -> None:
    table = tabulate(np.tanh, 5)
    x = np.random.default_rng(1).standard_normal((3, 2, 7))
    found = knots_network("k", table, 7, sources=2).forward(x.reshape(3, 14))
    sums = x.sum(axis=1)[:, None] - table.knots[:, None]
    np.testing.assert_allclose(found, np.maximum(sums, 0).reshape(3, -1), atol=1e-12)


def test_products_of_pairs() -> None:
    a, b, c, d = x = np.random.default_rng(1).standard_normal((4, 3, 6))
    found = product_network("p", 6, 2).forward(x.transpose(1, 0, 2).reshape(3, -1))
    np.testing.assert_allclose(found, a * b + c * d, atol=1e-12)
