"""Programs that end early, on the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from drawbar.gen.artefact import Artefact
from drawbar.gen.program import descriptor_words, end_after
from drawbar.gen.protocol import Space
from drawbar.sw.driver.link import Link


@contextmanager
def ending_after(link: Link, artefact: Artefact, stage: int) -> Iterator[np.ndarray]:
    """The loaded artefact's program ends after its stage of this number, and is whole again
    afterwards; gives the words of the shorter one.
    """
    program = np.asarray(artefact.program, np.uint32)
    words = end_after(program, stage, artefact.config)
    size = descriptor_words(artefact.config)
    own = slice(stage * size, (stage + 1) * size)
    link.write(Space.PROGRAM, own.start, words[own].tobytes(), 4)
    try:
        yield words
    finally:
        link.write(Space.PROGRAM, own.start, program[own].tobytes(), 4)
