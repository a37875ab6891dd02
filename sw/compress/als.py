"""Alternating least squares of the cores of any network against a dense tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from drawbar.sw.compress.backend import torch
from drawbar.sw.compress.contraction import pair
from drawbar.sw.compress.formats.settle import weight_tensor
from drawbar.sw.compress.spec import Spec

SWEEPS = 100
#: A sweep that lowers the squared error by less than this share of it is the last one.
TOLERANCE = 1e-7
#: A squared error of this share of the tensor's squared norm is zero to rounding.
EXACT = 1e-15
#: Eigenvalues of the normal equations below this share of the largest count as zero.
SINGULAR = 1e-13


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
    problem = _Problem(tensor, spec)
    work = list(cores)
    doubles = [problem.double(core, number) for number, core in enumerate(work)]
    before = float("inf")
    for _ in range(sweeps if len(work) > 1 else 1):
        error = before
        for number in range(len(work)):
            work[number], error = problem.solve(work, doubles, number)
            doubles[number] = problem.double(work[number], number)
        # One more sweep after the first exact one takes what rounding hid from the sum of squares.
        if before <= EXACT * problem.norm or before - error <= tolerance * error:
            break
        before = error
    return balance(work)


def fit_weight(
    weight: torch.Tensor, spec: Spec, cores: Sequence[torch.Tensor], *, sweeps: int = SWEEPS
) -> list[torch.Tensor]:
    """Cores improved against a dense weight, of its type and device; see ``fit``."""
    outside = [(i,) for i in (*spec.output, *spec.input, *spec.kernel)]
    tensor = weight_tensor(weight, spec, outside)
    found = fit(tensor, spec, [core.detach().to(tensor) for core in cores], sweeps=sweeps)
    return [core.to(weight.dtype).contiguous() for core in found]


def balance(cores: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The same product with cores of equal norm; zero cores as they are."""
    norms = torch.stack([torch.linalg.norm(core) for core in cores])
    if not bool((norms > 0).all()):
        return list(cores)
    mean = torch.exp(torch.log(norms).mean())
    return [core * (mean / norm) for core, norm in zip(cores, norms, strict=True)]


@dataclass(frozen=True)
class _Product:
    """One step of a chain of contractions: with which core, and what is left."""

    number: int
    keep: frozenset[str]


class _Problem:
    """A tensor in float64 that the cores of a spec are fitted to.

    For each core there is a chain of contractions for the right side of its normal equations (the
    tensor with all other cores) and one for the left side (the other cores with themselves over all
    axes of the tensor; the bonds of the second copy have a prime).
    """

    def __init__(self, tensor: torch.Tensor, spec: Spec) -> None:
        self.tensor, self.spec = tensor, spec
        self.indices = (*spec.output, *spec.input, *spec.kernel)
        self.norm = float((tensor**2).sum())
        self.bonds = [[i for i in core if i not in self.indices] for core in spec.cores]
        self.outside = [[i for i in core if i in self.indices] for core in spec.cores]
        numbers = range(len(spec.cores))
        self.right = [self._right_chain(number) for number in numbers]
        self.left = [self._left_chain(number) for number in numbers]

    def double(self, core: torch.Tensor, number: int) -> tuple[torch.Tensor, tuple[str, ...]]:
        """A core with itself over its axes of the tensor."""
        own = self.spec.cores[number]
        primed = tuple(i if i in self.indices else i + "'" for i in own)
        return pair(core, own, core, primed, {*own, *primed} - {*self.indices})

    def solve(
        self,
        cores: Sequence[torch.Tensor],
        doubles: Sequence[tuple[torch.Tensor, tuple[str, ...]]],
        number: int,
    ) -> tuple[torch.Tensor, float]:
        """The best core with the others as they are, and the squared error with it."""
        bonds, outside = self.bonds[number], self.outside[number]
        value, indices = self.tensor, self.indices
        for step in self.right[number]:
            own = self.spec.cores[step.number]
            value, indices = pair(value, indices, cores[step.number], own, step.keep)
        width = prod(self.spec.modes(bonds))
        right = self._as(value, indices, (*bonds, *outside)).reshape(width, -1)
        value, indices = self.tensor.new_ones(()), ()
        for step in self.left[number]:
            value, indices = pair(value, indices, *doubles[step.number], step.keep)
        gram = self._as(value, indices, [*bonds, *(i + "'" for i in bonds)]).reshape(width, width)
        values, vectors = torch.linalg.eigh((gram + gram.t()) / 2)
        kept = values > SINGULAR * values[-1].clamp_min(torch.finfo(values.dtype).tiny)
        inverse = torch.where(kept, 1 / torch.where(kept, values, 1), 0)
        solution = vectors @ (inverse[:, None] * (vectors.t() @ right))
        error = self.norm - 2 * float((solution * right).sum())
        error += float((solution * (gram @ solution)).sum())
        core = solution.reshape(self.spec.modes((*bonds, *outside)))
        order = [(*bonds, *outside).index(i) for i in self.spec.cores[number]]
        return core.permute(order).contiguous(), error

    def _as(
        self, value: torch.Tensor, indices: tuple[str, ...], wanted: Sequence[str]
    ) -> torch.Tensor:
        """With these axes; nothing depends on a bond that only the core in question has."""
        for index in wanted:
            if index not in indices:
                size = self.spec.sizes[index.rstrip("'")]
                value = value.unsqueeze(-1).expand(*value.shape, size)
                indices = (*indices, index)
        return value.permute([indices.index(i) for i in wanted])

    def _right_chain(self, number: int) -> list[_Product]:
        """The tensor with all other cores, the one that leaves least first."""
        cores, sizes = self.spec.cores, self.spec.sizes
        indices = set(self.indices)
        rest = [n for n in range(len(cores)) if n != number]
        chain = []
        while rest:
            keeps = {}
            for chosen in rest:
                later = {i for n in (number, *rest) if n != chosen for i in cores[n]}
                keeps[chosen] = (indices | {*cores[chosen]}) & later
            best = min(rest, key=lambda chosen: prod(sizes[i] for i in keeps[chosen]))
            chain.append(_Product(best, frozenset(keeps[best])))
            indices = keeps[best]
            rest.remove(best)
        return chain

    def _left_chain(self, number: int) -> list[_Product]:
        """The doubled cores in a cycle from the next one on: neighbours of a ring meet."""
        cores = self.spec.cores
        rest = [(number + k) % len(cores) for k in range(1, len(cores))]
        chain = []
        for done, n in enumerate(rest, 1):
            later = {i for k in (number, *rest[done:]) for i in cores[k]}
            chain.append(_Product(n, frozenset(later | {i + "'" for i in later})))
        return chain
