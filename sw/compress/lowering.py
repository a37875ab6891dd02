"""From a PyTorch model to contraction networks: the last step that knows PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from drawbar.gen.errors import NetworkError
from drawbar.gen.formats import dense_network
from drawbar.gen.network import ContractionNetwork, Model
from drawbar.sw.compress.backend import nn
from drawbar.sw.compress.factorised import FactorisedLinear, as_array
from drawbar.sw.compress.formats import get_format
from drawbar.sw.compress.layers import TTLinear

SUPPORTED = "Sequential of Flatten, Linear, TTLinear and other linear layers of cores, ReLU, "
SUPPORTED += "Dropout, Identity"


def lower(model: nn.Module, name: str = "model") -> Model:
    """The model's inference as contraction networks in float64; layers keep their names.

    A ReLU becomes the activation of the layer before it. Dropout and Identity do nothing at
    inference and are left out, and so is Flatten, because feature vectors are flat already.

    Raises
    ------
    NetworkError:
        a module that is not supported, a ReLU with no layer before it, sizes that do not agree, or
        weights that are not finite real numbers.
    """
    layers: list[ContractionNetwork] = []
    for path, module in _leaves(model, ""):
        where = f"module {path!r}" if path else f"model {name!r}"
        # Exact types: a subclass may compute something else.
        if type(module) in (nn.Dropout, nn.Identity):
            continue
        if type(module) is nn.Flatten:
            if (module.start_dim, module.end_dim) != (1, -1):
                raise NetworkError(
                    where,
                    "flattens each sample whole (start_dim=1, end_dim=-1)",
                    f"start_dim={module.start_dim}, end_dim={module.end_dim}",
                    "use nn.Flatten()",
                )
        elif type(module) is nn.ReLU:
            if not layers:
                raise NetworkError(
                    where, "follows a layer", "nothing before it", "put a layer before this ReLU"
                )
            layers[-1] = replace(layers[-1], activation="relu")
        elif type(module) is nn.Linear:
            weight, bias = as_array(where, module.weight), _bias(where, module)
            layers.append(dense_network(path or name, weight, bias=bias))
        elif type(module) in (TTLinear, FactorisedLinear):
            assert isinstance(module, FactorisedLinear)
            layers.append(get_format(module.spec.format).network(module, path or name))
        else:
            raise NetworkError(
                where,
                f"is supported ({SUPPORTED})",
                f"{type(module).__module__}.{type(module).__qualname__}",
                "replace the module, or take it out of what is compiled",
            )
    return Model(name, tuple(layers))


def _leaves(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    """The modules in the order of their evaluation, with nested sequences laid flat."""
    if type(module) is not nn.Sequential:
        yield path, module
        return
    for child_name, child in module.named_children():
        yield from _leaves(child, f"{path}.{child_name}" if path else child_name)


def _bias(where: str, module: nn.Linear) -> np.ndarray | None:
    return None if module.bias is None else as_array(where, module.bias)
