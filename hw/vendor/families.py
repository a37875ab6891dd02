"""Which primitives an engine on a chip gets."""

from __future__ import annotations

from collections.abc import Callable

from drawbar.gen.config import EngineConfig
from drawbar.gen.fpga.family import Part
from drawbar.hw.vendor.ecp5 import Ecp5, multiplier_places
from drawbar.hw.vendor.gowin import Gowin
from drawbar.hw.vendor.ice40 import Ice40
from drawbar.hw.vendor.portable import Portable

#: The chips of a family that are the same die, as ``multiplier_places`` calls it.
_ECP5_DIES = {"LFE5U-12F": "25k", "LFE5U-25F": "25k", "LFE5U-45F": "45k", "LFE5U-85F": "85k"}


def _ecp5(part: Part, config: EngineConfig) -> Portable:
    return Ecp5(multiplier_places(_ECP5_DIES[part.name], config.rows, config.lanes))


def _gowin(part: Part, config: EngineConfig) -> Portable:
    return Gowin()


def _ice40(part: Part, config: EngineConfig) -> Portable:
    return Ice40()


#: Family by name: its primitives for a chip and an engine. One that is not here gets plain
#: registers.
FAMILY_PRIMITIVES: dict[str, Callable[[Part, EngineConfig], Portable]] = {
    "ecp5": _ecp5,
    "gowin": _gowin,
    "ice40": _ice40,
}


def family_primitives(family: str, part: Part, config: EngineConfig) -> Portable:
    """The primitives of a family for an engine on one of its chips."""
    make = FAMILY_PRIMITIVES.get(family)
    return Portable() if make is None else make(part, config)
