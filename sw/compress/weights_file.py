"""Weights of a compressed model in a ``.safetensors`` file: every array of the model, and the specs
of its layers of cores. See ``gen.container`` for the container.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from drawbar.gen.container import read_container, write_container
from drawbar.gen.errors import ArtefactError
from drawbar.sw.compress.backend import nn, torch
from drawbar.sw.compress.factorised import FactorisedConv2d, FactorisedLayer, FactorisedLinear
from drawbar.sw.compress.formats import Spec, get_format
from drawbar.sw.compress.layers import replace_module
from drawbar.sw.compress.recurrent import FactorisedRNN

FORMAT_VERSION = 1
MAGIC = "drawbar-weights"
SUFFIX = ".safetensors"
WHAT = "weights file"
AGAIN = "save the weights again"


def save_weights(model: nn.Module, path: str | Path) -> None:
    """Write a model's arrays and the specs of its layers of cores; the same model gives the same
    bytes. A parameter that several layers share is written once.

    Raises
    ------
    ArtefactError:
        an array that NumPy has no type for, or a file that cannot be written.
    """
    names: dict[int, str] = {}
    arrays, shared = {}, {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        first = names.setdefault(id(tensor), name)
        if first != name:
            shared[name] = first
            continue
        try:
            arrays[name] = tensor.detach().cpu().numpy()
        except TypeError:
            raise ArtefactError(
                f"array {name!r}",
                "is of a type that NumPy has",
                tensor.dtype,
                "convert the model with model.float()",
            ) from None
    description = {
        "format_version": FORMAT_VERSION,
        "layers": {name: fields for name, fields in _described(model, "")},
        "shared": shared,
    }
    write_container(path, what=WHAT, magic=MAGIC, arrays=arrays, description=description)


def load_weights(model: nn.Module, path: str | Path) -> nn.Module:
    """A copy of a dense model with the layers of cores and all weights of a file.

    Arguments
    ---------
    model:
        The architecture: as the model was before its layers were decomposed, or as it was saved.

    Raises
    ------
    ArtefactError:
        no such file, not a weights file, damaged, or of another architecture.
    """
    arrays, fields = read_container(
        path, what=WHAT, magic=MAGIC, version=FORMAT_VERSION, suffix=SUFFIX, again=AGAIN
    )
    model = copy.deepcopy(model)
    where = f"{WHAT} {path}"
    try:
        modules = dict(model.named_modules())
        for name, layer in fields["layers"].items():
            if name not in modules:
                raise ArtefactError(
                    where, "has the layers of the model", name, "give the model that it was made of"
                )
            made = _layer(layer, arrays, name)
            if not name:
                model = made
            else:
                replace_module(model, name, made)
        for name, first in fields["shared"].items():
            parent, _, child = name.rpartition(".")
            module = model.get_submodule(parent)
            parameter = model.get_parameter(first)
            if isinstance(module, nn.ParameterList):
                module[int(child)] = parameter
            else:
                setattr(module, child, parameter)
        state = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        state |= {name: state[first] for name, first in fields["shared"].items()}
        model.load_state_dict(state)
    except ArtefactError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise ArtefactError(
            where, "fits the model", error, "give the model that it was made of"
        ) from None
    return model


def _described(module: nn.Module, path: str) -> list[tuple[str, dict[str, Any]]]:
    """Every layer of cores, with what it takes to build it."""
    if isinstance(module, FactorisedRNN):
        return [
            (
                path,
                {
                    "cells": module.kind,
                    "batch_first": module.batch_first,
                    "hidden": module.hidden_size,
                    "maps": dict(
                        pair
                        for part in ("input_map", "hidden_map")
                        for pair in _described(module.get_submodule(part), part)
                    ),
                },
            )
        ]
    if isinstance(module, FactorisedConv2d):
        geometry: dict[str, Any] = {
            key: getattr(module, key) for key in ("stride", "padding", "dilation")
        }
        return [(path, {"spec": module.spec.as_dict(), **geometry})]
    if isinstance(module, FactorisedLayer):
        return [(path, {"spec": module.spec.as_dict()})]
    return [
        pair
        for name, child in module.named_children()
        for pair in _described(child, f"{path}.{name}" if path else name)
    ]


def _layer(fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray], path: str) -> nn.Module:
    """The layer that ``_described`` described, with weights still to be loaded."""
    prefix = f"{path}." if path else ""
    if "cells" in fields:
        maps = {
            part: _layer(inner, arrays, f"{prefix}{part}") for part, inner in fields["maps"].items()
        }
        if "hidden_map" not in maps:
            weight = arrays[f"{prefix}hidden_map.weight"]
            maps["hidden_map"] = nn.Linear(
                weight.shape[1],
                weight.shape[0],
                bias=f"{prefix}hidden_map.bias" in arrays,
                dtype=torch.from_numpy(weight[:1].copy()).dtype,
            )
        input_map, hidden_map = maps["input_map"], maps["hidden_map"]
        assert isinstance(input_map, FactorisedLinear)
        assert isinstance(hidden_map, nn.Linear | FactorisedLinear)
        return FactorisedRNN(
            fields["cells"], input_map, hidden_map, batch_first=fields["batch_first"]
        )
    spec = Spec.from_dict(fields["spec"])
    geometry: dict[str, Any] = {
        key: tuple(fields[key]) for key in ("stride", "padding", "dilation") if key in fields
    }
    own = [array for name, array in arrays.items() if name.startswith(f"{prefix}cores.")]
    dtype = torch.from_numpy(own[0].ravel()[:1].copy()).dtype if own else None
    bias = f"{prefix}bias" in arrays
    return get_format(spec.format).layer(spec, bias=bias, dtype=dtype, **geometry)
