"""Decomposition of a model's layers: which spec a layer gets, and the layer of cores that takes its
place.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from drawbar.gen.errors import NetworkError
from drawbar.sw.compress.backend import nn, torch
from drawbar.sw.compress.factorised import FactorisedLayer, FactorisedLinear
from drawbar.sw.compress.formats import Spec, get_format

DEFAULT_FORMAT = "tt"


class TTLinear(FactorisedLinear):
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
    grow:
        Accept cores of more weights than the dense layer has.
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
        modes or ranks that do not fit, or a layer that would grow.
    """

    def __init__(
        self,
        modes_out: Sequence[int],
        modes_in: Sequence[int],
        max_rank: int | None = None,
        *,
        ranks: Sequence[int] | None = None,
        bias: bool = True,
        grow: bool = False,
        name: str = "",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        spec = get_format("tt").spec(
            (_product(modes_out, "modes_out", name), _product(modes_in, "modes_in", name)),
            name=name,
            modes_out=modes_out,
            modes_in=modes_in,
            max_rank=max_rank,
            ranks=ranks,
            grow=grow,
            stacklevel=2,
        )
        super().__init__(spec, bias=bias, device=device, dtype=dtype)

    @classmethod
    def from_spec(
        cls,
        spec: Spec,
        cores: Sequence[torch.Tensor] | None = None,
        *,
        bias: torch.Tensor | bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> TTLinear:
        """The layer of a spec of format "tt"; see ``Format.layer``."""
        layer = cls.__new__(cls)
        FactorisedLinear.__init__(layer, spec, cores, bias=bias, device=device, dtype=dtype)
        return layer

    @classmethod
    def from_linear(
        cls,
        linear: nn.Linear,
        modes_out: Sequence[int] | None = None,
        modes_in: Sequence[int] | None = None,
        max_rank: int | None = None,
        *,
        ranks: Sequence[int] | None = None,
        grow: bool = False,
        name: str = "",
        stacklevel: int = 1,
    ) -> TTLinear:
        """The TT-SVD of a dense layer, with its bias, type, device and mode.

        Modes that are not given are balanced (``modes.factorise``), equally many on both sides.

        Raises
        ------
        NetworkError:
            modes or ranks that do not fit, a layer that would grow, or weights that are not finite
            real numbers.
        """
        spec = get_format("tt").spec(
            tuple(linear.weight.shape),
            name=name,
            modes_out=modes_out,
            modes_in=modes_in,
            max_rank=max_rank,
            ranks=ranks,
            grow=grow,
            stacklevel=stacklevel + 1,
        )
        layer = decompose_layer(linear, spec)
        assert isinstance(layer, cls)
        return layer


def layer_spec(
    module: nn.Module, name: str, *, format: str = DEFAULT_FORMAT, stacklevel: int = 1, **asked: Any
) -> Spec:
    """The spec of a dense layer in a format.

    Arguments
    ---------
    module:
        ``nn.Linear``, or ``nn.Conv2d`` without groups and padded with zeros.
    name:
        The layer, for messages.
    asked:
        What ``Format.spec`` takes: modes, ranks, options.

    Raises
    ------
    NetworkError:
        another module, no such format, or what ``Format.spec`` refuses.
    """
    where = f"layer {name!r}"
    if type(module) not in (nn.Linear, nn.Conv2d):
        raise NetworkError(
            where,
            "is an nn.Linear or an nn.Conv2d",
            type(module).__name__,
            "name a dense layer, or leave this one out",
        )
    if isinstance(module, nn.Conv2d):
        geometry(module, name)
    weight = module.weight
    assert isinstance(weight, torch.Tensor)
    return get_format(format).spec(
        tuple(weight.shape), name=name, stacklevel=stacklevel + 1, **asked
    )


def geometry(module: nn.Conv2d, name: str) -> dict[str, Any]:
    """Stride, padding and dilation of a convolution.

    Raises
    ------
    NetworkError:
        groups, or a padding that is not with zeros and alike on both sides.
    """
    where = f"layer {name!r}"
    if module.groups != 1:
        raise NetworkError(
            where, "is a convolution without groups", f"{module.groups} groups", "leave it dense"
        )
    padding = module.padding
    if isinstance(padding, str):
        spans = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        if padding == "same" and any(span % 2 for span in spans):
            padding = "same, one more on one side"
        else:
            padding = tuple(span // 2 if padding == "same" else 0 for span in spans)
    if module.padding_mode != "zeros" or isinstance(padding, str):
        raise NetworkError(
            where,
            "is padded with zeros, alike on both sides",
            f"padding_mode={module.padding_mode!r}, padding={padding!r}",
            "give the padding as numbers, or leave the layer dense",
        )
    assert len(module.stride) == len(padding) == len(module.dilation) == 2
    rows, columns = padding
    return {"stride": module.stride, "padding": (rows, columns), "dilation": module.dilation}


def decompose_layer(module: nn.Module, spec: Spec) -> FactorisedLayer:
    """The layer of cores near a trained dense layer, with its bias, type, device and mode.

    Raises
    ------
    NetworkError:
        the weight is not of the spec's shape, or not finite.
    """
    weight, bias = module.weight, module.bias
    assert isinstance(weight, torch.Tensor)
    chosen = get_format(spec.format)
    layer = chosen.layer(
        spec,
        chosen.decompose(weight, spec),
        bias=False if bias is None else torch.as_tensor(bias).detach(),
        **(geometry(module, spec.name) if isinstance(module, nn.Conv2d) else {}),
    )
    layer.train(module.training)
    return layer


def decompose(model: nn.Module, spec: Mapping[str, Mapping[str, Any] | Spec]) -> nn.Module:
    """A copy of the model in which the named dense layers are layers of cores.

    Arguments
    ---------
    model:
        Any module; it stays as it is.
    spec:
        For each layer, by its dotted name in the model: a ``Spec``, or what ``layer_spec`` takes:
        ``format`` ("tt" if not given), ``modes_out``, ``modes_in``, ``max_rank`` or ``ranks``,
        ``grow``, and the format's own options.

    Raises
    ------
    NetworkError:
        no such layer, a layer that is not dense, an entry with an unknown key, modes or ranks that
        do not fit, or a layer that would grow.
    """
    model = copy.deepcopy(model)
    modules = dict(model.named_modules())
    dense = [n for n, module in modules.items() if n and type(module) in (nn.Linear, nn.Conv2d)]
    for name, asked in spec.items():
        where = f"layer {name!r}"
        offer = f"name one of {', '.join(dense)}" if dense else "give a model with nn.Linear"
        if name not in modules or not name:
            raise NetworkError(where, "is in the model", "no such layer", offer)
        if name not in dense:
            found = type(modules[name]).__name__
            raise NetworkError(where, "is an nn.Linear or an nn.Conv2d", found, offer)
        if not isinstance(asked, Spec):
            asked = layer_spec(modules[name], name, stacklevel=2, **asked)
        replace_module(model, name, decompose_layer(modules[name], asked))
    return model


def replace_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module in the place of another, by its dotted name, in place."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def _product(modes: Sequence[int], side: str, name: str) -> int:
    """What the modes multiply to; those that are no modes are left to the check of the spec."""
    from drawbar.sw.compress.modes import check_side

    try:
        size = prod(modes)
    except TypeError:
        size = 0
    check_side(modes, size, side, name)
    return size
