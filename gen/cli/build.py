"""build, program, boards, explore: a bitstream for a board, onto it, and which one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import drawbar
from drawbar.gen.cli.output import (
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

#: Of the presets with 8-bit data.
EIGHT_BIT_SUFFIX = "-8bit"
BoardName = Annotated[
    str, typer.Option("--board", help="Board: a name (drawbar boards lists them) or a TOML file.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("build")(build)
    app.command("program")(program)
    app.command("boards")(boards)
    app.command("explore")(explore)


def build(
    board: BoardName,
    model: Annotated[
        Path | None, typer.Option(help="Artefact that it shall run: its engine is built.")
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="Engine preset or TOML file; default: the artefact's, or the board's."),
    ] = None,
    fmax: Annotated[float | None, typer.Option(help="Clock in MHz; default: the engine's.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of place-and-route to try.")] = 1,
    first_seed: Annotated[int, typer.Option(min=0, help="The first of them.")] = 1,
    cap: Annotated[
        float | None,
        typer.Option(min=1.0, help="Seconds for all seeds together; late ones are stopped."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Seeds at a time; default: one for each processor.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler that places and routes.")
    ] = None,
    router: Annotated[
        str | None,
        typer.Option(help="nextpnr's router, router1 or router2; default: the family's."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to; default: build/BOARD.")
    ] = None,
    json: Json = False,
) -> None:
    """Build a bitstream that meets timing, with a report as JSON and HTML.

    A build that misses its clock fails, names the slowest path, and leaves nothing to flash. The
    same seed gives the same bytes. Native yosys and nextpnr are used where they are on PATH and new
    enough, the YoWASP wheels otherwise.
    """
    with reporting(json):
        with progress_bars() as bars:
            report = drawbar.build(
                board,
                model=model,
                engine=engine,
                fmax=fmax,
                seeds=seeds,
                first_seed=first_seed,
                cap=cap,
                workers=workers,
                scheduler=scheduler,
                router=router,
                out=out,
                progress=phase_bar(bars, f"build {board}"),
            )
        if json:
            print_json(report.as_dict())
            return
        if report.verilog is not None:
            console.print(f"{report.verilog}, its manifest and .sdc beside it", soft_wrap=True)
            return
        view = table(f"{report.board}: {report.device}", "what", ">value")
        view.add_row("clock", f"{report.clock_mhz:g} MHz")
        view.add_row("fastest clock, nextpnr's estimate", f"{report.fmax_mhz:.2f} MHz")
        for kind, available in report.available.items():
            used = getattr(report, kind)
            expected = report.estimate[kind]
            view.add_row(kind, f"{exact(used)} of {exact(available)} ({exact(expected)} estimated)")
        view.add_row("seed", str(report.seed))
        view.add_row("wall time", f"{report.wall_s:.0f} s")
        for name, version in report.toolchain.items():
            view.add_row(name, version)
        view.add_row("configuration hash", report.config_hash)
        view.caption = report.caveat
        view.caption_justify = "left"
        console.print(view)
        console.print(f"{report.bitstream}, report.html and engine.toml beside it", soft_wrap=True)


def program(
    board: BoardName,
    file: Annotated[Path, typer.Argument(help="Bitstream, as drawbar build writes it.")],
    flash: Annotated[
        bool, typer.Option("--flash", help="Into the flash, to stay; default: until power-off.")
    ] = False,
    json: Json = False,
) -> None:
    """Load a bitstream into a board, with openFPGALoader."""
    with reporting(json):
        command = drawbar.program(board, file, flash=flash)
        if json:
            print_json({"board": board, "file": str(file), "command": command})
        else:
            console.print(f"{file} is in {board}", soft_wrap=True)


def boards(json: Json = False) -> None:
    """List the boards: their chips, the engine that each gets by default, and what else fits."""
    with reporting(json):
        rows = drawbar.list_boards()
        if json:
            print_json(rows)
            return
        view = table(
            "Boards, and what their engines take of them (estimated)",
            *("board", "chip", "engine", ">MHz", ">LUT", ">DSP", ">block RAM", "fits"),
            "presets that fit",
        )
        for row in rows:
            used = row["engine_takes"]
            view.add_row(
                row["board"],
                row["device"] or "any",
                f"{row['engine']}: {row['rows']} x {row['lanes']}",
                f"{row['clock_mhz']:g}",
                *(
                    f"{used[kind] / row[kind]:.0%}" if used else ""
                    for kind in ("luts", "dsps", "brams")
                ),
                ("" if not used else "[red]no[/red]" if row["too_much"] else "yes"),
                "any" if row["device"] is None else _sixteen_bit(row["presets_that_fit"]),
            )
        view.caption = (
            f"Presets with 16 bits; each has one with 8 bits of its own, NAME{EIGHT_BIT_SUFFIX}."
        )
        view.caption_justify = "left"
        console.print(view)


def _sixteen_bit(presets: list[str]) -> str:
    return ", ".join(n for n in presets if not n.endswith(EIGHT_BIT_SUFFIX)) or "none"


def estimate_on_board(
    board: str,
    model: Path | None,
    *,
    engine: str | None,
    fmax: float | None,
    batch: int,
    minimise: str,
    json: bool,
) -> None:
    """``drawbar estimate --board``: what the chip has and the engine takes, and the speed."""
    facts = drawbar.estimate(board, model, engine=engine, fmax=fmax, batch=batch, minimise=minimise)
    if json:
        print_json(facts)
        return
    view = table(
        f"{facts['engine']}, {facts['rows']} x {facts['lanes']}, on {facts['board']} "
        f"({facts['device']})",
        "what",
        ">value",
    )
    for kind, available in facts["available"].items():
        error = facts["model_error"].get(kind)
        note = (
            "exact"
            if error is None
            else f"model, at most {percent(error)} off on engines it has not seen"
        )
        view.add_row(f"{kind} ({note})", f"{exact(facts[kind])} of {exact(available)}")
    if "cycles" in facts:
        view.add_row("cycles a run (exact)", exact(facts["cycles"]))
        view.add_row(
            f"inferences a second at {facts['clock_mhz']:g} MHz, link apart",
            f"{facts['inferences_per_s']:,.1f}",
        )
        view.add_row("compute time a run", f"{1e3 * facts['compute_s']:.3f} ms")
        view.add_row(
            f"link time a run at {exact(facts['baud'])} baud", f"{1e3 * facts['link_s']:.3f} ms"
        )
        view.add_row(
            "inferences a second, link included", f"{facts['inferences_per_s_with_link']:,.1f}"
        )
    console.print(view)


def explore(
    board: BoardName,
    model: Annotated[Path, typer.Option(help="Model file (.safetensors or .onnx).")],
    batch: Annotated[
        int, typer.Option(min=1, help="Samples that one run of the program takes.")
    ] = 1,
    plot: Annotated[
        Path | None, typer.Option(help="Draw all engines and the front: .svg, .png or .pdf.")
    ] = None,
    json: Json = False,
) -> None:
    """Plan a model on many engines that fit a board, and show the Pareto front.

    Rows, lanes, data width and the split of block RAM are swept; nothing is built. Cycles and block
    RAM are exact, look-up tables are a model's, and the clock is that of the board's own engine.
    """
    with reporting(json):
        if plot is not None:
            drawbar.check_plot(plot)
        with progress_bars() as bars:
            rows = drawbar.explore(board, model, batch=batch, report=step_bar(bars))
        if plot is not None:
            drawbar.plot_pareto(rows, f"{model.name} on {board}", plot)
        if json:
            print_json(rows)
            return
        front = [row for row in rows if row["pareto"]]
        view = table(
            f"Pareto front of {len(rows)} engines on {board}",
            "engine",
            ">cycles",
            ">inferences/s",
            ">LUT",
            ">block RAM",
        )
        for row in front:
            view.add_row(
                row["engine"],
                exact(row["cycles"]),
                f"{row['inferences_per_s']:,.1f}",
                *(exact(row[kind]) for kind in ("luts", "brams")),
            )
        console.print(view)
