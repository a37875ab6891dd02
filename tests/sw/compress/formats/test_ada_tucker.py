"""Balanced modes, padding, and the shared core."""

from __future__ import annotations

from itertools import product
from math import prod

import numpy as np
import pytest
import torch
from torch import nn

from drawbar.gen.errors import NetworkError
from drawbar.sw.compress import decompose
from drawbar.sw.compress.formats import get_format
from drawbar.sw.compress.formats.ada_tucker import balanced_modes, share_core


@pytest.mark.parametrize(
    ("outputs", "inputs", "order"), [(6, 8, 3), (10, 7, 3), (9, 16, 4), (13, 11, 4), (5, 30, 3)]
)
def test_modes_are_as_balanced_as_any(outputs: int, inputs: int, order: int) -> None:
    """Against every choice of modes of which none could be smaller, by brute force."""

    def sides(size: int, count: int) -> list[tuple[int, ...]]:
        every = product(range(1, size + 1), repeat=count)
        enough = [modes for modes in every if prod(modes) >= size]
        return [m for m in enough if all(prod(m) // k * (k - 1) < size for k in m)]

    best = min(
        max(*out, *in_) / min(*out, *in_)
        for count in range(1, order)
        for out in sides(outputs, count)
        for in_ in sides(inputs, order - count)
    )
    out, in_ = balanced_modes(outputs, inputs, order)
    assert len(out) + len(in_) == order
    assert prod(out) >= outputs
    assert prod(in_) >= inputs
    assert max(*out, *in_) / min(*out, *in_) == best


def test_modes_of_lenet_300() -> None:
    assert balanced_modes(300, 784, 4) == ((17, 18), (28, 28))
    assert balanced_modes(100, 300, 4) == ((10, 10), (17, 18))
    assert balanced_modes(10, 100, 3) == ((10,), (10, 10))


def test_padding_adds_nothing() -> None:
    """Outputs and inputs beyond the layer's are cut off, in the layer and in its network."""
    torch.manual_seed(1)
    chosen = get_format("ada_tucker")
    spec = chosen.spec((23, 31), max_rank=3)
    assert (prod(spec.modes_out), prod(spec.modes_in)) == (25, 36)
    layer = chosen.layer(spec, dtype=torch.float64)
    assert layer.reconstruct().shape == (23, 31)
    x = torch.randn(4, 31, dtype=torch.float64)
    y = layer(x).detach()
    assert y.shape == (4, 23)
    network = chosen.network(layer, "fc")
    assert [core.values.shape for core in network.cores] == [(3, 3, 3, 3), (23, 3, 3), (31, 3, 3)]
    np.testing.assert_allclose(network.forward(x.numpy()), y.numpy(), rtol=0, atol=1e-13)


def shared_model() -> tuple[nn.Module, nn.Parameter]:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 20), nn.ReLU())
    asked = {"format": "ada_tucker", "max_rank": 3}
    model = decompose(model, {"0": asked, "2": asked})
    return model, share_core({"0": model.get_submodule("0"), "2": model.get_submodule("2")})  # type: ignore[dict-item]


def test_one_core_is_shared_and_trained_by_all_layers() -> None:
    model, core = shared_model()
    count = sum(parameter.numel() for parameter in model.parameters())
    first, second = model.get_submodule("0"), model.get_submodule("2")
    assert first.cores[0] is second.cores[0] is core  # type: ignore[index]
    assert count == first.core_weights + second.core_weights - 81 + 30 + 20  # type: ignore[operator]
    model(torch.randn(5, 40)).square().sum().backward()
    both = core.grad
    assert both is not None
    before = core.detach().clone()
    with torch.no_grad():
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter -= 0.1 * parameter.grad
    torch.testing.assert_close(core.detach(), before - 0.1 * both)
    assert torch.equal(second.cores[0], core)  # type: ignore[index]


def test_cores_that_cannot_be_shared() -> None:
    chosen = get_format("ada_tucker")
    one, other = (chosen.layer(chosen.spec((20, 30), max_rank=rank)) for rank in (2, 3))
    with pytest.raises(NetworkError, match="shared core: has one shape in all layers"):
        share_core({"a": one, "b": other})
    tt = get_format("tt").layer(get_format("tt").spec((20, 30), max_rank=2))
    with pytest.raises(NetworkError, match="layer 'b': has a Tucker core to share; found tt"):
        share_core({"a": one, "b": tt})
    with pytest.raises(NetworkError, match="shared core"):
        share_core({})


@pytest.mark.parametrize("order", [1, 9, 2.0, True])
def test_order(order: int) -> None:
    with pytest.raises(NetworkError, match="layer 'fc', order: is 2 to 8"):
        get_format("ada_tucker").spec((20, 30), name="fc", order=order)
