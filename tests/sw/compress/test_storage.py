"""Weights of a few bits: the values, the training that knows them, and the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from drawbar.gen.errors import ArtefactError, InputError
from drawbar.sw.compress.formats.ada_tucker import share_core
from drawbar.sw.compress.layers import decompose
from drawbar.sw.compress.storage import (
    MAGIC,
    LowBitModel,
    best_exponent,
    bits_of,
    codes_of,
    load_packed,
    save_packed,
    step_of,
    unpack,
    values_of,
)


def model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    dense = nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 15), nn.BatchNorm1d(15))
    ranks = {"format": "ada_tucker", "ranks": (3, 3, 2, 3)}
    return decompose(dense, {"0": ranks, "2": ranks}).eval()


@pytest.mark.parametrize("bits", range(1, 9))
def test_values_are_odd_multiples_of_half_a_step(bits: int) -> None:
    step = step_of(-16)  # a quarter
    codes = np.arange(1 << bits, dtype=np.uint8)
    values = values_of(codes, bits, step)
    assert np.array_equal(values / (step / 2), np.arange(1 - (1 << bits), 1 << bits, 2))
    assert np.array_equal(codes_of(torch.from_numpy(values), bits, step), codes)
    # Any number gets the code of the nearest value.
    numbers = np.random.default_rng(bits).normal(size=500, scale=step * (1 << bits) / 3)
    nearest = np.abs(numbers[:, None] - values).argmin(axis=1)
    assert np.array_equal(codes_of(torch.from_numpy(numbers), bits, step), nearest)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_the_first_step_has_the_least_error(bits: int) -> None:
    tensor = torch.randn(4000, dtype=torch.float64, generator=torch.Generator().manual_seed(bits))

    def error(exponent: int) -> float:
        step = step_of(exponent)
        found = values_of(codes_of(tensor, bits, step), bits, step)
        return float(np.square(found - tensor.numpy()).mean())

    best = best_exponent(tensor, bits)
    assert error(best) == min(error(e) for e in range(-60, 30))
    # The uniform quantiser of least error for a normal distribution (Max 1960).
    assert error(best) == pytest.approx({2: 0.1188, 3: 0.03744, 4: 0.01154}[bits], rel=0.08)
    assert best_exponent(torch.zeros(3), bits) == -128


def test_forward_is_what_the_file_holds() -> None:
    low = LowBitModel(model(), bits_of(model(), {"*": 4, "0.cores.*": 3, "*.bias": 5, "3.*": 32}))
    x = torch.randn(6, 12)
    low.eval()
    baked, data = low.baked()
    torch.testing.assert_close(baked(x), low(x))
    assert not torch.allclose(baked(x), low.model(x))
    for name, parameter in baked.named_parameters():
        values = len(parameter.unique())
        assert values <= 1 << low.bits[name]
        assert (low.bits[name] == 32) == torch.equal(parameter, low.model.get_parameter(name))
    assert torch.equal(unpack(model(1), data)(x), baked(x))
    numbers = {name: p.numel() for name, p in baked.named_parameters()}
    few = sum(n * low.bits[name] for name, n in numbers.items() if low.bits[name] < 32)
    whole = sum(n for name, n in numbers.items() if low.bits[name] == 32)
    raw = 4 * whole + 4 * 30 + 8  # and the running mean, variance and count
    assert len(data) == 8 + 2 * (len(numbers) + 3) + -(-few // 8) + raw


def test_gradients_pass_roundings_and_train_the_steps() -> None:
    low = LowBitModel(nn.Linear(3, 1, bias=False), {"weight": 2})
    with torch.no_grad():
        low.exponents.fill_(0.0)
        low.model.weight.copy_(torch.tensor([[0.3, -1.4, 9.0]]))  # type: ignore[union-attr]
    x = torch.tensor([[1.0, 10.0, 100.0]])
    y = low(x)
    assert y.item() == 0.5 * 1 - 1.5 * 10 + 1.5 * 100
    y.sum().backward()
    # 9 is beyond the largest value: nothing that it could change.
    assert low.model.weight.grad.tolist() == [[1.0, 10.0, 0.0]]  # type: ignore[union-attr]
    # With respect to the step: the value's multiple less the number's, if that is within reach.
    wanted = np.log(2) * (1 * (0.5 - 0.3) + 10 * (-1.5 + 1.4) + 100 * 1.5 - 100 * 2 + 100 * 2)
    assert low.exponents.grad.item() == pytest.approx(wanted, rel=1e-5)  # type: ignore[union-attr]


def test_training_gains() -> None:
    """Two bits: rounding loses, and training the numbers that are rounded wins most of it back."""
    torch.manual_seed(5)
    teacher = nn.Sequential(nn.Linear(8, 24), nn.Tanh(), nn.Linear(24, 2))
    x = torch.randn(512, 8)
    with torch.no_grad():
        y = teacher(x)
    low = LowBitModel(teacher, dict.fromkeys(dict(teacher.named_parameters()), 2))

    def loss() -> torch.Tensor:
        return (low(x) - y).square().mean()

    before = loss().item()
    optimiser = torch.optim.Adam(low.parameters(), lr=5e-3)
    for _ in range(300):
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
    assert loss().item() < before / 3
    with torch.no_grad():
        assert (low.baked()[0](x) - y).square().mean().item() == pytest.approx(loss().item(), 1e-4)


def test_a_shared_core_is_stored_once(tmp_path: Path) -> None:
    def shared(seed: int) -> nn.Module:
        made = model(seed)
        share_core({name: made.get_submodule(name) for name in ("0", "2")})  # type: ignore[misc]
        return made

    apart, together = (LowBitModel(m, bits_of(m, {"*": 4})) for m in (model(), shared(0)))
    _, longer = apart.baked()
    baked, shorter = together.baked()
    assert len(longer) - len(shorter) == 2 + 3 * 3 * 2 * 3 * 4 // 8
    path = tmp_path / "weights.packed"
    save_packed(shorter, path)
    assert path.stat().st_size == len(shorter)
    loaded = load_packed(shared(9), path)
    x = torch.randn(4, 12)
    assert torch.equal(loaded(x), baked(x))
    assert loaded.get_submodule("0").cores[0] is loaded.get_submodule("2").cores[0]  # type: ignore[index]


@pytest.mark.parametrize(
    ("wanted", "rule"),
    [
        ({"*": 0}, "have 1 to 8 bits, or 32"),
        ({"*": 9}, "have 1 to 8 bits, or 32"),
        ({"*": True}, "have 1 to 8 bits, or 32"),
        ({"*": 4, "fc9.*": 3}, r"names of the model; found fc9\.\*"),
        ({"0.*": 4}, r"every parameter; found 2\.bias"),
    ],
)
def test_bad_bits(wanted: dict[str, int], rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        bits_of(model(), wanted)


def test_the_last_pattern_decides() -> None:
    found = bits_of(model(), {"*": 4, "0.*": 3, "*.bias": 8})
    assert (found["2.cores.0"], found["0.cores.0"], found["0.bias"]) == (4, 3, 8)


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        (lambda data: b"", "starts with DBW1"),
        (lambda data: b"PK" + data[2:], "starts with DBW1"),
        (lambda data: data[:-1], "is whole"),
        (lambda data: data[:20] + bytes([data[20] ^ 1]) + data[21:], "is whole"),
    ],
)
def test_damaged_files(damage: Callable[[bytes], bytes], rule: str, tmp_path: Path) -> None:
    _, data = LowBitModel(model(), bits_of(model(), {"*": 4})).baked()
    path = tmp_path / "weights.packed"
    save_packed(damage(data), path)
    with pytest.raises(ArtefactError, match=rule):
        load_packed(model(), path)
    with pytest.raises(ArtefactError, match="of this structure"):
        unpack(nn.Linear(2, 2), MAGIC + data[4:])


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="can be read"):
        load_packed(model(), tmp_path / "none.packed")
    with pytest.raises(ArtefactError, match="can be written"):
        save_packed(b"", tmp_path / "none" / "weights.packed")
