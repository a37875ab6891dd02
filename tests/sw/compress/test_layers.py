"""TTLinear against its dense twin; replacement of layers."""

from __future__ import annotations

import copy
from collections import OrderedDict

import pytest
import torch
from torch import nn

from drawbar.gen.errors import InputError, NetworkError, RankWarning
from drawbar.sw.compress import TTLinear, decompose

OUT, IN = (2, 3, 4), (5, 2, 3)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(11)


def dense_linear(bias: bool = True) -> nn.Linear:
    return nn.Linear(30, 24, bias=bias, dtype=torch.float64)


@pytest.mark.parametrize("batch", [(), (1,), (7,), (2, 3), (2, 1, 4), (0,)])
@pytest.mark.parametrize("bias", [True, False])
def test_forward_equals_the_dense_layer(batch: tuple[int, ...], bias: bool) -> None:
    linear = dense_linear(bias)
    layer = TTLinear.from_linear(linear, OUT, IN, grow=True, name="fc")
    x = torch.randn(*batch, 30, dtype=torch.float64)
    y = layer(x)
    assert y.shape == (*batch, 24)
    torch.testing.assert_close(y, linear(x), rtol=0, atol=1e-12)


def test_forward_equals_the_reconstruction_at_low_rank() -> None:
    layer = TTLinear(OUT, IN, ranks=(3, 2), dtype=torch.float64)
    x = torch.randn(5, 30, dtype=torch.float64)
    assert layer.bias is not None
    torch.testing.assert_close(layer(x), x @ layer.reconstruct().T + layer.bias)


def test_non_contiguous_input() -> None:
    layer = TTLinear(OUT, IN, 3, dtype=torch.float64)
    x = torch.randn(30, 5, dtype=torch.float64).T
    torch.testing.assert_close(layer(x), layer(x.contiguous()), rtol=0, atol=1e-13)


def test_gradients() -> None:
    layer = TTLinear((2, 3), (3, 2), 2, dtype=torch.float64)
    x = torch.randn(2, 6, dtype=torch.float64, requires_grad=True)
    parameters = tuple(layer.parameters())
    assert len(parameters) == 3  # two cores, one bias

    def call(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        names = [name for name, _ in layer.named_parameters()]
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(call, (x, *parameters))


def test_training_recovers_a_tt_matrix() -> None:
    target = TTLinear((2, 3), (3, 2), 2, dtype=torch.float64)
    layer = TTLinear((2, 3), (3, 2), 2, dtype=torch.float64)
    x = torch.randn(64, 6, dtype=torch.float64)
    y = target(x).detach()
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.02)
    losses = []
    for _ in range(300):
        optimiser.zero_grad()
        loss = torch.mean((layer(x) - y) ** 2)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 1e-3 * losses[0]


