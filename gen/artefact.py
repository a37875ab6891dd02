"""The artefact: one ``.drawbar`` file for each compiled model.

The container is safetensors with a description and a digest, see ``gen.container``: no code, no
pickle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from drawbar.gen.config import EngineConfig
from drawbar.gen.container import read_container, write_container
from drawbar.gen.errors import ArtefactError, ConfigError, InputError
from drawbar.gen.program import decode
from drawbar.gen.protocol import Space
from drawbar.gen.stage import Stage

FORMAT_VERSION = 4
MAGIC = "drawbar-artefact"


@dataclass(frozen=True)
class TensorLayout:
    """Where one input or output lies in work memory.

    A flat feature vector, factored row-major into ``shape``, lies at
    ``base + sum of index * stride`` (elements); sample s of a batch lies ``s * batch_stride``
    further. Real value = integer / 2**fraction_bits.
    """

    base: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    batch_stride: int
    fraction_bits: int

    @property
    def features(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def addresses(self, batch: int) -> np.ndarray:
        """Element addresses, ``(batch, features)``."""
        address = np.array(self.base, np.int64)
        for size, stride in zip(
            (batch, *self.shape), (self.batch_stride, *self.strides), strict=True
        ):
            address = address[..., None] + np.arange(size, dtype=np.int64) * stride
        return address.reshape(batch, -1)


@dataclass(frozen=True)
class Load:
    """A part of an artefact's image that the host writes to a memory of the engine.

    Members
    -------
    space:
        Program, core or bias memory.
    source, target:
        The first word or vector of the image, and of the memory.
    count:
        Words or vectors.
    """

    space: Space
    source: int
    target: int
    count: int

    def overlaps(self, other: Load) -> bool:
        """Whether the two have a place in the engine in common."""
        return (
            self.space == other.space
            and self.target < other.target + other.count
            and other.target < self.target + self.count
        )


@dataclass(frozen=True)
class Pass:
    """A program of the engine's, and what has to be in its memories before it starts.

    A model that fits the engine runs in one pass, and its memories are filled before the first
    run. Of a larger one each run is several passes, one after the other, and cores (biases,
    programs) stream in: while a pass computes, the host writes those of the next one.

    Members
    -------
    address:
        Word of program memory at which the program starts.
    source:
        Its first word in the artefact's program.
    cycles:
        The exact cycle count of the program.
    loads:
        What is written before each time that it runs.
    """

    address: int
    source: int
    cycles: int
    loads: tuple[Load, ...] = ()

    def evicts(self, other: Pass) -> bool:
        """Whether its loads go where the other pass has what it needs, so that they have to wait
        for its end.
        """
        return any(load.overlaps(there) for load in self.loads for there in other.loads)


@dataclass(frozen=True)
class Buffer:
    """One of the places in work memory that runs use in turn, and the passes that use it.

    With two buffers, the inputs of the next run are written and the results of the last one read
    while a run computes: no run touches the input and the output of the other buffer.

    Members
    -------
    passes:
        A run, in order.
    input, output:
        Layouts in work memory.
    """

    passes: tuple[Pass, ...]
    input: TensorLayout
    output: TensorLayout


@dataclass(frozen=True)
class LayerReport:
    """What a person wants to know of one layer of a compiled model."""

    name: str
    format: str
    modes_in: tuple[int, ...]
    modes_out: tuple[int, ...]
    ranks: tuple[int, ...]
    dense_weights: int
    core_weights: int
    multiplications: int
    cycles: int
    utilisation: float
    plan: str


@dataclass(frozen=True)
class Artefact:
    """A compiled model: all that a device needs, and nothing that runs on the host.

    Members
    -------
    program:
        ``uint32``, see ``gen.program``; of all passes of all buffers.
    cores:
        ``(vectors, rows)`` integers. Where the model fits the engine, the core memory's image.
    biases:
        ``(vectors, lanes)`` int64, likewise.
    loads:
        What is written to the engine's memories once, before the first run.
    buffers:
        One, or two that runs use in turn. Their programs take the same cycles and give the same
        bits; cores and biases are of both.
    batch:
        Samples that one run takes.
    cycles:
        The exact cycle count of one run: of all its passes, without what lies between them.
    test_input, test_output:
        Self-test vectors: integers ``(samples, features)``; inputs ``(samples, steps, features)``
        of sequences.
    states:
        First element in work memory and number of elements of each tensor that one run leaves to
        the next, its *states*: such a model takes sequences, one step in each run. They are zero
        before the first step, and that is the host's to write.
    steps:
        Of the longest sequence that the scales were chosen for; 0 where there are no states.
    meta:
        Versions of what made it, and the stages by name; for people.
    """

    name: str
    config: EngineConfig
    program: np.ndarray
    cores: np.ndarray
    biases: np.ndarray
    loads: tuple[Load, ...]
    buffers: tuple[Buffer, ...]
    batch: int
    cycles: int
    layers: tuple[LayerReport, ...]
    test_input: np.ndarray
    test_output: np.ndarray
    states: tuple[tuple[int, int], ...] = ()
    steps: int = 0
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def input(self) -> TensorLayout:
        """Of the first buffer; the other's differs in its base only."""
        return self.buffers[0].input

    @property
    def output(self) -> TensorLayout:
        """Of the first buffer; the other's differs in its base only."""
        return self.buffers[0].output

    @property
    def streams(self) -> bool:
        """Whether cores, biases or programs stream in while it computes."""
        return any(one.loads for one in self.buffers[0].passes)

    def pass_stages(self, buffer: int = 0) -> list[list[Stage]]:
        """The stages of each pass of a buffer."""
        return [
            decode(self.program[one.source :], self.config) for one in self.buffers[buffer].passes
        ]

    @property
    def stages(self) -> list[Stage]:
        """The stages of one run, in the first buffer."""
        return [stage for stages in self.pass_stages() for stage in stages]

    def image(self, space: Space) -> np.ndarray:
        """What loads of a memory are parts of: words, or ``(vectors, elements)``."""
        return {Space.PROGRAM: self.program, Space.CORE: self.cores, Space.BIAS: self.biases}[space]

    def check_shape(self, x: np.ndarray, where: str) -> None:
        """Raise an InputError if an input is not ``(batch, inputs)``; with states ``(batch, steps,
        inputs)``, and no more steps than a sequence may have.
        """
        features = self.input.features
        if not self.steps:
            if x.ndim != 2 or x.shape[1] != features:
                raise InputError(
                    where,
                    f"has shape (batch, {features})",
                    x.shape,
                    "reshape it to one row for each sample",
                )
        elif x.ndim != 3 or x.shape[2] != features or not x.shape[1]:
            raise InputError(
                where,
                f"has shape (batch, steps, {features})",
                x.shape,
                "give sequences, one row for each step",
            )
        elif x.shape[1] > self.steps:
            raise InputError(
                where,
                f"has sequences of at most {self.steps} steps, as long as the calibration's",
                f"{x.shape[1]} steps",
                "cut the sequences, or compile the model with longer calibration sequences",
            )

    def quantise_input(self, x: np.ndarray) -> np.ndarray:
        """``(batch, inputs)``, or of sequences ``(batch, steps, inputs)``, real numbers to the
        engine's integers: scaled, rounded half to even, saturated.

        Raises
        ------
        InputError:
            wrong shape or type, NaN or infinity.
        """
        where = f"input of {self.name!r}"
        if not isinstance(x, np.ndarray) or x.dtype.kind not in "fiu":
            found = x.dtype if isinstance(x, np.ndarray) else type(x).__name__
            raise InputError(
                where,
                "is a NumPy array of numbers",
                found,
                "convert it with numpy.asarray(x, float)",
            )
        self.check_shape(x, where)
        if not np.isfinite(x).all():
            bad = int(np.argwhere(~np.isfinite(x))[0][0])
            raise InputError(
                where, "holds finite numbers", f"NaN or infinity in sample {bad}", "clean the data"
            )
        scaled = np.rint(np.asarray(x, np.float64) * 2.0**self.input.fraction_bits)
        return np.clip(scaled, self.config.data_min, self.config.data_max).astype(np.int64)

    def dequantise_output(self, y: np.ndarray) -> np.ndarray:
        """The engine's integers to real numbers."""
        return np.asarray(y, np.float64) / 2.0**self.output.fraction_bits

    # -- file --------------------------------------------------------------------------------------

    def _arrays(self) -> dict[str, np.ndarray]:
        data = np.int8 if self.config.data_width == 8 else np.int16
        return {
            "program": np.ascontiguousarray(self.program, np.uint32),
            "cores": np.ascontiguousarray(self.cores, data),
            "biases": np.ascontiguousarray(self.biases, np.int64),
            "test_input": np.ascontiguousarray(self.test_input, data),
            "test_output": np.ascontiguousarray(self.test_output, data),
        }

    def _description(self) -> dict[str, Any]:
        return {
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "config": self.config.as_dict(),
            "config_hash": self.config.hash.hex(),
            "loads": [_load_fields(load) for load in self.loads],
            "buffers": [
                {
                    "passes": [
                        {**vars(one), "loads": [_load_fields(load) for load in one.loads]}
                        for one in buffer.passes
                    ],
                    "input": vars(buffer.input),
                    "output": vars(buffer.output),
                }
                for buffer in self.buffers
            ],
            "batch": self.batch,
            "cycles": self.cycles,
            "states": [list(state) for state in self.states],
            "steps": self.steps,
            "layers": [vars(layer) for layer in self.layers],
            "meta": dict(self.meta),
        }

    def save(self, path: str | Path) -> None:
        """Write the artefact, whole or not at all; the same artefact gives the same bytes.

        Raises
        ------
        ArtefactError:
            the file cannot be written.
        """
        write_container(
            path,
            what="artefact",
            magic=MAGIC,
            arrays=self._arrays(),
            description=self._description(),
        )

    @classmethod
    def load(cls, path: str | Path) -> Artefact:
        """Read an artefact.

        Raises
        ------
        ArtefactError:
            no such file, not an artefact, truncated, corrupted, or of a version that this
            Drawbar does not read.
        """
        where = f"artefact {path}"
        again = "compile the model again"
        arrays, fields = read_container(
            path,
            what="artefact",
            magic=MAGIC,
            version=FORMAT_VERSION,
            suffix=".drawbar",
            again=again,
        )
        try:
            config = EngineConfig(**fields["config"])
        except (ConfigError, TypeError) as error:
            raise ArtefactError(
                where, "carries a valid engine configuration", error, again
            ) from None
        if config.hash.hex() != fields["config_hash"]:
            raise ArtefactError(
                where,
                f"was made for this version of the hardware ({config.hash.hex()})",
                fields["config_hash"],
                again,
            )
        return cls(
            name=fields["name"],
            config=config,
            program=arrays["program"],
            cores=arrays["cores"].astype(np.int64),
            biases=arrays["biases"],
            loads=tuple(_load(load) for load in fields["loads"]),
            buffers=tuple(_buffer(buffer) for buffer in fields["buffers"]),
            batch=fields["batch"],
            cycles=fields["cycles"],
            layers=tuple(_report(layer) for layer in fields["layers"]),
            test_input=arrays["test_input"].astype(np.int64),
            test_output=arrays["test_output"].astype(np.int64),
            states=tuple((int(base), int(size)) for base, size in fields["states"]),
            steps=fields["steps"],
            meta=fields["meta"],
        )


def _report(fields: dict[str, Any]) -> LayerReport:
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    return LayerReport(**values)


def _load_fields(load: Load) -> dict[str, Any]:
    return {**vars(load), "space": load.space.name}


def _load(fields: dict[str, Any]) -> Load:
    return Load(**{**fields, "space": Space[fields["space"]]})


def _buffer(fields: dict[str, Any]) -> Buffer:
    passes = (
        Pass(**{**one, "loads": tuple(_load(load) for load in one["loads"])})
        for one in fields["passes"]
    )
    return Buffer(tuple(passes), _layout(fields["input"]), _layout(fields["output"]))


def _layout(fields: dict[str, Any]) -> TensorLayout:
    return TensorLayout(
        **{**fields, "shape": tuple(fields["shape"]), "strides": tuple(fields["strides"])}
    )
