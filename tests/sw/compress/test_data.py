"""Data sets: the bundled digits, idx files, and every way in which a folder can be wrong."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drawbar.gen.errors import InputError, ToolError
from drawbar.sw.compress import data as data_module
from drawbar.sw.compress.data import Dataset, load_dataset

FILES = (
    ("train-images-idx3-ubyte.gz", (60_000, 28, 28)),
    ("train-labels-idx1-ubyte.gz", (60_000,)),
    ("t10k-images-idx3-ubyte.gz", (10_000, 28, 28)),
    ("t10k-labels-idx1-ubyte.gz", (10_000,)),
)


def idx(array: np.ndarray) -> bytes:
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(header + array.tobytes(), compresslevel=1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds mnist/ with files of the right sizes; every sample shows its number."""
    folder = tmp_path_factory.mktemp("data") / "mnist"
    folder.mkdir()
    for name, shape in FILES:
        array = np.zeros(shape, np.uint8)
        number = np.arange(shape[0])
        if len(shape) == 1:
            array[:] = number % 10
        else:
            array[:, 0, 1] = number % 256
            array[:, 1, 0] = 255
        (folder / name).write_bytes(idx(array))
    return folder.parent


@pytest.fixture
def broken(whole: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    (tmp_path / "mnist").mkdir()
    for name, _ in FILES:
        (tmp_path / "mnist" / name).symlink_to(whole / "mnist" / name)
    return tmp_path


def test_digits() -> None:
    digits = load_dataset("digits")
    assert digits.train_x.shape == (1438, 64)
    assert digits.test_x.shape == (359, 64)
    assert digits.train_x.dtype == digits.test_x.dtype == np.float32
    assert digits.train_y.dtype == digits.test_y.dtype == np.int64
    assert (digits.classes, digits.features, digits.name) == (10, 64, "digits")
    both = np.concatenate([digits.train_x, digits.test_x])
    assert both.min() == 0
    assert both.max() == 1
    assert np.array_equal(both * 16, np.rint(both * 16))


def test_digits_split_is_whole_stratified_and_always_the_same() -> None:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    first, again = load_dataset("digits"), load_dataset("digits")
    assert np.array_equal(first.test_x, again.test_x)
    # Drawn once and written down: trained weights that ship depend on it.
    digest = hashlib.sha256(first.test_x.tobytes() + first.test_y.tobytes())
    assert digest.hexdigest()[:16] == "2855119df2674cc7"
    found = np.concatenate([first.train_x, first.test_x]) * 16
    assert np.array_equal(np.unique(found, axis=0), np.unique(pixels, axis=0))
    assert len(found) == len(pixels)
    for label in range(10):
        share = np.sum(first.test_y == label) / np.sum(labels == label)
        assert abs(share - 0.2) < 0.003


def test_idx_files(whole: Path) -> None:
    mnist = load_dataset("mnist", whole, verify=False)
    assert mnist.train_x.shape == (60_000, 784)
    assert mnist.test_x.shape == (10_000, 784)
    assert mnist.train_x.dtype == np.float32
    assert mnist.train_y.dtype == np.int64
    assert np.array_equal(mnist.test_y, np.arange(10_000) % 10)
    # Row-major pixels: column 1 of row 0, then column 0 of row 1; 255 is 1.
    assert np.array_equal(np.rint(mnist.test_x[:, 1] * 255), np.arange(10_000) % 256)
    assert (mnist.test_x[:, 28] == 1).all()
    assert mnist.test_x.sum() == pytest.approx(mnist.test_x[:, [1, 28]].sum())


def test_folder_itself_and_environment(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAWBAR_DATA", str(whole / "mnist"))  # read at the call, not at import
    assert len(load_dataset("mnist", verify=False).test_y) == 10_000
    monkeypatch.setenv("DRAWBAR_DATA", "/nowhere")
    assert len(load_dataset("mnist", whole, verify=False).test_y) == 10_000  # the argument wins
    with pytest.raises(InputError, match="/nowhere"):
        load_dataset("mnist")


def test_no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DRAWBAR_DATA", raising=False)
    with pytest.raises(InputError, match=r"DRAWBAR_DATA is not set\. Fix: .*--data DIR"):
        load_dataset("mnist")
    with pytest.raises(InputError, match=r"folder: exists; found .*absent"):
        load_dataset("mnist", tmp_path / "absent")
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte.gz: exists; found no such file"):
        load_dataset("mnist", tmp_path)


def test_folder_of_the_other_set(whole: Path) -> None:
    with pytest.raises(InputError, match=r"'fashion-mnist', folder: holds fashion-mnist"):
        load_dataset("fashion-mnist", whole / "mnist")


def test_unknown_name() -> None:
    with pytest.raises(InputError, match="is one of digits, mnist, fashion-mnist, cifar10"):
        load_dataset("imagenet")


def test_whole_files_of_other_pixels_fail_the_checksum(whole: Path) -> None:
    with pytest.raises(InputError, match=r"'mnist', train split .*: has the checksum edc0d1098aa4"):
        load_dataset("mnist", whole)


@pytest.fixture
def sheets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CIFAR-10 with one row of tiles a class; red is the class, green the tile, blue the column."""
    monkeypatch.setattr(data_module, "CIFAR_SHEETS", {"train": (50, 50), "test": (50, 50)})
    folder = tmp_path / "cifar10"
    folder.mkdir()
    for label in range(10):
        pixels = np.zeros((32, 1600, 3), np.uint8)
        pixels[:, :, 0] = label
        pixels[:, :, 1] = np.arange(1600) // 32
        pixels[:, :, 2] = np.arange(1600) % 32
        for split in ("train", "test"):
            path = folder / f"{split}-{label}-0.webp"
            Image.fromarray(pixels).save(path, lossless=True, exact=True)
    return tmp_path


def test_cifar_sheets(sheets: Path) -> None:
    cifar = load_dataset("cifar10", sheets, verify=False)
    assert (cifar.features, cifar.classes) == (3072, 10)
    assert np.array_equal(cifar.train_y, np.repeat(np.arange(10), 50))
    red, green, blue = np.rint(255 * cifar.test_x.reshape(500, 3, 32, 32)).transpose(1, 0, 2, 3)
    assert (red == cifar.test_y[:, None, None]).all()
    assert (green == (np.arange(500) % 50)[:, None, None]).all()
    assert (blue == np.arange(32)).all()


def test_damaged_sheets(sheets: Path) -> None:
    with pytest.raises(InputError, match=r"'cifar10', train split .*: has the checksum 882efd6a"):
        load_dataset("cifar10", sheets)
    path = sheets / "cifar10" / "test-3-0.webp"
    good = path.read_bytes()
    Image.new("RGB", (64, 32)).save(path, lossless=True)
    with pytest.raises(InputError, match=r"test-3-0.webp: holds an image of shape \(32, 1600, 3\)"):
        load_dataset("cifar10", sheets)
    path.write_bytes(good[: len(good) // 2])
    with pytest.raises(InputError, match=r"test-3-0.webp: is a whole WebP image"):
        load_dataset("cifar10", sheets)
    path.unlink()
    with pytest.raises(InputError, match=r"test-3-0.webp: exists; found no such file"):
        load_dataset("cifar10", sheets)


def _truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _flipped(data: bytes) -> bytes:
    middle = len(data) - 6  # the checksum at the end
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        (_truncated, "is a whole gzip file"),
        (_flipped, "is a whole gzip file"),
        (lambda _: b"<html>not found</html>", "is a whole gzip file"),
        (lambda _: b"", "starts with the idx magic 00000801; found nothing"),
        (lambda _: gzip.compress(b"\0\0\x0d\1" + bytes(8)), "starts with the idx magic 00000801"),
        (lambda _: gzip.compress(b"\0\0\x08\1\0"), "holds 9 bytes, as its header says"),
        (lambda _: gzip.compress(b"\0\0\x08\1\0\0\0\5abc"), "holds 13 bytes"),
        (lambda _: idx(np.zeros(9, np.uint8)), r"holds an array of shape \(10000,\)"),
        (lambda _: idx(np.full(10_000, 10, np.uint8)), "holds classes 0 to 9; found 10"),
    ],
)
def test_damaged_file(broken: Path, damage, rule: str) -> None:  # type: ignore[no-untyped-def]
    path = broken / "mnist" / "t10k-labels-idx1-ubyte.gz"
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(damage(data))
    with pytest.raises(InputError, match=f"t10k-labels.*: {rule}.*download the original"):
        load_dataset("mnist", broken)


def test_missing_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ToolError, match=r"pip install 'drawbar\[demo\]'"):
        load_dataset("digits")


def run_without_torch(code: str) -> subprocess.CompletedProcess[str]:
    hide = "import sys; sys.modules['torch'] = None\n"
    command = [sys.executable, "-c", hide + code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_data_needs_no_torch() -> None:
    done = run_without_torch(
        "from drawbar.sw.compress import load_dataset, Dataset, factorise\n"
        "import drawbar.sw.compress.data\n"
        "print(factorise(784, 4), 'torch' in dir(drawbar.sw.compress))"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(4, 7, 7, 4) False"


@pytest.mark.parametrize("name", ["TTLinear", "tt_svd", "lower", "train_demo", "accuracy"])
def test_missing_torch_is_one_clear_error(name: str) -> None:
    done = run_without_torch(
        "from drawbar.gen.errors import ToolError\n"
        "import drawbar.sw.compress\n"
        f"try: drawbar.sw.compress.{name}\n"
        "except ToolError as error: print(error)"
    )
    assert done.returncode == 0, done.stderr
    assert "no package named torch. Fix: pip install 'drawbar[compress]'" in done.stdout


def test_public_names_all_load() -> None:
    import drawbar.sw.compress as package

    assert set(package.__all__) <= set(dir(package))
    for name in package.__all__:
        assert getattr(package, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = package.nothing


REAL = Path(os.environ.get("DRAWBAR_DATA", Path(__file__).parents[4] / "shared" / "data"))


def test_the_real_sheets() -> None:
    """The published pixels, by their checksum."""
    if not (REAL / "cifar10").is_dir():
        pytest.skip(f"no data set cifar10 in {REAL}: set DRAWBAR_DATA to the folder that holds it")
    cifar = load_dataset("cifar10", REAL)
    assert cifar.train_x.shape == (50_000, 3072)
    assert np.array_equal(np.bincount(cifar.test_y), [1_000] * 10)
    means = cifar.train_x.reshape(-1, 3, 1024).mean((0, 2), dtype=np.float64)
    np.testing.assert_allclose(means, [0.4914, 0.4822, 0.4465], atol=1e-4)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_the_real_files(name: str) -> None:
    if not (REAL / name).is_dir():
        pytest.skip(f"no data set {name} in {REAL}: set DRAWBAR_DATA to the folder that holds it")
    dataset = load_dataset(name, REAL)
    assert dataset.test_x.shape == (10_000, 784)
    assert np.bincount(dataset.train_y).min() > 5_000
    mean = float(dataset.train_x.mean())
    assert mean == pytest.approx({"mnist": 0.1307, "fashion-mnist": 0.2860}[name], abs=1e-4)


@pytest.mark.parametrize(
    ("features", "image"),
    [(784, (1, 28, 28)), (3072, (3, 32, 32)), (64, (1, 8, 8)), (12, (3, 2, 2))],
)
def test_the_shape_of_images(features: int, image: tuple[int, int, int]) -> None:
    x, y = np.zeros((2, features), np.float32), np.zeros(2, np.int64)
    assert Dataset("images", x, y, x, y, classes=2).image == image
    with pytest.raises(InputError, match="square images"):
        _ = Dataset("rows", x[:, :10], y, x[:, :10], y, classes=2).image
