"""Compression as one call, and its result folder."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import InputError, NetworkError
from drawbar.gen.model_file import save_model
from drawbar.gen.presets import load_config
from drawbar.plots import plot_training
from drawbar.sw.compress.data import Dataset, load_dataset

if TYPE_CHECKING:
    from drawbar.sw.compress.compression import Compressed
    from drawbar.sw.compress.settings import Settings

#: Told (title, epochs done, epochs in all).
Report = Callable[[str, int, int], None]
#: Sections and entries of a configuration file.
KEYS = {"model", "data", "target", "layers", "training", "bits", "share"}
TARGET_KEYS = {"compression", "cycles", "engine"}


@dataclass(frozen=True)
class CompressionResult:
    """A compressed model, and what is said of it.

    Members
    -------
    model:
        The PyTorch module; ``drawbar.compile`` takes it.
    accuracy:
        Percent of the test split: ``dense``, ``direct``, ``decomposed``, ``tuned``, and with bits
        ``stored``.
    layers:
        A row for each layer with weights: name, format, modes, ranks, weights before and after
        (biases included).
    history:
        A row for each epoch.
    bits:
        Of each parameter in ``packed``, by name.
    packed:
        The bytes of a file that stores the model's weights in so many bits; empty without bits.
    """

    model: Any
    accuracy: dict[str, float]
    layers: list[dict[str, Any]]
    history: list[dict[str, Any]]
    bits: dict[str, int]
    packed: bytes

    @property
    def dense_weights(self) -> int:
        return sum(layer["dense_weights"] for layer in self.layers)

    @property
    def weights(self) -> int:
        """Numbers that are stored; those that layers share count once."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def as_dict(self) -> dict[str, Any]:
        stored = {"bits": self.bits, "bytes": len(self.packed)} if self.packed else {}
        return {
            **stored,
            "accuracy": self.accuracy,
            "dense_weights": self.dense_weights,
            "weights": self.weights,
            "compression": self.dense_weights / self.weights,
            "layers": self.layers,
            "history": self.history,
        }


def compress(
    model: Any,
    data: str | Dataset,
    *,
    layers: Mapping[str, Mapping[str, Any]] | None = None,
    target: float | Mapping[str, Any] | None = None,
    format: str = "tt",
    method: str = "admm",
    bits: int | Mapping[str, int] | None = None,
    share: Sequence[str] = (),
    directory: str | Path | None = None,
    folder: str | Path | None = None,
    device: str = "cpu",
    command: str | None = None,
    report: Report | None = None,
    **settings: Any,
) -> CompressionResult:
    """Train a classifier into a decomposed form.

    Arguments
    ---------
    model:
        A ``torch.nn.Module`` that takes ``(samples, features)``, or the name of a reference model
        ("lenet-300", "lenet-5", "digits-mlp", "resnet-20", "resnet-32").
    data, directory:
        A ``Dataset``, or the name of one and the folder that holds it.
    layers:
        For each layer to compress, by its dotted name: ``format``, ``modes_out``, ``modes_in``,
        ``max_rank`` or ``ranks``. Without it every linear layer but the last, in balanced modes.
    target:
        A number: dense weights for each weight that is left. Or ``{"cycles": N, "engine": E}``:
        exact cycles of one inference on an engine. Ranks are chosen to meet it, layer by layer,
        once the dense model is trained. Without it the layers say their ranks.
    format:
        Of the layers that name none.
    method:
        "admm", or "direct": decompose the trained weights as they are.
    bits:
        Store the weights in so many bits, 1 to 8: a number for all, or one for each pattern of
        parameter names, the last that fits (``{"*": 4, "fc1.cores.*": 3}``). The last epochs,
        ``storage_epochs``, train with the values that are stored.
    share:
        Layers of ADA-Tucker whose cores are one (SCADA-Tucker).
    folder:
        Where the result goes, and a checkpoint after each epoch: a run that was killed goes on
        there, and ends with the same bits.
    device:
        Of PyTorch: "cpu", "cuda".
    command:
        What to write down as the command that made the folder.
    settings:
        Epochs, learning rates and so on: see ``drawbar.sw.compress.compression.Settings``.

    Under ``torchrun`` the processes share each batch.

    Raises
    ------
    InputError, NetworkError, FitError, ArtefactError:
        data, layers, a target or a checkpoint that do not fit; a loss that is no longer finite.
    """
    # Only here: these need PyTorch.
    compression = import_module("drawbar.sw.compress.compression")
    parallel = import_module("drawbar.sw.compress.parallel")
    settings_module = import_module("drawbar.sw.compress.settings")
    made = settings_module.make_settings({"method": method, **settings})
    dataset = load_dataset(data, directory) if isinstance(data, str) else data
    module = _module(model, made)
    chosen = compression.named_layers(module, layers, format)
    goal, described = _target(target)
    few = {"*": bits} if isinstance(bits, int) else dict(bits or {})
    with parallel.processes():
        found = compression.compress_model(
            module,
            lambda trained: compression.choose_specs(trained, chosen, goal),
            dataset,
            made,
            bits=few,
            share=share,
            config={"layers": settings_module.json_values(chosen), "target": described},
            folder=folder,
            device=device,
            progress=None if report is None else _steps(report),
        )
        result = CompressionResult(
            found.model,
            found.accuracy,
            _layer_rows(found, module),
            found.history,
            found.bits,
            found.packed,
        )
        if folder is not None and parallel.rank() == 0:
            write_folder(result, Path(folder), command or _call(data, method, settings))
    return result


