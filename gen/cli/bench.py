"""bench: the project's numbers, measured here and now."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group

import drawbar
from drawbar.gen.cli.output import (
    EXIT_CHECK_FAILED,
    Json,
    console,
    exact,
    percent,
    phase_bar,
    print_json,
    progress_bars,
    reporting,
    step_bar,
    table,
)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("bench")(bench)


def bench(
    suite: Annotated[
        str,
        typer.Option(
            help="tie, ranks, ette, shapes, icebreaker, streaming, simulator, timing, area, cells, "
            "estimates, compress-quick, compress-resnet, compress-resnet-full, lenet5, resnet20, "
            "fsdd-lstm: see above."
        ),
    ] = "tie",
    engine: Annotated[
        str | None,
        typer.Option(help="Engine preset or TOML file; default: large, of ranks and ette wide."),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Samples side by side; default: 1 (simulator: 64).")
    ] = None,
    minimise: Annotated[
        str | None,
        typer.Option(
            help="tie, ranks, ette, shapes: cycles (default), or memory, the least work memory for "
            "at most 10 % more cycles."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="compress-..., lenet5, resnet20, fsdd-lstm: folder of the data sets "
            "[env: DRAWBAR_DATA]."
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            help="compress-..., lenet5, fsdd-lstm: keep checkpoints there, and go on from them; "
            "lenet5, resnet20: a result of drawbar compress; resnet20: what compress-resnet keeps."
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            min=1, help="compress-...: how many seeds; default: 3, of compress-resnet... 1."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Measure what the project promises. Cycles are exact; seconds are this machine's.

    [bold]tie[/bold]: the layers of TIE (ISCA 2019), inner ranks 4, and its LSTM layers with four
    gates in one.

    [bold]ranks[/bold]: VGG-FC6 and FC7 with inner ranks 2, 8 and 16, with ample core memory and
    with 16 KB, where cores that do not fit stream in. On [bold]wide[/bold], as many multipliers as
    large, whose array each stage folds to 4 x 64, 8 x 32 or 16 x 16.

    [bold]ette[/bold]: tensor trains over single modes, as in ETTE: other networks than TIE's. On
    wide as well.

    [bold]shapes[/bold]: VGG-FC6 and FC7 of rank 2 and the layers of ette on 16 x 16 and on as many
    multipliers in other shapes, 8 x 32 and 4 x 64, as wider engines read and write more elements a
    cycle; and on one that folds, so that it has all of these shapes.

    These four run on the simulated board: the engine's own counters, every bit compared. Memories
    that are too small for a suite are enlarged, and the engine's name says so.

    [bold]icebreaker[/bold]: VGG-FC6 and FC7 on the engine of an iCEBreaker, not enlarged: cycles,
    bits, what it takes of the chip, and inferences a second at its clock, link apart.

    [bold]streaming[/bold]: many runs, one after the other, with one buffer for inputs and outputs
    and with two: cycles from one run to the next, predicted and measured.

    [bold]simulator[/bold]: speed of the simulated board and of the golden model.

    [bold]timing[/bold]: a 4 x 4 board with link and serial line on an ECP5-25F: clock (nextpnr's
    estimate, three seeds) and cells. About ten minutes.

    [bold]area[/bold]: cells of the engines large (16 x 16) and wide (it folds) after yosys
    synth_ecp5, multipliers, memory bits. About twenty minutes.

    [bold]cells[/bold]: cells of engines on ECP5, iCE40 and Gowin, link included, beside the
    estimate; with --json the estimate's calibration. A quarter of an hour.

    [bold]estimates[/bold]: what drawbar estimate expects of six boards' own engines against what
    yosys and nextpnr make of them; nothing is placed. A quarter of an hour.

    [bold]compress-quick[/bold]: MNIST. LeNet-300 in 5,970 weights: ADMM, a control of equal epochs,
    the quantised network on an 8 x 8 simulated board; LeNet-5 in TT; both networks in files of
    4,577 and 2,495 bytes; counts of published networks; speed. Half an hour and more.

    [bold]compress-resnet[/bold]: ResNet-20 on CIFAR-10 in 39,448 weights on a short schedule: ADMM
    and a control of equal epochs. An hour and more.

    [bold]compress-resnet-full[/bold]: ResNet-20 at 6.8x and 4.5x with ADMM on a long schedule, 580
    epochs in all, against the published accuracy. On a GPU where there is one; on two cores six
    hours: give it a --folder to go on from.

    [bold]lenet5[/bold]: LeNet-5 on MNIST, whole, in tensor trains: all test images in the golden
    model, 200 on an 8 x 8 simulated board. Trains a few epochs, unless --folder has weights.

    [bold]resnet20[/bold]: ResNet-20 for CIFAR-10, whole, in tensor trains and dense, on 16 x 16
    simulated boards; dense also on the engine of the tensor trains, where its cores stream in. With
    --folder, its trained weights, of drawbar compress, compress-resnet-full or compress-resnet, and
    how many test images they get right in float and on the golden model; else random ones.

    [bold]fsdd-lstm[/bold]: an LSTM of tensor trains for spoken digits: trained, quantised, and 20
    recordings whole on a 16 x 16 simulated board, a step in each run. A quarter of an hour.

    Exit code 3 if a bit or a predicted cycle is wrong, or a row does not hold what is wanted.
    """
    with reporting(json):
        with progress_bars() as bars:
            rows = drawbar.bench(
                suite,
                engine=engine,
                batch=batch,
                minimise=minimise,
                data=data,
                folder=folder,
                seeds=None if seeds is None else tuple(range(seeds)),
                report=step_bar(bars),
                build_progress=phase_bar(bars, suite),
            )
        if json:
            print_json(rows)
        else:
            show = {"layers": _layers, "streams": _streams, "values": _values, "checks": _checks}
            console.print(show[drawbar.SUITES[suite].rows](rows))
        if any(
            row.get("passed") is False
            or row.get("mismatches")
            or row.get("cycles_predicted") != row.get("cycles_measured")
            or row.get("period_predicted") != row.get("period_measured")
            or row.get("latency_predicted") != row.get("latency_measured")
            for row in rows
        ):
            raise typer.Exit(EXIT_CHECK_FAILED)


