"""fuzz: random models on random engines, hardware against golden model and cycle model."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

import drawbar
from drawbar.gen.cli.output import (
    EXIT_CHECK_FAILED,
    Json,
    console,
    exact,
    messages,
    phase_bar,
    print_json,
    progress_bars,
    reporting,
    step_bar,
)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("fuzz")(fuzz)


def fuzz(
    cases: Annotated[
        int, typer.Option(min=1, help="Cases to have done, earlier calls' too.")
    ] = 300,
    seed: Annotated[int, typer.Option(help="Every case follows from this and its number.")] = 0,
    out: Annotated[
        Path, typer.Option(help="Folder of the state (state.json) and of failing cases (.fuzz).")
    ] = Path("build/fuzz"),
    per_engine: Annotated[
        int,
        typer.Option(
            min=1,
            help="Cases for each engine, as an engine costs a build of 10 to 60 seconds; "
            "small engines get a quarter of it.",
        ),
    ] = 50,
    formats: Annotated[
        str,
        typer.Option(
            help="Kinds of models that take turns, with commas between: all, or some of the "
            "decomposition formats, products, lstm, gru, concatenation. Default: random layers and "
            "graphs.",
            metavar="NAMES",
        ),
    ] = "",
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin again instead of going on.")
    ] = False,
    replay: Annotated[
        Path | None,
        typer.Option(help="Run one failing case's file again, and nothing else.", metavar="FILE"),
    ] = None,
    json: Json = False,
) -> None:
    """Check that the hardware is exact, on random models and engines in the simulator.

    A case is one to three layers of any format (TT, tensor train, tensor ring, Tucker, CP,
    block-term, dense; modes 1 to 64, ranks 1 to 32, batch 1 to 40, with and without bias and ReLU),
    or, one in four, a graph of images (convolutions with kernels of 1 to 5, strides of 1 to 3,
    padding and dilation, dense or in cores; skips, averages, maxima), on an engine of 1 x 1 to
    16 x 16, 8 or 16 bit, with memories from tight to ample; some are planned for the least memory.
    It is compiled and run twice, back to back. Every output bit must be the golden model's, and
    every cycle, cause by cause, the cycle model's. Models that do not fit are drawn again.

    With --formats, models of these kinds take turns: layers of each decomposition format as PyTorch
    has them, linear and as convolutions, and SCADA-Tucker's shared cores, products of tensors, LSTM
    and GRU cells over sequences, concatenations; that needs PyTorch.

    A call that was stopped goes on where it was: the folder of --out keeps how far a seed is, as
    long as the code stays the same. Each failing case becomes a file that holds engine, model,
    inputs and program; --replay runs it again, as it was saved and compiled anew.

    Exit code 3 if a case failed, or still fails when replayed.
    """
    with reporting(json):
        if replay is not None:
            _replay(replay, json)
            return
        with progress_bars() as bars:
            result = drawbar.run_fuzz(
                cases=cases,
                seed=seed,
                out=out,
                per_engine=per_engine,
                formats=formats.split(",") if formats else (),
                fresh=fresh,
                report=step_bar(bars),
                build_progress=phase_bar(bars, "simulated board"),
            )
        if json:
            facts = asdict(result)
            facts["failures"] = [str(path) for path in result.failures]
            print_json({**facts, "passed": result.passed})
        else:
            before = f", {exact(result.before)} of them in earlier calls" if result.before else ""
            console.print(
                f"seed {result.seed}: {exact(result.done)} cases{before}, {result.engines} engines "
                f"now, {exact(result.redrawn)} models drawn again, "
                f"{len(result.failures)} failed; {result.seconds:.1f} s",
                soft_wrap=True,
            )
            if result.formats:
                counts = ", ".join(f"{name} {count}" for name, count in result.formats.items())
                console.print(f"  cases of each: {counts}", soft_wrap=True)
            for path in result.failures:
                console.print(f"  drawbar fuzz --replay {path}", soft_wrap=True)
        if not result.passed:
            raise typer.Exit(EXIT_CHECK_FAILED)


def _replay(path: Path, json: bool) -> None:
    with progress_bars() as bars:
        result = drawbar.replay_case(path, build_progress=phase_bar(bars, "simulated board"))
    if json:
        print_json({**asdict(result), "passed": result.passed})
    else:
        console.print(f"{result.case}, when it was saved: {_say(result.saved)}", soft_wrap=True)
        if result.program_loaded:
            console.print(f"its program, now: {_say(result.program)}", soft_wrap=True)
        else:
            messages.print(
                "its program is missing, or is for another version of the hardware: not run"
            )
        console.print(f"its model, compiled again: {_say(result.compiled)}", soft_wrap=True)
    if not result.passed:
        raise typer.Exit(EXIT_CHECK_FAILED)


def _say(found: drawbar.Mismatch | None) -> str:
    return "exact" if found is None else f"{found.kind}: {found.text}"