def _module(model: Any, settings: Settings) -> Any:
    if isinstance(model, str):
        return import_module("drawbar.sw.compress.recipes").reference_model(model, settings.seed)
    if hasattr(model, "state_dict"):
        return model
    raise InputError(
        "model to compress",
        "is a torch.nn.Module, or the name of a reference model",
        type(model).__name__,
        "pass one of these",
    )


def _target(target: float | Mapping[str, Any] | None) -> tuple[Any, Any]:
    """The target, and the JSON values that say which it is."""
    if target is None:
        return None, None
    asked: dict[str, Any] = {"compression": target}
    if isinstance(target, Mapping):
        asked = dict(target)
    unknown = sorted(asked.keys() - TARGET_KEYS)
    if unknown:
        raise InputError(
            "compression target",
            f"has only {', '.join(sorted(TARGET_KEYS))}",
            ", ".join(unknown),
            "remove or rename the entry",
        )
    engine = asked.get("engine")
    config: EngineConfig | None = None if engine is None else load_config(engine)
    described = {**asked, "engine": None if config is None else config.as_dict()}
    choice = import_module("drawbar.sw.compress.rank_choice")
    return choice.Target(asked.get("compression"), asked.get("cycles"), config), described


def _steps(report: Report) -> Callable[[int, int, str], None]:
    return lambda done, total, text: report(text, done, total)


def _call(data: str | Dataset, method: str, settings: Mapping[str, Any]) -> str:
    """The call as it can be typed again, but for the model and its layers."""
    name = data if isinstance(data, str) else data.name
    rest = "".join(f", {key}={value!r}" for key, value in settings.items())
    return f"drawbar.compress(model, {name!r}, method={method!r}{rest})"


def _layer_rows(found: Compressed, dense: Any) -> list[dict[str, Any]]:
    rows = []
    shapes = {name: parameter.numel() for name, parameter in dense.named_parameters()}
    for name, module in found.model.named_modules():
        before = [n for key, n in shapes.items() if key.rpartition(".")[0] == name]
        if not before:
            continue
        spec = found.specs.get(name)
        rows.append(
            {
                "name": name,
                "format": "dense" if spec is None else spec.format,
                "modes_in": [] if spec is None else list(spec.modes_in),
                "modes_out": [] if spec is None else list(spec.modes_out),
                "ranks": [] if spec is None else list(spec.ranks),
                "dense_weights": sum(before),
                "weights": sum(parameter.numel() for parameter in module.parameters()),
            }
        )
    return rows


