"""What formats of factors share: tensors whose ways are named, into cores and sizes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from drawbar.gen.errors import NetworkError
from drawbar.gen.network import Core


class Parts:
    """The cores of a layer, and the sizes of their indices, that must agree.

    Arguments
    ---------
    name:
        The layer's, for errors.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.sizes: dict[str, int] = {}
        self.cores: list[Core] = []

    def add(self, part: str, values: np.ndarray, indices: Sequence[str]) -> None:
        """Add a core; ``part`` names it in errors.

        Raises
        ------
        NetworkError:
            it has other than these ways, or another size of an index than the cores before.
        """
        where = f"layer {self.name!r}, {part}"
        if values.ndim != len(indices):
            ways = ", ".join(indices)
            raise NetworkError(
                where, f"is {len(indices)}-way: ({ways})", f"{values.ndim}-way", "reshape it"
            )
        for index, size in zip(indices, values.shape, strict=True):
            if self.sizes.setdefault(index, size) != size:
                raise NetworkError(
                    where,
                    f"has size {self.sizes[index]} of {index}, as the others have",
                    size,
                    "make the sizes agree",
                )
        self.cores.append(Core(tuple(indices), np.asarray(values, np.float64)))

    def need(self, part: str, count: int) -> None:
        """Raise NetworkError where there is none of some part."""
        if count == 0:
            raise NetworkError(
                f"layer {self.name!r}", f"has at least one {part}", "none", f"add one {part}"
            )
