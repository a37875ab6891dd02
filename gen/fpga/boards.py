"""Boards, each described by one small file of ``constraints/``."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

from drawbar.gen.errors import ConfigError
from drawbar.gen.fpga.families import FAMILIES
from drawbar.gen.fpga.family import Family, Part

#: The top's ports, which need a pin each.
PORTS = ("clk", "rx", "tx")
#: The board that stands for any other flow: it has no chip.
GENERIC = "generic"


@dataclass(frozen=True, kw_only=True)
class BoardSpec:
    """A board as its file describes it.

    Members
    -------
    name, title:
        Of the file; for people.
    family, part, package, speed:
        The chip, as ``gen.fpga`` and nextpnr name it.
    oscillator_hz:
        What comes in on the clock's pin.
    engine:
        Preset that fits.
    baud:
        Best rate of the adapter on the board.
    programmer:
        Its name to openFPGALoader.
    platform:
        Where amaranth-boards has it: ``module:class``; empty: nowhere, and every pin is given.
    pins:
        For each of ``PORTS`` the name of a resource of the platform (``uart.rx``), or a site and
        its attributes.
    """

    name: str
    title: str
    engine: str
    family: str = ""
    part: str = ""
    package: str = ""
    speed: str = ""
    oscillator_hz: int = 0
    baud: int = 3_000_000
    programmer: str = ""
    platform: str = ""
    pins: Mapping[str, str | Mapping[str, str]] = field(default_factory=dict)

    @property
    def generic(self) -> bool:
        """Whether this stands for any other flow, and has no chip."""
        return not self.family

    @property
    def chip_family(self) -> Family:
        return FAMILIES[self.family]

    @property
    def chip(self) -> Part:
        return self.chip_family.parts[self.part]


def _folder() -> Any:
    return resources.files("drawbar.constraints")


def board_names() -> list[str]:
    """The boards that come with Drawbar, generic last."""
    names = [
        entry.name.removesuffix(".toml")
        for entry in _folder().iterdir()
        if entry.name.endswith(".toml")
    ]
    return sorted(names, key=lambda name: (name == GENERIC, name))


def load_board(source: str | Path) -> BoardSpec:
    """The board of this name, or of a TOML file of one's own.

    Raises
    ------
    ConfigError:
        no such board (the nearest names are listed), or the file describes none.
    """
    name = str(source)
    if name.endswith(".toml"):
        path = Path(source)
        try:
            return parse_board(path.stem, path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(
                f"board file {path}", "can be read", error.strerror, "give the path of a TOML file"
            ) from None
    known = board_names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known
        raise ConfigError(
            f"board {name!r}",
            "is a board that Drawbar knows, or a .toml file",
            name,
            f"use {' or '.join(near)} (drawbar boards lists them all)",
        )
    return parse_board(name, (_folder() / f"{name}.toml").read_text(encoding="utf-8"))


def parse_board(name: str, text: str) -> BoardSpec:
    """A board from the text of its file.

    Raises
    ------
    ConfigError:
        something is missing, unknown, or of another type.
    """
    what = f"board file {name}.toml"
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(what, "is valid TOML", error, "mend the file at that place") from None
    known = {f.name: f for f in fields(BoardSpec) if f.name != "name"}
    for key, value in found.items():
        if key not in known:
            raise ConfigError(what, "has only known keys", key, f"use {', '.join(known)}")
        kind = {"oscillator_hz": int, "baud": int, "pins": dict}.get(key, str)
        if not isinstance(value, kind):
            raise ConfigError(f"{what}, {key}", f"is of type {kind.__name__}", value, "mend it")
    for key in ("title", "engine"):
        if key not in found:
            raise ConfigError(what, f"has the key {key}", ", ".join(found) or "none", f"add {key}")
    board = BoardSpec(name=name, **found)
    if board.generic:
        return board
    if board.family not in FAMILIES:
        raise ConfigError(
            f"{what}, family", "is one that Drawbar knows", board.family,
            f"use one of {', '.join(FAMILIES)}",
        )  # fmt: skip
    if board.part not in board.chip_family.parts:
        raise ConfigError(
            f"{what}, part", f"is a part of {board.chip_family.title}", board.part,
            f"use one of {', '.join(board.chip_family.parts)}",
        )  # fmt: skip
    if board.oscillator_hz <= 0:
        raise ConfigError(
            f"{what}, oscillator_hz", "is positive", board.oscillator_hz, "give the board's own"
        )
    for port in PORTS:
        pin = board.pins.get(port)
        if isinstance(pin, str) and board.platform:
            continue
        if isinstance(pin, dict) and isinstance(pin.get("site"), str):
            continue
        raise ConfigError(
            f"{what}, pins, {port}",
            "is a resource of the platform, or has a site",
            pin,
            'write it as rx = "uart.rx", or as rx = { site = "70" }',
        )
    return board