def write_folder(result: CompressionResult, folder: Path, command: str) -> None:
    """Write a result folder: ``weights.safetensors`` (every tensor, and each layer's structure),
    ``model.safetensors`` (for ``drawbar compile``, where the compiler can run the model),
    ``weights.packed`` (where the weights have few bits: nothing but them), ``result.json``,
    ``layers.txt``, ``curves.png``, and ``command.txt``.

    Raises
    ------
    ArtefactError, InputError:
        a file cannot be written.
    ToolError:
        Matplotlib is missing; everything else is there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = import_module("drawbar.sw.compress.weights_file")
    weights.save_weights(result.model, folder / "weights.safetensors")
    if result.packed:
        storage = import_module("drawbar.sw.compress.storage")
        storage.save_packed(result.packed, folder / f"weights{storage.SUFFIX}")
    lowering = import_module("drawbar.sw.compress.lowering")
    try:
        save_model(lowering.lower(result.model, folder.name), folder / "model.safetensors")
        compiled = "model.safetensors: for drawbar compile"
    except NetworkError as error:
        compiled = f"no model.safetensors: {error}"
    _write(folder / "result.json", json.dumps(result.as_dict(), indent=2, sort_keys=True))
    _write(folder / "layers.txt", layer_table(result) + f"\n{compiled}\n")
    _write(folder / "command.txt", command)
    plot_training(result.history, result.accuracy, folder / "curves.png")


def layer_table(result: CompressionResult) -> str:
    """The layers as text, with a line for the whole model."""
    rows = [("layer", "format", "modes in > out", "ranks", "dense", "weights", "fewer")]
    for layer in result.layers:
        shape = " > ".join(
            " ".join(str(mode) for mode in layer[side]) for side in ("modes_in", "modes_out")
        )
        rows.append(
            (
                layer["name"],
                layer["format"],
                shape if layer["modes_in"] else "",
                " ".join(str(rank) for rank in layer["ranks"]),
                f"{layer['dense_weights']:,}",
                f"{layer['weights']:,}",
                f"{layer['dense_weights'] / layer['weights']:.1f}x",
            )
        )
    dense, kept = result.dense_weights, result.weights
    rows.append(("all", "", "", "", f"{dense:,}", f"{kept:,}", f"{dense / kept:.1f}x"))
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    marks = [f"{name} {value:.2f} %" for name, value in result.accuracy.items()]
    if result.packed:
        marks.append(f"stored in {len(result.packed):,} bytes")
    return "\n".join(line.rstrip() for line in [*lines, "", "accuracy: " + ", ".join(marks)]) + "\n"


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"result file {path}", "can be written", error.strerror or error, "free its folder"
        ) from None


def compress_file(
    path: str | Path,
    *,
    directory: str | Path | None = None,
    folder: str | Path | None = None,
    device: str = "cpu",
    report: Report | None = None,
) -> tuple[CompressionResult, Path]:
    """Compress as a TOML file says: ``model`` and ``data``, the tables ``training`` (what
    ``compress`` takes as settings, ``method`` among them), ``layers``, ``target`` and ``bits``, and
    ``share``.

    Arguments
    ---------
    folder:
        By default the file's name without its suffix, beside it.

    Returns
    -------
    The result, and its folder.

    Raises
    ------
    InputError:
        the file cannot be read, or has an unknown entry.
    """
    source = Path(path)
    target = Path(folder) if folder is not None else source.with_suffix("")
    fields = _read(source)
    training = dict(fields.get("training", {}))
    command = f"drawbar compress {source}"
    command += f" --data {directory}" if directory is not None else ""
    command += f" --output {folder}" if folder is not None else ""
    command += f" --device {device}" if device != "cpu" else ""
    result = compress(
        fields["model"],
        fields["data"],
        layers=fields.get("layers"),
        target=fields.get("target"),
        bits=fields.get("bits"),
        share=fields.get("share", ()),
        directory=directory,
        folder=target,
        device=device,
        command=command,
        report=report,
        **training,
    )
    return result, target


def _read(path: Path) -> dict[str, Any]:
    where = f"configuration {path}"
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            where, "can be read", error.strerror or error, "give the path of a TOML file"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(where, "is valid TOML", error, "mend the file at that place") from None
    unknown = sorted(fields.keys() - KEYS)
    if unknown:
        raise InputError(
            where, f"has only {', '.join(sorted(KEYS))}", ", ".join(unknown), "remove or rename it"
        )
    for key, kind in (("model", str), ("data", str)):
        if not isinstance(fields.get(key), kind):
            raise InputError(where, f"names its {key}", fields.get(key), f'add {key} = "..."')
    for key in ("layers", "target", "training", "bits"):
        if not isinstance(fields.get(key, {}), dict):
            raise InputError(where, f"has {key} as a table", fields[key], f"write [{key}]")
    share = fields.get("share", [])
    if not isinstance(share, list) or not all(isinstance(name, str) for name in share):
        raise InputError(where, "has share as a list of layers", share, 'write share = ["fc1"]')
    for name, layer in fields.get("layers", {}).items():
        if not isinstance(layer, dict):
            raise InputError(where, f"has layer {name!r} as a table", layer, "write [layers.NAME]")
    return fields
