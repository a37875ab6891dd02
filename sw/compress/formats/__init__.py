"""One file for each decomposition format: its structure, and how a trained weight becomes cores."""

from __future__ import annotations

from importlib import import_module

from drawbar.gen.errors import NetworkError
from drawbar.sw.compress.formats.base import Format
from drawbar.sw.compress.spec import Spec

__all__ = ["Format", "Spec", "format_names", "get_format"]

#: Module and class of each format, by name; loaded on first use.
_FORMATS = {
    "tt": ("train", "TTMatrix"),
    "tensor_train": ("train", "TensorTrain"),
    "tensor_ring": ("tensor_ring", "TensorRing"),
    "tucker": ("tucker", "Tucker"),
    "cp": ("cp", "CP"),
    "block_term": ("block_term", "BlockTerm"),
    "svd": ("svd", "MatrixSVD"),
    "stt": ("semi_tensor", "SemiTensorTrain"),
    "str": ("semi_tensor", "SemiTensorRing"),
    "sttu": ("semi_tensor", "SemiTensorTucker"),
    "ada_tucker": ("ada_tucker", "ADATucker"),
}


def format_names() -> tuple[str, ...]:
    """The formats that there are."""
    return tuple(_FORMATS)


def get_format(name: str) -> Format:
    """The format of this name.

    Raises
    ------
    NetworkError:
        there is none.
    """
    if name not in _FORMATS:
        raise NetworkError(
            f"format {name!r}", f"is one of {', '.join(_FORMATS)}", name, "use one of these"
        )
    module, kind = _FORMATS[name]
    return getattr(import_module(f"{__name__}.{module}"), kind)()
