"""Compression from end to end: one call or a file, a result folder, and on to the engine."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import drawbar
from drawbar.gen.cli.main import app
from drawbar.gen.errors import ArtefactError, InputError, NetworkError
from drawbar.sw.compress.data import load_dataset
from drawbar.sw.compress.recipes import reference_model
from drawbar.sw.compress.storage import load_packed
from drawbar.sw.compress.train import accuracy
from drawbar.sw.compress.weights_file import load_weights

RUNNER = CliRunner()
CONFIG = """
model = "digits-mlp"
data = "digits"

[training]
dense_epochs = 5
admm_epochs = 5
tuning_epochs = 4
batch_size = 32
admm_lr = 3e-3
tuning_lr = 1e-2
threads = 1

[layers.fc1]
modes_in = [4, 4, 4]
modes_out = [4, 8, 8]

[layers.fc2]
modes_in = [4, 8, 8]
modes_out = [4, 8, 8]

[target]
cycles = 1500
engine = "small"
"""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "digits.toml"
    path.write_text(CONFIG)
    return path


def test_file_to_folder_to_engine(config: Path) -> None:
    done = RUNNER.invoke(app, ["compress", str(config), "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    folder = config.with_suffix("")
    assert said["folder"] == str(folder)
    assert {path.name for path in folder.iterdir()} == {
        "checkpoint.safetensors",
        "command.txt",
        "curves.png",
        "layers.txt",
        "model.safetensors",
        "result.json",
        "weights.safetensors",
    }
    assert said["dense_weights"] == 85_002
    assert said["accuracy"]["tuned"] > 80
    assert (folder / "command.txt").read_text() == f"drawbar compress {config}\n"
    assert (folder / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert "fc1    tt" in (folder / "layers.txt").read_text()
    loaded = load_weights(reference_model("digits-mlp"), folder / "weights.safetensors")
    assert sum(parameter.numel() for parameter in loaded.parameters()) == said["weights"]
    data = load_dataset("digits")
    assert accuracy(loaded, data.test_x, data.test_y) == said["accuracy"]["tuned"]
    # The ranks were chosen for the engine, and it is the compiled model that keeps to the target.
    artefact = drawbar.compile(
        folder / "model.safetensors", engine="small", calibration=data.train_x
    )
    assert 1000 < artefact.cycles <= 1500
    y = drawbar.golden(artefact, data.test_x)
    right = 100 * np.mean(y.argmax(axis=1) == data.test_y)
    assert abs(right - said["accuracy"]["tuned"]) <= 1

    # Once more: nothing is left to train, and all files come out the same.
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    table = RUNNER.invoke(app, ["compress", str(config)])
    assert table.exit_code == 0
    assert "fc2 (tt)" in table.stdout
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {name for name in before if before[name] != after[name]} <= {"curves.png"}

    # Another configuration in the same folder is refused.
    config.write_text(CONFIG.replace("tuning_epochs = 4", "tuning_epochs = 3"))
    refused = RUNNER.invoke(app, ["compress", str(config), "--json"])
    assert refused.exit_code == 1
    assert "settings.tuning_epochs: 4, now 3" in json.loads(refused.stdout)["value"]


FEW_BITS = """
model = "digits-mlp"
data = "digits"
share = ["fc1", "fc2"]

[training]
method = "direct"
dense_epochs = 4
tuning_epochs = 4
storage_epochs = 4
batch_size = 32
tuning_lr = 1e-2
storage_lr = 5e-3
threads = 1

[layers.fc1]
format = "ada_tucker"
ranks = [6, 6, 6, 6]

[layers.fc2]
format = "ada_tucker"
ranks = [6, 6, 6, 6]

[bits]
"*" = 4
"fc3.*" = 5
"""


def test_few_bits_and_one_core_for_two_layers(config: Path) -> None:
    config.write_text(FEW_BITS)
    done = RUNNER.invoke(app, ["compress", str(config), "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    folder = config.with_suffix("")
    # One core of 6**4; factors 16, 16, 8, 8 and 16, 16, 16, 16, by 6; fc3; biases.
    few, more = 6**4 + 6 * (16 * 6 + 8 * 2) + 256 + 256, 256 * 10 + 10
    assert said["weights"] == few + more
    tensors = 1 + 8 + 2 + 2
    assert said["bytes"] == 8 + 2 * tensors + -(-(4 * few + 5 * more) // 8)
    path = folder / "weights.packed"
    assert path.stat().st_size == said["bytes"]
    assert f"stored in {said['bytes']:,} bytes" in (folder / "layers.txt").read_text()
    assert said["bits"]["fc3.weight"] == 5
    assert said["accuracy"]["stored"] > 85
    loaded = load_weights(reference_model("digits-mlp"), folder / "weights.safetensors")
    data = load_dataset("digits")
    for module in (loaded, load_packed(loaded, path)):
        assert accuracy(module, data.test_x, data.test_y) == said["accuracy"]["stored"]
    table = RUNNER.invoke(app, ["compress", str(config)])
    assert f"stored in {said['bytes']:,} bytes" in table.stdout


def test_a_module_of_ones_own() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 48), torch.nn.ReLU(), torch.nn.Linear(48, 10))
    result = drawbar.compress(
        model, load_dataset("digits"), target=2.5, method="direct", tuning_epochs=2, batch_size=64
    )
    assert result.dense_weights / result.weights >= 2.5
    assert [layer["format"] for layer in result.layers] == ["tt", "dense"]
    assert "decomposed" in result.accuracy
    assert not any(row["phase"] == "admm" for row in result.history)
    x = load_dataset("digits").train_x
    assert drawbar.compile(result.model, engine="small", calibration=x).cycles > 0


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (('model = "digits-mlp"', 'model = "alexnet"'), "is one of lenet-300, lenet-5, digits-mlp"),
        (('data = "digits"', ""), "names its data; found None"),
        (('data = "digits"', 'data = "digitz"'), "is one of digits, mnist"),
        (("[target]", "[goal]"), "has only bits, data, layers, model, share, target, training;"),
        (("cycles = 1500", "cycle = 1500"), "has only compression, cycles, engine; found cycle"),
        (("cycles = 1500", "cycles = 15"), "takes at most 15 cycles on engine 'small'"),
        (("[layers.fc1]", "[layers.fc9]"), "layer 'fc9': is in the model"),
        (("dense_epochs = 5", "epochs = 3"), "compression, epochs: is a setting"),
        (("[target]", "[bits]\nfc9 = 4\n[target]"), "have bits for names of the model; found fc9"),
        (('data = "digits"', 'data = "digits"\nshare = "fc1"'), "has share as a list"),
        (("batch_size = 32", "batch_size = ["), "is valid TOML"),
    ],
)  # fmt: skip
def test_bad_files(config: Path, change: tuple[str, str], match: str) -> None:
    config.write_text(CONFIG.replace(*change).replace("dense_epochs = 5", "dense_epochs = 0"))
    with pytest.raises(drawbar.DrawbarError, match=match):
        drawbar.compress_file(config)


def test_bad_models_and_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can be read"):
        drawbar.compress_file(tmp_path / "none.toml")
    with pytest.raises(InputError, match=r"is a torch\.nn\.Module, or the name"):
        drawbar.compress(3, "digits")
    with pytest.raises(NetworkError, match="has layers to compress"):
        drawbar.compress(torch.nn.Sequential(torch.nn.Linear(64, 10)), "digits")
    (tmp_path / "checkpoint.safetensors").write_bytes(b"something else")
    with pytest.raises(ArtefactError, match="is a whole safetensors file"):
        drawbar.compress("digits-mlp", "digits", target=4, folder=tmp_path)
