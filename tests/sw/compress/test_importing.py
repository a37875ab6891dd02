"""Cores of tensorly's objects, and of objects like those of tensorly-torch and torchTT."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from drawbar.gen.errors import NetworkError
from drawbar.sw.compress.importing import import_cores, import_layer

tensorly = pytest.importorskip("tensorly")


@pytest.fixture(autouse=True, params=["numpy", "pytorch"])
def tensor(request: pytest.FixtureRequest) -> Iterator[Any]:
    before = tensorly.get_backend()
    tensorly.set_backend(request.param)
    values = np.random.default_rng(6).normal(size=(2, 3, 4, 5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own
        yield tensorly.tensor(values)
    tensorly.set_backend(before)


def decomposed(tensor: Any) -> dict[str, Any]:
    from tensorly.decomposition import parafac, tensor_ring, tensor_train, tucker

    return {
        "train": tensor_train(tensor, [1, 2, 3, 4, 1]),
        "ring": tensor_ring(tensor, [2, 1, 3, 2, 2]),
        "tucker": tucker(tensor, [2, 2, 3, 4]),
        "cp": parafac(tensor, 4),
    }


@pytest.mark.parametrize("kind", ["train", "ring", "tucker", "cp"])
@pytest.mark.parametrize("inputs_first", [False, True])
def test_objects_of_tensorly(tensor: Any, kind: str, inputs_first: bool) -> None:
    source = decomposed(tensor)[kind]
    dense = torch.from_numpy(np.array(source.to_tensor()))
    wanted = dense.permute(2, 3, 0, 1).reshape(20, 6) if inputs_first else dense.reshape(6, 20)
    layer = import_layer(source, outputs=2, inputs_first=inputs_first, name="fc")
    torch.testing.assert_close(layer.reconstruct().detach(), wanted, rtol=0, atol=1e-12)
    x = torch.randn(3, layer.in_features, dtype=torch.float64)
    torch.testing.assert_close(layer(x), x @ wanted.t(), rtol=0, atol=1e-11)
    formats = {"train": "tensor_train" if inputs_first else "tensor_ring", "ring": "tensor_ring"}
    assert layer.spec.format == formats.get(kind, kind)


def test_a_tt_matrix(tensor: Any) -> None:
    from tensorly.decomposition import tensor_train_matrix

    source = tensor_train_matrix(tensor, [1, 3, 1])
    wanted = torch.from_numpy(np.array(source.to_matrix()))
    layer = import_layer(source)
    assert layer.spec.format == "tt"
    torch.testing.assert_close(layer.reconstruct().detach(), wanted, rtol=0, atol=1e-12)


def test_ranks_are_as_they_came() -> None:
    """Beyond the largest useful one too: nothing is changed."""
    rng = np.random.default_rng(1)
    source = SimpleNamespace(
        core=rng.normal(size=(4, 5)),
        factors=[rng.normal(size=(3, 4)), rng.normal(size=(6, 5))],
    )
    spec, cores = import_cores(source, outputs=1)
    assert spec.ranks == (4, 5)
    assert np.array_equal(cores[0], source.core)


def test_a_linear_layer_of_tensorly_torch() -> None:
    """One has ``weight`` with factors and ``tensorized_shape``, and ``bias``."""
    shapes = [(1, 2, 4, 3), (3, 3, 5, 1)]
    weight = SimpleNamespace(
        factors=nn.ParameterList(torch.randn(shape) for shape in shapes),
        tensorized_shape=((2, 3), (4, 5)),
    )
    source = SimpleNamespace(weight=weight, bias=nn.Parameter(torch.randn(6)))
    layer = import_layer(source, name="fc")
    a, b = (factor.detach() for factor in weight.factors)
    wanted = torch.einsum("xair,rbjy->abij", a, b).reshape(6, 20)
    torch.testing.assert_close(layer.reconstruct().detach(), wanted)
    assert layer.bias is not None
    assert torch.equal(layer.bias, source.bias)
    weight = SimpleNamespace(
        factors=[torch.randn(n, 3) for n in (2, 3, 4, 5)],
        weights=torch.tensor([1.0, -2.0, 0.5]),
        tensorized_shape=((2, 3), (4, 5)),
    )
    layer = import_layer(SimpleNamespace(weight=weight, bias=None))
    wanted = torch.einsum("ar,br,ir,jr,r->abij", *weight.factors, weight.weights).reshape(6, 20)
    torch.testing.assert_close(layer.reconstruct().detach(), wanted)
    assert layer.bias is None


def test_a_tt_matrix_of_torchtt() -> None:
    """One has ``cores`` and ``is_ttm``."""
    source = SimpleNamespace(
        is_ttm=True, cores=[torch.randn(1, 2, 4, 3), torch.randn(3, 3, 5, 1)], R=[1, 3, 1]
    )
    spec, cores = import_cores(source)
    assert (spec.format, spec.modes_out, spec.modes_in) == ("tt", (2, 3), (4, 5))
    assert torch.equal(cores[1], source.cores[1])


def test_what_is_not_known(tensor: Any) -> None:
    with pytest.raises(NetworkError, match=r"layer 'fc', imported cores: are a TTMatrix, .* list"):
        import_cores([1, 2], name="fc")
    with pytest.raises(NetworkError, match=r"outputs=None\. Fix: say with outputs="):
        import_cores(decomposed(tensor)["train"], name="fc")
    with pytest.raises(NetworkError, match="outputs=4"):
        import_cores(decomposed(tensor)["cp"], outputs=4)
    with pytest.raises(NetworkError, match="imported cores: have the shapes"):
        import_cores(SimpleNamespace(cores=[torch.zeros(1, 2, 2, 3), torch.zeros(2, 2, 2, 1)]))
    with pytest.raises(NetworkError, match="imported cores: are a TTMatrix"):
        import_cores(SimpleNamespace(factors=[torch.zeros(2, 3), torch.zeros(4, 3)]), outputs=1)
