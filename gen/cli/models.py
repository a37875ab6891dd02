"""compile, estimate, run, verify, info, generate: a model's way to a device."""

from __future__ import annotations

import os
from pathlib import Path
from tokenize import TokenError
from typing import Annotated, Any

import numpy as np
import typer

import drawbar
from drawbar.gen.cli.build import estimate_on_board
from drawbar.gen.cli.options import (
    ArtefactFile,
    Batch,
    Buffers,
    DeviceUrl,
    Engine,
    Minimise,
    ModelFile,
    Stream,
)
from drawbar.gen.cli.output import (
    EXIT_CHECK_FAILED,
    Json,
    console,
    count_bar,
    exact,
    modes,
    percent,
    phase_bar,
    print_json,
    progress_bars,
    reporting,
    table,
)
from drawbar.gen.cli.streaming import buffers_text, passes_text, streaming_table
from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import InputError
from drawbar.gen.program import descriptor_words
from drawbar.gen.timeline import artefact_streaming, plan_streaming


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("compile")(compile_command)
    app.command("estimate")(estimate)
    app.command("run")(run)
    app.command("verify")(verify)
    app.command("info")(info)
    app.command("generate")(generate)


def read_array(path: Path, what: str) -> np.ndarray:
    """A NumPy array from an .npy file; nothing in it is executed."""
    where = f"{what} {path}"
    if not path.is_file():
        raise InputError(where, "exists", "no such file", "give the path of an .npy file")
    try:
        # Not numpy.load, which also opens archives. A damaged header fails in many ways.
        with path.open("rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, OSError, EOFError, SyntaxError, TokenError, MemoryError) as error:
        raise InputError(
            where, "is an .npy file of numbers", error, "write it with numpy.save"
        ) from None


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an .npy file under exactly this name, whole or not at all."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            np.save(file, array)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(
            f"output file {path}",
            "can be written",
            f"{error.strerror or error}",
            "give a path in a folder that exists and that you may write to",
        ) from None


def _layer_rows(layers: list[dict[str, Any]]) -> Any:
    view = table(
        "Layers",
        "layer",
        "modes in > out",
        "ranks",
        ">dense",
        ">core",
        ">cycles",
        ">utilisation",
    )
    for layer in layers:
        view.add_row(
            f"{layer['name']} ({layer['format']})",
            f"{modes(layer['modes_in'])} > {modes(layer['modes_out'])}",
            modes(layer["ranks"]) or "-",
            exact(layer["dense_weights"]),
            exact(layer["core_weights"]),
            exact(layer["cycles"]),
            percent(layer["utilisation"]),
        )
    view.caption = "\n".join(f"{layer['name']}: {layer['plan']}" for layer in layers)
    view.caption_justify = "left"
    return view


def compile_command(
    model: ModelFile,
    calibration: Annotated[
        Path,
        typer.Option(
            help="Real inputs, an .npy array (samples, inputs); a few hundred are plenty."
        ),
    ],
    engine: Engine = "small",
    batch: Batch = 1,
    minimise: Minimise = "cycles",
    buffers: Buffers = None,
    stream: Stream = True,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Artefact to write; default: MODEL.drawbar."),
    ] = None,
    json: Json = False,
) -> None:
    """Compile a model file to an artefact: plan, quantise, encode, and add self-test vectors.

    A model whose cores fit the engine's core memory is loaded once. Of a larger one each run is
    several passes: while one computes, the cores of the next one are written.
    """
    with reporting(json):
        artefact = drawbar.compile(
            model,
            engine,
            calibration=read_array(calibration, "calibration data"),
            batch=batch,
            minimise=minimise,
            buffers=buffers,
            stream=stream,
        )
        target = output or model.with_suffix(".drawbar")
        artefact.save(target)
        facts = _artefact_facts(artefact)
        if json:
            print_json({"artefact": str(target), **facts})
            return
        console.print(_layer_rows(facts["layers"]))
        console.print(
            f"{target}: {exact(artefact.cycles)} cycles a run of {batch} on engine "
            f"{artefact.config.name!r} ({artefact.config.rows} x {artefact.config.lanes}), "
            f"buffers: {_buffers(facts, artefact.config)}",
            soft_wrap=True,
        )
        if artefact.streams:
            console.print(passes_text(facts["streaming"]), soft_wrap=True)


