"""Data sets for training, calibration and the demo, as NumPy arrays. Needs no PyTorch."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

import numpy as np

from drawbar.gen.errors import InputError, ToolError

DATASETS = ("digits", "mnist", "fashion-mnist", "cifar10")
#: Names the folder of the sets that do not come with a package; read when a set is loaded.
DIRECTORY_VARIABLE = "DRAWBAR_DATA"
SPLIT_SEED = 1797
TEST_SHARE = 0.2
#: SHA-256 of the training and the test split: every pixel as a byte, then every class as a byte.
DIGESTS = {
    "mnist": (
        "edc0d1098aa497be14ace79ddd5171e5a3dcf9c4d196c015389203eb3ba1f59b",
        "c3f9adf9c66efb572b1f9326c3a511b45910c7173b97be66ceceeeeaef6b802b",
    ),
    "fashion-mnist": (
        "16d82e2b505296aa2b78bd5ea0992634f30419a4c97def7c907d154a35ac6157",
        "9f1ec356a747bfe4ebab3cfb722d3694c9ca737e2570f6f90cf31d7b6fd689d4",
    ),
    "cifar10": (
        "882efd6af5d51e8fbb5a655bf33d16ef7c6f928336e50a59b4248244660b2ebc",
        "974aa60ec44adab690e446a57bc1f3d6be78acaf8ccebc7db93a22c1866e4e13",
    ),
}
#: CIFAR-10's sheets: images of each class, images a sheet, tiles a row.
CIFAR_SHEETS = {"train": (5_000, 2_500), "test": (1_000, 1_000)}
CIFAR_ROW = 50


@dataclass(frozen=True)
class Dataset:
    """Images and their classes.

    Members
    -------
    train_x, test_x:
        float32 ``(samples, pixels)``, 0 to 1: channels of an image one after the other, each row by
        row.
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

    @property
    def image(self) -> tuple[int, int, int]:
        """Channels, height and width of an image: one channel or three, and as high as wide.

        Raises
        ------
        InputError:
            no such image has so many pixels.
        """
        for channels in (1, 3):
            side = isqrt(self.features // channels)
            if channels * side * side == self.features:
                return channels, side, side
        raise InputError(
            f"data set {self.name!r}",
            "holds square images of one channel or three",
            f"{self.features} numbers a sample",
            "leave shift and mirror at 0",
        )


def load_dataset(name: str, directory: str | Path | None = None, *, verify: bool = True) -> Dataset:
    """Load a set.

    Arguments
    ---------
    name:
        "digits" (scikit-learn's 1,797 bundled 8 x 8 digits, every run split alike into 80 and 20
        percent of each class), "mnist" or "fashion-mnist" (60,000 and 10,000 images, 28 x 28), or
        "cifar10" (50,000 and 10,000 colour images, 3 x 32 x 32).
    directory:
        For all but the first: the folder that holds the set's files, or the folder above it
        (``mnist/``, ``fashion-mnist/``, ``cifar10/``). Without it the environment's
        ``DRAWBAR_DATA``. The files are the four original gzip idx files, or CIFAR-10's lossless
        WebP sheets ``{train,test}-{label}-{sheet}.webp`` of 50 tiles a row.
    verify:
        Whether the pixels and classes must be the published ones.

    Raises
    ------
    InputError:
        no such set, a missing folder or file, a file that is damaged, or a split that fails its
        checksum.
    ToolError:
        scikit-learn ("digits") or Pillow ("cifar10") is not installed.
    """
    if name == "digits":
        return _digits()
    if name in DATASETS:
        folder = data_folder(name, directory)
        # All files are read before any checksum: what is wrong with one file is said of that file.
        splits = list(_cifar(folder) if name == "cifar10" else _idx_splits(folder))
        parts = {}
        for (split, (images, labels)), digest in zip(splits, DIGESTS[name], strict=True):
            found = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
            if verify and found != digest:
                raise InputError(
                    f"data set {name!r}, {split} split in {folder}",
                    f"has the checksum {digest[:16]}... of the published one",
                    f"{found[:16]}...",
                    "download the original files again",
                )
            parts[f"{split}_x"] = images.astype(np.float32) / np.float32(255)
            parts[f"{split}_y"] = labels.astype(np.int64)
        return Dataset(name, **parts, classes=10)
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


#: Name of a split; its images ``(samples, pixels)`` and classes ``(samples,)`` as bytes.
Split = tuple[str, tuple[np.ndarray, np.ndarray]]


def _idx_splits(folder: Path) -> Iterator[Split]:
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
        yield part, (images.reshape(count, -1), labels)


def _cifar(folder: Path) -> Iterator[Split]:
    for split, (images, sheet) in CIFAR_SHEETS.items():
        parts = [
            _read_sheet(folder / f"{split}-{label}-{number}.webp", sheet)
            for label in range(10)
            for number in range(images // sheet)
        ]
        yield split, (np.concatenate(parts), np.repeat(np.arange(10, dtype=np.uint8), images))


def _read_sheet(path: Path, images: int) -> np.ndarray:
    """A sheet's images as bytes, ``(images, 3 * 32 * 32)``."""
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise ToolError(
            "data set 'cifar10'",
            "is read with Pillow",
            "no package named PIL",
            "pip install 'drawbar[demo]'",
        ) from None
    if not path.is_file():
        raise _missing(path)
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise _damaged(path, "is a whole WebP image", error) from None
    rows = images // CIFAR_ROW
    wanted = (32 * rows, 32 * CIFAR_ROW, 3)
    if pixels.shape != wanted:
        raise _damaged(path, f"holds an image of shape {wanted}", pixels.shape)
    tiles = pixels.reshape(rows, 32, CIFAR_ROW, 32, 3)
    return tiles.transpose(0, 2, 4, 1, 3).reshape(images, -1)


def data_folder(name: str, directory: str | Path | None) -> Path:
    """The folder of a set's files, given that or the one above it."""
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
    # Two sets use the same file names: a folder of the other one must not pass for this.
    if above.resolve().name in {*DATASETS, "fsdd"} - {name}:
        raise InputError(
            f"{where}, folder", f"holds {name}", above, f"give the folder that holds {name}/"
        )
    return above


def _read_idx(path: Path, dimensions: int) -> np.ndarray:
    """An idx file of unsigned bytes: 0, 0, type 8, number of axes, each axis as 32 bits, data."""
    if not path.is_file():
        raise _missing(path)
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


def _missing(path: Path) -> InputError:
    return InputError(
        f"data file {path}",
        "exists",
        "no such file",
        "put all of the data set's files there, or give another folder",
    )


def _damaged(path: Path, rule: str, value: object) -> InputError:
    return InputError(f"data file {path}", rule, value, "download the original file again")
