"""Recurrent layers against PyTorch's own, with the reconstructed weight."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from drawbar.gen.errors import InputError, NetworkError
from drawbar.sw.compress.recurrent import FactorisedRNN, recurrent_spec

FORMATS: dict[str, dict[str, Any]] = {
    "tt": {"max_rank": 3},
    "tensor_ring": {"max_rank": 2},
    "block_term": {"max_rank": 2},
}
SIZES: dict[str, Any] = {"modes_in": (4, 6), "modes_out": (4, 2)}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(4)


def twin(layer: FactorisedRNN) -> nn.RNNBase:
    """PyTorch's layer of the same weights."""
    kind = nn.LSTM if layer.kind == "lstm" else nn.GRU
    rnn = kind(layer.input_size, layer.hidden_size, batch_first=layer.batch_first).double()
    assert isinstance(layer.hidden_map, nn.Linear)
    with torch.no_grad():
        rnn.weight_ih_l0.copy_(layer.input_map.reconstruct())
        rnn.weight_hh_l0.copy_(layer.hidden_map.weight)
        rnn.bias_ih_l0.copy_(layer.input_map.bias)
        rnn.bias_hh_l0.copy_(layer.hidden_map.bias)
    return rnn


@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("batch_first", [True, False])
def test_it_is_pytorch_s_layer(kind: str, format: str, batch_first: bool) -> None:
    spec = recurrent_spec(kind, 24, 8, format=format, **SIZES, **FORMATS[format])
    gates = 4 if kind == "lstm" else 3
    assert spec.shape == (gates * 8, 24)
    assert spec.modes_out == (gates * 4, 2)
    layer = FactorisedRNN.fresh(kind, spec, batch_first=batch_first, dtype=torch.float64)
    rnn = twin(layer)
    x = torch.randn(3, 5, 24, dtype=torch.float64, requires_grad=True)
    wanted, last = rnn(x)
    found, state = layer(x)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    torch.testing.assert_close(state, last, rtol=0, atol=1e-12)
    torch.testing.assert_close(layer(x, state)[0], rnn(x, last)[0], rtol=0, atol=1e-12)
    found.square().sum().backward()
    assert all(
        core.grad is not None and bool((core.grad != 0).any()) for core in layer.parameters()
    )


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("bias", [True, False])
def test_a_trained_layer_at_full_rank(kind: Any, bias: bool) -> None:
    rnn = kind(24, 8, batch_first=True, bias=bias).double().eval()
    name = kind.__name__.lower()
    spec = recurrent_spec(name, 24, 8, **SIZES, grow=True, name="rnn")
    layer = FactorisedRNN.from_rnn(rnn, spec)
    x = torch.randn(2, 4, 24, dtype=torch.float64)
    torch.testing.assert_close(layer(x)[0], rnn(x)[0], rtol=0, atol=1e-12)
    assert not layer.training
    with torch.no_grad():
        layer.hidden_map.weight.zero_()
    assert bool((rnn.weight_hh_l0 != 0).all())


def test_what_cannot_be_decomposed() -> None:
    spec = recurrent_spec("lstm", 24, 8, max_rank=2, name="rnn")
    for rnn in (nn.LSTM(24, 8, 2), nn.LSTM(24, 8, bidirectional=True), nn.LSTM(24, 8, proj_size=4)):
        with pytest.raises(NetworkError, match="layer 'rnn': is an LSTM or GRU of one layer"):
            FactorisedRNN.from_rnn(rnn, spec)
    with pytest.raises(NetworkError, match="layer 'rnn', weight: is a real tensor of shape"):
        FactorisedRNN.from_rnn(nn.GRU(24, 8), spec)
    with pytest.raises(NetworkError, match="kind: is one of lstm, gru; found rnn"):
        recurrent_spec("rnn", 24, 8)
    with pytest.raises(NetworkError, match="modes_out: multiply to the layer's 8 outputs"):
        recurrent_spec("lstm", 24, 8, modes_out=(3, 3), name="rnn")
    layer = FactorisedRNN.fresh("lstm", spec)
    with pytest.raises(NetworkError, match="has 3 gates of 8 outputs each; found 32"):
        FactorisedRNN("gru", layer.input_map, layer.hidden_map)


def test_input_of_another_shape() -> None:
    layer = FactorisedRNN.fresh("gru", recurrent_spec("gru", 24, 8, max_rank=2, name="rnn"))
    for shape in ((5, 24), (2, 5, 23)):
        with pytest.raises(InputError, match="input of layer 'rnn': has three axes"):
            layer(torch.zeros(shape))
