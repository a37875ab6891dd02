"""Checkpoints: tensors and JSON in one file (``gen.container``), written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from drawbar.gen.container import read_container, write_container
from drawbar.gen.errors import ArtefactError
from drawbar.sw.compress.backend import torch

FORMAT_VERSION = 1
MAGIC = "drawbar-checkpoint"
SUFFIX = ".safetensors"
WHAT = "checkpoint"


def save_checkpoint(
    path: str | Path,
    tensors: Mapping[str, torch.Tensor],
    facts: Mapping[str, Any],
    config: Mapping[str, Any],
) -> None:
    """Write the state of a run.

    Arguments
    ---------
    tensors:
        By name; of types that NumPy has.
    facts:
        What else the state is; JSON values.
    config:
        What the run was asked for; ``load_checkpoint`` wants the same. JSON values.

    Raises
    ------
    ArtefactError:
        the file cannot be written; one that was there stays as it was.
    """
    write_container(
        path,
        what=WHAT,
        magic=MAGIC,
        arrays={name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()},
        description={"format_version": FORMAT_VERSION, "facts": facts, "config": config},
    )


def load_checkpoint(
    path: str | Path, config: Mapping[str, Any]
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors and facts of a run of the same configuration.

    Raises
    ------
    ArtefactError:
        damaged, foreign, or from another configuration; the error names what differs.
    """
    arrays, fields = read_container(
        path,
        what=WHAT,
        magic=MAGIC,
        version=FORMAT_VERSION,
        suffix=SUFFIX,
        again="start the run again in another folder",
    )
    found = fields["config"]
    if found != config:
        raise ArtefactError(
            f"{WHAT} {path}",
            "is from a run of the same configuration",
            "; ".join(_differences(found, config)),
            "use the configuration of that run, or another folder",
        )
    return {name: torch.from_numpy(np.array(a)) for name, a in arrays.items()}, fields["facts"]


def _differences(found: Any, wanted: Any, where: str = "") -> list[str]:
    """Each entry that differs, as ``name: found, now wanted``."""
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        texts = []
        for key in sorted({*found, *wanted}):
            inner = f"{where}.{key}" if where else str(key)
            texts += _differences(found.get(key), wanted.get(key), inner)
        return texts
    return [] if found == wanted else [f"{where}: {found}, now {wanted}"]
