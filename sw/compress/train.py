"""Training of classifiers, an epoch at a time; ``sw.compress.admm`` and the demo build on it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import cos, isfinite, pi
from typing import Any, Protocol

import numpy as np

from drawbar.gen.errors import InputError, NetworkError
from drawbar.sw.compress import parallel
from drawbar.sw.compress.backend import nn, torch
from drawbar.sw.compress.gradients import Gradients

#: Called after each epoch: epochs done, epochs in all, what is being done and its loss.
Progress = Callable[[int, int, str], None]


class Schedule(Protocol):
    """Whatever sets the learning rate after each step."""

    def step(self) -> None: ...


class Cosine:
    """A learning rate that falls to 0 along half a cosine, and in the first ``warmup`` steps rises
    to it. Of several cycles (warm restarts: Loshchilov and Hutter 2017) each is half as long and
    starts a quarter as high as the one before.

    It is a function of the number of steps alone, so that a run may stop and go on.
    """

    def __init__(
        self,
        optimiser: torch.optim.Optimizer,
        lr: float,
        steps: int,
        *,
        done: int = 0,
        warmup: int = 0,
        cycles: int = 1,
    ) -> None:
        self.optimiser, self.lr, self.done, self.warmup = optimiser, lr, done, warmup
        # Cycles end after 1, 1 + 1/2, 1 + 1/2 + 1/4 ... of the first one's length.
        whole = steps / (1 - 0.5**cycles)
        self.ends = [round(whole * (1 - 0.5**n)) for n in range(cycles + 1)]
        self._set()

    def step(self) -> None:
        self.done += 1
        self._set()

    def rate(self, done: int) -> float:
        """The rate of the step that follows so many."""
        cycle = sum(done >= end for end in self.ends[1:-1])
        first, end = self.ends[cycle : cycle + 2]
        length = end - first or 1  # a cycle too short for a step has none
        rate = self.lr * 0.25**cycle * (1 + cos(pi * (done - first) / length)) / 2
        return rate * min(1.0, (done - first + 1) / self.warmup) if self.warmup else rate

    def _set(self) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate(self.done)


def make_optimiser(
    kind: str, model: nn.Module, *, lr: float, weight_decay: float
) -> torch.optim.Optimizer:
    """An optimiser of a model's parameters, by its name in ``settings.OPTIMISERS``."""
    shared: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay, "fused": True}
    if kind == "sgd":
        return torch.optim.SGD(model.parameters(), momentum=0.9, nesterov=True, **shared)
    return torch.optim.AdamW(model.parameters(), **shared)


def train_epoch(
    model: nn.Module,
    inputs: torch.Tensor,
    classes: torch.Tensor,
    gradients: Gradients,
    optimiser: torch.optim.Optimizer,
    schedule: Schedule,
    *,
    batch_size: int,
    noise: float = 0.0,
    augment: Callable[[torch.Tensor], torch.Tensor] | None = None,
    first_step: int = 0,
) -> float:
    """Train once on every sample, in an order that the global random generator draws.

    Arguments
    ---------
    inputs, classes:
        All samples, on the model's device.
    gradients:
        Of the model's parameters.
    batch_size:
        Samples of a step in each process; a rest of fewer samples than processes is left out.
    noise:
        Standard deviation of what is added to the inputs.
    augment:
        A batch to what is trained on in its place; draws from the global random generator.
    first_step:
        Number of the first step, for messages.

    Returns
    -------
    The mean loss.

    Raises
    ------
    NetworkError:
        the loss is no longer finite; the error names the layer and the step, and the weights are
        those before that step.
    """
    model.train()
    total, seen = 0.0, 0
    world = parallel.world()
    order = torch.randperm(len(inputs)).to(inputs.device)
    for number, chosen in enumerate(order.split(batch_size * world), first_step + 1):
        if len(chosen) < world:
            break
        batch, mine = inputs[chosen], parallel.share(chosen)
        if augment is not None:
            batch = augment(batch)
        if noise:
            batch = batch + noise * torch.randn_like(batch)
        batch = parallel.share(batch)
        # The processes' shares of a last batch may differ by one sample.
        loss = gradients(batch, classes[mine], len(mine) * world / len(chosen))
        mean = parallel.average(model.parameters(), loss).item()
        if not isfinite(mean):
            raise NetworkError(
                f"layer {_first_not_finite(model, batch)}, step {number} of the training",
                "keeps the loss finite",
                mean,
                "lower the learning rate",
            )
        optimiser.step()
        schedule.step()
        total += mean * len(chosen)
        seen += len(chosen)
    return total / seen


