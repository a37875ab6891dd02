"""doctor: what is installed, what is missing, and what each thing is for."""

from __future__ import annotations

import typer
from rich.markup import escape

import drawbar
from drawbar.gen.cli.output import EXIT_ERROR, Json, console, print_json, reporting, table


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("doctor")(doctor)


def doctor(json: Json = False) -> None:
    """List the tools and packages that Drawbar uses, and how to get what is missing.

    Exit code 1 where the simulated board cannot be built.
    """
    with reporting(json):
        tools = drawbar.tool_report()
        if json:
            print_json([tool._asdict() for tool in tools])
        else:
            view = table("Tools", "name", "version", "needed for", "how to get it")
            for tool in tools:
                found = tool.path is not None
                view.add_row(
                    tool.name,
                    (tool.version or "?") if found else "[red]missing[/red]",
                    tool.needed_for,
                    "" if found else escape(tool.fix),
                )
            console.print(view)
        if any(tool.path is None and "simulated board" in tool.needed_for for tool in tools):
            raise typer.Exit(EXIT_ERROR)
