"""explain: why a plan is as it is, where its cycles go, and what lost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.text import Text
from rich.tree import Tree

import drawbar
from drawbar.gen.cli.output import (
    Json,
    console,
    exact,
    modes,
    percent,
    print_json,
    reporting,
    table,
)
from drawbar.gen.cli.streaming import buffers_text, passes_text, streaming_table
from drawbar.gen.errors import InputError
from drawbar.gen.explain import (
    LOSERS,
    LOSSES,
    Explanation,
    LayerReport,
    explain_artefact,
    explain_plan,
)

ARTEFACT_SUFFIX = ".drawbar"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("explain")(explain)


def explain(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL_OR_ARTEFACT",
            help="Model file (.safetensors or .onnx), which is planned here, or artefact "
            "(.drawbar).",
        ),
    ],
    engine: Annotated[
        str | None,
        typer.Option(help="Engine preset or TOML file to plan a model for; default: small."),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Samples of one run to plan a model for; default: 1.")
    ] = None,
    minimise: Annotated[
        str | None,
        typer.Option(help="Plan a model for the least cycles or memory; default: cycles."),
    ] = None,
    buffers: Annotated[
        int | None,
        typer.Option(
            min=1, max=2, help="Buffers to plan a model for; default: 2 where they cost nothing."
        ),
    ] = None,
    losers: Annotated[
        int, typer.Option(min=0, help="Orders that lost to show for each layer of a model.")
    ] = LOSERS,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Draw the stages over time and a roofline into this file: .png, .svg or .pdf."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Say why a plan is as it is: the contraction order, each stage, and the orders that lost.

    A stage multiplies a merged core (rows x k) with the live tensor, in tiles of as many rows as
    the array has by as many columns as it has lanes; an engine that folds has the array in the
    shape that suits the stage. It is limited by

      array        nothing: every multiplier works nearly always
      ragged rows  its last row tile is not full
      ragged lanes its last lane tile of each run is not full
      drain        its reductions are shorter than a tile takes to drain
      descriptor   it waits for its own descriptor
      pipeline     it waits for words of the stage before, or is too short to fill the pipeline

    An order that lost comes with its lower bound of cycles and its reason: cycles, core or work
    memory, no layout that reaches its bound, or a tie. [14 x ...] runs its stages in slices.

    Where cores do not fit the engine at once, a run is several passes, with a line between their
    stages: while one computes, the cores of the next one stream in.

    At the end, what a run costs where many follow each other over the engine's serial line: the
    longest of its own cycles, its bytes in and its bytes out.

    Nothing is built or run. Examples:

      drawbar explain model.safetensors --engine large --batch 16
      drawbar explain model.drawbar --plot stages.png
    """
    with reporting(json):
        found = _explanation(source, engine, batch, minimise, buffers, losers)
        picture = None
        if plot is not None:
            picture = drawbar.plot_explanation(found, plot)
        if json:
            print_json({**found.as_dict(), "plot": None if picture is None else str(picture)})
            return
        _show(found)
        if picture is not None:
            console.print(f"stages over time, and roofline: {picture}", soft_wrap=True)


def _explanation(
    source: Path,
    engine: str | None,
    batch: int | None,
    minimise: str | None,
    buffers: int | None,
    losers: int,
) -> Explanation:
    if source.suffix == ARTEFACT_SUFFIX:
        for option, value in (
            ("--engine", engine),
            ("--batch", batch),
            ("--minimise", minimise),
            ("--buffers", buffers),
        ):
            if value is not None:
                raise InputError(
                    f"artefact {source}",
                    "has its engine, batch and plan already",
                    f"{option} {value}",
                    f"leave {option} out, or explain the model file",
                )
        return explain_artefact(drawbar.Artefact.load(source))
    plan = drawbar.plan(
        source,
        engine or "small",
        batch=batch or 1,
        minimise=minimise or "cycles",
        buffers=buffers,
    )
    return explain_plan(plan, losers=losers)


def _tree(layer: LayerReport, found: Explanation) -> Tree:
    """A layer's contraction, the result at the root and the input at the innermost leaf."""
    size = modes(layer.modes_out)
    root = Tree(
        Text.assemble((layer.name, "bold"), f" ({layer.format}): output {size}"),
        guide_style="dim",
    )
    branch = root
    for stage in reversed([s for s in found.stages if s.layer == layer.name]):
        branch = branch.add(
            Text.assemble(
                (stage.cores, "bold cyan"),
                f"  {stage.core_text} by {exact(stage.columns)} columns, "
                f"{exact(stage.cycles.total)} cycles",
            )
        )
    branch.add(f"X  input {modes(layer.modes_in)}")
    return root