def test_no_tensor_of_the_dense_size_is_made() -> None:
    layer = TTLinear((16, 16), (16, 16), 2)
    largest = 0

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                largest = max(largest, result.untyped_storage().nbytes() // 4)
            return result

    with Watch():
        layer(torch.randn(1, 256))
    assert 0 < largest <= 16 * 16 * 2  # dense: 65,536


def test_state_dict_round_trip() -> None:
    layer, other = TTLinear(OUT, IN, 3), TTLinear(OUT, IN, 3)
    assert list(layer.state_dict()) == ["bias", "cores.0", "cores.1", "cores.2"]
    x = torch.randn(4, 30)
    assert not torch.equal(layer(x), other(x))
    other.load_state_dict(layer.state_dict())
    assert torch.equal(layer(x), other(x))


def test_fresh_weights_have_the_variance_of_a_fresh_linear_layer() -> None:
    layer = TTLinear((8, 8, 8), (8, 8, 8), 8)
    ratio = float(layer.reconstruct().detach().var()) * 3 * 512
    assert 0.5 < ratio < 2


def test_reports() -> None:
    layer = TTLinear(OUT, IN, ranks=(3, 2), name="fc1")
    assert layer.dense_weights == 24 * 30
    assert layer.core_weights == 30 + 36 + 24
    assert layer.compression == 8.0
    assert layer.ranks == (1, 3, 2, 1)
    assert repr(layer).startswith(
        "TTLinear(\n  in_features=30, out_features=24, modes_in=(5, 2, 3)"
    )
    assert "ranks=(1, 3, 2, 1), bias=True, compression=8.0" in repr(layer)


def test_from_linear_keeps_type_bias_and_mode_and_leaves_the_source() -> None:
    linear = dense_linear().eval()
    before = copy.deepcopy(linear.state_dict())
    layer = TTLinear.from_linear(linear, OUT, IN, 3)
    assert layer.bias is not None
    assert torch.equal(layer.bias, linear.bias)
    assert layer.cores[0].dtype == torch.float64
    assert not layer.training
    with torch.no_grad():
        layer.bias.zero_()
        layer.cores[0].zero_()
    assert all(torch.equal(before[k], v) for k, v in linear.state_dict().items())


def test_default_modes_are_balanced() -> None:
    linear = nn.Linear(784, 256)
    layer = TTLinear.from_linear(linear, max_rank=4)
    assert (layer.modes_in, layer.modes_out) == ((4, 7, 7, 4), (4, 4, 4, 4))
    layer = TTLinear.from_linear(linear, modes_out=(4, 8, 8), max_rank=4)
    assert (layer.modes_in, layer.modes_out) == ((7, 14, 8), (4, 8, 8))
    layer = TTLinear.from_linear(linear, modes_in=(28, 28), max_rank=4)
    assert (layer.modes_in, layer.modes_out) == ((28, 28), (16, 16))


def test_wrong_input_shape() -> None:
    layer = TTLinear(OUT, IN, 3, name="fc1")
    with pytest.raises(InputError, match=r"input of layer 'fc1': has shape \(..., 30\)"):
        layer(torch.zeros(4, 24))
    with pytest.raises(InputError):
        layer(torch.zeros(()))


@pytest.mark.parametrize("build", ["init", "from_linear", "decompose"])
def test_clipping_warns_once_and_at_the_caller(build: str) -> None:
    spec = {"modes_out": OUT, "modes_in": IN, "max_rank": 11, "grow": True}
    builders = {
        "init": lambda: TTLinear(**spec),
        "from_linear": lambda: TTLinear.from_linear(dense_linear(), **spec),
        "decompose": lambda: decompose(nn.Sequential(dense_linear()), {"0": spec}),
    }
    with pytest.warns(RankWarning, match=r"bond 1: asked 11, used 10") as caught:
        builders[build]()
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_a_layer_that_grows_is_refused_unless_asked_for() -> None:
    message = r"layer 'fc1', format 'tt': has at most the 720 weights .* found 964 weights"
    with pytest.raises(NetworkError, match=message):
        TTLinear(OUT, IN, name="fc1")
    with pytest.raises(NetworkError, match=message):
        decompose(
            nn.Sequential(OrderedDict(fc1=dense_linear())),
            {"fc1": {"modes_out": OUT, "modes_in": IN}},
        )
    assert TTLinear(OUT, IN, grow=True).core_weights == 964


def test_bad_modes_and_ranks() -> None:
    with pytest.raises(NetworkError, match="multiply to the layer's 24 outputs"):
        TTLinear.from_linear(dense_linear(), (2, 3, 5), IN, 3, name="fc1")
    for modes in ((), (0, 4), (-2, -2)):
        with pytest.raises(NetworkError, match="are positive integers"):
            TTLinear(modes, (2, 2), 2)
    with pytest.raises(NetworkError, match="has a positive integer as its rank"):
        TTLinear(OUT, IN, 0)


def model() -> nn.Sequential:
    layers: list[tuple[str, nn.Module]] = [
        ("fc1", nn.Linear(30, 24)),
        ("relu1", nn.ReLU()),
        ("rest", nn.Sequential(nn.Linear(24, 30), nn.ReLU(), nn.Linear(30, 5))),
    ]
    return nn.Sequential(OrderedDict(layers))


def test_decompose_replaces_only_the_named_layers() -> None:
    source = model()
    x = torch.randn(6, 30)
    expected = source(x)
    found = decompose(
        source,
        {
            "fc1": {"modes_out": OUT, "modes_in": IN, "grow": True},
            "rest.0": {"modes_out": IN, "modes_in": OUT, "ranks": (10, 12), "grow": True},
        },
    )
    kinds = {name: type(module) for name, module in found.named_modules()}
    assert kinds["fc1"] is kinds["rest.0"] is TTLinear
    assert kinds["rest.2"] is nn.Linear
    assert found.get_submodule("rest.0").name == "rest.0"
    torch.testing.assert_close(found(x), expected, rtol=1e-4, atol=1e-5)
    assert type(source.get_submodule("fc1")) is nn.Linear  # the source stays as it is
    assert torch.equal(source(x), expected)


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ({"fc9": {}}, r"layer 'fc9': is in the model; .* name one of fc1, rest.0, rest.2"),
        ({"": {}}, "is in the model"),
        ({"relu1": {}}, r"layer 'relu1': is an nn.Linear or an nn.Conv2d; found ReLU"),
        ({"fc1": {"rank": 3}}, r"layer 'fc1', specification: .* found rank"),
        ({"fc1": {"modes_out": (5, 5), "modes_in": (5, 6)}}, r"layer 'fc1', modes_out"),
    ],
)
def test_decompose_rejects(spec: dict, match: str) -> None:
    with pytest.raises(NetworkError, match=match):
        decompose(model(), spec)