def _layers(rows: list[dict[str, Any]]) -> Any:
    """One table for each engine of a suite."""
    return Group(
        *(
            _engine_layers(engine, [row for row in rows if row["engine"] == engine])
            for engine in dict.fromkeys(row["engine"] for row in rows)
        )
    )


def _engine_layers(engine: str, rows: list[dict[str, Any]]) -> Any:
    view = table(
        f"Simulated board, engine {engine}, batch {rows[0]['batch']}",
        "layer",
        ">predicted",
        ">measured",
        ">used",
        ">core B",
        ">work B",
        ">differ",
    )
    notes = []
    for row in rows:
        facts = [f"{what}: {exact(cycles)} cycles" for what, cycles in row["known"].items()]
        facts.append(f"operand bound: {exact(row['operand_bound'])} cycles")
        facts.append(f"{row['compression']:,.0f}x fewer weights")
        if "inferences_per_s" in row:
            rate, clock = row["inferences_per_s"], row["clock_mhz"]
            facts.append(f"{rate:.1f} inferences/s at {clock:g} MHz, link apart")
        if "error" in row:
            view.add_row(row["layer"], "does not fit")
            facts += [row["error"]["value"], row["error"]["fix"]]
        else:
            view.add_row(
                row["layer"],
                exact(row["cycles_predicted"]),
                exact(row["cycles_measured"]),
                percent(row["utilisation"]),
                exact(row["core_bytes"]),
                exact(row["work_bytes_peak"]),
                exact(row["mismatches"]),
            )
            facts.append(row["plan"])
            if "passes" in row:
                facts.append(
                    f"cores stream in: {exact(row['bytes_loaded'])} bytes a run, in "
                    f"{row['passes']} passes, link {row['cycles_link']:,.0f} cycles"
                )
            if "latency_measured" in row:
                facts.append(
                    f"from start to end, a byte a cycle: {exact(row['latency_predicted'])} cycles "
                    f"predicted, {exact(row['latency_measured'])} measured"
                )
            if row["batch"] > 1:
                facts.append(f"{row['cycles_per_inference']:,.0f} cycles an inference")
        notes.append(f"{row['layer']}: {'; '.join(facts)}")
    view.caption = "\n".join(notes)
    view.caption_justify = "left"
    return view


def _streams(rows: list[dict[str, Any]]) -> Any:
    view = table(
        f"Simulated board, batch {rows[0]['batch']}",
        "model",
        ">byte",
        ">buffers",
        ">cycles",
        ">in",
        ">out",
        ">predicted",
        ">measured",
        ">idle",
        ">faster",
        ">differ",
    )
    for row in rows:
        view.add_row(
            row["model"],
            str(row["byte_cycles"]),
            str(row["buffers"]),
            exact(row["cycles_measured"]),
            f"{row['cycles_in']:,.0f}",
            f"{row['cycles_out']:,.0f}",
            f"{row['period_predicted']:,.0f}",
            f"{row['period_measured']:,.0f}",
            f"{row['idle']:,.0f}",
            f"{row['speed_up']:.2f}x",
            exact(row["mismatches"]),
        )
    view.caption = (
        "Cycles of a byte on its line, of a run, of its bytes in and out, and from one run to the "
        "next: predicted, measured, and those of them in which the engine is idle."
    )
    view.caption_justify = "left"
    return view


def _checks(rows: list[dict[str, Any]]) -> Any:
    view = table("Measured, and what is wanted", "what", ">measured", "unit", "wanted", "holds")
    for row in rows:
        view.add_row(
            row["name"],
            _measured(row["value"], row["unit"]),
            row["unit"],
            row["wanted"],
            {True: "yes", False: "NO", None: ""}[row["passed"]],
        )
    seeds = [f"{row['name']}: {row['seeds']}" for row in rows if "seeds" in row]
    if seeds:
        view.caption = "\n".join(seeds)
        view.caption_justify = "left"
    return view


def _measured(value: float | None, unit: str) -> str:
    """A value of a row as text; a row that was left out has none."""
    if value is None:
        return ""
    if unit in ("weights", "cycles", "outputs", "bytes"):
        return exact(round(value))
    return f"{value:.2f}" if abs(value) >= 0.01 or not value else f"{value:.0e}"


def _values(rows: list[dict[str, Any]]) -> Any:
    view = table("Measured on this machine", "what", ">value", "unit")
    for row in rows:
        view.add_row(
            row["name"], f"{row['value']:,.{1 if row['unit'] == 'MHz' else 0}f}", row["unit"]
        )
    paths = [
        f"{row['name']}: slowest path {' to '.join(row['slowest_path'])}, "
        f"{row['logic_ns']:.1f} ns logic, {row['routing_ns']:.1f} ns routing"
        for row in rows
        if "slowest_path" in row
    ]
    if paths:
        view.caption = "\n".join(paths)
        view.caption_justify = "left"
    return view
