"""Block-term decomposition (Ye et al. 2018): a sum of Tucker terms of one shape; core and factors
share the index of the sum.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from drawbar.gen.formats.parts import Parts
from drawbar.gen.network import ContractionNetwork


def block_term_network(
    name: str,
    factors: Sequence[np.ndarray],
    core: np.ndarray,
    *,
    bias: np.ndarray | None = None,
    activation: str = "none",
) -> ContractionNetwork:
    """A block-term layer; the factors are its first cores. ``ranks`` are ``(terms, r[0], ..)``.

    Arguments
    ---------
    factors:
        ``(terms, m[k], n[k], r[k])``: each carries an output and an input mode.
    core:
        ``(terms, r[0], .., r[d-1])``.

    Raises
    ------
    NetworkError:
        a factor is not 4-way, the core's terms or ranks are not those of the factors, or there is
        no factor.
    """
    parts = Parts(name)
    parts.need("factor", len(factors))
    for k, factor in enumerate(factors):
        parts.add(f"factor {k}", factor, ("terms", f"m{k}", f"n{k}", f"r{k}"))
    parts.add("core", core, ("terms", *(f"r{k}" for k in range(len(factors)))))
    return ContractionNetwork(
        name=name,
        format="block-term",
        sizes=parts.sizes,
        cores=tuple(parts.cores),
        input=tuple(f"n{k}" for k in range(len(factors))),
        output=tuple(f"m{k}" for k in range(len(factors))),
        bias=None if bias is None else np.asarray(bias, np.float64),
        activation=activation,
        ranks=core.shape,
    )