def _stages(found: Explanation) -> Any:
    """What each stage is, and where its cycles go."""
    config = found.config
    folds = config.fold > 1
    sizes = table(
        "Stages",
        "",
        "cores",
        ">rows x k",
        ">columns",
        *((">array",) if folds else ()),
        ">row tiles x lane tiles",
        ">lane stride in/out",
    )
    cycles = table(
        "Their cycles",
        "",
        "cores",
        ">cycles",
        ">busy",
        ">drain",
        ">fetch",
        ">flush",
        ">used",
        "limit",
    )
    for stage in found.stages:
        if stage.number in found.pass_ends:
            # The next pass begins.
            sizes.add_section()
            cycles.add_section()
        sizes.add_row(
            str(stage.number),
            stage.cores,
            stage.core_text,
            exact(stage.columns),
            *((f"{config.rows * stage.fold} x {config.lanes // stage.fold}",) if folds else ()),
            f"{stage.row_tiles} x {exact(stage.lane_tiles)}",
            f"{stage.lane_read}/{stage.lane_write}",
        )
        spent = stage.cycles
        cycles.add_row(
            str(stage.number),
            stage.cores,
            exact(spent.total),
            exact(spent.busy),
            exact(spent.stall_drain),
            exact(spent.stall_fetch),
            exact(spent.flush),
            percent(stage.utilisation),
            stage.limit,
        )
    return Group(sizes, cycles)


def _where(found: Explanation) -> Any:
    view = table("Where the cycles go", "cause", ">cycles", ">of all", "")
    total = found.total.total
    ideal = sum(stage.ideal for stage in found.stages)
    view.add_row("useful products", f"{ideal:,.0f}", percent(ideal / total), "every multiplier")
    names = dict.fromkeys(name for stage in found.stages for name in stage.losses)
    for name in names:
        lost = sum(stage.losses[name] for stage in found.stages)
        if lost > 0:
            view.add_row(name, f"{lost:,.0f}", percent(lost / total), LOSSES.get(name, ""))
    return view


def _show(found: Explanation) -> None:
    config = found.config
    for layer in found.layers:
        console.print(_tree(layer, found))
    console.print()
    console.print(_stages(found))
    console.print(_where(found))
    for layer in found.layers:
        if layer.lost:
            view = table(
                f"Orders of {layer.name} that lost to {layer.order}",
                "order",
                ">bound",
                ">by",
                ">core B",
                ">work B",
                "why",
            )
            for lost in layer.lost:
                view.add_row(
                    lost.order,
                    exact(lost.cycles_bound),
                    f"{lost.more:+,}" if lost.more else "0",
                    exact(lost.core_bytes),
                    exact(lost.work_bytes),
                    lost.why,
                )
            console.print(view)
    proven = (
        "proven optimal in the planner's search space"
        if found.proven
        else f"not proven optimal: no plan takes fewer than {exact(found.bound)}"
    )
    for layer in found.layers:
        if layer.operand_bound is not None:
            console.print(
                f"{layer.name}: {exact(layer.cycles)} cycles; any array of these multipliers that "
                f"reads {config.rows * config.fold} elements of a core and {config.lanes} of the "
                f"live tensor a cycle, and writes {config.lanes} results, takes at least "
                f"{exact(layer.operand_bound)}.",
                soft_wrap=True,
            )
    buffers = buffers_text(
        found.streaming.buffers, found.work_bytes_double, found.program_words, config
    )
    console.print(
        f"{found.name} on {config.name} ({config.rows} x {config.lanes}), batch {found.batch}: "
        f"{exact(found.total.total)} cycles, {percent(found.utilisation)} used; {proven}. "
        f"Core memory {exact(found.core_bytes)} of {exact(config.core_bytes)} bytes, work memory "
        f"{exact(found.work_bytes_peak)} of {exact(config.work_bytes)}. Buffers: {buffers}.",
        soft_wrap=True,
    )
    if found.streaming.bytes_loaded:
        console.print(passes_text(found.streaming.as_dict(config.clock_hz)), soft_wrap=True)
    console.print(streaming_table(found.streaming.as_dict(config.clock_hz), config))
    if found.source == "artefact":
        console.print("An artefact does not know what lost: explain its model file for that.")
