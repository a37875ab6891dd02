"""ADMM for training under a constraint on each weight's structure (Yin et al., CVPR 2021).

Minimise the loss of W subject to "W has the format's structure". With a copy Z of each weight, a
scaled dual U and the augmented Lagrangian, once an epoch

    Z := project(W + U)
    U := U + W - Z

and in between W trains on ``loss + rho / 2 * |W - Z + U|^2``. Of a format only ``project`` is
needed. When rho changes, U is rescaled so that the unscaled dual ``rho * U`` stays (Boyd et al.
2011, section 3.4.1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite

from drawbar.gen.errors import InputError, NetworkError
from drawbar.sw.compress import parallel
from drawbar.sw.compress.backend import torch

#: A dense weight to the nearest one of the structure that is wanted.
Projection = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Residual:
    """How far one layer is from a solution, both relative to the norm of its weight.

    Members
    -------
    primal:
        ``|W - Z|``: what the projection takes away.
    dual:
        ``|Z - previous Z|``: how much the target still moves.
    """

    layer: str
    primal: float
    dual: float


class Admm:
    """The state of ADMM over some weights.

    Arguments
    ---------
    weights:
        The trained parameters, by layer.
    projections:
        Of the same layers.

    Members
    -------
    z, u:
        The structured copy and the scaled dual of each weight. Z = W and U = 0 at the start.
    rho:
        Weight of the penalty since the last ``update``; 0 before the first.

    What ``penalty`` reads keeps its place in memory, so that a CUDA graph may hold it.

    Raises
    ------
    InputError:
        no layers, or not the same layers twice.
    """

    def __init__(
        self, weights: Mapping[str, torch.Tensor], projections: Mapping[str, Projection]
    ) -> None:
        if not weights or weights.keys() != projections.keys():
            raise InputError(
                "ADMM",
                "has a projection for each of its weights, at least one",
                f"weights {sorted(weights)}, projections {sorted(projections)}",
                "name the layers to compress",
            )
        self.weights = dict(weights)
        self.projections = dict(projections)
        self.rho = 0.0
        self._half_rho = next(iter(weights.values())).new_zeros(())
        self.z = {name: weight.detach().clone() for name, weight in weights.items()}
        self.u = {name: torch.zeros_like(weight) for name, weight in self.z.items()}

    def update(self, rho: float) -> list[Residual]:
        """Project every weight and step its dual, for a penalty of weight ``rho`` from now on.

        Raises
        ------
        InputError:
            rho is not a positive number.
        NetworkError:
            a weight is no longer finite.
        """
        if not (isfinite(rho) and rho > 0):
            raise InputError("ADMM, rho", "is a positive number", rho, "give a larger rho")
        residuals = []
        with torch.no_grad():
            for name, weight in self.weights.items():
                norm = weight.norm().item()
                if not isfinite(norm):
                    raise NetworkError(
                        f"layer {name!r}", "keeps its weights finite", norm, "lower the rate"
                    )
                u, z = self.u[name], self.z[name]
                u *= self.rho / rho  # U is 0 before the first update
                # In the weight's layout: sums are the same bits again after a load.
                after = torch.empty_like(weight).copy_(self.projections[name](weight + u))
                parallel.same([after])
                u += weight - after
                scale = norm or 1.0
                residuals.append(
                    Residual(
                        name,
                        (weight - after).norm().item() / scale,
                        (after - z).norm().item() / scale,
                    )
                )
                z.copy_(after)
        self._set_rho(rho)
        return residuals

    def _set_rho(self, rho: float) -> None:
        self.rho = rho
        self._half_rho.fill_(rho / 2)

    def penalty(self) -> torch.Tensor:
        """``rho / 2 * |W - Z + U|^2`` over all layers; differentiable in W."""
        parts = [
            (weight - self.z[name] + self.u[name]).square().sum()
            for name, weight in self.weights.items()
        ]
        return self._half_rho * torch.stack(parts).sum()

    def state(self) -> dict[str, torch.Tensor]:
        """Z and U by name, for a checkpoint; ``rho`` is kept beside them."""
        named = {f"z.{name}": z for name, z in self.z.items()}
        return {**named, **{f"u.{name}": u for name, u in self.u.items()}}

    def load_state(self, state: Mapping[str, torch.Tensor], rho: float) -> None:
        """What ``state`` gave, in place."""
        for name in self.weights:
            self.z[name].copy_(state[f"z.{name}"])
            self.u[name].copy_(state[f"u.{name}"])
        self._set_rho(rho)


def geometric(first: float, last: float, epochs: int) -> list[float]:
    """A rho for each epoch, growing by the same factor each time."""
    if epochs == 1:
        return [last]
    return [first * (last / first) ** (epoch / (epochs - 1)) for epoch in range(epochs)]
