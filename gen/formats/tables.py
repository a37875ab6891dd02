"""Functions of one number as contraction networks: a table with interpolation.

A function that is linear between *knots* and constant outside is a sum of ReLUs,
``f(x) = offset + sum of slope[j] * relu(x - knot[j])``. So it is two layers: one makes
``relu(x - knot[j])`` of every element, with a core of ones and the knots as its bias; the other one
sums these with the slopes as its core. Nothing else is needed to run it, and it is as exact as any
other layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from drawbar.gen.images import BRANCH
from drawbar.gen.network import ContractionNetwork, Core

#: Knots of a table, unless one says otherwise: largest error of tanh 0.004.
KNOTS = 16
#: Where a function is looked at, and points there.
REACH = 12.0
POINTS = 6001


@dataclass(frozen=True)
class Table:
    """``offset + sum of slopes * relu(x - knots)``.

    Members
    -------
    knots, slopes:
        ``(knots,)``; the slopes sum to 0, so that the function ends constant.
    offset:
        The value before the first knot.
    """

    knots: np.ndarray
    slopes: np.ndarray
    offset: float

    def __call__(self, x: np.ndarray) -> np.ndarray:
        rises = np.maximum(np.asarray(x)[..., None] - self.knots, 0)
        return self.offset + rises @ self.slopes


def tabulate(function: Callable[[np.ndarray], np.ndarray], knots: int) -> Table:
    """The table of a function that is constant far from 0.

    Between two knots a distance d apart the error grows with ``d**2 * |f''|``; so knots are as
    dense as ``sqrt(|f''|)``, out to where the largest error is the least. The values at the knots
    have the least squared error.
    """
    x = np.linspace(-REACH, REACH, POINTS)
    y = function(x)
    density = np.sqrt(np.abs(np.gradient(np.gradient(y, x), x)))
    tables = []
    for reach in np.linspace(1.5, REACH / 2, 40):
        share = np.where(np.abs(x) <= reach, density, 0.0)
        share = np.concatenate([[0.0], np.cumsum((share[1:] + share[:-1]) / 2)])
        share += np.linspace(0, 1e-9, POINTS)  # strictly rising
        inside = np.abs(x) <= reach
        places = np.interp(np.linspace(0, share[inside][-1], knots), share[inside], x[inside])
        hats = np.stack([np.interp(x, places, row) for row in np.eye(knots)], axis=1)
        values, *_ = np.linalg.lstsq(hats, y, rcond=None)
        rise = np.concatenate([[0.0], np.diff(values) / np.diff(places), [0.0]])
        table = Table(places, np.diff(rise), float(values[0]))
        tables.append((float(np.abs(table(x) - y).max()), reach, table))
    return min(tables, key=lambda found: found[:2])[2]


def knots_network(name: str, table: Table, inputs: int, sources: int = 1) -> ContractionNetwork:
    """``relu(x - knot)`` of every element of a vector, or of the sum of several: ``(inputs,)`` to
    ``(knots, inputs)``.
    """
    knots = len(table.knots)
    branch = (BRANCH,) if sources > 1 else ()
    shape = (sources, knots) if sources > 1 else (knots,)
    sizes = {**dict.fromkeys(branch, sources), "knot": knots, "lane": inputs}
    return ContractionNetwork(
        name=name,
        format="table",
        sizes=sizes,
        cores=(Core((*branch, "knot"), np.ones(shape)),),
        input=(*branch, "lane"),
        output=("knot", "lane"),
        bias=-table.knots,
        activation="relu",
        bias_over=("knot",),
    )


def lookup_network(
    name: str, table: Table, units: int, scales: Sequence[tuple[float, float]] = ((1.0, 0.0),)
) -> ContractionNetwork:
    """The sums for what ``knots_network`` has made: ``(knots, parts * units)`` to ``(parts *
    units,)``; part p becomes ``scale * f + offset`` with ``scales[p]``.
    """
    factors, offsets = (np.array(column) for column in zip(*scales, strict=True))
    return ContractionNetwork(
        name=name,
        format="table",
        sizes={"knot": len(table.knots), "part": len(scales), "unit": units},
        cores=(Core(("part", "knot"), factors[:, None] * table.slopes),),
        input=("knot", "part", "unit"),
        output=("part", "unit"),
        bias=factors * table.offset + offsets,
        bias_over=("part",),
    )


def product_network(name: str, inputs: int, pairs: int) -> ContractionNetwork:
    """The sum of so many products of two vectors ``(inputs,)``, element by element."""
    return ContractionNetwork(
        name=name,
        format="products",
        sizes={BRANCH: 2 * pairs, "lane": inputs},
        cores=(),
        input=(BRANCH, "lane"),
        output=("lane",),
        paired=True,
    )
