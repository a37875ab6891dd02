"""Alternating least squares of the cores of any network against a dense tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from drawbar.sw.compress.backend import torch
from drawbar.sw.compress.contraction import pair
from drawbar.sw.compress.formats.base import Spec

SWEEPS = 100
#: A sweep that lowers the squared error by less than this share of it is the last one.
TOLERANCE = 1e-7
#: A squared error of this share of the tensor's squared norm is zero to rounding.
EXACT = 1e-15
#: Eigenvalues of the normal equations below this share of the largest count as zero.
SINGULAR = 1e-13


@dataclass(frozen=True)
class _Target:
    """What is fitted: a tensor in float64 with named axes, and its squared norm."""

    tensor: torch.Tensor
    indices: tuple[str, ...]
    norm: float


def fit(
    tensor: torch.Tensor,
    spec: Spec,
    cores: Sequence[torch.Tensor],
    *,
    sweeps: int = SWEEPS,
    tolerance: float = TOLERANCE,
) -> list[torch.Tensor]:
    """Improve the cores until that no longer helps; the error never rises.

    Each core in turn becomes the least-squares solution with the others as they are, by the normal
    equations: both sides are contractions of the network, so nothing larger than the tensor times
    the bonds of one core is formed.

    Arguments
    ---------
    tensor:
        float64, one axis for each index in ``spec.output``, ``spec.input`` and ``spec.kernel``, in
        this order. Each of them is in one core only.
    cores:
        float64, where to start.

    Returns
    -------
    Cores, each scaled to the same norm.
    """
    target = _Target(tensor, (*spec.output, *spec.input, *spec.kernel), float((tensor**2).sum()))
    work = list(cores)
    before = float("inf")
    for _ in range(sweeps if len(work) > 1 else 1):
        error = before
        for number in range(len(work)):
            work[number], error = _solve(target, spec, work, number)
        # One more sweep after the first exact one takes what rounding hid from the sum of squares.
        if before <= EXACT * target.norm or before - error <= tolerance * error:
            break
        before = error
    return balance(work)


def balance(cores: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The same product with cores of equal norm; zero cores as they are."""
    norms = torch.stack([torch.linalg.norm(core) for core in cores])
    if not bool((norms > 0).all()):
        return list(cores)
    mean = torch.exp(torch.log(norms).mean())
    return [core * (mean / norm) for core, norm in zip(cores, norms, strict=True)]


def _solve(
    target: _Target, spec: Spec, cores: Sequence[torch.Tensor], number: int
) -> tuple[torch.Tensor, float]:
    """The best core, and the squared error with it."""
    own = spec.cores[number]
    outside = [i for i in own if i in target.indices]
    bonds = [i for i in own if i not in target.indices]
    right = _right_side(target, spec, cores, number, (*bonds, *outside))
    width = prod(spec.modes(bonds))
    right = right.reshape(width, -1)
    gram = _gram(target, spec, cores, number, bonds).reshape(width, width)
    gram = (gram + gram.t()) / 2
    values, vectors = torch.linalg.eigh(gram)
    kept = values > SINGULAR * values[-1].clamp_min(torch.finfo(values.dtype).tiny)
    inverse = torch.where(kept, 1 / torch.where(kept, values, 1), 0)
    solution = vectors @ (inverse[:, None] * (vectors.t() @ right))
    error = target.norm - 2 * float((solution * right).sum())
    error += float((solution * (gram @ solution)).sum())
    core = solution.reshape(spec.modes((*bonds, *outside)))
    return core.permute([(*bonds, *outside).index(i) for i in own]).contiguous(), error


def _right_side(
    target: _Target, spec: Spec, cores: Sequence[torch.Tensor], number: int, wanted: Sequence[str]
) -> torch.Tensor:
    """The tensor contracted with all other cores, the one that leaves least first."""
    value, indices = target.tensor, target.indices
    rest = [n for n in range(len(cores)) if n != number]
    while rest:
        results = {}
        for chosen in rest:
            own = spec.cores[chosen]
            keep = {i for n in rest if n != chosen for i in spec.cores[n]}
            keep |= {*wanted} | {i for i in target.indices if i not in own}
            results[chosen] = [i for i in dict.fromkeys((*indices, *own)) if i in keep]
        best = min(rest, key=lambda chosen: prod(spec.modes(results[chosen])))
        value, indices = pair(value, indices, cores[best], spec.cores[best], {*results[best]})
        rest.remove(best)
    value, indices = _expand(value, indices, spec, wanted)
    return value.permute([indices.index(i) for i in wanted])


def _gram(
    target: _Target, spec: Spec, cores: Sequence[torch.Tensor], number: int, bonds: Sequence[str]
) -> torch.Tensor:
    """The other cores contracted with themselves over all axes of the tensor."""

    def prime(i: str) -> str:
        return i if i in target.indices else i + "'"

    wanted = [*bonds, *(prime(i) for i in bonds)]
    # In a cycle from the next one on, neighbours of a chain or a ring meet.
    rest = [(number + k) % len(cores) for k in range(1, len(cores))]
    value, indices = cores[number].new_ones(()), ()
    for done, n in enumerate(rest, 1):
        own = spec.cores[n]
        primed = tuple(prime(i) for i in own)
        double, both = pair(
            cores[n], own, cores[n], primed, {i for i in (*own, *primed) if i not in target.indices}
        )
        later = {i for k in rest[done:] for i in spec.cores[k]}
        keep = {*wanted, *later, *(prime(i) for i in later)}
        value, indices = pair(value, indices, double, both, keep)
    value, indices = _expand(value, indices, spec, wanted)
    return value.permute([indices.index(i) for i in wanted])


def _expand(
    value: torch.Tensor, indices: tuple[str, ...], spec: Spec, wanted: Sequence[str]
) -> tuple[torch.Tensor, tuple[str, ...]]:
    """With the bonds that only the core in question has, on which nothing here depends."""
    for index in wanted:
        if index not in indices:
            value = value.unsqueeze(-1).expand(*value.shape, spec.sizes[index.rstrip("'")])
            indices = (*indices, index)
    return value, indices
