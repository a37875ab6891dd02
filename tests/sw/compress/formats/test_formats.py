"""What every format promises, whatever it is."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import InputError, NetworkError, RankWarning
from drawbar.gen.plan import plan_model
from drawbar.sim.golden import run_artefact
from drawbar.sw.compress import lower
from drawbar.sw.compress.formats import Format, Spec, format_names, get_format
from drawbar.sw.compress.quantise import quantise

ENGINE = EngineConfig(rows=4, lanes=4, core_depth=8192, work_depth=8192, program_depth=4096)
LINEAR, CONVOLUTION = (24, 32), (12, 8, 3, 2)
MODES: dict[str, Any] = {"modes_out": (2, 3, 4), "modes_in": (4, 2, 4)}
CHANNELS: dict[str, Any] = {"modes_out": (3, 4), "modes_in": (2, 4)}


@dataclass(frozen=True)
class Case:
    """A format, what it is asked at low rank and what at full rank, and how exact it is there."""

    format: str
    shape: tuple[int, ...] = LINEAR
    low: dict[str, Any] = field(default_factory=lambda: {**MODES, "max_rank": 3})
    full: dict[str, Any] = field(default_factory=lambda: MODES)
    rounding: float = 1e-12

    def __str__(self) -> str:
        options = [str(v) for k, v in self.low.items() if k in ("layout", "terms", "shrink")]
        return "-".join([self.format, "conv" if len(self.shape) == 4 else "linear", *options])

    @property
    def chosen(self) -> Format:
        return get_format(self.format)

    def spec(self, **more: Any) -> Spec:
        return self.chosen.spec(self.shape, name="fc", **{**self.low, **more})


def conv(format: str, rounding: float = 1e-12, rank: int = 3, **options: Any) -> Case:
    low = {**CHANNELS, "max_rank": rank, **options}
    return Case(format, CONVOLUTION, low, {**CHANNELS, **options}, rounding)


CASES = [
    Case("tt"),
    Case("tensor_train"),
    Case("tensor_ring"),
    Case("tucker", low={**MODES, "max_rank": 2}),
    Case("tucker", low={"max_rank": 5}, full={}),
    Case("cp", rounding=1e-10),
    Case("block_term", low={**MODES, "max_rank": 3, "terms": 2}),
    Case("svd", low={"max_rank": 5}, full={}),
    Case("stt", low={**MODES, "max_rank": 4}),
    Case("str", low={**MODES, "max_rank": 4}, rounding=1e-9),
    Case("sttu", low={"modes_out": (4, 6), "modes_in": (4, 8), "max_rank": 4}, full={}),
    Case("ada_tucker", (23, 31), low={"max_rank": 3}, full={}),
    conv("tt", layout="garipov"),
    conv("tt", layout="out_kernel_in"),
    conv("tensor_train", rank=2),
    conv("tensor_ring"),
    conv("tucker", rank=2),
    Case("cp", CONVOLUTION, {"max_rank": 3}, {}, 1e-10),
    Case("svd", CONVOLUTION, {"max_rank": 5}, {}),
    conv("stt", rank=4),
    conv("str", 1e-9, rank=4),
    Case("sttu", CONVOLUTION, {"max_rank": 4}, {}),
    conv("ada_tucker", rank=2),
]
LINEAR_CASES = [case for case in CASES if len(case.shape) == 2]
EVERY = pytest.mark.parametrize("case", CASES, ids=str)
EVERY_LINEAR = pytest.mark.parametrize("case", LINEAR_CASES, ids=str)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(3)


def weight_of(spec: Spec, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(spec.shape, dtype=dtype)


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float(torch.linalg.norm(found - wanted) / torch.linalg.norm(wanted))


def test_every_format_is_tried() -> None:
    assert {case.format for case in CASES} == set(format_names())
    convolutions = {case.format for case in CASES if len(case.shape) == 4}
    assert convolutions == {name for name in format_names() if get_format(name).convolution}


@EVERY
def test_full_ranks_are_exact(case: Case) -> None:
    spec = case.chosen.spec(case.shape, name="fc", **{**case.full, "grow": True})
    weight = weight_of(spec)
    cores = case.chosen.decompose(weight, spec)
    assert tuple(tuple(core.shape) for core in cores) == spec.core_shapes
    assert error(case.chosen.reconstruct(cores, spec), weight) < case.rounding


@EVERY
def test_a_weight_of_the_structure_is_a_fixed_point(case: Case) -> None:
    """Projecting twice is projecting once, and a projection is nearer than zero is."""
    spec = case.spec()
    weight = weight_of(spec)
    cores = case.chosen.decompose(weight, spec)
    once = case.chosen.reconstruct(cores, spec)
    assert once.shape == weight.shape
    assert error(once, weight) < 1
    if case.format != "ada_tucker" or case.shape == CONVOLUTION:  # what is cut off is not zero
        assert error(case.chosen.project(once, spec, start=cores), once) < 1e-4


@EVERY
def test_the_layer_is_the_dense_layer_of_its_weight(case: Case) -> None:
    spec = case.spec()
    layer = case.chosen.layer(spec, dtype=torch.float64)
    weight = layer.reconstruct().detach()
    assert weight.shape == spec.shape
    if len(case.shape) == 2:
        x = torch.randn(2, 5, case.shape[1], dtype=torch.float64)
        wanted = nn.functional.linear(x, weight, layer.bias)
    else:
        geometry: dict[str, Any] = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)}
        layer = case.chosen.layer(spec, list(layer.cores), bias=torch.randn(12), **geometry)
        x = torch.randn(2, case.shape[1], 7, 6, dtype=torch.float64)
        wanted = nn.functional.conv2d(x, weight, layer.bias, **geometry)
    torch.testing.assert_close(
        layer(x), wanted, rtol=0, atol=1e-10 * float(wanted.detach().abs().max())
    )


@EVERY
def test_gradients_reach_every_core(case: Case) -> None:
    """Those of the layer are those of the dense layer, through the reconstruction."""
    spec = case.spec()
    layer = case.chosen.layer(spec, dtype=torch.float64)
    if len(case.shape) == 2:
        x = torch.randn(3, case.shape[1], dtype=torch.float64, requires_grad=True)
        dense = nn.functional.linear(x, layer.reconstruct(), layer.bias)
    else:
        x = torch.randn(2, case.shape[1], 4, 4, dtype=torch.float64, requires_grad=True)
        dense = nn.functional.conv2d(x, layer.reconstruct(), layer.bias)
    wanted = torch.autograd.grad((dense**2).sum(), [x, *layer.parameters()])
    found = torch.autograd.grad((layer(x) ** 2).sum(), [x, *layer.parameters()])
    for one, other in zip(found, wanted, strict=True):
        assert bool((one != 0).any())
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@EVERY
def test_parameters_are_counted_exactly(case: Case) -> None:
    spec = case.spec()
    layer = case.chosen.layer(spec, bias=False)
    count = sum(parameter.numel() for parameter in layer.parameters())
    assert case.chosen.parameters(spec) == spec.parameters == layer.core_weights == count
    assert count < spec.dense_weights == np.prod(case.shape)
    assert layer.compression == spec.dense_weights / count


@EVERY_LINEAR
def test_the_network_is_the_layer(case: Case) -> None:
    spec = case.spec()
    layer = case.chosen.layer(spec, dtype=torch.float64)
    network = case.chosen.network(layer, "fc9")
    assert (network.name, network.inputs, network.outputs) == ("fc9", *case.shape[::-1])
    x = torch.randn(5, case.shape[1], dtype=torch.float64)
    wanted = layer(x).detach().numpy()
    np.testing.assert_allclose(network.forward(x.numpy()), wanted, rtol=0, atol=1e-12)
    np.testing.assert_allclose(network.dense(), layer.reconstruct().detach().numpy(), atol=1e-13)


@EVERY
def test_a_convolution_has_no_network(case: Case) -> None:
    if len(case.shape) == 4:
        layer = case.chosen.layer(case.spec())
        with pytest.raises(NetworkError, match=r"layer 'c1': is linear"):
            case.chosen.network(layer, "c1")


@EVERY
@pytest.mark.parametrize("stride", [(1, 1), (2, 1)])
def test_convolutions_run(case: Case, stride: tuple[int, int]) -> None:
    """The lowered network is PyTorch's, and the golden model's result near it."""
    if len(case.shape) != 4:
        return
    torch.manual_seed(2)
    layer = case.chosen.layer(case.spec(), stride=stride, padding=(1, 0), dilation=(1, 2)).double()
    model = lower(nn.Sequential(layer, nn.ReLU()), "net", input_shape=(8, 7, 6))
    x = torch.randn(5, 8, 7, 6, dtype=torch.float64)
    wanted = torch.relu(layer(x)).detach().numpy().reshape(5, -1)
    flat = x.numpy().reshape(5, -1)
    np.testing.assert_allclose(model.forward(flat), wanted, atol=1e-12)
    artefact = quantise(plan_model(model, ENGINE), flat)
    found = artefact.dequantise_output(run_artefact(artefact, artefact.quantise_input(flat)))
    np.testing.assert_allclose(found, wanted, atol=2e-3 * np.abs(wanted).max())


@EVERY
def test_fresh_weights_have_the_variance_of_a_fresh_dense_layer(case: Case) -> None:
    spec = case.spec()
    fan = np.prod(case.shape[1:])
    draws = [float(case.chosen.layer(spec).reconstruct().detach().var()) for _ in range(60)]
    assert 0.5 < np.mean(draws) * 3 * fan < 2


@EVERY
def test_a_spec_is_json(case: Case) -> None:
    spec = case.spec()
    again = Spec.from_dict(json.loads(json.dumps(spec.as_dict())))
    assert again == spec
    assert list(again.sizes) == list(spec.sizes)


@EVERY
def test_type_is_kept_and_the_weight_left_alone(case: Case) -> None:
    spec = case.spec()
    weight = weight_of(spec, torch.float32)
    before = weight.clone()
    cores = case.chosen.decompose(weight, spec)
    assert {core.dtype for core in cores} == {torch.float32}
    assert torch.equal(weight, before)
    layer = case.chosen.layer(spec, cores)
    assert all(torch.equal(a, b) for a, b in zip(layer.cores, cores, strict=True))


@EVERY
def test_bad_weights(case: Case) -> None:
    spec = case.spec()
    for weight, rule in (
        (weight_of(spec)[1:], "is a real tensor of shape"),
        (weight_of(spec).long(), "is a real tensor of shape"),
        (torch.full(case.shape, torch.inf), "holds finite numbers"),
    ):
        with pytest.raises(NetworkError, match=rf"layer 'fc', weight: {rule}"):
            case.chosen.decompose(weight, spec)


@EVERY
def test_a_layer_that_grows_is_refused_unless_asked_for(case: Case) -> None:
    asked = {**case.full}
    if case.format in ("cp", "block_term"):
        asked |= {"max_rank": 50}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RankWarning)
        with pytest.raises(NetworkError, match=r"layer 'fc', format .*has at most the \d+ weights"):
            case.chosen.spec(case.shape, name="fc", **asked)
        grown = case.chosen.spec(case.shape, name="fc", grow=True, **asked)
    assert grown.parameters > grown.dense_weights


@EVERY
def test_clipping_warns_once_names_the_layer_and_points_at_the_caller(case: Case) -> None:
    asked = {**case.full, "max_rank": 2048, "grow": True}
    if case.format == "sttu":  # ranks there divide by the ratio
        asked |= {"modes_out": None, "modes_in": None}
    with pytest.warns(RankWarning, match=r"layer 'fc': .* asked 2048, used \d") as caught:
        spec = case.chosen.spec(case.shape, name="fc", **asked)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lower = case.chosen.spec(case.shape, name="fc", **case.full, grow=True)
    if case.format not in ("tensor_ring", "str"):  # those have as many as asked at any one bond
        assert spec.ranks == lower.ranks


@EVERY
@pytest.mark.parametrize(
    ("asked", "rule"),
    [
        ({"colour": 3}, r"layer 'fc', specification: has only the keys .* found colour"),
        ({"max_rank": 0}, r"layer 'fc', .*has a positive integer as its rank; found 0"),
        ({"ranks": (2,) * 9}, r"layer 'fc', ranks: are \d+: one for each"),
        ({"max_rank": 2, "ranks": (2,)}, r"layer 'fc': is given max_rank or ranks"),
        ({"modes_out": (5, 5)}, r"layer 'fc', modes_out: "),
        ({"modes_in": (7, 0)}, r"layer 'fc', modes_in: are positive integers"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_is_asked_is_checked(case: Case, asked: dict[str, Any], rule: str) -> None:
    low = {k: v for k, v in case.low.items() if k != "max_rank" and k not in asked}
    if "modes_out" in asked and case.format == "ada_tucker":
        asked = {"modes_out": (2, 2)}  # more is padding
    with pytest.raises(NetworkError, match=rule):
        case.chosen.spec(case.shape, name="fc", **{**low, **asked})


def test_no_such_format() -> None:
    with pytest.raises(NetworkError, match=r"format 'hosvd': is one of tt, tensor_train"):
        get_format("hosvd")


@pytest.mark.parametrize("shape", [(4,), (4, 4, 4), (4, 4, 1, 1, 1), (0, 4)])
def test_no_such_shape(shape: tuple[int, ...]) -> None:
    for name in format_names():
        with pytest.raises(NetworkError, match=r"layer 'x', weight: has shape \(outputs, inputs\)"):
            get_format(name).spec(shape, name="x")


def test_no_such_convolution() -> None:
    with pytest.raises(NetworkError, match="'block_term' is not defined for convolutions"):
        get_format("block_term").spec(CONVOLUTION, name="x")


@EVERY
def test_cores_of_other_shapes(case: Case) -> None:
    spec = case.spec()
    cores = [torch.zeros(shape) for shape in spec.core_shapes]
    with pytest.raises(NetworkError, match="layer 'fc', cores: have the shapes"):
        case.chosen.layer(spec, [torch.zeros(7), *cores[1:]])


@EVERY
def test_input_of_another_shape(case: Case) -> None:
    layer = case.chosen.layer(case.spec())
    for shape in ((2, 11), (2, 11, 5, 5), ()):
        with pytest.raises(InputError, match="input of layer 'fc'"):
            layer(torch.zeros(shape))
