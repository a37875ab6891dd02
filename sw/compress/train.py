"""Training of classifiers, for the demo and for fine-tuning after a decomposition."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite

import numpy as np

from drawbar.gen.errors import InputError, NetworkError
from drawbar.sw.compress.backend import nn, torch

#: Called after each epoch: epochs done, epochs in all, what is being done and its loss.
Progress = Callable[[int, int, str], None]


def train_classifier(
    model: nn.Module,
    x: np.ndarray,
    y: np.ndarray,
    epochs: int,
    lr: float = 1e-3,
    batch_size: int = 64,
    seed: int = 0,
    progress: Progress | None = None,
    *,
    weight_decay: float = 0.0,
    noise: float = 0.0,
) -> nn.Module:
    """Train in place with Adam and a cosine schedule; the same seed gives the same weights.

    Arguments
    ---------
    x, y:
        ``(samples, features)`` numbers and ``(samples,)`` classes.
    lr:
        Learning rate of the first step; it falls to 0 along half a cosine.
    weight_decay:
        Decoupled from the gradient (AdamW); 0 is plain Adam.
    noise:
        Standard deviation of Gaussian noise that is added to each batch.

    Returns
    -------
    The model, set to inference.

    Raises
    ------
    InputError:
        data of the wrong shape, or with NaN; epochs, rate or batch size out of range.
    NetworkError:
        the loss is no longer finite.
    """
    inputs, classes = _tensors(model, x, y)
    for name, value, least in (("epochs", epochs, 1), ("batch_size", batch_size, 1)):
        if value < least:
            raise InputError(f"training, {name}", f"is at least {least}", value, f"raise {name}")
    if not lr > 0:
        raise InputError("training, lr", "is more than 0", lr, "give a positive learning rate")
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)
    steps = epochs * -(-len(inputs) // batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    loss_of = nn.CrossEntropyLoss()
    with torch.random.fork_rng(devices=[]):  # dropout and noise draw from the global generator
        torch.manual_seed(seed)
        model.train()
        for epoch in range(epochs):
            total = 0.0
            for chosen in torch.randperm(len(inputs)).split(batch_size):
                batch = inputs[chosen]
                if noise:
                    batch = batch + noise * torch.randn_like(batch)
                optimiser.zero_grad()
                loss = loss_of(model(batch), classes[chosen])
                loss.backward()
                optimiser.step()
                schedule.step()
                total += loss.item() * len(chosen)
            mean = total / len(inputs)
            if not isfinite(mean):
                raise NetworkError(
                    f"training, epoch {epoch + 1}",
                    "keeps the loss finite",
                    mean,
                    "lower the learning rate",
                )
            if progress is not None:
                progress(epoch + 1, epochs, f"training, loss {mean:.4f}")
    return model.eval()


def predict(model: nn.Module, x: np.ndarray, batch_size: int = 1024) -> np.ndarray:
    """The model's outputs ``(samples, outputs)``, at inference; the model's mode stays as it is."""
    inputs, _ = _tensors(model, x, np.zeros(len(x), np.int64))
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            parts = [model(batch) for batch in inputs.split(batch_size)]
    finally:
        model.train(training)
    return torch.cat(parts).numpy()


def accuracy(model: nn.Module, x: np.ndarray, y: np.ndarray) -> float:
    """Samples whose largest output is their class, in percent."""
    _tensors(model, x, y)
    return float(100 * np.mean(predict(model, x).argmax(axis=1) == y))


def _tensors(model: nn.Module, x: np.ndarray, y: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """The data as tensors of the model's type."""
    if x.ndim != 2 or y.shape != (len(x),) or len(x) == 0:
        raise InputError(
            "data",
            "is x (samples, features) and y (samples,), at least one sample",
            f"{x.shape} and {y.shape}",
            "reshape it to one row for each sample",
        )
    if not np.isfinite(x).all():
        raise InputError("data", "holds finite numbers", "NaN or infinity", "clean the data")
    if y.dtype.kind not in "iu":
        raise InputError("classes", "are integers", y.dtype, "convert them with y.astype(int)")
    kind = next((p.dtype for p in model.parameters()), torch.float32)
    return torch.from_numpy(np.ascontiguousarray(x)).to(kind), torch.from_numpy(y.astype(np.int64))
