"""Which primitives an engine on a chip gets."""

from __future__ import annotations

from collections.abc import Callable

from drawbar.gen.config import EngineConfig
from drawbar.gen.fpga.family import Part
from drawbar.hw.vendor.gowin import Gowin
from drawbar.hw.vendor.ice40 import Ice40
from drawbar.hw.vendor.portable import Portable


def _gowin(part: Part, config: EngineConfig) -> Portable:
    return Gowin()


def _ice40(part: Part, config: EngineConfig) -> Portable:
    return Ice40()


#: Family by name: its primitives for a chip and an engine. One that is not here gets plain
#: registers.
FAMILY_PRIMITIVES: dict[str, Callable[[Part, EngineConfig], Portable]] = {
    "gowin": _gowin,
    "ice40": _ice40,
}


def family_primitives(family: str, part: Part, config: EngineConfig) -> Portable:
    """The primitives of a family for an engine on one of its chips."""
    make = FAMILY_PRIMITIVES.get(family)
    return Portable() if make is None else make(part, config)
