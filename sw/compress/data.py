"""Data sets for training, calibration and the demo, as NumPy arrays. Needs no PyTorch."""

from __future__ import annotations

import gzip
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from drawbar.gen.errors import InputError, ToolError

DATASETS = ("digits", "mnist", "fashion-mnist")
#: Names the folder of the sets that do not come with a package; read when a set is loaded.
DIRECTORY_VARIABLE = "DRAWBAR_DATA"
SPLIT_SEED = 1797
TEST_SHARE = 0.2


@dataclass(frozen=True)
class Dataset:
    """Images and their classes.

    Members
    -------
    train_x, test_x:
        float32 ``(samples, pixels)``, rows of an image one after the other, 0 to 1.
    train_y, test_y:
        int64 ``(samples,)``, 0 to ``classes - 1``.
    """

    name: str
    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    classes: int

    @property
    def features(self) -> int:
        return self.train_x.shape[1]


def load_dataset(name: str, directory: str | Path | None = None) -> Dataset:
    """Load a set.

    Arguments
    ---------
    name:
        "digits" (scikit-learn's 1,797 bundled 8 x 8 digits, every run split alike into 80 and 20
        percent of each class), "mnist" or "fashion-mnist" (60,000 and 10,000 images, 28 x 28).
    directory:
        For the last two: the folder with the four original gzip idx files, or the folder above it
        (``mnist/``, ``fashion-mnist/``). Without it the environment's ``DRAWBAR_DATA``.

    Raises
    ------
    InputError:
        no such set, a missing folder or file, or a file that is damaged.
    ToolError:
        scikit-learn is not installed.
    """
    if name == "digits":
        return _digits()
    if name in DATASETS:
        return _idx_dataset(name, directory)
    raise InputError(
        f"data set {name!r}", f"is one of {', '.join(DATASETS)}", name, "use one of these"
    )


def _digits() -> Dataset:
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError:
        raise ToolError(
            "data set 'digits'",
            "comes with scikit-learn",
            "no package named sklearn",
            "pip install 'drawbar[demo]'",
        ) from None
    pixels, labels = load_digits(return_X_y=True)
    x, y = (pixels / 16).astype(np.float32), labels.astype(np.int64)
    # Raw words of the bit generator: a random stream that NumPy promises never to change. With
    # another split, trained weights would be tested on samples that they were trained on.
    order = np.argsort(np.random.PCG64(SPLIT_SEED).random_raw(len(y)), kind="stable")
    test = np.zeros(len(y), bool)
    for label in np.unique(y):
        members = order[y[order] == label]
        test[members[: round(TEST_SHARE * len(members))]] = True
    return Dataset("digits", x[~test], y[~test], x[test], y[test], classes=10)


def _idx_dataset(name: str, directory: str | Path | None) -> Dataset:
    folder = _folder(name, directory)
    parts = {}
    for part, prefix, count in (("train", "train", 60_000), ("test", "t10k", 10_000)):
        images_path = folder / f"{prefix}-images-idx3-ubyte.gz"
        labels_path = folder / f"{prefix}-labels-idx1-ubyte.gz"
        images, labels = _read_idx(images_path, 3), _read_idx(labels_path, 1)
        for path, found, wanted in (
            (images_path, images.shape, (count, 28, 28)),
            (labels_path, labels.shape, (count,)),
        ):
            if found != wanted:
                raise _damaged(path, f"holds an array of shape {wanted}", found)
        if labels.max() > 9:
            raise _damaged(labels_path, "holds classes 0 to 9", int(labels.max()))
        parts[f"{part}_x"] = images.reshape(count, -1).astype(np.float32) / np.float32(255)
        parts[f"{part}_y"] = labels.astype(np.int64)
    return Dataset(name, **parts, classes=10)


def _folder(name: str, directory: str | Path | None) -> Path:
    where = f"data set {name!r}"
    said = directory or os.environ.get(DIRECTORY_VARIABLE)
    if not said:
        raise InputError(
            where,
            "is read from a folder",
            f"no folder given, and {DIRECTORY_VARIABLE} is not set",
            f"give the folder that holds {name}/ (--data DIR), or set {DIRECTORY_VARIABLE}",
        )
    above = Path(said)
    if not above.is_dir():
        raise InputError(f"{where}, folder", "exists", above, f"give the folder that holds {name}/")
    if (above / name).is_dir():
        return above / name
    # Both sets use the same file names, so a folder of the other set must not pass for this one.
    if above.resolve().name in set(DATASETS) - {name}:
        raise InputError(
            f"{where}, folder", f"holds {name}", above, f"give the folder that holds {name}/"
        )
    return above


def _read_idx(path: Path, dimensions: int) -> np.ndarray:
    """An idx file of unsigned bytes: 0, 0, type 8, number of axes, each axis as 32 bits, data."""
    if not path.is_file():
        raise InputError(
            f"data file {path}",
            "exists",
            "no such file",
            "put the data set's four original .gz files there, or give another folder",
        )
    try:
        data = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, "is a whole gzip file", error) from None
    magic = bytes((0, 0, 8, dimensions))
    if data[:4] != magic:
        raise _damaged(
            path, f"starts with the idx magic {magic.hex()}", data[:4].hex() or "nothing"
        )
    start = 4 + 4 * dimensions
    shape = tuple(int(n) for n in np.frombuffer(data[4:start], ">u4")) if len(data) >= start else ()
    wanted = start + int(np.prod(shape, dtype=np.int64))
    if not shape or len(data) != wanted:
        raise _damaged(path, f"holds {wanted} bytes, as its header says", f"{len(data)} bytes")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _damaged(path: Path, rule: str, value: object) -> InputError:
    return InputError(f"data file {path}", rule, value, "download the original file again")
