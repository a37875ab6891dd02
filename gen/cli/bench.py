"""bench: the project's numbers, measured here and now."""

from __future__ import annotations

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
        str, typer.Option(help="tie, ranks, ette, simulator, timing, area or cells: see above.")
    ] = "tie",
    engine: Annotated[
        str | None, typer.Option(help="Engine preset or TOML file; default: large.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Samples side by side; default: 1 (simulator: 64).")
    ] = None,
    minimise: Annotated[
        str | None,
        typer.Option(
            help="tie, ranks, ette: cycles (default), or memory, the least work memory for at most "
            "10 % more cycles."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Measure what the project promises. Cycles are exact; seconds are this machine's.

    [bold]tie[/bold]: the layers of TIE (ISCA 2019), inner ranks 4, and its LSTM layers with four
    gates in one.

    [bold]ranks[/bold]: VGG-FC6 and FC7 with inner ranks 2, 8 and 16, with ample core memory and
    with 16 KB.

    [bold]ette[/bold]: tensor trains over single modes, as in ETTE: other networks than TIE's.

    These three run on the simulated board: the engine's own counters, every bit compared. Memories
    that are too small for a suite are enlarged, and the engine's name says so.

    [bold]simulator[/bold]: speed of the simulated board and of the golden model.

    [bold]timing[/bold]: a 4 x 4 board with link and serial line on an ECP5-25F: clock (nextpnr's
    estimate, three seeds) and cells. About ten minutes.

    [bold]area[/bold]: cells of the 16 x 16 engine after yosys synth_ecp5, multipliers, memory
    bits. About ten minutes.

    [bold]cells[/bold]: cells of eight engines on ECP5, iCE40 and Gowin, link included, beside the
    estimate; with --json the estimate's calibration. About half an hour.

    Exit code 3 if a bit or a predicted cycle is wrong.
    """
    with reporting(json):
        with progress_bars() as bars:
            rows = drawbar.bench(
                suite,
                engine=engine,
                batch=batch,
                minimise=minimise,
                report=step_bar(bars),
                build_progress=phase_bar(bars, suite),
            )
        if json:
            print_json(rows)
        else:
            console.print(_layers(rows) if drawbar.SUITES[suite].layers else _values(rows))
        if any(
            row.get("mismatches") or row.get("cycles_predicted") != row.get("cycles_measured")
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
        facts.append(f"{row['compression']:,.0f}x fewer weights")
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
            if row["batch"] > 1:
                facts.append(f"{row['cycles_per_inference']:,.0f} cycles an inference")
        notes.append(f"{row['layer']}: {'; '.join(facts)}")
    view.caption = "\n".join(notes)
    view.caption_justify = "left"
    return view


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
