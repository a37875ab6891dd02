"""Concatenations in PyTorch models: what is lowered computes what PyTorch computes, and plans run.

The models are small ones of the two families that live by them, Inception and DenseNet, and a
perceptron whose layers skip.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import drawbar
from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import NetworkError
from drawbar.gen.model_file import load_model, save_model
from drawbar.gen.network import Model
from drawbar.gen.plan import plan_model
from drawbar.sim.golden import run_artefact
from drawbar.sw.compress import decompose, lower
from drawbar.sw.compress.quantise import quantise

ENGINE = EngineConfig(
    rows=4, lanes=4, core_depth=8192, work_depth=8192, bias_depth=512, program_depth=4096
)
SHAPE = (3, 10, 8)


class Inception(nn.Module):
    """Four branches of one image, the 3 x 3 one in tensor train."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 4, 1)
        self.reduce, self.three = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 3, padding=1)
        self.five = nn.Conv2d(3, 2, 5, padding=2)
        self.pool = nn.AvgPool2d(3, 1, 1)
        self.projection = nn.Conv2d(3, 3, 1)
        self.next = nn.Conv2d(15, 6, 3, padding=1)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branches = [
            self.one(x),
            self.three(torch.relu(self.reduce(x))),
            self.five(x),
            self.projection(self.pool(x)),
        ]
        y = torch.relu(torch.cat(branches, dim=1))
        return self.fc(torch.relu(self.next(y)).mean((2, 3)))


