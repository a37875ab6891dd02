"""Whole networks that cannot be: each is refused in less than 2 s, before any hardware is built, by
an error that names the layer or node, the rule, the value and the fix.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from random_cells import INPUTS, random_cells
from torch import nn
from typer.testing import CliRunner

import drawbar
from drawbar.gen.cli.main import app
from drawbar.gen.errors import DrawbarError, FitError, InputError, NetworkError
from drawbar.gen.presets import load_config
from drawbar.sim import verilator

SHAPE = (3, 12, 12)
#: Of this process's own time, as the machine may have other things to do.
SECONDS = 2.0


@pytest.fixture(autouse=True)
def _nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def build(*_: object, **__: object) -> None:
        raise AssertionError("hardware is being built")

    names = [name for name in vars(verilator) if name.startswith(("build", "compile"))]
    assert names
    for name in names:
        monkeypatch.setattr(verilator, name, build)
    for name in ("drawbar.sim.board", "drawbar.hw.board"):
        if name in sys.modules:
            for part in ("SimBoard", "Board"):
                if hasattr(sys.modules[name], part):
                    monkeypatch.setattr(sys.modules[name], part, build)
    started = time.process_time()
    yield
    assert time.process_time() - started < SECONDS


class Reshaped(nn.Module):
    """Its shapes follow from its data."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return y if y.shape[2] > 5 else y[:, :, : int(y.sum())]


class Rows(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.a(x), self.b(x)], dim=3)


def broken(layer: nn.Module, value: float) -> nn.Module:
    with torch.no_grad():
        next(layer.parameters()).view(-1)[3] = value
    return layer


def grouped() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3, groups=3))


def padded() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.MaxPool2d(3, 2, 1))


CASES: dict[str, tuple[Callable[[], nn.Module], type[DrawbarError], str]] = {
    "operator": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU()),
        NetworkError,
        r"module '1': is supported \(Linear, Conv2d.*found torch.nn.*GELU",
    ),
    "groups": (grouped, NetworkError, r"'1'.*without groups; found.*3.*Fix:"),
    "padded maximum": (padded, NetworkError, r"module '1': reaches beyond.*put the ReLU before"),
    "columns joined": (Rows, NetworkError, r"node 'cat' \(.*test_bad_networks.py:\d+\).*axis 3"),
    "dynamic shape": (Reshaped, NetworkError, r"does not depend on its data.*take the condition"),
    "not a number": (
        lambda: nn.Sequential(broken(nn.Conv2d(3, 4, 3), float("nan"))),
        NetworkError,
        r"layer '0', core 0: holds finite numbers",
    ),
    "an infinite weight of a layer of cores": (
        lambda: nn.Sequential(
            nn.Flatten(), broken(drawbar_layer(), float("inf")), nn.ReLU(), nn.Linear(4, 2)
        ),
        NetworkError,
        r"'1'.*finite numbers",
    ),
    "a layer that cannot fit": (
        lambda: nn.Sequential(nn.Conv2d(3, 300, 3), nn.ReLU(), nn.Conv2d(300, 300, 3)),
        FitError,
        r"layer '0'.*4096 bytes of work memory.*67568 too many.*work_depth to at least 8958",
    ),
}


def drawbar_layer() -> nn.Module:
    from drawbar.sw.compress.formats import get_format

    chosen = get_format("tt")
    spec = chosen.spec(
        (4, 432), name="cores", modes_out=(2, 2, 1), modes_in=(3, 12, 12), max_rank=2
    )
    return chosen.layer(spec)


@pytest.mark.parametrize("name", CASES)
def test_networks(name: str) -> None:
    make, kind, match = CASES[name]
    calibration = np.zeros((2, *SHAPE))
    with pytest.raises(kind, match=match):
        drawbar.compile(make().eval(), "tiny", calibration=calibration)


def test_sequences_that_are_longer_than_the_calibration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scales hold for as many steps; an engine has no counter that could overflow."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    config = load_config("small").replace(name="small-products", products=1)
    calibration = rng.standard_normal((4, 3, INPUTS))
    artefact = drawbar.compile(random_cells("gru", "dense"), config, calibration=calibration)
    assert artefact.steps == 3
    artefact.save("net.drawbar")
    x = rng.standard_normal((2, 4, INPUTS))
    match = r"has sequences of at most 3 steps.*found 4 steps.*Fix: "
    with pytest.raises(InputError, match=match):
        artefact.quantise_input(x)
    with pytest.raises(InputError, match=match):
        drawbar.golden(artefact, x)
    np.save("x.npy", x)
    result = CliRunner().invoke(
        app, ["run", "net.drawbar", "--input", "x.npy", "--device", "sim"], env={"COLUMNS": "200"}
    )
    assert result.exit_code == 1
    assert "at most 3 steps" in result.output
    # As many steps as it has seen are none too many.
    assert drawbar.golden(artefact, x[:, :3]).shape == (2, 5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_cells_with_weights_that_are_not_finite(value: float) -> None:
    cells = random_cells("lstm", "dense")
    broken(cells.cell, value)
    calibration = np.zeros((2, 3, INPUTS))
    with pytest.raises(NetworkError, match="finite numbers"):
        drawbar.compile(cells, "tiny", calibration=calibration)