def estimate(
    model: Annotated[
        Path | None, typer.Argument(help="Model file (.safetensors or .onnx), or --model.")
    ] = None,
    model_option: Annotated[
        Path | None,
        typer.Option("--model", help="Model file; with --board also an artefact (.drawbar)."),
    ] = None,
    board: Annotated[
        str | None, typer.Option(help="Board whose chip the engine shall fit, name or TOML file.")
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="Engine preset or TOML file; default: small, or the board's."),
    ] = None,
    fmax: Annotated[float | None, typer.Option(help="Clock in MHz; default: the engine's.")] = None,
    batch: Batch = 1,
    minimise: Minimise = "cycles",
    buffers: Buffers = None,
    stream: Stream = True,
    json: Json = False,
) -> None:
    """Say exactly what a model costs on an engine: cycles, memory, utilisation. Nothing is built or
    run.

    With --board: what the engine takes of the board's chip, and the speed with and without the
    link. Multipliers, block RAM and cycles are exact; look-up tables and flip-flops are a model's.
    """
    with reporting(json):
        model = model or model_option
        if board is not None:
            estimate_on_board(
                board, model, engine=engine, fmax=fmax, batch=batch, minimise=minimise, json=json
            )
            return
        if model is None:
            raise InputError(
                "estimate", "is of a model, a board, or both", "neither", "name a model file"
            )
        plan = drawbar.plan(
            model,
            engine or "small",
            batch=batch,
            minimise=minimise,
            buffers=buffers,
            stream=stream,
        )
        config = plan.config
        layers = [
            {
                "name": layer.name,
                "format": layer.format,
                "modes_in": list(layer.modes_in),
                "modes_out": list(layer.modes_out),
                "ranks": list(layer.ranks),
                "dense_weights": layer.dense_weights,
                "core_weights": layer.core_weights,
                "multiplications": plan.layer_multiplications(n),
                "cycles": plan.layer_cycles(n),
                "utilisation": plan.layer_utilisation(n),
                "plan": plan.layer_text(n),
            }
            for n, layer in enumerate(plan.model.layers)
        ]
        total = plan.total
        many = plan_streaming(plan)
        facts = {
            "model": plan.model.name,
            "engine": config.name,
            "batch": batch,
            "minimise": plan.minimise,
            "stages": len(plan.program),
            "slices": [plan.layer_slices(n) for n in range(len(plan.networks))],
            "cycles": total.total,
            "busy": total.busy,
            "stall_drain": total.stall_drain,
            "stall_fetch": total.stall_fetch,
            "flush": total.flush,
            "bound": plan.bound,
            "proven": plan.proven,
            "core_bytes": plan.core_bytes,
            "core_bytes_available": config.core_bytes,
            "work_bytes_peak": plan.work_bytes_peak,
            "work_bytes_available": config.work_bytes,
            "buffers": len(plan.bases),
            "work_bytes_double": plan.work_bytes_double,
            "program_words": len(plan.program) * descriptor_words(config),
            "streaming": many.as_dict(config.clock_hz),
            "bias_vectors": plan.bias_vectors,
            "runs_per_second_at_clock": config.clock_hz / total.total,
            "clock_hz": config.clock_hz,
            "layers": layers,
        }
        if json:
            print_json(facts)
            return
        console.print(_layer_rows(layers))
        view = table(f"{plan.model.name} on engine {config.name}, batch {batch}", "what", ">value")
        view.add_row("cycles a run, exact", exact(total.total))
        view.add_row("  multiplying", exact(total.busy))
        view.add_row("  waiting for the drain", exact(total.stall_drain))
        view.add_row("  waiting for a descriptor", exact(total.stall_fetch))
        view.add_row("  filling and emptying the pipeline", exact(total.flush))
        view.add_row("stages, each slice counted", exact(len(plan.program)))
        view.add_row("proven optimal in its search space", "yes" if plan.proven else "no")
        view.add_row("core memory", f"{exact(plan.core_bytes)} of {exact(config.core_bytes)} bytes")
        view.add_row(
            "work memory", f"{exact(plan.work_bytes_peak)} of {exact(config.work_bytes)} bytes"
        )
        view.add_row("buffers", _buffers(facts, config))
        if plan.streams:
            view.add_row("larger than the engine's memories", passes_text(facts["streaming"]))
        clock = config.clock_hz / 1e6
        view.add_row(
            f"runs a second if the clock is {clock:g} MHz", f"{config.clock_hz / total.total:,.0f}"
        )
        console.print(view)
        console.print(streaming_table(facts["streaming"], config))


