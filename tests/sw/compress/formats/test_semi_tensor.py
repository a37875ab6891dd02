"""The semi-tensor product and its formats against the Kronecker products that they stand for."""

from __future__ import annotations

from math import lcm
from typing import Any

import pytest
import torch

from drawbar.gen.errors import NetworkError
from drawbar.sw.compress.formats import Spec, get_format
from drawbar.sw.compress.formats.semi_tensor import semi_tensor_product

MODES: dict[str, Any] = {"modes_out": (2, 3, 4), "modes_in": (4, 2, 4)}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(8)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64)


def spread(core: torch.Tensor, t: int) -> torch.Tensor:
    """A matrix times the identity, by the definition."""
    return torch.kron(core.contiguous(), torch.eye(t, dtype=core.dtype))


@pytest.mark.parametrize(
    ("a", "b"),
    [((3, 4), (4, 5)), ((3, 8), (4, 5)), ((3, 4), (8, 5)), ((3, 4), (6, 5)), ((1, 6), (4, 1))],
)
def test_the_product_is_its_definition(a: tuple[int, int], b: tuple[int, int]) -> None:
    one, other = random(*a), random(*b)
    t = lcm(a[1], b[0])
    wanted = spread(one, t // a[1]) @ spread(other, t // b[0])
    torch.testing.assert_close(semi_tensor_product(one, other), wanted, rtol=0, atol=1e-12)


def test_stt_is_a_chain_of_semi_tensor_products() -> None:
    """Core k as the matrix ``(R[k-1] / t, I[k] R[k] / t)``, multiplied one after the other."""
    spec = get_format("stt").spec((24, 32), **MODES, ranks=(6, 4), t=2)
    assert [core[:1] for core in spec.core_shapes] == [(1,), (3,), (2,)]
    cores = [random(*shape) for shape in spec.core_shapes]
    first = cores[0].reshape(8, 6)  # I1, R1
    product = semi_tensor_product(first, cores[1].reshape(3, 6 * 2)).reshape(8 * 6, 4)
    product = semi_tensor_product(product, cores[2].reshape(2, 8))
    wanted = product.reshape(2, 4, 3, 2, 4, 4).permute(0, 2, 4, 1, 3, 5).reshape(24, 32)
    found = get_format("stt").reconstruct(cores, spec)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def whole_cores(spec: Spec, cores: list[torch.Tensor], ranks: list[int]) -> list[torch.Tensor]:
    """Each core ``(R[k-1], site, R[k])`` with its identity, for cores all of whose digits are in
    one place: those of ratio 1 and those of the largest ratio.
    """
    outside = {*spec.output, *spec.input, *spec.kernel}
    found = []
    for k, (core, indices, t) in enumerate(
        zip(cores, spec.cores, spec.options["shrink"], strict=True)
    ):
        left, right = ranks[k], ranks[k + 1]
        if t == 1:
            found.append(core.reshape(left, -1, right))
            continue
        site = core.numel() // (left // t) // max(right // t, 1)
        assert all("_" not in i or i in outside for i in indices)
        found.append(spread(core.reshape(left // t, -1), t).reshape(left, -1, right))
        assert found[-1].shape[1] == (site if right > 1 else site * t)
    return found


@pytest.mark.parametrize(
    ("format", "asked"),
    [
        ("stt", {"max_rank": 4}),
        ("stt", {"ranks": (8, 4), "t": 4}),
        ("stt", {"ranks": (8, 4), "shrink": (1, 2, 1)}),
        ("stt", {"ranks": (4, 4), "shrink": (1, 1, 4)}),
        ("str", {"max_rank": 4}),
        ("str", {"ranks": (3, 4, 4, 5, 4, 4), "shrink": (1, 2, 1, 1, 4, 1)}),
        ("str", {"max_rank": 4, "shrink": (2, 1, 2, 2, 1, 2)}),
    ],
)
def test_chains_are_their_kronecker_products(format: str, asked: dict[str, Any]) -> None:
    spec = get_format(format).spec((24, 32), **MODES, **asked, grow=True)
    cores = [random(*shape) for shape in spec.core_shapes]
    ranks = list(spec.ranks)
    wholes = whole_cores(spec, cores, ranks)
    dense = wholes[0]
    for core in wholes[1:]:
        dense = torch.einsum("axr,ryb->axyb", dense, core).reshape(ranks[0], -1, core.shape[2])
    dense = torch.einsum("axa->x", dense)
    if format == "stt":
        dense = dense.reshape(2, 4, 3, 2, 4, 4).permute(0, 2, 4, 1, 3, 5).reshape(24, 32)
    else:
        dense = dense.reshape(32, 24).t()
    found = get_format(format).reconstruct(cores, spec)
    torch.testing.assert_close(found, dense, rtol=0, atol=1e-11)
    layer = get_format(format).layer(spec, cores, bias=False)
    x = random(3, 32)
    torch.testing.assert_close(layer(x), x @ dense.t(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("asked", [{"t": 2}, {"shrink": (2, 1, 4, 2)}, {"t": 4, "max_rank": 4}])
def test_sttu_is_a_tucker_with_kronecker_factors(asked: dict[str, Any]) -> None:
    modes: dict[str, Any] = {"modes_out": (4, 6), "modes_in": (4, 8)}
    if asked.get("t") == 4:
        modes["modes_out"] = (4, 8)
    shape = (24 if asked.get("t") != 4 else 32, 32)
    spec = get_format("sttu").spec(shape, **{"ranks": None, **modes, **asked}, grow=True)
    core, *factors = (random(*size) for size in spec.core_shapes)
    dense = core.reshape(spec.ranks)  # its axes are (R / t, t)
    for factor, t in zip(factors, spec.options["shrink"], strict=True):
        dense = torch.tensordot(dense, spread(factor, t), ([0], [1]))
    found = get_format("sttu").reconstruct([core, *factors], spec)
    torch.testing.assert_close(found, dense.reshape(shape), rtol=0, atol=1e-11)


def test_counts_of_the_definition() -> None:
    """Core 0 as in the train; the others t * t times smaller."""
    whole = get_format("tt").spec((24, 32), **MODES, max_rank=4)
    spec = get_format("stt").spec((24, 32), **MODES, max_rank=4, t=2)
    sizes = [torch.Size(shape).numel() for shape in whole.core_shapes]
    shrunk = [torch.Size(shape).numel() for shape in spec.core_shapes]
    assert shrunk == [sizes[0], sizes[1] // 4, sizes[2] // 4]


@pytest.mark.parametrize(
    ("format", "asked", "rule"),
    [
        ("stt", {"shrink": (2, 2, 2)}, "leaves the first core of a train whole"),
        ("stt", {"shrink": (1, 2)}, "is 3 positive integers"),
        ("stt", {"shrink": (1, 2, 0)}, "is 3 positive integers"),
        ("stt", {"shrink": (1, 2, 3), "ranks": (6, 6)}, "of which one divides the other"),
        ("stt", {"ranks": (3, 4)}, "rank r1: is divided by the 2"),
        ("stt", {"t": 3, "max_rank": 3}, "mode n2: is divided by the 3"),
        ("str", {"shrink": (1, 2, 2, 2, 2, 2)}, "leaves at least two cores of a ring whole"),
        ("str", {"shrink": (2, 2, 2, 2, 2, 2)}, "leaves at least two cores"),
        ("sttu", {"t": 5}, "mode m0: is divided by the 5"),
    ],
)
def test_ratios_that_do_not_fit(format: str, asked: dict[str, Any], rule: str) -> None:
    asked = {"max_rank": 4, **asked} if "ranks" not in asked else asked
    with pytest.raises(NetworkError, match=rf"layer 'fc.*{rule}"):
        get_format(format).spec((24, 32), name="fc", **MODES, **asked)
