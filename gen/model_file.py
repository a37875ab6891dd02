"""The model file: a float model between compression and compilation, one ``.safetensors`` file.

It holds contraction networks, so whatever reads it needs no PyTorch. See ``gen.container`` for
the container.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from drawbar.gen.container import read_container, write_container
from drawbar.gen.errors import ArtefactError, DrawbarError, InputError
from drawbar.gen.network import ContractionNetwork, Core, Model, Quantised, Source, Window

FORMAT_VERSION = 1
MAGIC = "drawbar-model"
SUFFIX = ".safetensors"
WHAT = "model file"
AGAIN = "save the model again"
DTYPES = ("float32", "float64")


def save_model(model: Model, path: str | Path) -> None:
    """Write a model; the same model gives the same bytes.

    An array is stored as float32 where that loses nothing, and comes back in its own type.

    Raises
    ------
    ArtefactError:
        an array is not of a type in ``DTYPES``, or the file cannot be written.
    """
    arrays: dict[str, np.ndarray] = {}
    layers = []
    for number, layer in enumerate(model.layers):
        cores = []
        for k, core in enumerate(layer.cores):
            arrays[f"{number}.core.{k}"] = _stored(layer.name, f"core {k}", core.values)
            cores.append({"indices": core.indices, "dtype": str(core.values.dtype)})
        if layer.bias is not None:
            arrays[f"{number}.bias"] = _stored(layer.name, "bias", layer.bias)
        layers.append(
            {
                "name": layer.name,
                "format": layer.format,
                # A list of pairs, because the order of the indices is part of the network.
                "sizes": list(layer.sizes.items()),
                "cores": cores,
                "input": layer.input,
                "output": layer.output,
                "bias": None if layer.bias is None else str(layer.bias.dtype),
                "activation": layer.activation,
                "ranks": layer.ranks,
                **_of_graphs(layer),
            }
        )
    description = {"format_version": FORMAT_VERSION, "name": model.name, "layers": layers}
    if not model.chain:
        description["sources"] = [
            [[source.tensor, source.starts, source.steps] for source in sources]
            for sources in model.sources
        ]
        description["shapes"] = model.shapes
    if any(model.quantised):
        description["quantised"] = [q and list(vars(q).values()) for q in model.quantised]
    write_container(path, what=WHAT, magic=MAGIC, arrays=arrays, description=description)


def load_model(path: str | Path) -> Model:
    """Read a model.

    Raises
    ------
    ArtefactError:
        no such file, not a model file, truncated, corrupted, or of a version that this Drawbar
        does not read.
    """
    arrays, fields = read_container(
        path, what=WHAT, magic=MAGIC, version=FORMAT_VERSION, suffix=SUFFIX, again=AGAIN
    )
    try:
        layers = tuple(_layer(n, layer, arrays) for n, layer in enumerate(fields["layers"]))
        sources = tuple(
            tuple(Source(tensor, tuple(starts), tuple(steps)) for tensor, starts, steps in own)
            for own in fields.get("sources", ())
        )
        shapes = tuple(tuple(shape) for shape in fields.get("shapes", ()))
        quantised = tuple(q and Quantised(*q) for q in fields.get("quantised", ()))
        return Model(fields["name"], layers, sources, shapes, quantised)
    except (KeyError, TypeError, ValueError, DrawbarError) as error:
        raise ArtefactError(
            f"{WHAT} {path}", "describes a well-formed model", error, AGAIN
        ) from None


def pretrained_names() -> tuple[str, ...]:
    """Data sets for which trained weights ship with the package."""
    folder = resources.files("drawbar").joinpath("data")
    names = (entry.name for entry in folder.iterdir()) if folder.is_dir() else ()
    return tuple(sorted(name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX)))


def load_pretrained(name: str = "digits") -> Model:
    """The demo's trained model that ships with the package; needs no PyTorch.

    Raises
    ------
    InputError:
        no weights of that name ship.
    """
    if name not in pretrained_names():
        raise InputError(
            f"pretrained model {name!r}",
            f"is one of {', '.join(pretrained_names()) or 'none'}",
            name,
            "use one of these, or train without --pretrained",
        )
    source = resources.files("drawbar").joinpath("data", f"{name}{SUFFIX}")
    with resources.as_file(source) as path:
        return load_model(path)


def _core(stored: np.ndarray, fields: dict[str, Any]) -> np.ndarray:
    """A core's values; a core without indices is a number, which files keep as an array of one."""
    values = stored.astype(fields["dtype"])
    return values if fields["indices"] else values.reshape(())


def _of_graphs(layer: ContractionNetwork) -> dict[str, Any]:
    """What only layers of graphs have."""
    found: dict[str, Any] = {}
    if layer.windows:
        found["windows"] = [
            [index, window.terms, window.before] for index, window in layer.windows.items()
        ]
    if layer.bias_over is not None:
        found["bias_over"] = layer.bias_over
    if layer.keeps_scale:
        found["keeps_scale"] = True
    if layer.paired:
        found["paired"] = True
    if layer.joined:
        found["joined"] = True
    return found


def _stored(layer: str, part: str, array: np.ndarray) -> np.ndarray:
    if str(array.dtype) not in DTYPES:
        raise ArtefactError(
            f"layer {layer!r}, {part}",
            f"is of type {' or '.join(DTYPES)}",
            array.dtype,
            "convert it with numpy.asarray(values, float)",
        )
    narrow = array.astype(np.float32)
    return narrow if np.array_equal(narrow.astype(array.dtype), array) else array


def _layer(
    number: int, fields: dict[str, Any], arrays: dict[str, np.ndarray]
) -> ContractionNetwork:
    bias = None if fields["bias"] is None else arrays[f"{number}.bias"].astype(fields["bias"])
    return ContractionNetwork(
        name=fields["name"],
        format=fields["format"],
        sizes=dict(fields["sizes"]),
        cores=tuple(
            Core(tuple(core["indices"]), _core(arrays[f"{number}.core.{k}"], core))
            for k, core in enumerate(fields["cores"])
        ),
        input=tuple(fields["input"]),
        output=tuple(fields["output"]),
        bias=bias,
        activation=fields["activation"],
        ranks=tuple(fields["ranks"]),
        windows={
            index: Window(tuple((term, stride) for term, stride in terms), before)
            for index, terms, before in fields.get("windows", ())
        },
        bias_over=None if "bias_over" not in fields else tuple(fields["bias_over"]),
        keeps_scale=fields.get("keeps_scale", False),
        paired=fields.get("paired", False),
        joined=fields.get("joined", False),
    )
