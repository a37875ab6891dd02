"""What the repository holds, for tests that read it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: Folders of the repository by the package that they become.
PACKAGES = {
    "drawbar": "src/drawbar",
    "drawbar.constraints": "constraints",
    "drawbar.gen": "gen",
    "drawbar.hw": "hw",
    "drawbar.sim": "sim",
    "drawbar.sw": "sw",
}
TOP = (*PACKAGES.values(), "tests", "docs", "tools", ".ci")
#: Made by tools, never part of the tree. A ``.part`` or ``~`` file is one that is being written.
GENERATED = ("__pycache__",)
GENERATED_SUFFIXES = (".pyc", ".part", "~")


def files_under(folder: Path) -> Iterator[Path]:
    """Files that belong to the tree, under one of its folders."""
    for path in sorted(folder.rglob("*")):
        generated = path.name.endswith(GENERATED_SUFFIXES) or any(
            part in GENERATED for part in path.parts
        )
        if path.is_file() and not generated:
            yield path


def tree_files(root: Path = ROOT) -> list[Path]:
    """Every file of the repository: those of its folders, and the plain files beside them."""
    files = [path for folder in TOP for path in files_under(root / folder)]
    names = ("Makefile", "LICENSE", ".gitignore")
    suffixes = (".md", ".toml", ".py", ".txt", ".in")
    beside = [p for p in sorted(root.iterdir()) if p.name in names or p.suffix in suffixes]
    return [*beside, *files]


def module_name(path: Path, root: Path = ROOT) -> str:
    """``drawbar.gen.config`` for ``gen/config.py``."""
    for package, folder in PACKAGES.items():
        if path.is_relative_to(root / folder):
            parts = path.relative_to(root / folder).with_suffix("").parts
            return ".".join((package, *(p for p in parts if p != "__init__")))
    raise ValueError(f"{path} is in none of {', '.join(PACKAGES.values())}")
