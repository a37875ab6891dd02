"""Cores made by other libraries: tensorly, tensorly-torch, torchTT. Told apart by what they offer,
so none of them has to be installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from drawbar.gen.errors import NetworkError
from drawbar.sw.compress.backend import torch
from drawbar.sw.compress.factorised import FactorisedLinear
from drawbar.sw.compress.formats import Spec, get_format

KNOWN = (
    "TTMatrix, TTTensor, TRTensor, TuckerTensor or CPTensor of tensorly, a factorised matrix or "
    "linear layer of tensorly-torch, or TT of torchTT"
)


def import_layer(
    source: Any,
    *,
    outputs: int | None = None,
    inputs_first: bool = False,
    bias: torch.Tensor | None = None,
    name: str = "",
) -> FactorisedLinear:
    """A linear layer with the cores of an object of another library.

    Arguments
    ---------
    source:
        The object; a linear layer of tensorly-torch brings its bias.
    outputs, inputs_first, name:
        As in ``import_cores``.
    bias:
        ``(outputs,)``.

    Raises
    ------
    NetworkError:
        see ``import_cores``.
    """
    own = getattr(source, "bias", None)
    if bias is None and isinstance(own, torch.Tensor):
        bias = own.detach().reshape(-1)
    spec, cores = import_cores(source, outputs=outputs, inputs_first=inputs_first, name=name)
    layer = get_format(spec.format).layer(spec, cores, bias=False if bias is None else bias)
    assert isinstance(layer, FactorisedLinear)
    return layer


def import_cores(
    source: Any, *, outputs: int | None = None, inputs_first: bool = False, name: str = ""
) -> tuple[Spec, list[torch.Tensor]]:
    """The spec and the cores of an object of another library.

    A train over single modes that has the outputs first comes as a tensor ring, cut where the
    inputs begin.

    Arguments
    ---------
    outputs:
        How many of a tensor's modes are of the outputs; needed where the object does not know.
    inputs_first:
        Whether the modes of the inputs come before those of the outputs.
    name:
        For messages.

    Raises
    ------
    NetworkError:
        none of the known objects, or modes of which one side has none.
    """
    weight = getattr(source, "weight", None)
    if weight is not None and hasattr(weight, "factors"):  # a layer of tensorly-torch
        return import_cores(weight, outputs=outputs, inputs_first=inputs_first, name=name)
    where = f"layer {name!r}, imported cores"
    parts = getattr(source, "factors", None)
    parts = getattr(source, "cores", None) if parts is None else parts
    if parts is None:
        raise NetworkError(where, f"are a {KNOWN}", type(source).__name__, "convert it to one")
    factors = [_tensor(part) for part in parts]
    shape = getattr(source, "tensorized_shape", None)
    if outputs is None and shape is not None and len(shape) == 2:
        outputs = len(shape[0]) if isinstance(shape[0], Sequence) else None
    ways = {factor.ndim for factor in factors}
    core = getattr(source, "core", None)
    weights = getattr(source, "weights", None)
    if ways == {4}:
        return _matrix(factors, name)
    if ways not in ({2}, {3}) or (ways == {2} and core is None and weights is None):
        found = ", ".join(str(tuple(factor.shape)) for factor in factors)
        raise NetworkError(where, f"are a {KNOWN}", found, "convert it to one")
    if outputs is None or not 0 < outputs < len(factors):
        raise NetworkError(
            where,
            f"have modes of the outputs and of the inputs, of {len(factors)} in all",
            f"outputs={outputs}",
            "say with outputs= how many are of the outputs",
        )
    first = len(factors) - outputs if inputs_first else outputs
    turned = [*factors[first:], *factors[:first]]  # the other side first
    out, in_ = (turned, factors) if inputs_first else (factors, turned)
    m, n = (
        [factor.shape[-2 if ways == {3} else 0] for factor in part[:count]]
        for part, count in ((out, outputs), (in_, len(factors) - outputs))
    )
    arguments: dict[str, Any] = {"name": name, "modes_out": m, "modes_in": n, "grow": True}
    dense = (prod(m), prod(n))
    if ways == {3}:
        return _chain(in_, dense, arguments, train=inputs_first and _is_train(factors))
    if core is not None:
        ranks = [factor.shape[1] for factor in out]
        spec = get_format("tucker").spec(dense, ranks=ranks, clip=False, **arguments)
        middle = _tensor(core)
        if inputs_first:
            order = [*range(first, middle.ndim), *range(first)]
            middle = middle.permute(order)
        return _checked(spec, [middle, *out], name)
    scale = _tensor(weights)
    even = scale.abs() ** (1 / len(out))
    scaled = [out[0] * (torch.sign(scale) * even), *(factor * even for factor in out[1:])]
    spec = get_format("cp").spec(dense, max_rank=len(scale), clip=False, **arguments)
    return _checked(spec, scaled, name)


def _matrix(factors: list[torch.Tensor], name: str) -> tuple[Spec, list[torch.Tensor]]:
    out, in_ = [f.shape[1] for f in factors], [f.shape[2] for f in factors]
    spec = get_format("tt").spec(
        (prod(out), prod(in_)),
        name=name,
        modes_out=out,
        modes_in=in_,
        ranks=[f.shape[3] for f in factors[:-1]],
        grow=True,
        clip=False,
    )
    return _checked(spec, factors, name)


def _chain(
    factors: list[torch.Tensor], dense: tuple[int, int], arguments: dict[str, Any], train: bool
) -> tuple[Spec, list[torch.Tensor]]:
    ranks = [factor.shape[0] for factor in factors]
    chosen = get_format("tensor_train" if train else "tensor_ring")
    spec = chosen.spec(dense, ranks=ranks[1:] if train else ranks, clip=False, **arguments)
    return _checked(spec, factors, arguments["name"])


def _is_train(factors: Sequence[torch.Tensor]) -> bool:
    return factors[0].shape[0] == factors[-1].shape[-1] == 1


def _checked(
    spec: Spec, cores: Sequence[torch.Tensor], name: str
) -> tuple[Spec, list[torch.Tensor]]:
    found = tuple(tuple(core.shape) for core in cores)
    if found != spec.core_shapes:
        raise NetworkError(
            f"layer {name!r}, imported cores",
            f"have the shapes {spec.core_shapes}",
            found,
            "give cores of one decomposition, in order",
        )
    return spec, [core.contiguous() for core in cores]


def _tensor(part: Any) -> torch.Tensor:
    if isinstance(part, torch.Tensor):
        return part.detach()
    return torch.from_numpy(np.array(part))
