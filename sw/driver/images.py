"""Memory images of an artefact, as the link writes and reads them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drawbar.gen.artefact import Artefact
from drawbar.gen.errors import ArtefactError
from drawbar.gen.protocol import Space, item_bytes


@dataclass(frozen=True)
class Image:
    """Items of one memory from item 0 on.

    ``items`` are the values in the order of their addresses; ``used`` marks those that exist, as
    core memory has holes where ``rows`` is not a power of two.
    """

    space: Space
    items: np.ndarray
    used: np.ndarray

    @property
    def size(self) -> int:
        """Bytes of one item."""
        return self.items.dtype.itemsize

    @property
    def data(self) -> bytes:
        return self.items.tobytes()

    def first_difference(self, found: bytes) -> tuple[int, int, int] | None:
        """Item, value and found value of the first existing item that differs."""
        values = np.frombuffer(found, self.items.dtype)
        wrong = np.flatnonzero((values != self.items) & self.used)
        if not len(wrong):
            return None
        item = int(wrong[0])
        return item, int(self.items[item]), int(values[item])


def memory_images(artefact: Artefact) -> list[Image]:
    """What to write to make a device ready to run: program, cores, biases.

    Raises
    ------
    ArtefactError:
        an image that does not fit the artefact's own engine.
    """
    config = artefact.config
    program = np.asarray(artefact.program)
    cores = np.asarray(artefact.cores)
    biases = np.asarray(artefact.biases)
    acc_max = (1 << (config.acc_width - 1)) - 1
    for name, array, shape, low, high in (
        ("program", program, (config.program_depth,), 0, 0xFFFFFFFF),
        ("cores", cores, (config.core_depth, config.rows), config.data_min, config.data_max),
        ("biases", biases, (config.bias_depth, config.lanes), -acc_max - 1, acc_max),
    ):
        _check(artefact, name, array, shape, low, high)

    padded = np.zeros((len(cores), 1 << config.row_bits), np.int64)
    padded[:, : config.rows] = cores
    rows = np.zeros(padded.shape, bool)
    rows[:, : config.rows] = True
    parts = (
        (Space.PROGRAM, program, "<u", np.ones(program.shape, bool)),
        (Space.CORE, padded, "<i", rows),
        (Space.BIAS, biases, "<i", np.ones(biases.shape, bool)),
    )
    return [
        Image(
            space,
            values.astype(f"{kind}{item_bytes(config, space)}").reshape(-1),
            used.reshape(-1),
        )
        for space, values, kind, used in parts
        if values.size
    ]


def _check(
    artefact: Artefact, name: str, array: np.ndarray, shape: tuple[int, ...], low: int, high: int
) -> None:
    where = f"{name} of {artefact.name!r}"
    again = "compile the model again"
    if array.ndim != len(shape) or array.shape[1:] != shape[1:] or len(array) > shape[0]:
        raise ArtefactError(where, f"fit a memory of shape {shape}", array.shape, again)
    if array.size and (array.min() < low or array.max() > high):
        raise ArtefactError(
            where, f"lie within {low}..{high}", f"{array.min()}..{array.max()}", again
        )
