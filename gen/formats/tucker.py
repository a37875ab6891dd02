"""Tucker (as a layer: Kim et al. 2016): a core with a factor for each output and each input mode, a
star of bonds. One factor on each side makes it the Tucker-2 of a matrix.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from drawbar.gen.formats.parts import Parts
from drawbar.gen.network import ContractionNetwork


def tucker_network(
    name: str,
    core: np.ndarray,
    factors_out: Sequence[np.ndarray],
    factors_in: Sequence[np.ndarray],
    *,
    bias: np.ndarray | None = None,
    activation: str = "none",
) -> ContractionNetwork:
    """A Tucker layer; the input factors are its first cores, then the core, then the output ones.

    Arguments
    ---------
    core:
        ``(q[0], .., q[p-1], s[0], .., s[d-1])``: output ranks, then input ranks.
    factors_out:
        ``(m[k], q[k])``.
    factors_in:
        ``(n[k], s[k])``.

    Raises
    ------
    NetworkError:
        a factor is not a matrix, the core's ranks are not those of the factors, or a side has no
        factor.
    """
    parts = Parts(name)
    parts.need("output factor", len(factors_out))
    parts.need("input factor", len(factors_in))
    for k, factor in enumerate(factors_in):
        parts.add(f"input factor {k}", factor, (f"n{k}", f"s{k}"))
    ranks_out = tuple(f"q{k}" for k in range(len(factors_out)))
    ranks_in = tuple(f"s{k}" for k in range(len(factors_in)))
    parts.add("core", core, (*ranks_out, *ranks_in))
    for k, factor in enumerate(factors_out):
        parts.add(f"output factor {k}", factor, (f"m{k}", f"q{k}"))
    return ContractionNetwork(
        name=name,
        format="tucker",
        sizes=parts.sizes,
        cores=tuple(parts.cores),
        input=tuple(f"n{k}" for k in range(len(factors_in))),
        output=tuple(f"m{k}" for k in range(len(factors_out))),
        bias=None if bias is None else np.asarray(bias, np.float64),
        activation=activation,
        ranks=core.shape,
    )
