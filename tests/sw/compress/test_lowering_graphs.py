"""Whole convolutional models: what is lowered computes what PyTorch computes, and plans run."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import drawbar
from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import InputError, NetworkError
from drawbar.gen.model_file import load_model, save_model
from drawbar.gen.plan import plan_model
from drawbar.sim.golden import run_artefact
from drawbar.sw.compress import decompose, lower
from drawbar.sw.compress.qat import QuantisedModel
from drawbar.sw.compress.quantise import calibrate, quantise

ENGINE = EngineConfig(
    rows=4, lanes=4, core_depth=8192, work_depth=8192, bias_depth=512, program_depth=4096
)
SHAPE = (3, 10, 8)


class Residual(nn.Module):
    """A block as in ResNet: with a stride, a subsampled shortcut with zero channels."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.more = stride, outputs - inputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, self.more - 1))
        return functional.relu(y + x)


class Residuals(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.blocks = nn.Sequential(Residual(4, 4, 1), Residual(4, 7, 2))
        self.fc = nn.Linear(7, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(torch.relu(self.first(x)))
        return self.fc(x.mean((2, 3)))


class Functions(nn.Module):
    """The same layers as functions and methods, and numbers for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, (3, 2))
        self.fc = nn.Linear(4 * 4 * 3, 6)
        self.register_buffer("mean", torch.tensor([0.1, -0.2, 0.3]).reshape(3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv((x - self.mean) / 2.0).relu()
        x = functional.max_pool2d(x, 2)
        x = functional.dropout(x, training=self.training)
        return self.fc(x.view(x.size(0), -1))


def pooled() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1),
        nn.MaxPool2d((3, 2), (2, 1)),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.AvgPool2d(2, padding=1),
        nn.Conv2d(5, 4, 1, stride=2),
        nn.Flatten(),
        nn.ReLU(),
    )


def padded() -> nn.Module:
    """Maxima that reach beyond the image, of what a ReLU has made, and of such a maximum."""
    return nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, 1, 1),
        nn.MaxPool2d((2, 3), (2, 1), (1, 0)),
        nn.Conv2d(5, 4, 3, padding=1),
    )


def lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, (3, 2), bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout2d(),
        nn.Flatten(),
        nn.Linear(32, 12),
        nn.BatchNorm1d(12),
        nn.ReLU(),
        nn.Linear(12, 5),
    )


def cores() -> nn.Module:
    """Batch norm behind output channels that are spread over two cores."""
    return decompose(
        nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.AdaptiveAvgPool2d(1)),
        {"0": {"format": "tt", "modes_out": (2, 3), "modes_in": (3, 1), "max_rank": 3}},
    )


MODELS = {
    "residuals": Residuals,
    "functions": Functions,
    "pooled": pooled,
    "padded": padded,
    "lenet": lenet,
    "cores": cores,
}


def model(name: str) -> nn.Module:
    torch.manual_seed(3)
    made = MODELS[name]()
    for part in made.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.normal_(0, 0.2)
            part.running_var.uniform_(0.5, 2)
            nn.init.uniform_(part.weight, -1.5, 1.5)
            nn.init.normal_(part.bias)
    return made.double().eval()


@pytest.mark.parametrize("name", MODELS)
def test_torch_golden_and_float_agree(name: str, tmp_path) -> None:
    source = model(name)
    lowered = lower(source, name, input_shape=SHAPE)
    x = torch.randn(12, *SHAPE, dtype=torch.float64)
    wanted = source(x).detach().numpy().reshape(12, -1)
    flat = x.numpy().reshape(12, -1)
    np.testing.assert_allclose(lowered.forward(flat), wanted, atol=1e-12)
    save_model(lowered, tmp_path / "net.safetensors")
    np.testing.assert_array_equal(
        load_model(tmp_path / "net.safetensors").forward(flat), lowered.forward(flat)
    )
    artefact = quantise(plan_model(lowered, ENGINE), flat)
    found = artefact.dequantise_output(run_artefact(artefact, artefact.quantise_input(flat)))
    np.testing.assert_allclose(found, wanted, atol=2e-3 * np.abs(wanted).max())


def test_compile_takes_images() -> None:
    x = np.random.default_rng(0).standard_normal((9, *SHAPE)).astype(np.float32)
    artefact = drawbar.compile(model("lenet").float(), ENGINE, calibration=x)
    assert artefact.input.shape == SHAPE
    wanted = model("lenet").float()(torch.from_numpy(x)).detach().numpy()
    found = drawbar.golden(artefact, x.reshape(9, -1))
    np.testing.assert_allclose(found, wanted, atol=2e-3 * np.abs(wanted).max())


def test_relu_goes_where_it_costs_nothing() -> None:
    """Into the convolution; before a maximum, which commutes with it; but not where others read."""
    names = {y.name: y.activation for y in lower(model("pooled"), "n", input_shape=SHAPE).layers}
    assert names["0"] == "none"
    branch = lower(model("residuals"), "n", input_shape=SHAPE)
    assert {y.name: y.activation for y in branch.layers}["first"] == "relu"
    pooled_relu = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.ReLU())
    layers = lower(pooled_relu, "n", input_shape=SHAPE).layers
    assert [y.activation for y in layers] == ["relu", "relu", "none", "relu", "none"]


class Branches(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


class Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cumsum(self.conv(x), 1)


class Kept(nn.Module):
    """A child, so that the trace goes in."""

    def __init__(self, child: nn.Module) -> None:
        super().__init__()
        self.child = child

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.child(x) if x.sum() > 0 else x


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        (Odd(), r"node 'cumsum' \(.*test_lowering_graphs.py:\d+\): is supported .*cumsum"),
        (Kept(nn.ReLU()), "does not depend on its data"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(6, 2)), "module '1': reads a feature vector"),
        (nn.Sequential(nn.Conv2d(4, 4, 3)), "module '0': reads 4 channels; found 3 channels"),
        (nn.Sequential(nn.Conv2d(3, 4, 11)), "module '0': makes an image"),
        (nn.Sequential(nn.Conv2d(3, 3, 3, groups=3)), "is a convolution without groups"),
        (nn.Sequential(nn.MaxPool2d(2, padding=1)), "no value of it is below 0.*put the ReLU"),
        (nn.Sequential(nn.MaxPool2d(2, dilation=2)), "has no dilation"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softmax(1)), "module '1': is supported .*Softmax"),
    ],
)
def test_what_is_not_supported_is_named(bad: nn.Module, match: str) -> None:
    with pytest.raises(NetworkError, match=match):
        lower(bad.eval(), "net", input_shape=SHAPE)


def test_an_image_needs_its_shape() -> None:
    with pytest.raises(NetworkError, match="known shape"):
        lower(nn.Sequential(nn.Conv2d(3, 4, 3)), "net")


def test_weights_that_are_not_finite() -> None:
    bad = nn.Conv2d(3, 4, 3)
    with torch.no_grad():
        bad.weight[0, 0, 0, 0] = float("inf")
    with pytest.raises(NetworkError, match="holds finite numbers"):
        lower(nn.Sequential(bad), "net", input_shape=SHAPE)


def test_tuning_in_integers_is_for_chains() -> None:
    lowered = lower(model("lenet"), "net", input_shape=SHAPE)
    plan = plan_model(lowered, ENGINE)
    x = np.random.default_rng(0).standard_normal((4, lowered.inputs))
    with pytest.raises(InputError, match="chains of linear layers"):
        QuantisedModel(plan, calibrate(plan, x))