def run(
    artefact: ArtefactFile,
    input: Annotated[Path, typer.Option(help="Inputs, an .npy array (samples, inputs).")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the outputs to this .npy file.")
    ] = None,
    device: DeviceUrl = "sim",
    json: Json = False,
) -> None:
    """Run an artefact on a device, on any number of samples."""
    with reporting(json):
        loaded = drawbar.Artefact.load(artefact)
        x = read_array(input, "input")
        loaded.quantise_input(x)  # reject bad data before anything is built
        with (
            progress_bars() as bars,
            drawbar.open(device, progress=phase_bar(bars, "simulated board")) as board,
        ):
            board.load(loaded, progress=count_bar(bars, "load"))
            y = board.run(x, progress=count_bar(bars, "run"))
            report = board.last_run
        assert report is not None
        if output is not None:
            write_array(output, y)
        facts = {
            "artefact": str(artefact),
            "device": device,
            "samples": report.samples,
            "runs": report.runs,
            "cycles": report.cycles,
            "seconds": report.seconds,
            "retries": report.retries,
            "output": None if output is None else str(output),
            "classes": [int(c) for c in y.argmax(axis=1)],
        }
        if json:
            print_json(facts)
            return
        console.print(
            f"{report.samples} samples in {report.runs} runs of {exact(report.cycles)} cycles on "
            f"{device}; {report.seconds:.2f} s on this host, {report.retries} frames sent again",
            soft_wrap=True,
        )
        if output is not None:
            console.print(f"outputs: {output}")
        else:
            for number, row in enumerate(y[:10]):
                values = " ".join(f"{value:.4g}" for value in row[:10])
                console.print(f"  {number}: largest is {int(row.argmax())}; {values}")
            if len(y) > 10:
                console.print(f"  ... and {len(y) - 10} more; --output FILE.npy writes all of them")


def verify(artefact: ArtefactFile, device: DeviceUrl = "sim", json: Json = False) -> None:
    """Run an artefact's self-test on a device and compare every bit. Exit code 3 on a mismatch."""
    with reporting(json):
        loaded = drawbar.Artefact.load(artefact)
        with (
            progress_bars() as bars,
            drawbar.open(device, progress=phase_bar(bars, "simulated board")) as board,
        ):
            board.load(loaded, progress=count_bar(bars, "load"))
            report = board.verify()
        facts = {
            "artefact": str(artefact),
            "device": device,
            "passed": report.passed,
            "samples": report.samples,
            "compared": report.compared,
            "mismatches": report.mismatches,
            "cycles": report.cycles,
            "first": None if report.first is None else list(report.first),
        }
        if json:
            print_json(facts)
        else:
            verdict = "passed" if report.passed else "FAILED"
            console.print(
                f"{verdict}: {report.mismatches} of {report.compared} outputs differ, "
                f"{report.samples} samples, {exact(report.cycles)} cycles each, as predicted",
                soft_wrap=True,
            )
        if not report.passed:
            raise typer.Exit(EXIT_CHECK_FAILED)


