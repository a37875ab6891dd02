"""Orders of contraction, what they form, and how long a training step takes."""

from __future__ import annotations

import time
from itertools import permutations
from typing import Any

import pytest
import torch
from torch import nn

from drawbar.sw.compress import contraction, decompose
from drawbar.sw.compress.contraction import _Structure, contraction_order
from drawbar.sw.compress.formats import Spec, get_format

SHAPE = (256, 256)
MODES: dict[str, Any] = {"modes_out": (16, 16), "modes_in": (16, 16)}
LOW: dict[str, dict[str, Any]] = {
    "tt": {**MODES, "max_rank": 4},
    "tensor_train": {**MODES, "max_rank": 4},
    "tensor_ring": {**MODES, "max_rank": 4},
    "tucker": {**MODES, "max_rank": 4},
    "cp": {**MODES, "max_rank": 4},
    "block_term": {**MODES, "max_rank": 4},
    "svd": {"max_rank": 4},
    "stt": {**MODES, "max_rank": 4},
    "str": {**MODES, "max_rank": 4},
    "sttu": {**MODES, "max_rank": 4},
    "ada_tucker": {"max_rank": 4},
}


class Largest(torch.overrides.TorchFunctionMode):
    """The most elements of any tensor that a function made."""

    elements = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            size = result.untyped_storage().nbytes() // result.element_size()
            self.elements = max(self.elements, size)
        return result


@pytest.mark.parametrize("format", LOW)
@pytest.mark.parametrize("samples", [1, 4])
def test_no_tensor_of_the_dense_size_is_made(format: str, samples: int) -> None:
    chosen = get_format(format)
    layer = chosen.layer(chosen.spec(SHAPE, **LOW[format]))
    x = torch.randn(samples, 256, requires_grad=True)
    with Largest() as watch:
        layer(x)
    assert 0 < watch.elements <= SHAPE[0] * SHAPE[1] // 4


def multiplications(spec: Spec, samples: int) -> int:
    """Of the order that is chosen, each group's merging aside."""
    total = 0
    for step in contraction_order.__wrapped__(_Structure.of(spec), samples):
        area = 1
        for index in (*step.live, *step.new):
            area *= spec.sizes[index]
        total += area * samples
    return total


@pytest.mark.parametrize("modes_in", [(64, 2), (8, 16), (16, 8), (32, 4)])
@pytest.mark.parametrize("format", ["tensor_train", "tensor_ring", "cp"])
def test_the_order_is_the_best_of_all_orders(
    format: str, modes_in: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In multiplications alone, against every order of single cores, by brute force; merged ones
    may be better.
    """
    for cost in ("MOVE_COST", "STEP_COST", "BATCH_COST"):
        monkeypatch.setattr(contraction, cost, 0)
    spec = get_format(format).spec((256, 128), modes_out=(4, 64), modes_in=modes_in, max_rank=8)
    everything = {*spec.output}
    best = None
    for order in permutations(range(4)):
        live, total = [*spec.input], 0
        for place, number in enumerate(order):
            later = everything.union(*(spec.cores[n] for n in order[place + 1 :]))
            area = 1
            for index in {*live, *spec.cores[number]}:
                area *= spec.sizes[index]
            total += area
            live = [i for i in dict.fromkeys((*live, *spec.cores[number])) if i in later]
        best = total if best is None else min(best, total)
    assert best is not None
    assert multiplications(spec, 1024) <= 1024 * best


def test_many_cores_are_ordered_in_time() -> None:
    modes = {"modes_out": (4, 4, 2, 4, 2), "modes_in": (4, 2, 5, 8, 6, 5, 3, 2)}
    spec = get_format("tensor_ring").spec((256, 57_600), **modes, max_rank=5)
    start = time.perf_counter()
    steps = contraction_order(_Structure.of(spec), 2)
    assert time.perf_counter() - start < 20
    assert sorted(n for step in steps for n in step.group) == list(range(13))


def test_a_training_step_of_lenet_300() -> None:
    """With TT layers of rank 6, forward, backward and Adam: at most 1.5 times the dense model's.

    In one thread, and the time of the processor, which other programs do not prolong.
    """
    torch.manual_seed(0)
    dense = nn.Sequential(
        nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)
    )
    model = decompose(
        dense,
        {
            "0": {"modes_out": (10, 5, 3, 2), "modes_in": (2, 14, 7, 4), "max_rank": 6},
            "2": {"modes_out": (5, 2, 10), "modes_in": (10, 3, 10), "max_rank": 6},
        },
    )
    x, y = torch.randn(64, 784), torch.randint(0, 10, (64,))
    runs = [(m, torch.optim.Adam(m.parameters()), []) for m in (dense, model)]
    for _ in range(50):
        for module, optimiser, times in runs:
            start = time.process_time()
            optimiser.zero_grad()
            nn.functional.cross_entropy(module(x), y).backward()
            optimiser.step()
            times.append(time.process_time() - start)
    usual = [sorted(times)[len(times) // 2] for _, _, times in runs]
    assert usual[1] <= 1.5 * usual[0]


@pytest.mark.parametrize(
    ("format", "asked", "chained"),
    [
        ("tt", {"layout": "out_kernel_in", "modes_out": (12,), "modes_in": (8,)}, True),
        ("tucker", {}, True),
        ("svd", {}, True),
        # Merged, the cores of a side are one convolution of 1 x 1.
        ("tt", {"layout": "out_kernel_in", "modes_out": (3, 4), "modes_in": (2, 4)}, True),
        # A rank that all cores have stays in between, and pairs of modes do too.
        ("cp", {}, False),
        ("tt", {"layout": "garipov", "modes_out": (3, 4), "modes_in": (2, 4)}, False),
    ],
)
@pytest.mark.parametrize("multiple", [1, 8])
def test_a_chain_of_whole_convolutions(
    format: str,
    asked: dict[str, Any],
    chained: bool,
    multiple: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What takes the short way gives the same, in the layout of its input, with channels of zeros
    between the convolutions and without.
    """
    monkeypatch.setattr(contraction, "channel_multiple", lambda x: multiple)
    torch.manual_seed(4)
    dense = nn.Conv2d(8, 12, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2)).double()
    layer = decompose(nn.Sequential(dense), {"0": {"format": format, "max_rank": 3, **asked}})[0]  # type: ignore[index]
    x = torch.randn(4, 8, 9, 7, dtype=torch.float64)
    x = x.contiguous(memory_format=torch.channels_last)
    cores = list(layer.cores)
    geometry: dict[str, Any] = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)}
    found = contraction.convolve_chain(x, cores, layer.spec, **geometry)
    assert (found is not None) == chained
    wanted = nn.functional.conv2d(x, layer.reconstruct(), dense.bias, **geometry)
    torch.testing.assert_close(layer(x), wanted)
    if found is not None:
        assert found.is_contiguous(memory_format=torch.channels_last)
        general, space = contraction.contract(
            x.transpose(0, 1).reshape(8, -1), cores, layer.spec, space=(9, 7), **geometry
        )
        assert space == found.shape[2:]
        torch.testing.assert_close(found.transpose(0, 1).reshape(12, -1), general)
