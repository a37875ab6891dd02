"""trace: where a compiled model loses accuracy, layer by layer."""

from __future__ import annotations

from math import isinf
from pathlib import Path
from typing import Annotated

import typer

import drawbar
from drawbar.gen.cli.models import read_array
from drawbar.gen.cli.options import Batch, Engine, ModelFile
from drawbar.gen.cli.output import (
    EXIT_CHECK_FAILED,
    Json,
    console,
    exact,
    print_json,
    progress_bars,
    reporting,
    step_bar,
    table,
)
from drawbar.gen.errors import InputError


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("trace")(trace)


def trace(
    model: ModelFile,
    data: Annotated[
        Path,
        typer.Option(
            help="Inputs to compare on, an .npy array (samples, inputs); of a recurrent model "
            "sequences (samples, steps, inputs)."
        ),
    ],
    calibration: Annotated[
        Path | None,
        typer.Option(help="Inputs from which the scales are chosen; default: those of --data."),
    ] = None,
    engine: Engine = "small",
    batch: Batch = 1,
    samples: Annotated[int, typer.Option(min=1, help="How many samples to look at.")] = 64,
    device: Annotated[
        str | None,
        typer.Option(
            help="Compare a device too: sim, golden, or serial:///PATH?baud=N; default: the golden "
            "model alone, without a device."
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw ratios and histograms into this file: .png, .svg or .pdf."),
    ] = None,
    json: Json = False,
) -> None:
    """Compare float model, golden model and device layer by layer, to find where accuracy is lost.

    For the input and for each layer's result, ratios in dB:

      SQNR       signal to quantisation noise against float: all noise so far
      own SQNR   the noise of this layer alone; exact where there is none
      saturated  results at the ends of the range (and in earlier stages)
      range      largest magnitude over the end of the range
      float      the same of the float model: above 100 % it does not fit
      differ     results of the device that are not the golden model's

    Of sequences all steps count together, and two more columns have the SQNR
    at the first and at the last step: noise that states carry on grows. The
    device is compared after the last step of each. --json has every step.

    The layer with the least ratio of its own is marked. A bit lost is 6 dB.
    Saturation: the scales were chosen from smaller values than these. A small
    range: its scale leaves bits unused. Neither: its cores are too coarse,
    which a wider engine mends, or weights with less spread. Exit code 3 if
    the device's results differ.

    Examples:

      drawbar trace model.onnx --data test.npy --plot trace.png

      drawbar trace model.onnx --data test.npy --device sim --samples 4
    """
    with reporting(json):
        if model.suffix == ".drawbar":
            raise InputError(
                f"artefact {model}",
                "is compared with the float model, which it does not have",
                "an artefact",
                "give the model file that it was compiled from",
            )
        if plot is not None:
            drawbar.check_plot(plot)
        with progress_bars() as bars:
            found = drawbar.trace(
                model,
                engine,
                data=read_array(data, "data"),
                calibration=(
                    None if calibration is None else read_array(calibration, "calibration data")
                ),
                device=device,
                batch=batch,
                samples=samples,
                progress=step_bar(bars),
            )
        picture = None if plot is None else drawbar.plot_trace(found, plot)
        if json:
            print_json({**found.as_dict(), "plot": None if picture is None else str(picture)})
        else:
            _show(found)
            if picture is not None:
                console.print(f"ratios and histograms: {picture}", soft_wrap=True)
        if found.mismatches:
            raise typer.Exit(EXIT_CHECK_FAILED)


def _decibel(value: float) -> str:
    return ("exact" if value > 0 else "no signal") if isinf(value) else f"{value:.1f}"


def _show(found: drawbar.Trace) -> None:
    columns = ["layer", ">elements", ">SQNR", ">own SQNR", ">saturated", ">range", ">float"]
    steps = bool(found.layers[0].by_step)
    if steps:
        columns += [">first step", ">last step"]
    if found.device is not None:
        columns.append(">differ")
    view = table(
        f"{found.model} on engine {found.engine} ({found.data_width} bit), "
        f"{found.samples} samples against float; ratios in dB",
        *columns,
        "",
    )
    for row in found.layers:
        saturated = exact(row.saturated) if row.saturated else "-"
        if row.saturated_inside:
            saturated += f" ({exact(row.saturated_inside)})"
        cells = [
            row.name,
            exact(row.elements),
            _decibel(row.sqnr),
            _decibel(row.own_sqnr),
            saturated,
            f"{100 * row.range_use:.0f} %",
            f"{100 * row.float_use:.0f} %",
        ]
        if steps:
            cells += [_decibel(row.by_step[0]), _decibel(row.by_step[-1])]
        if found.device is not None:
            cells.append(exact(row.mismatches or 0))
        view.add_row(*cells, "<- worst" if row is found.worst else "")
    console.print(view)
    if found.device is not None:
        verdict = (
            "the golden model's bits"
            if not found.mismatches
            else f"{exact(found.mismatches)} results differ"
        )
        console.print(f"device {found.device}, all layers: {verdict}", soft_wrap=True)
