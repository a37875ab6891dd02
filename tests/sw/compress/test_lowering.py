"""Lowered models compute what PyTorch computes."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from drawbar.gen.errors import NetworkError
from drawbar.sw.compress import TTLinear, lower


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(5)


def model(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    layers: list[tuple[str, nn.Module]] = [
        ("flat", nn.Flatten()),
        ("fc1", TTLinear((2, 3, 4), (5, 2, 3), ranks=(3, 2), dtype=dtype)),
        ("relu1", nn.ReLU()),
        ("drop", nn.Dropout(0.5)),
        (
            "tail",
            nn.Sequential(
                nn.Linear(24, 12, bias=False, dtype=dtype),
                nn.ReLU(),
                nn.ReLU(),
                nn.Identity(),
                TTLinear((5, 1), (4, 3), 2, bias=False, dtype=dtype),
            ),
        ),
    ]
    return nn.Sequential(OrderedDict(layers)).eval()


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_forward_equals_torch(dtype: torch.dtype, rtol: float) -> None:
    source = model(dtype)
    lowered = lower(source, "net")
    x = np.random.default_rng(0).normal(size=(9, 5, 6))
    expected = source(torch.from_numpy(x).to(dtype)).detach().double().numpy()
    found = lowered.forward(x.reshape(9, 30))
    np.testing.assert_allclose(found, expected, rtol=0, atol=rtol * np.abs(expected).max())
    # Once more in float64, where PyTorch's own rounding is out of the way: the same weights.
    exact = source.double()(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-12 * np.abs(exact).max())


def test_structure() -> None:
    lowered = lower(model(), "net")
    assert lowered.name == "net"
    assert [(y.name, y.format, y.activation) for y in lowered.layers] == [
        ("fc1", "tt", "relu"),
        ("tail.0", "dense", "relu"),
        ("tail.4", "tt", "none"),
    ]
    assert lowered.layers[0].ranks == (1, 3, 2, 1)
    assert lowered.layers[0].modes_in == (5, 2, 3)
    assert lowered.layers[0].modes_out == (2, 3, 4)
    assert [y.bias is None for y in lowered.layers] == [False, True, True]


def test_lowered_weights_do_not_follow_the_module() -> None:
    linear = nn.Linear(4, 3, dtype=torch.float64)
    lowered = lower(linear, "one")
    before = lowered.layers[0].cores[0].values.copy()
    with torch.no_grad():
        linear.weight.zero_()
    assert lowered.layers[0].name == "one"
    assert np.array_equal(lowered.layers[0].cores[0].values, before)


def test_half_precision_weights() -> None:
    linear = nn.Linear(4, 3, dtype=torch.bfloat16)
    (layer,) = lower(linear).layers
    assert np.array_equal(layer.cores[0].values, linear.weight.detach().double().numpy())


class Twice(nn.Linear):
    """A subclass that computes something else: it must not pass for its base."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        (nn.Sequential(nn.Linear(4, 4), nn.Softplus()), r"module '1': is supported .*Softplus"),
        (
            nn.Sequential(OrderedDict(fc=Twice(4, 4))),
            r"module 'fc': is supported .*TTLinear.*Twice",
        ),
        (nn.Sequential(nn.ReLU(), nn.Linear(4, 4)), "module '0': follows a layer"),
        (nn.Sequential(nn.Flatten(0), nn.Linear(4, 4)), "start_dim=0, end_dim=-1"),
        (nn.Sequential(nn.Linear(4, 4), nn.Linear(5, 4)), "layer '1': takes the 4 outputs"),
        (nn.Sequential(nn.Linear(4, 4, dtype=torch.complex64)), "floating-point weights"),
        (nn.Sequential(nn.Flatten()), "has at least one layer"),
        (nn.LSTM(4, 4), r"model 'net': is supported .*LSTM"),
    ],
)
def test_unsupported(bad: nn.Module, match: str) -> None:
    with pytest.raises(NetworkError, match=match):
        lower(bad, "net")


def test_nan_weights() -> None:
    linear = nn.Linear(4, 4)
    with torch.no_grad():
        linear.weight[1, 2] = float("nan")
    with pytest.raises(NetworkError, match=r"layer 'net', core 0: holds finite numbers"):
        lower(linear, "net")
