"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ModelFile = Annotated[
    Path,
    typer.Argument(
        help="Model file (.safetensors), as drawbar.gen.model_file.save_model writes, or ONNX file "
        "(.onnx)."
    ),
]
ArtefactFile = Annotated[
    Path, typer.Argument(help="Artefact (.drawbar), as drawbar compile writes.")
]
Engine = Annotated[
    str,
    typer.Option(help="Engine: a preset (drawbar info lists them) or a TOML file of parameters."),
]
Batch = Annotated[int, typer.Option(min=1, help="Samples that one run of the program takes.")]
Minimise = Annotated[
    str,
    typer.Option(
        help="cycles, or memory: the least work memory for at most 10 % more cycles, by running "
        "parts of a layer slice by slice."
    ),
]
Buffers = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=2,
        help="Places for inputs and outputs: with 2, transfers go beside a run. Default: 2 where "
        "that fits and takes no more cycles; with --minimise memory 1.",
    ),
]
Stream = Annotated[
    bool,
    typer.Option(
        help="Where cores, biases or program do not fit the engine at once, write them over the "
        "link while it computes; --no-stream: refuse such a model."
    ),
]
DeviceUrl = Annotated[
    str,
    typer.Option(
        "--device",
        help="sim (the generated hardware, simulated), golden (its NumPy twin, no compiler "
        "needed), or serial:///PATH?baud=N.",
    ),
]
