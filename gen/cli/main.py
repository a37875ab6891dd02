"""Entry point: the application and its commands."""

from __future__ import annotations

from typing import Annotated

import typer

import drawbar
from drawbar.gen.cli import bench, build, compress, demo, doctor, explain, fuzz, models, trace

app = typer.Typer(
    name="drawbar",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="""Run tensor-decomposed neural networks on a generated inference engine.

    Try [bold]drawbar demo[/bold] first: it trains a small tensor-train network, compiles it,
    and runs it on the simulated board. Then [bold]drawbar compile[/bold] your own model,
    and [bold]drawbar run[/bold] it.

    Exit codes: 0 all well; 1 a problem, which the message names with its fix; 2 wrong usage;
    3 a check ran and failed (mismatching bits).
    """,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"drawbar {drawbar.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of the program itself."""


demo.register(app)
compress.register(app)
models.register(app)
explain.register(app)
trace.register(app)
bench.register(app)
build.register(app)
fuzz.register(app)
doctor.register(app)


def main() -> None:
    """Run the command line."""
    app()
