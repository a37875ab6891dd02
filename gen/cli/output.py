"""What the commands share: errors and exit codes, ``--json``, tables and progress bars."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from drawbar.gen.errors import DrawbarError

#: Exit codes: a problem that the error names, and a check that ran and failed. Usage errors exit
#: with 2.
EXIT_ERROR = 1
EXIT_CHECK_FAILED = 3

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]

#: Results go to standard output; progress, warnings and errors to standard error.
console = Console()
messages = Console(stderr=True)

#: Phase and fraction (None: unknown) of something that takes a while.
PhaseProgress = Callable[[str, float | None], None]
#: Things done, and things to do.
CountProgress = Callable[[int, int], None]


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


@contextmanager
def reporting(as_json: bool) -> Iterator[None]:
    """Turn errors into one clear message (or a JSON object) and an exit code; show warnings as
    text.
    """

    def show(message: Warning | str, *_: object, **__: object) -> None:
        messages.print(f"[yellow]warning:[/yellow] {escape(str(message))}", highlight=False)

    with warnings.catch_warnings():
        warnings.showwarning = show  # type: ignore[assignment]
        try:
            yield
        except DrawbarError as error:
            if as_json:
                print_json(error.as_dict())
            else:
                messages.print(
                    error.subject, style="bold red", highlight=False, markup=False, soft_wrap=True
                )
                messages.print(
                    f"  rule   {error.rule}", highlight=False, markup=False, soft_wrap=True
                )
                messages.print(
                    f"  found  {error.value}", highlight=False, markup=False, soft_wrap=True
                )
                messages.print(
                    f"  fix    {error.fix}", highlight=False, markup=False, soft_wrap=True
                )
            raise typer.Exit(EXIT_ERROR) from None


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Progress bars on standard error; they vanish when they are done."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=messages,
        transient=True,
    ) as progress:
        yield progress


def phase_bar(progress: Progress, title: str) -> PhaseProgress:
    """A bar whose text follows the phase."""
    task = progress.add_task(title, total=None)

    def report(phase: str, fraction: float | None) -> None:
        done = fraction is not None
        progress.update(
            task,
            description=f"{title}: {phase}",
            total=1.0 if done else None,
            completed=fraction if done else 0,
        )
        if fraction == 1.0:
            progress.update(task, visible=False)
        else:
            progress.update(task, visible=True)

    progress.update(task, visible=False)
    return report


def count_bar(progress: Progress, title: str) -> CountProgress:
    """A bar over a known number of things."""
    task = progress.add_task(title, total=None)

    def report(done: int, total: int) -> None:
        progress.update(task, completed=done, total=total)

    return report


def step_bar(progress: Progress) -> Callable[[str, int, int], None]:
    """One bar that goes through steps: (title, things done, things to do or 0)."""
    task = progress.add_task("", total=None, visible=False)

    def report(title: str, done: int, total: int) -> None:
        progress.update(
            task, description=title, completed=done, total=total or None, visible=done < total
        )

    return report


def table(title: str, *columns: str) -> Table:
    """A table whose columns are right-aligned where their name starts with ``>``."""
    made = Table(
        title=title,
        title_justify="left",
        header_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for column in columns:
        right = column.startswith(">")
        made.add_column(column.removeprefix(">"), justify="right" if right else "left")
    return made


def modes(values: tuple[int, ...] | list[int]) -> str:
    """``(4, 8, 8)`` as ``4 8 8``."""
    return " ".join(str(v) for v in values)


def exact(value: int) -> str:
    """A whole number with thousands separated."""
    return f"{value:,}"


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"