def _buffers(facts: dict[str, Any], config: EngineConfig) -> str:
    return buffers_text(
        facts["buffers"], facts["work_bytes_double"], facts["program_words"], config
    )


def _artefact_facts(artefact: Any) -> dict[str, Any]:
    stream = artefact_streaming(artefact)
    return {
        "name": artefact.name,
        "engine": artefact.config.as_dict(),
        "config_hash": artefact.config.hash.hex(),
        "batch": artefact.batch,
        "cycles": artefact.cycles,
        "inputs": artefact.input.features,
        "input_fraction_bits": artefact.input.fraction_bits,
        "outputs": artefact.output.features,
        "output_fraction_bits": artefact.output.fraction_bits,
        "program_bytes": artefact.program.nbytes,
        "core_bytes": int(artefact.cores.size * artefact.config.element_bytes),
        "buffers": len(artefact.buffers),
        "program_words": len(artefact.program) // len(artefact.buffers),
        "work_bytes_double": artefact.meta["work_bytes_double"],
        "streaming": stream.as_dict(artefact.config.clock_hz),
        "self_test_samples": len(artefact.test_input),
        "layers": [
            {k: list(v) if isinstance(v, tuple) else v for k, v in vars(layer).items()}
            for layer in artefact.layers
        ],
        "meta": dict(artefact.meta),
    }


def info(
    artefact: Annotated[
        Path | None, typer.Argument(help="Artefact to describe; without one, the engine presets.")
    ] = None,
    json: Json = False,
) -> None:
    """Describe an artefact, or list the engine presets."""
    with reporting(json):
        if artefact is not None:
            loaded = drawbar.Artefact.load(artefact)
            facts = _artefact_facts(loaded)
            if json:
                print_json(facts)
                return
            console.print(_layer_rows(facts["layers"]))
            view = table(facts["name"], "what", "value")
            engine = facts["engine"]
            view.add_row("engine", f"{engine['name']}: {engine['rows']} x {engine['lanes']}")
            view.add_row("configuration hash", facts["config_hash"])
            for key in ("batch", "cycles", "inputs", "outputs", "program_bytes", "core_bytes"):
                view.add_row(key.replace("_", " "), exact(facts[key]))
            view.add_row("buffers", _buffers(facts, loaded.config))
            if loaded.streams:
                view.add_row("larger than the engine", passes_text(facts["streaming"]))
            for package, number in facts["meta"].get("versions", {}).items():
                view.add_row(f"made with {package}", number)
            console.print(view)
            console.print(streaming_table(facts["streaming"], loaded.config))
            return
        presets = [
            {
                **c.as_dict(),
                "config_hash": c.hash.hex(),
                "core_bytes": c.core_bytes,
                "work_bytes": c.work_bytes,
            }
            for c in drawbar.PRESETS.values()
        ]
        if json:
            print_json(presets)
            return
        view = table(
            "Engine presets",
            "name",
            ">rows x lanes",
            ">bits",
            ">core bytes",
            ">work bytes",
            "configuration hash",
        )
        for c in drawbar.PRESETS.values():
            view.add_row(
                c.name,
                f"{c.rows} x {c.lanes}",
                str(c.data_width),
                exact(c.core_bytes),
                exact(c.work_bytes),
                c.hash.hex(),
            )
        console.print(view)


def generate(
    engine: Engine = "small",
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")] = Path(
        "build/rtl"
    ),
    json: Json = False,
) -> None:
    """Write an engine's Verilog and its manifest (configuration, hash, tool versions)."""
    with reporting(json):
        path = drawbar.generate(engine, output)
        if json:
            print_json({"verilog": str(path), "manifest": str(path.with_name("manifest.json"))})
        else:
            console.print(f"{path} and manifest.json")
