"""Wheel and source distribution hold what the tree holds; a plain installation works."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from tree import PACKAGES, ROOT, files_under, tree_files

BUILD = """
import sys
from setuptools import build_meta
print(getattr(build_meta, "build_" + sys.argv[1])(sys.argv[2]))
"""


@dataclass(frozen=True)
class Build:
    """A copy of the tree, and what was built from it."""

    tree: Path
    wheel: Path
    sdist: Path


def python(code: str, *arguments: object, cwd: Path, **environment: str) -> str:
    """Standard output of a fresh Python; fails with its standard error."""
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def build(kind: str, tree: Path, target: Path) -> Path:
    target.mkdir(exist_ok=True)
    return target / python(BUILD, kind, target, cwd=tree).splitlines()[-1]


def copy_tree(target: Path, root: Path = ROOT) -> None:
    for path in tree_files(root):
        copy = target / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Build:
    folder = tmp_path_factory.mktemp("packaging")
    tree = folder / "tree"
    copy_tree(tree)
    # A package that is there only now: a static list of packages would drop it.
    new = tree / "sw" / "driver" / "brand_new" / "inner"
    new.mkdir(parents=True)
    for file in (new / "__init__.py", new.parent / "__init__.py", new / "module.py"):
        file.write_text("")
    return Build(
        tree=tree,
        wheel=build("wheel", tree, folder / "dist"),
        sdist=build("sdist", tree, folder / "dist"),
    )


def installed_names(tree: Path) -> set[str]:
    """Every file of the packages' folders, by its path after installation."""
    return {
        f"{package.replace('.', '/')}/{path.relative_to(tree / folder)}"
        for package, folder in PACKAGES.items()
        for path in files_under(tree / folder)
        if "egg-info" not in str(path)
    }


def test_the_wheel_holds_what_the_tree_holds(built: Build) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    expected = installed_names(built.tree)
    assert names == expected
    assert "drawbar/sw/driver/brand_new/inner/module.py" in expected
    assert "drawbar/sim/harness.cpp" in expected
    assert any(name.startswith("drawbar/data/") for name in expected)


def test_the_source_distribution_holds_what_the_tree_holds(built: Build) -> None:
    with tarfile.open(built.sdist) as sdist:
        files = [member.name.split("/", 1)[1] for member in sdist.getmembers() if member.isfile()]
    names = {name for name in files if "egg-info/" not in name}
    expected = {
        str(path.relative_to(built.tree))
        for path in tree_files(built.tree)
        if "egg-info" not in str(path)
    }
    assert names - {"PKG-INFO", "setup.cfg"} == expected


def test_the_source_distribution_builds_the_same_wheel(built: Build, tmp_path: Path) -> None:
    with tarfile.open(built.sdist) as sdist:
        sdist.extractall(tmp_path, filter="data")
    (tree,) = tmp_path.iterdir()
    again = build("wheel", tree, tmp_path / "dist")
    with zipfile.ZipFile(again) as a, zipfile.ZipFile(built.wheel) as b:
        contents = [
            {name: z.read(name) for name in z.namelist() if ".dist-info/" not in name}
            for z in (a, b)
        ]
    assert contents[0] == contents[1]


def test_the_wheel_runs_without_extras(built: Build, tmp_path: Path) -> None:
    """The wheel, unpacked, is what is imported; torch, amaranth and the like are missing."""
    site = tmp_path / "site"
    with zipfile.ZipFile(built.wheel) as wheel:
        wheel.extractall(site)
    code = """
import sys
for name in ("torch", "amaranth", "cocotb", "sklearn", "matplotlib"):
    sys.modules[name] = None
import drawbar, drawbar.gen, drawbar.sim.golden, drawbar.sw.driver
from drawbar.gen.model_file import load_pretrained
model = load_pretrained("digits")
print(model.inputs, model.outputs)
print(drawbar.__file__, drawbar.gen.__file__, drawbar.sim.__file__, drawbar.sw.__file__)
"""
    output = python(code, cwd=tmp_path, PYTHONPATH=str(site)).splitlines()
    assert output[0] == "64 10"
    for path in output[1].split():
        assert Path(path).is_relative_to(site)


def test_extras_do_not_leak_into_a_plain_installation(built: Build) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        metadata = next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
        text = wheel.read(metadata).decode()
        entries = wheel.read(metadata.replace("METADATA", "entry_points.txt")).decode()
    needs = [
        line.split(":", 1)[1] for line in text.splitlines() if line.startswith("Requires-Dist")
    ]
    plain = {need.split(">")[0].strip() for need in needs if "extra ==" not in need}
    assert plain == {
        "numpy",
        "pyserial",
        "safetensors",
        "google-crc32c",
        "typer",
        "rich",
        "platformdirs",
    }
    assert "License-Expression: Apache-2.0" in text
    assert "drawbar = drawbar.gen.cli:main" in entries


def test_every_direct_dependency_is_pinned() -> None:
    """requirements.txt holds one exact version of each package that pyproject.toml names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    wanted = [need for needs in lists for need in needs]
    names = {need.split("[")[0].split(">")[0].strip() for need in wanted} - {"drawbar"}
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(pin.count("==") == 1 and "*" not in pin for pin in pins)
    pinned = [pin.split("==")[0] for pin in pins]
    assert len(set(pinned)) == len(pinned)
    assert names - set(pinned) == set()
