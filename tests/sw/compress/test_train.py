"""Training learns, is deterministic, leaves the random state alone and refuses bad data."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from drawbar.gen.errors import InputError, NetworkError
from drawbar.sw.compress import TTLinear, accuracy, train_classifier
from drawbar.sw.compress.train import Cosine, predict

RNG = np.random.default_rng(3)
X = RNG.uniform(-1, 1, (256, 6)).astype(np.float32)
Y = (X @ RNG.normal(size=(6, 3))).argmax(axis=1)


def build() -> nn.Sequential:
    torch.manual_seed(9)
    return nn.Sequential(TTLinear((2, 8), (3, 2), 2), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 3))


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def test_it_learns() -> None:
    model = build()
    before = accuracy(model, X, Y)
    assert train_classifier(model, X, Y, 20, 1e-2, 32) is model
    assert not model.training
    assert before < 70
    assert accuracy(model, X, Y) > 90


def test_the_seed_decides_and_the_random_state_stays() -> None:
    models = []
    for seed in (1, 1, 2):
        model = build()
        torch.manual_seed(1234 + len(models))
        state = torch.get_rng_state()
        models.append(weights(train_classifier(model, X, Y, 2, 1e-2, 32, seed, noise=0.1)))
        assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(models[0], models[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(models[0], models[2], strict=True))


def test_progress_and_loss_fall() -> None:
    seen: list[tuple[int, int, str]] = []
    train_classifier(build(), X, Y, 3, 1e-2, 32, progress=lambda *what: seen.append(what))
    assert [(done, total) for done, total, _ in seen] == [(1, 3), (2, 3), (3, 3)]
    losses = [float(text.removeprefix("training, loss ")) for _, _, text in seen]
    assert losses[-1] < losses[0]


def test_accuracy_is_in_percent_and_keeps_the_mode() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Dropout(0.9)).train()
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2))
    x = np.array([[1, 0], [0, 1], [1, 0], [3, 2]], np.float32)
    assert accuracy(model, x, np.array([0, 1, 1, 0])) == 75.0
    assert model.training
    assert np.array_equal(predict(model, x, batch_size=3), x)  # no dropout, batches in order


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"x": X[:, :, None]}, "is x .samples, features."),
        ({"y": Y[:-1]}, "is x .samples, features."),
        ({"x": X[:0], "y": Y[:0]}, "at least one sample"),
        ({"x": np.where(X > 0.9, np.nan, X)}, "holds finite numbers"),
        ({"y": Y.astype(float)}, "are integers"),
        ({"epochs": 0}, "epochs: is at least 1; found 0"),
        ({"batch_size": 0}, "batch_size: is at least 1"),
        ({"lr": 0.0}, "lr: is more than 0"),
    ],
)
def test_bad_arguments_change_nothing(change: dict, match: str) -> None:
    model = build()
    before = weights(model)
    with pytest.raises(InputError, match=match):
        train_classifier(model, **{"x": X, "y": Y, "epochs": 1, **change})
    assert all(torch.equal(a, b) for a, b in zip(before, weights(model), strict=True))


def test_divergence_is_an_error() -> None:
    with pytest.raises(NetworkError, match=r"layer '\d', step \d+ .*: keeps the loss finite"):
        train_classifier(build(), X * 1e20, Y, 3, 1e12, 32)


def test_the_rate_rises_and_falls_and_goes_on_where_it_was() -> None:
    (weight,) = parameters = [nn.Parameter(torch.zeros(1))]
    optimiser = torch.optim.SGD(parameters, lr=1.0)
    weight.grad = torch.zeros(1)

    def rates(schedule: Cosine, steps: int) -> list[float]:
        found = []
        for _ in range(steps):
            found.append(optimiser.param_groups[0]["lr"])
            optimiser.step()
            schedule.step()
        return found

    cosine = [0.2 * (1 + np.cos(np.pi * step / 8)) / 2 for step in range(8)]
    plain = rates(Cosine(optimiser, 0.2, 8), 8)
    assert plain == pytest.approx(cosine)
    warm = rates(Cosine(optimiser, 0.2, 8, warmup=4), 8)
    assert warm == pytest.approx([r * min(1, (k + 1) / 4) for k, r in enumerate(cosine)])
    assert rates(Cosine(optimiser, 0.2, 8, warmup=4, done=2), 6) == warm[2:]
    halves = rates(Cosine(optimiser, 0.2, 12, warmup=2, cycles=2), 12)
    again = [0.05 * (1 + np.cos(np.pi * step / 4)) / 2 for step in range(4)]
    both = [*cosine, *again]
    assert halves == pytest.approx([r * (0.5 if k in (0, 8) else 1) for k, r in enumerate(both)])
    assert rates(Cosine(optimiser, 0.2, 12, warmup=2, cycles=2, done=9), 3) == halves[9:]
    assert rates(Cosine(optimiser, 0.2, 1, cycles=3), 1) == [0.2]
