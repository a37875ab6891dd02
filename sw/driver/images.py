"""Memory images of an artefact, as the link writes and reads them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drawbar.gen.artefact import Artefact, Load
from drawbar.gen.errors import ArtefactError
from drawbar.gen.protocol import Space, item_bytes
from drawbar.gen.transfers import row_items

_NAMES = {Space.PROGRAM: "program", Space.CORE: "cores", Space.BIAS: "biases"}


@dataclass(frozen=True)
class Image:
    """Items of one memory from item ``first`` on.

    ``items`` are the values in the order of their addresses; ``used`` marks those that exist, as
    core memory has holes where ``rows`` is not a power of two.
    """

    space: Space
    first: int
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
        return self.first + item, int(self.items[item]), int(values[item])


def item_images(artefact: Artefact) -> dict[Space, np.ndarray]:
    """All items of an artefact's images, as the link moves them; holes are zeros.

    Raises
    ------
    ArtefactError:
        an image or a load that does not fit the artefact's own engine.
    """
    config = artefact.config
    acc_max = (1 << (config.acc_width - 1)) - 1
    limits = {
        Space.PROGRAM: ((config.program_depth,), 0, 0xFFFFFFFF),
        Space.CORE: ((config.core_depth, config.rows), config.data_min, config.data_max),
        Space.BIAS: ((config.bias_depth, config.lanes), -acc_max - 1, acc_max),
    }
    passes = [one for buffer in artefact.buffers for one in buffer.passes]
    loads = [*artefact.loads, *(load for one in passes for load in one.loads)]
    found = {}
    for space, (shape, low, high) in limits.items():
        array = np.asarray(artefact.image(space))
        _check(artefact, space, array, shape, low, high)
        for load in loads:
            if load.space == space:
                _check_load(artefact, load, len(array), shape)
        if space == Space.CORE:
            padded = np.zeros((len(array), row_items(config, space)), np.int64)
            padded[:, : config.rows] = array
            array = padded
        kind = "<u" if space == Space.PROGRAM else "<i"
        found[space] = array.astype(f"{kind}{item_bytes(config, space)}").reshape(-1)
    return found


def memory_images(artefact: Artefact) -> list[Image]:
    """What to write to make a device ready to run: program, cores, biases; of a model that streams,
    what stays.

    Raises
    ------
    ArtefactError:
        an image or a load that does not fit the artefact's own engine.
    """
    config, images = artefact.config, item_images(artefact)
    exists = np.arange(1 << config.row_bits) < config.rows
    found = []
    for load in artefact.loads:
        items = row_items(config, load.space)
        values = images[load.space][load.source * items : (load.source + load.count) * items]
        used = np.ones(len(values), bool)
        if load.space == Space.CORE:
            used = np.tile(exists, load.count)
        found.append(Image(load.space, load.target * items, values, used))
    return found


def _check(
    artefact: Artefact,
    space: Space,
    array: np.ndarray,
    shape: tuple[int, ...],
    low: int,
    high: int,
) -> None:
    where = f"{_NAMES[space]} of {artefact.name!r}"
    again = "compile the model again"
    if array.ndim != len(shape) or array.shape[1:] != shape[1:]:
        raise ArtefactError(where, f"fit a memory of shape {shape}", array.shape, again)
    if array.size and (array.min() < low or array.max() > high):
        raise ArtefactError(
            where, f"lie within {low}..{high}", f"{array.min()}..{array.max()}", again
        )


def _check_load(artefact: Artefact, load: Load, there: int, shape: tuple[int, ...]) -> None:
    fits = 0 <= load.source <= load.source + load.count <= there
    if not (fits and 0 <= load.target <= load.target + load.count <= shape[0]):
        raise ArtefactError(
            f"{_NAMES[load.space]} of {artefact.name!r}",
            f"fit a memory of shape {shape}",
            f"{load.count} of {there} from {load.source}, to {load.target}",
            "compile the model again",
        )
