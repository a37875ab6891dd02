"""Alternating least squares: the error falls, and the normal equations are those of the network."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch

from drawbar.sw.compress.als import _Problem, balance, fit
from drawbar.sw.compress.contraction import dense_weight
from drawbar.sw.compress.formats import Spec, get_format

MODES: dict[str, Any] = {"modes_out": (3, 4), "modes_in": (4, 2)}
SPECS = {
    name: get_format(name).spec((12, 8), **MODES, max_rank=2, grow=True)
    for name in ("tt", "tensor_ring", "cp", "tucker", "block_term", "stt", "str")
}


def start(spec: Spec, seed: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    axes = spec.modes((*spec.output, *spec.input, *spec.kernel))
    tensor, *cores = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in (axes, *spec.core_shapes)
    )
    return tensor, cores


@pytest.mark.parametrize("name", SPECS)
def test_each_solution_is_least_squares(name: str) -> None:
    """The gradient with respect to the core is zero, and the error is the one that is said."""
    spec = SPECS[name]
    tensor, cores = start(spec, 1)
    problem = _Problem(tensor, spec)
    for number in range(len(cores)):
        doubles = [problem.double(core, n) for n, core in enumerate(cores)]
        solution, said = problem.solve(cores, doubles, number)
        tried = [core.clone().requires_grad_() for core in cores]
        tried[number] = solution.clone().requires_grad_()
        error = (dense_weight(tried, spec).reshape(-1) - tensor.reshape(-1)).square().sum()
        assert said == pytest.approx(float(error.detach()), rel=1e-9)
        (gradient,) = torch.autograd.grad(error, tried[number])
        assert float(gradient.abs().max()) < 1e-9 * float(tensor.norm())


@pytest.mark.parametrize("name", SPECS)
def test_the_error_falls(name: str) -> None:
    spec = SPECS[name]
    tensor, cores = start(spec, 2)
    errors = []
    for sweeps in (1, 2, 8, 40):
        found = fit(tensor, spec, cores, sweeps=sweeps)
        dense = dense_weight(found, spec).reshape(tensor.shape)
        errors.append(float(torch.linalg.norm(dense - tensor)))
    assert errors[-1] < errors[0]
    assert all(b <= a * (1 + 1e-9) for a, b in pairwise(errors))


def test_a_tensor_of_zeros() -> None:
    for spec in SPECS.values():
        tensor, cores = start(spec, 3)
        found = fit(torch.zeros_like(tensor), spec, cores)
        assert not dense_weight(found, spec).any()


def test_balanced_cores_have_one_norm_and_the_same_product() -> None:
    spec = SPECS["tt"]
    _, cores = start(spec, 4)
    cores[0] *= 1000
    found = balance(cores)
    norms = [float(torch.linalg.norm(core)) for core in found]
    assert norms[0] == pytest.approx(norms[1])
    torch.testing.assert_close(dense_weight(found, spec), dense_weight(cores, spec))