class DenseBlock(nn.Module):
    """Each layer reads all before it, after a batch norm and a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1, stride=2)
        self.norms = nn.ModuleList(nn.BatchNorm2d(4 + 3 * n) for n in range(3))
        self.convs = nn.ModuleList(nn.Conv2d(4 + 3 * n, 3, 3, padding=1) for n in range(3))
        self.fc = nn.Linear(13 * 2 * 2, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = [self.first(x)]
        for norm, conv in zip(self.norms, self.convs, strict=True):
            found.append(conv(torch.relu(norm(torch.cat(found, 1)))))
        y = functional.max_pool2d(torch.cat(found, 1), 2)
        return self.fc(torch.flatten(y, 1))


class Skips(nn.Module):
    """A perceptron whose input and first layer go into later layers and into the output."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(240, 12), nn.Linear(252, 9)
        self.three = nn.Linear(21, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(1)
        h = torch.relu(self.one(x))
        y = torch.relu(self.two(torch.cat([x, h], 1)))
        return torch.concat((self.three(torch.cat([y, h], -1)), h), dim=1)


class Pooled(nn.Module):
    """A maximum, a global average, and an image that is flattened, each beside something else."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 2, 3, padding=1)
        self.fc = nn.Linear(4 + 6 * 20, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.a(x)
        pooled = functional.max_pool2d(a, 2)
        both = torch.cat([functional.max_pool2d(self.b(a), 2), pooled], 1)
        return self.fc(torch.cat([a.mean((2, 3)), both.flatten(1)], 1))


def inception() -> nn.Module:
    spec = {"format": "tt-conv", "modes_out": (2, 3), "modes_in": (2, 2), "max_rank": 3}
    return decompose(Inception(), {"three": {**spec, "format": "tt"}})


MODELS: dict[str, Callable[[], nn.Module]] = {
    "inception": inception,
    "dense block": DenseBlock,
    "skips": Skips,
    "pooled": Pooled,
}


def module(name: str) -> nn.Module:
    torch.manual_seed(5)
    made = MODELS[name]()
    for part in made.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.normal_(0, 0.2)
            part.running_var.uniform_(0.5, 2)
    return made.double().eval()


@pytest.mark.parametrize("name", MODELS)
def test_torch_golden_and_float_agree(name: str, tmp_path) -> None:
    source = module(name)
    lowered = lower(source, name, input_shape=SHAPE)
    x = torch.randn(12, *SHAPE, dtype=torch.float64)
    wanted = source(x).detach().numpy()
    flat = x.numpy().reshape(12, -1)
    np.testing.assert_allclose(lowered.forward(flat), wanted, atol=1e-12)
    save_model(lowered, tmp_path / "net.safetensors")
    again = load_model(tmp_path / "net.safetensors")
    np.testing.assert_array_equal(again.forward(flat), lowered.forward(flat))
    for batch in (1, 2):
        artefact = quantise(plan_model(again, ENGINE, batch=batch), flat)
        found = artefact.dequantise_output(run_artefact(artefact, artefact.quantise_input(flat)))
        np.testing.assert_allclose(found, wanted, atol=1e-3 * np.abs(wanted).max())


def joined(model: Model) -> list[tuple[str, tuple[str, ...]]]:
    """Concatenations and what they join, by name."""
    names = ["input", *(layer.name for layer in model.layers)]
    return [
        (layer.name, tuple(names[source.tensor] for source in sources))
        for layer, sources in zip(model.layers, model.sources, strict=True)
        if layer.joined
    ]


def test_relu_goes_into_the_parts() -> None:
    lowered = lower(module("inception"), "n", input_shape=SHAPE)
    assert joined(lowered) == [("cat", ("one", "three", "five", "projection"))]
    activations = {layer.name: layer.activation for layer in lowered.layers}
    for name in ("one", "three", "five", "projection", "next"):
        assert activations[name] == "relu"
    plan = plan_model(lowered, ENGINE)
    assert "copy" not in {layer.format for layer in plan.model.layers}


def test_what_is_joined_already_goes_in_as_it_is() -> None:
    """DenseNet's lists grow by one: each concatenation is the one before and one tensor more, so
    no part is ever copied.
    """
    lowered = lower(module("dense block"), "n", input_shape=SHAPE)
    assert [len(parts) for _, parts in joined(lowered)] == [2, 2, 2]
    assert [parts[0] for _, parts in joined(lowered)] == ["first", "cat_1", "cat_2"]
    plan = plan_model(lowered, ENGINE)
    copies = [y.name for y in plan.model.layers if y.format == "copy"]
    assert all(name.endswith(".phases") for name in copies)


def test_the_input_of_linear_layers_needs_no_shape() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.last = nn.Linear(6, 4), nn.Linear(10, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(torch.cat([x, torch.relu(self.fc(x))], 1))

    model = Both().double()
    x = np.random.default_rng(0).standard_normal((20, 6))
    artefact = drawbar.compile(model, ENGINE, calibration=x)
    wanted = model(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(drawbar.golden(artefact, x), wanted, atol=1e-3)


class Joins(nn.Module):
    """A convolution of each part, and what joins them."""

    def __init__(self, function: Callable, strides: int = 1) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1, stride=strides)
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self.a(x), self.b(x))


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        (
            Joins(lambda a, b: torch.cat([a, b], 2)),
            r"node 'cat' \(.*:\d+\): joins .*axis 2, shapes",
        ),
        (Joins(lambda a, b: torch.cat([a, b], 0)), r"axis 1.*axis 0"),
        (Joins(lambda a, b: torch.cat([a, b])), r"axis 1.*axis 0"),
        (Joins(lambda a, b: torch.cat([a, b], 1), 2), r"one height and width.*\(4, 5, 4\)"),
        (Joins(lambda a, b: torch.cat([a, b.mean((2, 3))], 1)), "flatten the images"),
        (Joins(lambda a, b: torch.cat([a, torch.ones(1, 2, 10, 8)], 1)), "depend on the model's"),
        (Joins(lambda a, b: torch.stack([a, b], 1)), r"is supported.*concatenation.*found stack"),
    ],
)
def test_what_is_not_supported(bad: nn.Module, match: str) -> None:
    with pytest.raises(NetworkError, match=match):
        lower(bad, "net", input_shape=SHAPE)


def test_an_input_of_no_known_shape() -> None:
    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(12, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(torch.cat([x, x], 1))

    with pytest.raises(NetworkError, match=r"joins tensors of known shapes.*give input_shape"):
        lower(First(), "net")
    assert lower(First(), "net", input_shape=(6,)).inputs == 6
