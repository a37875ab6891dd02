"""Where a board's pins are: from its own file, or from amaranth-boards."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from drawbar.gen.errors import ToolError
from drawbar.gen.fpga.boards import PORTS, BoardSpec
from drawbar.gen.fpga.family import Pin


def board_pins(board: BoardSpec) -> list[Pin]:
    """A pin for each port of the top.

    Raises
    ------
    ToolError:
        amaranth-boards is missing, or has no such platform or resource.
    """
    pins = []
    for port in PORTS:
        place = board.pins[port]
        if isinstance(place, str):
            pins.append(_platform_pin(board, port, place))
        else:
            attributes = {key: value for key, value in place.items() if key != "site"}
            pins.append(Pin(port, place["site"], attributes))
    return pins


def _platform_pin(board: BoardSpec, port: str, place: str) -> Pin:
    """The one pin of ``resource`` or ``resource.subsignal``, number 0, of the board's platform."""
    module, _, name = board.platform.partition(":")
    try:
        platform = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ToolError(
            f"pins of board {board.name!r}",
            "come from amaranth-boards",
            error,
            "pip install 'drawbar[fpga]'",
        ) from None
    wanted, _, inner = place.partition(".")
    for resource in platform.resources:
        if (resource.name, resource.number) != (wanted, 0):
            continue
        found: list[Any] = [resource]
        if inner:
            found.append(next(io for io in resource.ios if getattr(io, "name", None) == inner))
        attributes: dict[str, str] = {}
        for item in found:
            attributes.update({key: str(value) for key, value in item.attrs.items()})
        (site,) = found[-1].ios[0].names
        return Pin(port, site, attributes)
    raise ToolError(
        f"pins of board {board.name!r}",
        f"{board.platform} has the resource {wanted}",
        ", ".join(sorted({resource.name for resource in platform.resources})),
        "mend the board's file",
    )
