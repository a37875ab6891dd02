"""Decomposed layers: PyTorch modules that train, and the replacement of dense layers by them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from drawbar.gen.errors import InputError, NetworkError
from drawbar.sw.compress.backend import nn, torch
from drawbar.sw.compress.modes import check_modes, default_count, factorise, useful_ranks
from drawbar.sw.compress.tt import tt_reconstruct, tt_svd

#: What a layer's entry in ``decompose``'s specification may say.
SPEC_KEYS = ("modes_out", "modes_in", "max_rank", "ranks")


class TTLinear(nn.Module):
    """A linear layer whose weight is a TT-matrix: ``y = W x + b``, and W is never formed.

    Arguments
    ---------
    modes_out, modes_in:
        Modes m[1..d] and n[1..d]; their products are the layer's outputs and inputs.
    max_rank, ranks:
        One rank for every inner bond, or one for each (d - 1). Ranks beyond the largest useful one
        are clipped with a ``RankWarning``.
    bias:
        Whether there is a bias.
    name:
        For messages.

    Members
    -------
    cores:
        d parameters ``(r[k-1], m[k], n[k], r[k])``, r[0] = r[d] = 1. Drawn so that W has the
        variance of a fresh ``nn.Linear``.
    bias:
        ``(outputs,)`` or None.

    Raises
    ------
    NetworkError:
        modes or ranks that do not fit.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        modes_out: Sequence[int],
        modes_in: Sequence[int],
        max_rank: int | None = None,
        *,
        ranks: Sequence[int] | None = None,
        bias: bool = True,
        name: str = "",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        outputs, inputs = prod(modes_out), prod(modes_in)
        self.modes_out, self.modes_in = check_modes(modes_out, modes_in, outputs, inputs, name)
        bonds = useful_ranks(
            self.modes_out, self.modes_in, max_rank=max_rank, ranks=ranks, name=name, stacklevel=2
        )
        self.ranks = (1, *bonds, 1)
        self.name = name
        self.in_features, self.out_features = inputs, outputs
        shapes = zip(self.ranks, self.modes_out, self.modes_in, self.ranks[1:], strict=False)
        self.cores = nn.ParameterList(
            nn.Parameter(torch.empty(shape, device=device, dtype=dtype)) for shape in shapes
        )
        if bias:
            self.bias = nn.Parameter(torch.empty(outputs, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the cores and the bias anew."""
        # Var(W) is the product of the cores' variances and of the ranks that are summed over.
        variance = 1 / (3 * self.in_features)
        deviation = (variance / prod(self.ranks)) ** (1 / (2 * len(self.cores)))
        for core in self.cores:
            nn.init.normal_(core, std=deviation)
        if self.bias is not None:
            bound = self.in_features**-0.5
            nn.init.uniform_(self.bias, -bound, bound)

    @classmethod
    def from_linear(
        cls,
        linear: nn.Linear,
        modes_out: Sequence[int] | None = None,
        modes_in: Sequence[int] | None = None,
        max_rank: int | None = None,
        *,
        ranks: Sequence[int] | None = None,
        name: str = "",
        stacklevel: int = 1,
    ) -> TTLinear:
        """The TT-SVD of a dense layer, with its bias, type, device and mode.

        Modes that are not given are balanced (``modes.factorise``), equally many on both sides.

        Raises
        ------
        NetworkError:
            modes or ranks that do not fit, or weights that are not finite real numbers.
        """
        outputs, inputs = linear.weight.shape
        given = modes_out if modes_out is not None else modes_in
        count = default_count(outputs, inputs) if given is None else max(1, len(given))
        modes_out = factorise(outputs, count) if modes_out is None else modes_out
        modes_in = factorise(inputs, count) if modes_in is None else modes_in
        cores = tt_svd(
            linear.weight,
            modes_out,
            modes_in,
            max_rank,
            ranks=ranks,
            name=name,
            stacklevel=stacklevel + 1,
        )
        # Every weight is copied below: draw none, and leave the random state as it is.
        layer: Any = nn.utils.skip_init(
            cls,
            modes_out,
            modes_in,
            ranks=[core.shape[3] for core in cores[:-1]],
            bias=linear.bias is not None,
            name=name,
            device=linear.weight.device,
            dtype=linear.weight.dtype,
        )
        with torch.no_grad():
            for parameter, core in zip(layer.cores, cores, strict=True):
                parameter.copy_(core)
            if layer.bias is not None:
                layer.bias.copy_(linear.bias)
        layer.train(linear.training)
        return layer

    @property
    def dense_weights(self) -> int:
        """Weights of the dense layer, bias aside."""
        return self.in_features * self.out_features

    @property
    def core_weights(self) -> int:
        """Weights in the cores, bias aside."""
        return sum(core.numel() for core in self.cores)

    @property
    def compression(self) -> float:
        """Dense weights for each core weight."""
        return self.dense_weights / self.core_weights

    def reconstruct(self) -> torch.Tensor:
        """The dense weight ``(outputs, inputs)`` that the cores stand for; differentiable."""
        return tt_reconstruct(list(self.cores))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(..., inputs)`` to ``(..., outputs)``, one core at a time, first to last.

        Raises
        ------
        InputError:
            the last axis is not the layer's inputs.
        """
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise InputError(
                f"input of layer {self.name!r}",
                f"has shape (..., {self.in_features})",
                tuple(x.shape),
                "reshape the input, or mend the layer before",
            )
        samples, rest, done = x.numel() // self.in_features, self.in_features, 1
        # Samples are the fastest axis, so that no step has to move the live tensor about:
        # (output modes so far, bond and input mode, input modes to come and samples).
        live = x.reshape(samples, self.in_features).t()
        for core, m, n in zip(self.cores, self.modes_out, self.modes_in, strict=True):
            rest //= n
            left, _, _, right = core.shape
            live = live.reshape(done, left * n, rest * samples)
            matrix = core.permute(1, 3, 0, 2).reshape(m * right, left * n)
            live = matrix.expand(done, -1, -1) @ live
            done *= m
        y = live.reshape(self.out_features, samples).t().reshape(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"modes_in={self.modes_in}, modes_out={self.modes_out}, ranks={self.ranks}, "
            f"bias={self.bias is not None}, compression={self.compression:.1f}"
        )


def decompose(model: nn.Module, spec: Mapping[str, Mapping[str, Any]]) -> nn.Module:
    """A copy of the model in which the named dense layers are TT-matrix layers.

    Arguments
    ---------
    model:
        Any module; it stays as it is.
    spec:
        For each layer, by its dotted name in the model: ``modes_out``, ``modes_in`` and
        ``max_rank`` or ``ranks``, as ``TTLinear.from_linear`` takes them.

    Raises
    ------
    NetworkError:
        no such layer, a layer that is not ``nn.Linear``, an entry with an unknown key, or modes or
        ranks that do not fit.
    """
    model = copy.deepcopy(model)
    modules = dict(model.named_modules())
    linears = [name for name, module in modules.items() if name and type(module) is nn.Linear]
    for name, arguments in spec.items():
        where = f"layer {name!r}"
        offer = f"name one of {', '.join(linears)}" if linears else "give a model with nn.Linear"
        if name not in modules or not name:
            raise NetworkError(where, "is in the model", "no such layer", offer)
        linear = modules[name]
        if type(linear) is not nn.Linear:
            raise NetworkError(where, "is an nn.Linear", type(linear).__name__, offer)
        unknown = sorted(set(arguments) - set(SPEC_KEYS))
        if unknown:
            raise NetworkError(
                f"{where}, specification",
                f"has only the keys {', '.join(SPEC_KEYS)}",
                ", ".join(unknown),
                "remove or rename the key",
            )
        parent, _, child = name.rpartition(".")
        layer = TTLinear.from_linear(linear, **arguments, name=name, stacklevel=2)
        setattr(modules[parent], child, layer)
    return model
