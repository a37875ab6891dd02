"""CP (Lebedev et al. 2015): a sum of ``R`` outer products, one factor for each mode; all factors
share the index of the sum.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from drawbar.gen.formats.parts import Parts
from drawbar.gen.network import ContractionNetwork


def cp_network(
    name: str,
    factors_out: Sequence[np.ndarray],
    factors_in: Sequence[np.ndarray],
    *,
    bias: np.ndarray | None = None,
    activation: str = "none",
) -> ContractionNetwork:
    """A CP layer; the input factors are its first cores.

    Arguments
    ---------
    factors_out:
        ``(m[k], R)``.
    factors_in:
        ``(n[k], R)``.

    Raises
    ------
    NetworkError:
        a factor is not a matrix, ranks differ, or a side has no factor.
    """
    parts = Parts(name)
    parts.need("output factor", len(factors_out))
    parts.need("input factor", len(factors_in))
    for k, factor in enumerate(factors_in):
        parts.add(f"input factor {k}", factor, (f"n{k}", "r"))
    for k, factor in enumerate(factors_out):
        parts.add(f"output factor {k}", factor, (f"m{k}", "r"))
    return ContractionNetwork(
        name=name,
        format="cp",
        sizes=parts.sizes,
        cores=tuple(parts.cores),
        input=tuple(f"n{k}" for k in range(len(factors_in))),
        output=tuple(f"m{k}" for k in range(len(factors_out))),
        bias=None if bias is None else np.asarray(bias, np.float64),
        activation=activation,
        ranks=(parts.sizes["r"],),
    )