def _first_not_finite(model: nn.Module, batch: torch.Tensor) -> str:
    """The first module whose result holds NaN or infinity, quoted."""
    found: list[str] = []

    def look(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: object, result: object) -> None:
            if isinstance(result, torch.Tensor) and not torch.isfinite(result).all():
                found.append(name)

        return hook

    modules = [(name, module) for name, module in model.named_modules() if name]
    hooks = [module.register_forward_hook(look(name)) for name, module in modules]
    try:
        with torch.no_grad():
            model(batch)
    finally:
        for hook in hooks:
            hook.remove()
    # Every output was finite: then it is the loss itself, at the last layer.
    return repr(found[0] if found else modules[-1][0] if modules else "model")


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
    inputs, classes = as_tensors(model, x, y)
    for name, value, least in (("epochs", epochs, 1), ("batch_size", batch_size, 1)):
        if value < least:
            raise InputError(f"training, {name}", f"is at least {least}", value, f"raise {name}")
    if not lr > 0:
        raise InputError("training, lr", "is more than 0", lr, "give a positive learning rate")
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)
    steps = epochs * -(-len(inputs) // batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    loss = nn.CrossEntropyLoss()
    gradients = Gradients(model.parameters(), lambda batch, right: loss(model(batch), right))
    with torch.random.fork_rng(devices=[]):  # dropout and noise draw from the global generator
        torch.manual_seed(seed)
        for epoch in range(epochs):
            mean = train_epoch(
                model,
                inputs,
                classes,
                gradients,
                optimiser,
                schedule,
                batch_size=batch_size,
                noise=noise,
                first_step=epoch * (steps // epochs),
            )
            if progress is not None:
                progress(epoch + 1, epochs, f"training, loss {mean:.4f}")
    return model.eval()


@contextmanager
def seeded(*numbers: int, device: torch.device | None = None) -> Iterator[None]:
    """Random numbers from a seed of these numbers; the generators then go on as before."""
    devices = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))
        yield


def timed_step(batch_size: int, model: nn.Module, *, optimise: bool = True) -> Callable[[], None]:
    """A function that does one training step of a copy of a model: forward and backward on random
    data of its first layer's inputs, and Adam if ``optimise``.
    """
    model = copy.deepcopy(model).train()
    linear = [m for m in model.modules() if hasattr(m, "in_features")]
    with seeded(0):
        batch = torch.rand(batch_size, linear[0].in_features)  # type: ignore[call-overload]
        classes = torch.randint(linear[-1].out_features, (batch_size,))  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(model.parameters(), fused=True)

    def step() -> None:
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(batch), classes).backward()
        if optimise:
            optimiser.step()

    return step


def predict(model: nn.Module, x: np.ndarray, batch_size: int = 1024) -> np.ndarray:
    """The model's outputs ``(samples, outputs)``, at inference; the model's mode stays as it is."""
    inputs, _ = as_tensors(model, x, np.zeros(len(x), np.int64))
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            parts = [model(batch) for batch in inputs.split(batch_size)]
    finally:
        model.train(training)
    return torch.cat(parts).cpu().numpy()


def accuracy(model: nn.Module, x: np.ndarray, y: np.ndarray) -> float:
    """Samples whose largest output is their class, in percent."""
    as_tensors(model, x, y)
    return float(100 * np.mean(predict(model, x).argmax(axis=1) == y))


def as_tensors(model: nn.Module, x: np.ndarray, y: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """The data as tensors of the model's type and device.

    Raises
    ------
    InputError:
        data of the wrong shape or type, or with NaN.
    """
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
    like = next(model.parameters(), torch.zeros(()))
    return (
        torch.from_numpy(np.ascontiguousarray(x)).to(like.device, like.dtype),
        torch.from_numpy(y.astype(np.int64)).to(like.device),
    )
