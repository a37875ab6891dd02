"""gen/artefact.py: the file comes back bit for bit or not at all, and inputs are checked."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from drawbar.gen import artefact as artefact_module
from drawbar.gen import config as config_module
from drawbar.gen.artefact import Artefact, Buffer, LayerReport, Load, Pass, TensorLayout
from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import ArtefactError, InputError
from drawbar.gen.presets import PRESETS
from drawbar.gen.protocol import Space


def make(config: EngineConfig = PRESETS["tiny"], seed: int = 1) -> Artefact:
    """An artefact of random numbers: as a file it need not run."""
    rng = np.random.default_rng(seed)
    low, high = config.data_min, config.data_max + 1
    return Artefact(
        name="sample",
        config=config,
        program=rng.integers(0, 1 << 32, 40, np.uint32),
        cores=rng.integers(low, high, (7, config.rows)),
        biases=rng.integers(-(1 << 35), 1 << 35, (3, config.lanes)),
        loads=(Load(Space.PROGRAM, 0, 0, 40), Load(Space.CORE, 0, 0, 2)),
        buffers=tuple(
            Buffer(
                passes=(
                    Pass(word, word, 1000),
                    Pass(word + 9, word + 9, 234, (Load(Space.CORE, 2, 5, 4),)),
                ),
                input=TensorLayout(base, (3, 4), (8, 1), batch_stride=32, fraction_bits=12),
                output=TensorLayout(base + 99, (5,), (9,), batch_stride=64, fraction_bits=9),
            )
            for word, base in ((0, 4), (20, 250))
        ),
        batch=2,
        cycles=1234,
        layers=(
            LayerReport(
                name="fc1",
                format="tt",
                modes_in=(3, 4),
                modes_out=(5, 1),
                ranks=(1, 2, 1),
                dense_weights=60,
                core_weights=38,
                multiplications=200,
                cycles=1200,
                utilisation=0.625,
                plan="(G1(G2 X))",
            ),
        ),
        test_input=rng.integers(low, high, (4, 12)),
        test_output=rng.integers(low, high, (4, 5)),
        meta={"versions": {"drawbar": "0.1.0"}, "stages": ["a", "b"]},
    )


def assert_equal(one: Artefact, other: Artefact) -> None:
    for field in dataclasses.fields(Artefact):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, b, strict=True)
        else:
            assert a == b, field.name


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "sample.drawbar"
    make().save(path)
    return path


# -- round trip ------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["tiny", "tiny-8bit", "large"])
def test_what_is_saved_comes_back(tmp_path: Path, preset: str) -> None:
    before = make(PRESETS[preset])
    path = tmp_path / "a.drawbar"
    before.save(path)
    after = Artefact.load(path)
    assert_equal(before, after)
    assert after.config.hash == before.config.hash
    assert isinstance(after.layers[0].modes_in, tuple)
    after.save(tmp_path / "b.drawbar")
    assert path.read_bytes() == (tmp_path / "b.drawbar").read_bytes()


def test_the_same_artefact_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make().save(tmp_path / name)
    make(seed=2).save(tmp_path / "c")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()


def test_extremes_survive(tmp_path: Path) -> None:
    base = make()
    extremes = dataclasses.replace(
        base,
        cores=np.array([[-32768, 32767, 0, -1]]),
        biases=np.array([[-(1 << 52), (1 << 52) - 1, 0, -1]]),
        program=np.array([0, 0xFFFFFFFF], np.uint32),
    )
    extremes.save(tmp_path / "a.drawbar")
    assert_equal(extremes, Artefact.load(tmp_path / "a.drawbar"))


def test_saving_replaces_whole_and_leaves_nothing_beside_it(saved: Path) -> None:
    make(seed=2).save(saved)
    assert_equal(make(seed=2), Artefact.load(saved))
    assert list(saved.parent.iterdir()) == [saved]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="can be written"):
        make().save(tmp_path / "nowhere" / "a.drawbar")


# -- files that are not whole ----------------------------------------------------------------------


def test_every_truncation_is_refused(saved: Path) -> None:
    image = saved.read_bytes()
    header = 8 + int.from_bytes(image[:8], "little")
    lengths = {0, 1, 7, 8, 9, header - 1, header, header + 1, len(image) - 1}
    lengths |= set(range(0, len(image), 61))
    cut = saved.with_name("cut.drawbar")
    for length in sorted(lengths):
        cut.write_bytes(image[:length])
        with pytest.raises(ArtefactError) as caught:
            Artefact.load(cut)
        assert str(cut) in caught.value.subject
        assert "compile the model again" in caught.value.fix, length


def test_bytes_after_the_end_are_refused(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes() + b"\0")
    with pytest.raises(ArtefactError):
        Artefact.load(saved)


def regions(image: bytes) -> dict[str, range]:
    """Where each part of the file lies: the length, every entry of the header, every array."""
    header = 8 + int.from_bytes(image[:8], "little")
    fields: dict[str, Any] = json.loads(image[8:header])
    parts = {"length": range(8), "header": range(8, header)}
    for name, entry in fields.items():
        if name == "__metadata__":
            start = image.index(b"__metadata__")
            parts["description"] = range(start, header)
        else:
            first, last = entry["data_offsets"]
            parts[name] = range(header + first, header + last)
    return parts


def test_every_flipped_byte_is_refused(saved: Path) -> None:
    """In each part of the file a seeded sample of bytes, each with one bit or all bits flipped."""
    rng = random.Random(5)
    image = saved.read_bytes()
    parts = regions(image)
    assert {"program", "cores", "biases", "test_input", "test_output"} <= set(parts)
    damaged = saved.with_name("damaged.drawbar")
    for part, where in parts.items():
        places = {where[0], where[-1], *rng.sample(where, min(40, len(where)))}
        for place in sorted(places):
            for mask in (1 << rng.randrange(8), 0xFF):
                flipped = bytearray(image)
                flipped[place] ^= mask
                damaged.write_bytes(flipped)
                try:
                    loaded = Artefact.load(damaged)
                except ArtefactError as error:
                    assert str(damaged) in error.subject  # noqa: PT017
                else:
                    # Spaces that fill the header up carry nothing.
                    assert image[place : place + 1] == b" ", (part, place)
                    assert_equal(make(), loaded)


def test_two_arrays_of_one_shape_cannot_trade_places(tmp_path: Path) -> None:
    """Each of them is whole, but the digest knows which is which."""
    base = make()
    path = tmp_path / "a.drawbar"
    dataclasses.replace(base, test_output=np.roll(base.test_input, 1)).save(path)
    image = path.read_bytes()
    length = int.from_bytes(image[:8], "little")
    header: dict[str, Any] = json.loads(image[8 : 8 + length])
    one, other = header["test_input"], header["test_output"]
    one["data_offsets"], other["data_offsets"] = other["data_offsets"], one["data_offsets"]
    text = json.dumps(header, separators=(",", ":")).encode().ljust(length)
    assert len(text) == length
    path.write_bytes(image[:8] + text + image[8 + length :])
    with pytest.raises(ArtefactError, match="matches its own digest"):
        Artefact.load(path)


# -- files of others -------------------------------------------------------------------------------


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"none\.drawbar: exists; found no such file"):
        Artefact.load(tmp_path / "none.drawbar")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="exists"):
        Artefact.load(tmp_path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"drawbar": "{}"}])
def test_foreign_safetensors_are_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"weight": np.zeros((2, 2), np.float32)}, path, metadata=metadata)
    with pytest.raises(ArtefactError, match="was written by Drawbar") as caught:
        Artefact.load(path)
    assert caught.value.fix == "give a .drawbar file"


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04" + bytes(64), b"\x80\x05.", b"\x7fELF" + bytes(4096), b"{}" * 50]
)
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.drawbar"
    path.write_bytes(content)
    with pytest.raises(ArtefactError, match="is a whole safetensors file"):
        Artefact.load(path)


@pytest.mark.parametrize(("step", "hint"), [(1, "upgrade drawbar"), (-1, "compile the model")])
def test_another_format_version_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, hint: str
) -> None:
    version = artefact_module.FORMAT_VERSION
    path = tmp_path / "a.drawbar"
    with monkeypatch.context() as patched:
        patched.setattr(artefact_module, "FORMAT_VERSION", version + step)
        make().save(path)
    with pytest.raises(ArtefactError, match=f"has format version {version}") as caught:
        Artefact.load(path)
    assert caught.value.value == f"version {version + step}"
    assert caught.value.fix.startswith(hint)


def test_another_hardware_revision_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.drawbar"
    make().save(path)
    old = make().config.hash.hex()
    monkeypatch.setattr(config_module, "HARDWARE_REVISION", config_module.HARDWARE_REVISION + 1)
    with pytest.raises(ArtefactError, match="this version of the hardware") as caught:
        Artefact.load(path)
    assert caught.value.value == old
    assert make().config.hash.hex() in caught.value.rule


def described(edit: Callable[[dict[str, Any]], None], monkeypatch: pytest.MonkeyPatch) -> Artefact:
    """An artefact that describes itself as ``edit`` says, with a digest that fits."""
    artefact = make()
    description = artefact._description()
    edit(description)
    monkeypatch.setattr(Artefact, "_description", lambda _: description)
    return artefact


@pytest.mark.parametrize(
    ("field", "value"), [("rows", 0), ("lanes", 3), ("data_width", 12), ("no_such_field", 1)]
)
def test_an_engine_that_cannot_be_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, value: int
) -> None:
    path = tmp_path / "a.drawbar"
    described(lambda d: d["config"].update({field: value}), monkeypatch).save(path)
    with pytest.raises(ArtefactError, match="valid engine configuration") as caught:
        Artefact.load(path)
    assert field in str(caught.value)


def test_an_engine_that_does_not_match_its_hash_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.drawbar"
    described(lambda d: d["config"].update(work_depth=1024), monkeypatch).save(path)
    with pytest.raises(ArtefactError, match="this version of the hardware"):
        Artefact.load(path)


# -- layouts and inputs ----------------------------------------------------------------------------


def test_addresses_of_a_layout() -> None:
    layout = TensorLayout(base=100, shape=(2, 3), strides=(10, 1), batch_stride=50, fraction_bits=0)
    assert layout.features == 6
    assert layout.addresses(2).tolist() == [
        [100, 101, 102, 110, 111, 112],
        [150, 151, 152, 160, 161, 162],
    ]


def row(*values: float, fill: float = 0.0) -> np.ndarray:
    x = np.full((1, 12), fill)
    x[0, : len(values)] = values
    return x


def test_quantise_rounds_half_to_even() -> None:
    step = 2.0**-12
    x = row(0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.49, -0.51, 3.0) * step
    assert make().quantise_input(x)[0, :9].tolist() == [0, 2, 2, 0, -2, -2, 0, -1, 3]


@pytest.mark.parametrize("preset", ["tiny", "tiny-8bit"])
def test_quantise_saturates(preset: str) -> None:
    config = PRESETS[preset]
    x = row(1e9, -1e9, 1e300, -1e300, config.data_max / 4096, config.data_min / 4096)
    most, least = config.data_max, config.data_min
    got = make(config).quantise_input(x)
    assert got[0, :6].tolist() == [most, least, most, least, most, least]
    assert got.dtype == np.int64


def test_quantise_takes_any_kind_of_number_and_any_batch() -> None:
    artefact = make()
    for dtype in (np.float64, np.float32, np.float16, np.int8, np.uint8, np.int64):
        x = np.array([[0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3]] * 3, dtype)
        np.testing.assert_array_equal(artefact.quantise_input(x), x.astype(np.int64) * 4096)
    assert artefact.quantise_input(np.zeros((0, 12))).shape == (0, 12)


def test_quantise_leaves_its_input_alone() -> None:
    x = row(0.3, -0.7)
    before = x.copy()
    make().quantise_input(x)
    np.testing.assert_array_equal(x, before)


def test_dequantise_is_the_inverse_on_the_grid() -> None:
    artefact = make()
    y = np.array([[-32768, 32767, 0, 1, -1]])
    real = artefact.dequantise_output(y)
    np.testing.assert_array_equal(real * 2.0**9, y)


@pytest.mark.parametrize(
    ("x", "rule", "found"),
    [
        (np.zeros((2, 11)), "has shape (batch, 12)", "(2, 11)"),
        (np.zeros(12), "has shape (batch, 12)", "(12,)"),
        (np.zeros((1, 3, 4)), "has shape (batch, 12)", "(1, 3, 4)"),
        (np.float64(1), "is a NumPy array", "float64"),
        ([[0.0] * 12], "is a NumPy array", "list"),
        (None, "is a NumPy array", "NoneType"),
        (np.zeros((1, 12), complex), "is a NumPy array", "complex128"),
        (np.zeros((1, 12), bool), "is a NumPy array", "bool"),
        (np.full((1, 12), "1"), "is a NumPy array", "<U1"),
        (np.full((1, 12), None), "is a NumPy array", "object"),
        (row(np.nan), "holds finite numbers", "sample 0"),
        (np.vstack([row(), row(), row(1, np.inf)]), "holds finite numbers", "sample 2"),
        (np.vstack([row(), row(-np.inf)]), "holds finite numbers", "sample 1"),
    ],
)
def test_a_bad_input_is_refused(x: Any, rule: str, found: str) -> None:
    with pytest.raises(InputError) as caught:
        make().quantise_input(x)
    assert caught.value.subject == "input of 'sample'"
    assert rule in caught.value.rule
    assert found in str(caught.value.value)
    assert caught.value.fix
