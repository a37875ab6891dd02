"""ADMM: residuals fall, it beats a direct projection, and its state and its sums are right."""

from __future__ import annotations

import pytest
import torch

from drawbar.gen.errors import InputError, NetworkError
from drawbar.sw.compress.admm import Admm, geometric
from drawbar.sw.compress.formats import get_format

RANK = 2


def truncate(weight: torch.Tensor) -> torch.Tensor:
    """The nearest matrix of rank 2."""
    u, s, v = torch.linalg.svd(weight)
    return u[:, :RANK] * s[:RANK] @ v[:RANK]


class Regression:
    """Least squares whose inputs have very unequal variances, so that the nearest matrix of low
    rank is not the best one.
    """

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(5)
        spread = torch.logspace(-1, 1, 8, dtype=torch.float64)
        self.x = torch.randn(200, 8, generator=generator, dtype=torch.float64) * spread
        solution = torch.randn(8, 6, generator=generator, dtype=torch.float64)
        self.y = self.x @ solution
        self.weight = torch.nn.Parameter(solution.clone())

    def loss(self, weight: torch.Tensor) -> torch.Tensor:
        return (self.x @ weight - self.y).square().mean()

    def train(self, admm: Admm, steps: int = 300) -> None:
        optimiser = torch.optim.Adam([self.weight], lr=3e-3)
        for _ in range(steps):
            optimiser.zero_grad()
            (self.loss(self.weight) + admm.penalty()).backward()
            optimiser.step()


def test_residuals_fall_and_it_beats_the_direct_projection() -> None:
    problem = Regression()
    direct = problem.loss(truncate(problem.weight.detach())).item()
    admm = Admm({"fc": problem.weight}, {"fc": truncate})
    primal, dual = [], []
    for rho in geometric(0.1, 10, 25):
        (found,) = admm.update(rho)
        assert found.layer == "fc"
        primal.append(found.primal)
        dual.append(found.dual)
        problem.train(admm)
    assert primal[0] > 0.1
    assert primal[-1] < 0.02 * primal[0]
    assert dual[-1] < 0.02 * dual[0]
    assert problem.loss(truncate(problem.weight.detach())).item() < 0.5 * direct


def test_one_update_by_hand() -> None:
    weight = torch.nn.Parameter(torch.tensor([[4.0, 0.0], [0.0, 1.0]]))
    admm = Admm({"w": weight}, {"w": lambda w: w * torch.tensor([[1.0, 1.0], [1.0, 0.0]])})
    assert torch.equal(admm.z["w"], weight)
    assert admm.penalty() == 0
    (found,) = admm.update(2.0)
    assert torch.equal(admm.z["w"], torch.tensor([[4.0, 0.0], [0.0, 0.0]]))
    assert torch.equal(admm.u["w"], torch.tensor([[0.0, 0.0], [0.0, 1.0]]))
    assert admm.penalty().item() == 2.0 / 2 * 2.0**2  # W - Z + U is 2 in the last entry
    assert found.primal == pytest.approx(1 / 17**0.5)
    assert found.dual == pytest.approx(1 / 17**0.5)
    # A larger rho keeps rho * U: 2 * 1 is 4 * 0.5, and then W - Z is added again.
    admm.update(4.0)
    assert admm.u["w"][1, 1] == 1.5


def test_the_penalty_has_the_gradient_of_the_augmented_lagrangian() -> None:
    weight = torch.nn.Parameter(torch.randn(3, 4, generator=torch.Generator().manual_seed(1)))
    admm = Admm({"w": weight}, {"w": truncate_3_by_4})
    admm.update(0.7)
    admm.penalty().backward()
    assert weight.grad is not None
    expected = 0.7 * (weight - admm.z["w"] + admm.u["w"])
    torch.testing.assert_close(weight.grad, expected.detach())


def truncate_3_by_4(weight: torch.Tensor) -> torch.Tensor:
    u, s, v = torch.linalg.svd(weight, full_matrices=False)
    return u[:, :1] * s[:1] @ v[:1]


def test_state_goes_round() -> None:
    problem = Regression()
    admm = Admm({"fc": problem.weight}, {"fc": truncate})
    admm.update(0.5)
    problem.train(admm, 10)
    admm.update(1.0)
    state = {name: value.clone() for name, value in admm.state().items()}
    again = Admm({"fc": problem.weight}, {"fc": truncate})
    again.load_state(state, admm.rho)
    assert again.rho == 1.0
    assert torch.equal(again.penalty(), admm.penalty())
    assert again.update(2.0) == admm.update(2.0)
    assert torch.equal(again.u["fc"], admm.u["fc"])


def test_the_projection_of_tensor_trains_is_idempotent() -> None:
    weight = torch.randn(24, 30, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    format_ = get_format("tt")
    spec = format_.spec((24, 30), name="fc", modes_out=(4, 3, 2), modes_in=(2, 3, 5), max_rank=3)
    once = format_.project(weight, spec)
    assert (once - weight).norm() > 0.1 * weight.norm()
    torch.testing.assert_close(format_.project(once, spec), once, rtol=0, atol=1e-12)


def test_rho_grows_by_the_same_factor() -> None:
    assert geometric(0.01, 1, 3) == pytest.approx([0.01, 0.1, 1])
    assert geometric(0.01, 1, 1) == [1]


def test_bad_arguments() -> None:
    weight = torch.nn.Parameter(torch.ones(2, 2))
    with pytest.raises(InputError, match="has a projection for each of its weights"):
        Admm({}, {})
    with pytest.raises(InputError, match=r"weights \['a'\], projections \['b'\]"):
        Admm({"a": weight}, {"b": truncate})
    admm = Admm({"a": weight}, {"a": truncate})
    for rho in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="rho: is a positive number"):
            admm.update(rho)
    with torch.no_grad():
        weight[0, 0] = float("nan")
    with pytest.raises(NetworkError, match="layer 'a': keeps its weights finite"):
        admm.update(1.0)
