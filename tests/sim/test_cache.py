from __future__ import annotations

import hashlib
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from drawbar.gen.errors import ToolError
from drawbar.sim.cache import cache_root, cached, digest


def test_cache_folder_is_read_at_call_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DRAWBAR_CACHE", str(tmp_path / "a"))
    assert cache_root() == tmp_path / "a"
    monkeypatch.setenv("DRAWBAR_CACHE", str(tmp_path / "b"))
    assert cache_root() == tmp_path / "b"
    assert cache_root(tmp_path / "c") == tmp_path / "c"
    (tmp_path / "file").touch()
    with pytest.raises(ToolError, match="DRAWBAR_CACHE"):
        cache_root(tmp_path / "file" / "d")


@pytest.mark.parametrize("harm", ["changed", "truncated", "removed", "no sums"])
def test_damaged_entry_is_built_again(tmp_path: Path, harm: str) -> None:
    builds = []

    def build(scratch: Path, product: Path) -> None:
        builds.append(scratch)
        (product / "thing").write_bytes(b"right")

    for _ in range(2):
        entry = cached("kind", "key", build, cache=tmp_path)
    assert len(builds) == 1
    match harm:
        case "changed":
            (entry / "thing").write_bytes(b"wrong")
        case "truncated":
            (entry / "thing").write_bytes(b"rig")
        case "removed":
            (entry / "thing").unlink()
        case "no sums":
            (entry / "sums.json").write_text("{")
    assert cached("kind", "key", build, cache=tmp_path) == entry
    assert (entry / "thing").read_bytes() == b"right"
    assert len(builds) == 2
    assert sorted(p.name for p in (tmp_path / "kind").iterdir()) == ["key", "key.lock"]


def test_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def build(scratch: Path, product: Path) -> None:
        (product / "half").touch()
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        cached("kind", "key", build, cache=tmp_path)
    assert sorted(p.name for p in (tmp_path / "kind").iterdir()) == ["key.lock"]


def _slow_build(scratch: Path, product: Path) -> None:
    with (product.parent.parent.parent / "builds").open("a") as log:
        log.write("built\n")
    time.sleep(1)
    (product / "thing").write_text("right")


def _use(cache: Path) -> None:
    entry = cached("kind", "key", _slow_build, cache=cache)
    assert (entry / "thing").read_text() == "right"


def test_two_processes_build_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_use, args=(tmp_path,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "builds").read_text() == "built\n"


def test_entries_that_nobody_uses_are_removed(tmp_path: Path) -> None:
    def build(scratch: Path, product: Path) -> None:
        (product / "thing").touch()

    old, used = (cached("kind", key, build, cache=tmp_path) for key in ("old", "used"))
    for entry in (old, used):
        os.utime(entry, (time.time() - 40 * 86400,) * 2)
    cached("kind", "used", build, cache=tmp_path)
    cached("kind", "new", build, cache=tmp_path)
    assert not old.exists()
    assert used.exists()


def test_the_oldest_entries_beyond_so_many_are_removed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("drawbar.sim.cache._KEEP_ENTRIES", 3)
    for number in range(6):
        entry = cached("kind", str(number), lambda scratch, product: None, cache=tmp_path)
        # As if that many minutes ago; the first one is used again and again.
        os.utime(entry, (time.time() - (60 - number) * 60,) * 2)
        cached("kind", "0", lambda scratch, product: None, cache=tmp_path)
    kept = sorted(path.name for path in (tmp_path / "kind").iterdir() if path.is_dir())
    assert kept == ["0", "3", "4", "5"]


def test_digest_depends_on_every_part() -> None:
    assert digest("a", ["b"]) == hashlib.sha256(b'["a", ["b"]]').hexdigest()
    assert len({digest(*parts) for parts in [("a", "b"), ("ab",), ("b", "a")]}) == 3
