"""The model file: exact round trips, and one clear error for each way in which a file is bad."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from drawbar.gen import model_file
from drawbar.gen.container import read_container, write_container
from drawbar.gen.errors import ArtefactError, InputError
from drawbar.gen.formats import dense_network, tt_network
from drawbar.gen.model_file import load_model, load_pretrained, pretrained_names, save_model
from drawbar.gen.network import ContractionNetwork, Core, Model


def model(dtype: type = np.float64) -> Model:
    rng = np.random.default_rng(1)

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(dtype).astype(np.float64)

    tt = tt_network("fc1", [draw(1, 2, 5, 3), draw(3, 3, 2, 1)], bias=draw(6), activation="relu")
    return Model("net", (tt, dense_network("fc2", draw(4, 6))))


def assert_same(found: Model, expected: Model) -> None:
    assert found.name == expected.name
    for a, b in zip(found.layers, expected.layers, strict=True):
        assert (a.name, a.format, a.activation, a.ranks) == (
            b.name,
            b.format,
            b.activation,
            b.ranks,
        )
        assert (list(a.sizes.items()), a.input, a.output) == (
            list(b.sizes.items()),
            b.input,
            b.output,
        )
        arrays = [(c.values, d.values) for c, d in zip(a.cores, b.cores, strict=True)]
        assert [c.indices for c in a.cores] == [d.indices for d in b.cores]
        if b.bias is None:
            assert a.bias is None
        else:
            assert a.bias is not None
            arrays.append((a.bias, b.bias))
        for x, y in arrays:
            assert x.dtype == y.dtype
            assert np.array_equal(x, y)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_round_trip_is_exact(tmp_path: Path, dtype: type) -> None:
    path = tmp_path / "net.safetensors"
    save_model(model(dtype), path)
    assert_same(load_model(path), model(dtype))
    # Float64 arrays that hold float32 numbers take half of the space and lose nothing.
    assert {a.dtype for a in load_file(path).values()} == {np.dtype(dtype)}
    assert list(tmp_path.iterdir()) == [path]  # nothing partial is left


def test_float32_cores_come_back_as_float32(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    layer = ContractionNetwork(
        "a", "dense", {"m": 2, "n": 3}, (Core(("m", "n"), values),), ("n",), ("m",)
    )
    save_model(Model("m", (layer,)), tmp_path / "m")
    assert_same(load_model(tmp_path / "m"), Model("m", (layer,)))


def test_other_types_are_refused(tmp_path: Path) -> None:
    values = np.zeros((2, 3), np.float16)
    layer = ContractionNetwork(
        "a", "dense", {"m": 2, "n": 3}, (Core(("m", "n"), values),), ("n",), ("m",)
    )
    with pytest.raises(ArtefactError, match=r"layer 'a', core 0: is of type float32 or float64"):
        save_model(Model("m", (layer,)), tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_same_model_gives_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    source, paths = tmp_path / "source", [tmp_path / f"{n}" for n in range(4)]
    save_model(model(), source)
    for path in paths:
        code = (
            "from drawbar.gen.model_file import *\n"
            f"save_model(load_model({str(source)!r}), {str(path)!r})"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert {path.read_bytes() for path in paths} == {source.read_bytes()}


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_model(model(), path)
    image = path.read_bytes()
    padding = image[8 : 8 + int.from_bytes(image[:8], "little")]
    spaces = range(8 + len(padding.rstrip(b" ")), 8 + len(padding))
    for position in (p for p in range(len(image)) if p not in spaces):
        path.write_bytes(image[:position] + bytes([image[position] ^ 1]) + image[position + 1 :])
        with pytest.raises(ArtefactError):
            load_model(path)


@pytest.mark.parametrize("keep", [0, 7, 8, 100, -1, -200])
def test_truncated(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "net.safetensors"
    save_model(model(), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ArtefactError, match=r"is a whole safetensors file.*save the model again"):
        load_model(path)


def test_corrupted_array_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_model(model(), path)
    image = bytearray(path.read_bytes())
    image[-3] ^= 0x10
    path.write_bytes(image)
    with pytest.raises(ArtefactError, match="matches its own digest"):
        load_model(path)


def test_missing_and_foreign(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    for missing in (path, tmp_path):
        with pytest.raises(ArtefactError, match=r"exists; found no such file.*\.safetensors file"):
            load_model(missing)
    save_file({"a": np.zeros(3)}, path)
    with pytest.raises(ArtefactError, match=r"written by Drawbar as 'drawbar-model'; .*'unknown'"):
        load_model(path)
    write_container(
        path,
        what="artefact",
        magic="drawbar-artefact",
        arrays={},
        description={"format_version": 1},
    )
    with pytest.raises(ArtefactError, match="a safetensors file of kind 'drawbar-artefact'"):
        load_model(path)
    path.write_bytes(b"PK\3\4 a zip file, of some other program")
    with pytest.raises(ArtefactError, match="is a whole safetensors file"):
        load_model(path)


def test_foreign_file_with_a_type_that_numpy_lacks(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "bf16"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(ArtefactError, match="kind 'unknown'"):
        load_model(path)


@pytest.mark.parametrize(("version", "fix"), [(99, "upgrade drawbar"), (0, "save the model again")])
def test_other_versions(
    tmp_path: Path, version: int, fix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(model_file, "FORMAT_VERSION", version)
        save_model(model(), path)
    with pytest.raises(
        ArtefactError, match=rf"has format version 1; found version {version}.*{fix}"
    ):
        load_model(path)


def test_well_signed_nonsense(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_model(model(), path)
    kinds = {"what": "model file", "magic": model_file.MAGIC}
    arrays, description = read_container(
        path, **kinds, version=1, suffix=".safetensors", again="save it again"
    )
    for damage in ("name", "layers", "sizes", "missing"):
        bad = json.loads(json.dumps(description))
        if damage == "sizes":
            bad["layers"][0]["sizes"][0][1] += 1
        elif damage == "missing":
            bad["layers"][1]["bias"] = "float64"
        else:
            del bad[damage]
        write_container(path, **kinds, arrays=arrays, description=bad)
        with pytest.raises(ArtefactError, match="describes a well-formed model"):
            load_model(path)


def test_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArtefactError, match=r"can be written; found No such file"):
        save_model(model(), tmp_path / "absent" / "net")
    path = tmp_path / "net"
    path.write_bytes(b"old")

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ArtefactError, match="can be written; found No space left"):
        save_model(model(), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_pretrained() -> None:
    assert "digits" in pretrained_names()
    shipped = load_pretrained("digits")
    assert (shipped.inputs, shipped.outputs) == (64, 10)
    with pytest.raises(InputError, match=r"'mnist'.*is one of digits"):
        load_pretrained("mnist")


def test_pretrained_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from drawbar.gen.model_file import load_pretrained\n"
        "print(load_pretrained().name)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "digits", done.stderr
