"""Rules for the text of every file: length, leftovers, and nothing of one machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tree import ROOT, tree_files

MAX_LINES = 500
FILES = tree_files()
SOURCES = [path for path in FILES if path.suffix in (".py", ".cpp", ".h")]
# Put together from pieces, so that this file does not break its own rules.
LEFTOVERS = re.compile(
    r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r")\b"
)
MACHINE = re.compile(
    "|".join(
        ("/wo" + "rk/", "/ro" + r"ot\b", r"/home" + r"/\w", r"/tmp" + r"/\w", r"/Use" + r"rs/\w")
    )
)
#: Where packages come from is the business of the machine's own configuration.
REGISTRY = re.compile(
    "|".join(("pypi" + r"\.", "python" + "hosted", "index-" + "url", "npm" + "js"))
)


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def lines_with(path: Path, pattern: re.Pattern[str]) -> list[str]:
    try:
        text = path.read_text()
    except UnicodeDecodeError:
        return []  # a picture or trained weights
    return [
        f"{relative(path)}:{number}: {line.strip()}"
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_files_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize(
    "pattern", [LEFTOVERS, MACHINE, REGISTRY], ids=["leftovers", "machine", "registry"]
)
def test_no_file_holds(pattern: re.Pattern[str]) -> None:
    assert [line for path in FILES for line in lines_with(path, pattern)] == []


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        (LEFTOVERS, "# TO" + "DO: later"),
        (MACHINE, "see /ro" + "ot/notes"),
        (MACHINE, 'open("/wo' + 'rk/x")'),
        (REGISTRY, "--index-" + "url x"),
    ],
    ids=["leftover", "home", "folder", "registry"],
)
def test_a_breach_is_found(pattern: re.Pattern[str], line: str) -> None:
    assert pattern.search(line)
