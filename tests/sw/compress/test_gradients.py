"""Gradients of a training step, and the same from a CUDA graph."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny_recipes
import torch
from torch import nn

from drawbar.gen.errors import NetworkError
from drawbar.sw.compress.gradients import Gradients, RecordedGradients
from drawbar.sw.compress.recipes import RECIPES, run_recipe

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


def mean_square(model: nn.Module, batch: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    return (model(batch)[:, 0] - classes).square().mean()


def test_the_penalty_has_a_gradient_and_is_not_counted() -> None:
    weight = nn.Parameter(torch.tensor([3.0]))
    gradients = Gradients(
        [weight], lambda batch, _: (weight * batch).sum(), lambda: 5 * weight.square().sum()
    )
    for _ in range(2):  # the second call's gradients are not added to the first's
        assert gradients(torch.tensor([2.0, 4.0]), torch.zeros(2), 0.5) == 9.0
        assert weight.grad is not None
        assert weight.grad.item() == 6 * 0.5 + 30


@on_gpu
def test_a_replay_has_the_gradients_of_its_batch() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 1).cuda()
    pull = torch.zeros((), device="cuda")

    def loss_of(batch: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        return mean_square(model, batch, classes)

    def penalty() -> torch.Tensor:
        return pull * model.weight.square().sum()

    plain = Gradients(model.parameters(), loss_of, penalty)
    recorded = RecordedGradients(model.parameters(), loss_of, penalty)
    for step, samples in enumerate((8, 8, 8, 5, 8, 8)):
        pull.fill_(step)
        batch = torch.randn(samples, 3, device="cuda")
        classes = torch.randn(samples, device="cuda")
        loss = plain(batch, classes)
        wanted = [parameter.grad for parameter in model.parameters()]
        torch.testing.assert_close(recorded(batch, classes), loss)
        torch.testing.assert_close([p.grad for p in model.parameters()], wanted)
        with torch.no_grad():
            model.weight += 0.1
    assert recorded.graph is not None


@on_gpu
def test_replays_draw_their_own_random_numbers() -> None:
    model = nn.Sequential(nn.Linear(4, 64), nn.Dropout(0.5), nn.Linear(64, 1)).cuda()
    gradients = RecordedGradients(model.parameters(), lambda x, y: mean_square(model, x, y))
    batch, classes = torch.randn(8, 4, device="cuda"), torch.zeros(8, device="cuda")
    losses = {gradients(batch, classes).item() for _ in range(6)}
    assert len(losses) == 6


@on_gpu
def test_a_loss_that_looks_at_values_cannot_be_recorded() -> None:
    model = nn.Linear(3, 1).cuda()

    def loss_of(batch: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        loss = mean_square(model, batch, classes)
        return loss if loss.item() > 0 else loss * 2

    gradients = RecordedGradients(model.parameters(), loss_of)
    batch, classes = torch.randn(8, 3, device="cuda"), torch.zeros(8, device="cuda")
    gradients(batch, classes)
    with pytest.raises(NetworkError, match=r"recorded as a CUDA graph.*cuda_graph=False"):
        gradients(batch, classes)
    Gradients(model.parameters(), loss_of)(batch, classes)  # nothing is broken for others


@on_gpu
def test_a_recorded_run_is_the_run_without() -> None:
    """Of a residual network with its teacher, and ADMM, whose penalty grows."""
    recipe = tiny_recipes.tiny(RECIPES["resnet-20-tt-6.8x"])
    settings = replace(
        recipe.settings, precision="float32", admm_epochs=3, tuning_epochs=2, batch_size=5, lr=0.01
    )
    arms = [
        run_recipe(
            replace(recipe, settings=replace(settings, cuda_graph=recorded)),
            tiny_recipes.noise_images(),
            device="cuda",
        )
        for recorded in (False, True)
    ]
    losses = [[row["loss"] for row in arm.compressed.history] for arm in arms]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
