"""demo: from a data set to the generated hardware and back, in one command."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

import drawbar
from drawbar.gen.cli.output import (
    EXIT_CHECK_FAILED,
    Json,
    console,
    exact,
    modes,
    percent,
    phase_bar,
    print_json,
    progress_bars,
    reporting,
    step_bar,
    table,
)


class DataSet(StrEnum):
    """Data sets that the demo knows."""

    digits = "digits"
    mnist = "mnist"
    fashion_mnist = "fashion-mnist"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("demo")(demo)


def demo(
    dataset: Annotated[
        DataSet,
        typer.Option(help="digits comes with scikit-learn; the others are read from --data."),
    ] = DataSet.digits,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder with the idx files of mnist or fashion-mnist [env: DRAWBAR_DATA]."
        ),
    ] = None,
    pretrained: Annotated[
        bool,
        typer.Option(help="Start from the weights that ship with the package; needs no PyTorch."),
    ] = False,
    bits: Annotated[
        int | None,
        typer.Option(help="Width of activations and cores, 16 or 8; default: 16, or the engine's."),
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="Engine preset or TOML file; default: the data set's.")
    ] = None,
    device: Annotated[
        str, typer.Option(help="sim, golden (no compiler needed), or serial:///PATH?baud=N.")
    ] = "sim",
    samples: Annotated[
        int | None, typer.Option(min=1, help="Test samples to run; default: all of them.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Picture of where the cycles go; default: drawbar-demo-DATASET-BITSbit.png."
        ),
    ] = None,
    no_plot: Annotated[bool, typer.Option("--no-plot", help="Draw no picture.")] = False,
    save: Annotated[
        Path | None, typer.Option(help="Also write the compiled model to this .drawbar file.")
    ] = None,
    json: Json = False,
) -> None:
    """Train a tensor-train network, compile it, and run the test split on the simulated board.

    The table compares predicted with measured cycles; accuracy is given in float, in the golden
    model, and on the device. Exit code 3 if a single output bit or cycle differs.
    """
    started = time.monotonic()
    if bits not in (None, 8, 16):
        raise typer.BadParameter("use 16 or 8", param_hint="--bits")
    if bits is not None and engine is not None:
        raise typer.BadParameter("an engine brings its own width", param_hint="--bits")
    with reporting(json):
        target = plot or Path(f"drawbar-demo-{dataset.value}-{bits or 16}bit.png")
        if not no_plot:
            drawbar.check_plot(target)
        with progress_bars() as bars:
            result = drawbar.run_demo(
                dataset=dataset.value,
                data=data,
                pretrained=pretrained,
                engine=engine,
                data_width=bits or 16,
                device=device,
                samples=samples,
                report=step_bar(bars),
                build_progress=phase_bar(bars, "simulated board"),
            )
        facts: dict[str, Any] = result.as_dict()
        if save is not None:
            result.artefact.save(save)
            facts["artefact"] = str(save)
        if not no_plot:
            facts["plot"] = str(drawbar.plot_stages(result.stages, _title(facts), target))
        facts["seconds"] = time.monotonic() - started
        if json:
            print_json(facts)
        else:
            _show(facts)
        if facts["mismatches"] or facts["cycles_predicted"] != facts["cycles_measured"]:
            raise typer.Exit(EXIT_CHECK_FAILED)


def _title(facts: dict[str, Any]) -> str:
    return (
        f"{facts['dataset']} on engine {facts['engine']}, {facts['device']}: "
        f"{facts['cycles_measured']:,} cycles an inference"
    )


def _show(facts: dict[str, Any]) -> None:
    weights = table(
        f"{facts['dataset']}: layers",
        "layer",
        "modes in > out",
        "ranks",
        ">dense weights",
        ">core weights",
        ">fewer",
    )
    cycles = table(
        f"{facts['dataset']} on engine {facts['engine']}: cycles an inference",
        "layer",
        ">multiplications",
        ">predicted",
        ">measured",
        ">utilisation",
    )
    for layer in facts["layers"]:
        dense, core = layer["dense_weights"], layer["core_weights"]
        weights.add_row(
            f"{layer['name']} ({layer['format']})",
            f"{modes(layer['modes_in'])} > {modes(layer['modes_out'])}",
            modes(layer["ranks"]) or "-",
            exact(dense),
            exact(core),
            f"{dense / core:.1f}x",
        )
        cycles.add_row(
            layer["name"],
            exact(layer["multiplications"]),
            exact(layer["cycles_predicted"]),
            exact(layer["cycles_measured"]),
            percent(layer["utilisation"]),
        )
    dense = sum(layer["dense_weights"] for layer in facts["layers"])
    core = sum(layer["core_weights"] for layer in facts["layers"])
    weights.add_section()
    weights.add_row("all", "", "", exact(dense), exact(core), f"{dense / core:.1f}x")
    cycles.add_section()
    cycles.add_row(
        "all",
        exact(sum(layer["multiplications"] for layer in facts["layers"])),
        exact(facts["cycles_predicted"]),
        exact(facts["cycles_measured"]),
        percent(facts["utilisation"]),
    )
    console.print(weights)
    console.print(cycles)
    accuracy = facts["accuracy"]
    what = {"sim": "simulated board", "golden": "golden board"}.get(facts["device"], "board")
    console.print(
        f"accuracy on {facts['samples']} test samples: float {accuracy['float']:.2f} %, "
        f"golden model {accuracy['golden']:.2f} %, {what} {accuracy['device']:.2f} %",
        soft_wrap=True,
    )
    console.print(f"mismatching outputs between golden model and {what}: {facts['mismatches']}")
    for key, text in (("plot", "where the cycles go"), ("artefact", "compiled model")):
        if key in facts:
            console.print(f"{text}: {facts[key]}")
    console.print(f"{facts['seconds']:.1f} s")
