"""What Drawbar builds and keeps: simulators, compiled objects, generated Verilog."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import platformdirs

from drawbar.gen.errors import ToolError

#: Told what a build does, and which part of that phase is done where it is known.
Progress = Callable[[str, float | None], None]

_SUMS = "sums.json"
#: Entries of one kind that nobody used for so many days are removed, and the oldest beyond so many:
#: the fuzzer builds hundreds of engines.
_KEEP_DAYS = 30
_KEEP_ENTRIES = 128
#: Seconds that a process waits for another one's build of the same entry.
_LOCK_TIMEOUT = 1800


def quiet(phase: str, fraction: float | None) -> None:
    """A ``Progress`` that tells nobody."""


def cache_root(cache: str | Path | None = None) -> Path:
    """The folder of all that is built: ``cache``, else DRAWBAR_CACHE, else the user's."""
    chosen = cache or os.environ.get("DRAWBAR_CACHE") or platformdirs.user_cache_dir("drawbar")
    root = Path(chosen).absolute()
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ToolError(
            f"cache folder {root}", "can be written", error, "set DRAWBAR_CACHE to one that can be"
        ) from None
    return root


def digest(*parts: object) -> str:
    """SHA-256 over the parts, as hexadecimal digits: the name of a cache entry."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _intact(entry: Path) -> bool:
    """Whether every file of the entry is there, and is what was built."""
    try:
        sums = json.loads((entry / _SUMS).read_text())
        for name, expected in sums.items():
            if hashlib.sha256((entry / name).read_bytes()).hexdigest() != expected:
                return False
    except (OSError, ValueError, AttributeError):
        return False
    return True


@contextlib.contextmanager
def _locked(path: Path, progress: Progress) -> Iterator[None]:
    """One process at a time; the system drops the lock of one that dies."""
    with path.open("w") as file:
        deadline = time.monotonic() + _LOCK_TIMEOUT
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                # Past the deadline two may build the same: wasteful, and harmless.
                if time.monotonic() > deadline:
                    break
            progress("wait for another build", None)
            time.sleep(0.1)
        yield


def _prune(folder: Path) -> None:
    oldest = time.time() - _KEEP_DAYS * 86400
    used: list[tuple[float, Path]] = []
    for entry in folder.iterdir():
        with contextlib.suppress(OSError):
            age = entry.stat().st_mtime
            if entry.is_dir() and not entry.name.startswith("."):
                used.append((age, entry))
            elif age < oldest:
                _remove(entry)
    used.sort(reverse=True)
    for number, (age, entry) in enumerate(used):
        if age < oldest or number >= _KEEP_ENTRIES:
            _remove(entry)


def _remove(entry: Path) -> None:
    with contextlib.suppress(OSError):
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def cached(
    kind: str,
    key: str,
    build: Callable[[Path, Path], None],
    *,
    cache: str | Path | None = None,
    progress: Progress = quiet,
) -> Path:
    """The folder of cache entry ``kind/key``, built first where it is missing or damaged.

    ``build(scratch, product)`` puts what is kept into the folder ``product``. An entry appears
    whole or not at all, and two processes that want the same one build it once.
    """
    folder = cache_root(cache) / kind
    entry = folder / key
    if not _intact(entry):
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / f"{key}.lock", progress):
            if not _intact(entry):
                _fill(folder, entry, build)
    with contextlib.suppress(OSError):  # a cache that is shared and cannot be written
        os.utime(entry)
    return entry


def _fill(folder: Path, entry: Path, build: Callable[[Path, Path], None]) -> None:
    _prune(folder)
    work = Path(tempfile.mkdtemp(dir=folder, prefix=".build-"))
    try:
        scratch, product = work / "scratch", work / "product"
        scratch.mkdir()
        product.mkdir()
        build(scratch, product)
        sums = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in product.iterdir()}
        (product / _SUMS).write_text(json.dumps(sums))
        if entry.exists():
            entry.rename(work / "damaged")
        try:
            product.rename(entry)
        except OSError:
            # Another process, past the lock's deadline, was faster.
            if not _intact(entry):
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
