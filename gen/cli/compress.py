"""compress: from a configuration file to a compressed model's folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

import drawbar
from drawbar.gen.cli.output import (
    Json,
    console,
    exact,
    modes,
    print_json,
    progress_bars,
    reporting,
    step_bar,
    table,
)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("compress")(compress)


def compress(
    config: Annotated[
        Path,
        typer.Argument(
            help="TOML file: model, data, and the tables [training], [layers.NAME], [target], "
            "[bits]."
        ),
    ],
    data: Annotated[
        Path | None, typer.Option(help="Folder of the data sets [env: DRAWBAR_DATA].")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Result folder; default: CONFIG without its suffix."),
    ] = None,
    device: Annotated[str, typer.Option(help="PyTorch device: cpu or cuda.")] = "cpu",
    json: Json = False,
) -> None:
    """Train a model, compress it with ADMM, and fine-tune its cores.

    The result folder holds weights (safetensors), the table of layers, curves (PNG) and the command
    that made it. A run that was killed goes on where it was: give the same command again. Several
    processes share each batch under [bold]torchrun --nproc-per-node N --no-python drawbar
    compress[/bold].

    \b
    model = "lenet-300"            # or lenet-5, digits-mlp, resnet-20, resnet-32
    data = "mnist"
    [training]                     # dense_epochs, admm_epochs, lr, rho_first, optimiser, ...
    dense_epochs = 10
    [layers.fc1]                   # format, modes_in, modes_out, max_rank; all layers: leave it out
    max_rank = 6
    [target]                       # instead of ranks: compression, or cycles and engine
    cycles = 2400
    engine = "small"
    [bits]                         # weights.packed, a file of nothing but weights of few bits
    "*" = 4
    """
    with reporting(json):
        with progress_bars() as bars:
            result, folder = drawbar.compress_file(
                config, directory=data, folder=output, device=device, report=step_bar(bars)
            )
        if os.environ.get("RANK", "0") != "0":
            return  # under torchrun process 0 speaks
        if json:
            print_json({**result.as_dict(), "folder": str(folder)})
            return
        view = table("Layers", "layer", "modes in > out", "ranks", ">dense", ">weights", ">fewer")
        rows = [
            (
                f"{layer['name']} ({layer['format']})",
                f"{modes(layer['modes_in'])} > {modes(layer['modes_out'])}"
                if layer["modes_in"]
                else "",
                modes(layer["ranks"]) or "-",
                layer["dense_weights"],
                layer["weights"],
            )
            for layer in result.layers
        ]
        rows.append(("all", "", "", result.dense_weights, result.weights))  # shared cores once
        for name, shape, ranks, dense, kept in rows:
            view.add_row(name, shape, ranks, exact(dense), exact(kept), f"{dense / kept:.1f}x")
        console.print(view)
        marks = ", ".join(f"{name} {value:.2f} %" for name, value in result.accuracy.items())
        console.print(f"accuracy: {marks}", soft_wrap=True)
        if result.packed:
            console.print(f"stored in {exact(len(result.packed))} bytes", soft_wrap=True)
        console.print(f"result: {folder}", soft_wrap=True)
