"""The container of every file that Drawbar writes: arrays, a JSON description, a digest over both.

It is a safetensors file: a JSON header and raw arrays, no code, no pickle. The header's metadata
carries the kind of the file under ``magic``, its description (JSON) under ``drawbar``, and a
SHA-256 over the description and every array under ``digest``, so that a damaged file is refused
whole. The digest's scheme is the same in every format version.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from drawbar.gen.errors import ArtefactError


def write_container(
    path: str | Path,
    *,
    what: str,
    magic: str,
    arrays: Mapping[str, np.ndarray],
    description: Mapping[str, Any],
) -> None:
    """Write a file whole or not at all; the same contents give the same bytes.

    Arguments
    ---------
    what:
        What the file is, for error messages: "artefact".
    magic:
        Kind of the file; ``read_container`` asks for the same.
    arrays, description:
        The contents. The description carries its ``format_version`` and is what JSON can hold.

    Raises
    ------
    ArtefactError:
        the file cannot be written. A file that was there before is left as it was.
    """
    text = json.dumps(description, sort_keys=True)
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    metadata = {"magic": magic, "drawbar": text, "digest": _digest(contiguous, text)}
    image = _sorted_header(save(contiguous, metadata=metadata))
    path = Path(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        partial.write_bytes(image)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ArtefactError(
            f"{what} {path}",
            "can be written",
            f"{error.strerror or error}",
            "give a path in a folder that exists and that you may write to",
        ) from None


def read_container(
    path: str | Path, *, what: str, magic: str, version: int, suffix: str, again: str
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read a file of one kind and one format version: its arrays and its description.

    Arguments
    ---------
    what, suffix, again:
        For error messages: what the file is, how its name ends, and how to make it again.

    Raises
    ------
    ArtefactError:
        no such file, foreign, truncated, corrupted, or of a version that this Drawbar does
        not read.
    """
    where = f"{what} {path}"
    if not Path(path).is_file():
        raise ArtefactError(where, "exists", "no such file", f"give the path of a {suffix} file")
    try:
        with safe_open(str(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            # A foreign file can hold types that NumPy lacks: ask whose it is first.
            if metadata.get("magic") != magic:
                raise ArtefactError(
                    where,
                    f"was written by Drawbar as {magic!r}",
                    f"a safetensors file of kind {metadata.get('magic', 'unknown')!r}",
                    f"give a {suffix} file",
                )
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise ArtefactError(where, "is a whole safetensors file", f"{error}", again) from None
    text = metadata.get("drawbar", "")
    if metadata.get("digest") != _digest(arrays, text):
        raise ArtefactError(where, "matches its own digest", "other contents", again)
    description = json.loads(text)
    found = description["format_version"]
    if found != version:
        newer = found > version
        raise ArtefactError(
            where,
            f"has format version {version}",
            f"version {found}",
            f"upgrade drawbar, or {again} with this one" if newer else again,
        )
    return arrays, description


def _sorted_header(image: bytes) -> bytes:
    """The same file with its header's keys in order: the library's order changes with each run."""
    length = int.from_bytes(image[:8], "little")
    header = json.loads(image[8 : 8 + length])
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # arrays start on a multiple of eight bytes
    return len(text).to_bytes(8, "little") + text + image[8 + length :]


def _digest(arrays: Mapping[str, np.ndarray], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
