"""Programs that end early, on the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from drawbar.gen.artefact import Artefact
from drawbar.gen.cycles import program_cycles
from drawbar.gen.program import decode, descriptor_words, end_after
from drawbar.gen.protocol import Space
from drawbar.sw.driver.link import Link


@contextmanager
def ending_after(link: Link, artefact: Artefact, stage: int) -> Iterator[Artefact]:
    """The loaded artefact's first buffer ends after its stage of this number, and is whole again
    afterwards; gives an artefact that does so.
    """
    config, buffer = artefact.config, artefact.buffers[0]
    size = descriptor_words(config)
    lengths = [len(stages) for stages in artefact.pass_stages()]
    last = 0
    while stage >= sum(lengths[: last + 1]):
        last += 1
    inside = stage - sum(lengths[:last])
    one = buffer.passes[last]
    program = np.array(artefact.program, np.uint32)
    program[one.source :] = end_after(program[one.source :], inside, config)
    stages = decode(program[one.source :], config)
    one = replace(one, cycles=sum(c.total for c in program_cycles(stages, config)))
    passes = (*buffer.passes[:last], one)
    # A program that streams in is the shorter one anyway.
    own = [
        np.asarray(whole, np.uint32)[one.source + inside * size :][:size].tobytes()
        for whole in (program, artefact.program)
    ]
    stays = all(load.space != Space.PROGRAM for load in one.loads)
    if stays:
        link.write(Space.PROGRAM, one.address + inside * size, own[0], 4)
    try:
        yield replace(
            artefact,
            program=program,
            buffers=(replace(buffer, passes=passes),),
            cycles=sum(one.cycles for one in passes),
        )
    finally:
        if stays:
            link.write(Space.PROGRAM, one.address + inside * size, own[1], 4)
