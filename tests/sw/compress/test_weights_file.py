"""Weights of compressed models: what is saved comes back, to the bit."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

from drawbar.gen.errors import ArtefactError
from drawbar.sw.compress import decompose
from drawbar.sw.compress.formats.ada_tucker import share_core
from drawbar.sw.compress.recurrent import FactorisedRNN, recurrent_spec
from drawbar.sw.compress.weights_file import load_weights, save_weights


def dense() -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[tuple[str, nn.Module]] = [
        ("conv", nn.Conv2d(3, 8, 3, padding=1, stride=2)),
        ("norm", nn.BatchNorm2d(8)),
        ("relu", nn.ReLU()),
        ("flat", nn.Flatten()),
        ("head", nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 60, bias=False))),
        ("last", nn.Linear(60, 10)),
    ]
    return nn.Sequential(OrderedDict(layers))


def compressed() -> nn.Module:
    return decompose(
        dense(),
        {
            "conv": {"format": "cp", "max_rank": 4},
            "head.0": {"format": "tensor_ring", "max_rank": 3},
            "head.2": {"format": "ada_tucker", "max_rank": 3},
        },
    ).eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("base", ["dense", "compressed"])
def test_round_trip(tmp_path: Path, dtype: torch.dtype, base: str) -> None:
    model = compressed().to(dtype)
    save_weights(model, tmp_path / "w.safetensors")
    start = (dense() if base == "dense" else compressed()).to(dtype)
    before = [parameter.clone() for parameter in start.parameters()]
    again = load_weights(start, tmp_path / "w.safetensors").eval()
    x = torch.randn(2, 3, 8, 8, dtype=dtype)
    assert torch.equal(again(x), model(x))
    assert again.get_submodule("head.0").spec == model.get_submodule("head.0").spec
    assert all(torch.equal(a, b) for a, b in zip(before, start.parameters(), strict=True))


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_weights(compressed(), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_shared_core_is_stored_once_and_shared_again(tmp_path: Path) -> None:
    source = nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 20))
    asked = {"format": "ada_tucker", "max_rank": 3}
    model = decompose(source, {"0": asked, "2": asked})
    save_weights(model, tmp_path / "separate")
    share_core({name: model.get_submodule(name) for name in ("0", "2")})  # type: ignore[misc]
    save_weights(model, tmp_path / "shared")
    saved = (tmp_path / "separate").stat().st_size - (tmp_path / "shared").stat().st_size
    assert saved > 200  # of the core's 324 bytes
    again = load_weights(source, tmp_path / "shared")
    assert again.get_parameter("0.cores.0") is again.get_parameter("2.cores.0")
    x = torch.randn(3, 40)
    assert torch.equal(again(x), model(x))


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_a_recurrent_layer(tmp_path: Path, kind: str) -> None:
    spec = recurrent_spec(kind, 24, 8, format="tensor_ring", max_rank=2)
    layer = FactorisedRNN.fresh(kind, spec, batch_first=True)
    save_weights(nn.Sequential(layer), tmp_path / "w")
    dense = nn.LSTM(24, 8) if kind == "lstm" else nn.GRU(24, 8)
    again = load_weights(nn.Sequential(dense), tmp_path / "w")
    x = torch.randn(2, 5, 24)
    assert torch.equal(again(x)[0], layer(x)[0])


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"weights file .*exists; found no such file"):
        load_weights(dense(), tmp_path / "none")
    path = tmp_path / "w.safetensors"
    save_weights(compressed(), path)
    with pytest.raises(ArtefactError, match="has the layers of the model; found conv"):
        load_weights(nn.Sequential(nn.Linear(3, 4)), path)
    other = dense()
    other.last = nn.Linear(60, 11)
    with pytest.raises(ArtefactError, match="fits the model"):
        load_weights(other, path)
    image = bytearray(path.read_bytes())
    image[-100] ^= 1
    path.write_bytes(bytes(image))
    with pytest.raises(ArtefactError, match="matches its own digest"):
        load_weights(dense(), path)


def test_a_type_that_numpy_has_not(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"array '.*': is of a type that NumPy has"):
        save_weights(compressed().bfloat16(), tmp_path / "w")
