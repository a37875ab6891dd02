"""bench: the project's numbers, measured here and now."""

from __future__ import annotations

from typing import Annotated, Any

import typer

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
            help="tie: the four layers of TIE (ISCA 2019) on the simulated board, cycles and bits; "
            "simulator: speed of the simulated board and of the golden model."
        ),
    ] = "tie",
    engine: Annotated[str, typer.Option(help="Engine preset or TOML file.")] = "large",
    batch: Annotated[int | None, typer.Option(min=1, help="Samples side by side.")] = None,
    json: Json = False,
) -> None:
    """Measure what the project promises. Cycles are exact; seconds are this machine's."""
    with reporting(json):
        with progress_bars() as bars:
            rows = drawbar.bench(
                suite,
                engine=engine,
                batch=batch,
                report=step_bar(bars),
                build_progress=phase_bar(bars, "simulated board"),
            )
        if json:
            print_json(rows)
        else:
            console.print(_layers(rows) if suite == "tie" else _values(rows))
        if any(
            row.get("mismatches") or row.get("cycles_predicted") != row.get("cycles_measured")
            for row in rows
        ):
            raise typer.Exit(EXIT_CHECK_FAILED)


def _layers(rows: list[dict[str, Any]]) -> Any:
    view = table(
        f"Simulated board, engine {rows[0]['engine']}, batch {rows[0]['batch']}",
        "layer",
        ">predicted",
        ">measured",
        ">utilisation",
        ">core B",
        ">work B",
        ">differ",
    )
    for row in rows:
        view.add_row(
            row["layer"],
            exact(row["cycles_predicted"]),
            exact(row["cycles_measured"]),
            percent(row["utilisation"]),
            exact(row["core_bytes"]),
            exact(row["work_bytes_peak"]),
            exact(row["mismatches"]),
        )
    view.caption = "\n".join(f"{row['layer']}: {row['plan']}" for row in rows)
    view.caption_justify = "left"
    return view


def _values(rows: list[dict[str, Any]]) -> Any:
    view = table("Speed on this machine", "what", ">value", "unit")
    for row in rows:
        view.add_row(row["name"], f"{row['value']:,.0f}", row["unit"])
    return view
