"""What a compression run is told about its training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from drawbar.gen.errors import InputError
from drawbar.sw.compress.losses import Loss

METHODS = ("admm", "direct")
OPTIMISERS = ("adam", "sgd")
PRECISIONS = ("float32", "bfloat16")
#: The parts of a run, in order; "direct" has no second one, and only a run with bits has the last.
PHASES = ("dense", "admm", "tuning", "storage")


@dataclass(frozen=True)
class Settings:
    """How a model is trained while it is compressed.

    Members
    -------
    method:
        "admm", or "direct": the trained weights are decomposed as they are.
    dense_epochs, admm_epochs, tuning_epochs, storage_epochs:
        Epochs before ADMM, under it ("direct": none), on the cores, and on cores of a few bits.
    optimiser:
        "adam", or "sgd": stochastic gradients with Nesterov's momentum of 0.9, whose rates are some
        20 times higher. Convolutional networks with batch norms tend to learn more from it in as
        many epochs.
    precision:
        "float32", or "bfloat16": products of 8 significant bits, summed in float32 (PyTorch's
        autocast). Weights, loss and optimiser stay in float32, and accuracies are measured there.
        Faster on a processor or GPU that has such products.
    cuda_graph:
        Record a training step once in each phase and replay it (``gradients.RecordedGradients``):
        small networks train some times faster, with the same numbers. The model must take the same
        path for every batch. On a GPU only: a processor has no graphs.
    lr, admm_lr, tuning_lr, storage_lr:
        Learning rate at the start of each; it falls to 0 along half a cosine.
    warmup:
        Epochs in which the rate of a phase rises first, where the phase starts from trained
        weights (all but the dense one): the first steps at a high rate throw away what they hold.
    cycles:
        How often the rate of the fine-tuning falls to 0: each time in half as many epochs and from
        a quarter as high as before (``train.Cosine``).
    batch_size:
        Samples of a step, in each process.
    rho_first, rho_last:
        ADMM's penalty in its first and its last epoch; it grows by the same factor each time.
    weight_decay:
        Decoupled from Adam's gradient (AdamW); with "sgd" it is the usual one.
    noise:
        Standard deviation of what is added to the inputs in training.
    shift, mirror, augment_from:
        Pixels by which images are moved at most, in either direction, and the chance that they are
        mirrored left to right (see ``augment.Augmentation``), from this phase on.
    measure_every:
        The test split is measured after every so many epochs; 0: only where ``accuracy`` needs it.
    label_smoothing, distillation, temperature:
        As in ``losses.Loss``; the teacher is the dense model as trained.
    threads:
        CPU threads to train with; None for PyTorch's own choice. Small models train fastest in one.
    seed:
        The same seed gives the same bits on the same processor, PyTorch and number of threads; on
        a GPU, whose sums may come in another order each time, nearly the same numbers.

    Raises
    ------
    InputError:
        a value out of range.
    """

    method: str = "admm"
    dense_epochs: int = 0
    admm_epochs: int = 20
    tuning_epochs: int = 5
    storage_epochs: int = 0
    optimiser: str = "adam"
    precision: str = "float32"
    cuda_graph: bool = False
    lr: float = 1e-3
    admm_lr: float = 1e-3
    tuning_lr: float = 2e-3
    storage_lr: float = 1e-3
    warmup: int = 0
    cycles: int = 1
    batch_size: int = 128
    rho_first: float = 1e-2
    rho_last: float = 1e-1
    weight_decay: float = 0.0
    noise: float = 0.0
    shift: int = 0
    mirror: float = 0.0
    augment_from: str = PHASES[0]
    measure_every: int = 1
    label_smoothing: float = 0.0
    distillation: float = 0.0
    temperature: float = 4.0
    threads: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (
            ("method", METHODS),
            ("optimiser", OPTIMISERS),
            ("precision", PRECISIONS),
            ("augment_from", PHASES),
        ):
            if getattr(self, name) not in known:
                raise InputError(
                    f"compression, {name}",
                    f"is one of {', '.join(known)}",
                    getattr(self, name),
                    "use one",
                )
        least = {"batch_size": 1, "cycles": 1, "admm_epochs": 1 if self.method == "admm" else 0}
        epochs = [f"{phase}_epochs" for phase in PHASES]
        for name in (*epochs, "warmup", "cycles", "batch_size", "seed", "shift", "measure_every"):
            bound = least.get(name, 0)
            if getattr(self, name) < bound:
                raise InputError(
                    f"compression, {name}", f"is at least {bound}", getattr(self, name), "raise it"
                )
        for name in ("lr", "admm_lr", "tuning_lr", "storage_lr", "rho_first", "rho_last"):
            if not getattr(self, name) > 0:
                raise InputError(
                    f"compression, {name}", "is more than 0", getattr(self, name), "raise it"
                )
        if not 0 <= self.mirror <= 1:
            raise InputError("compression, mirror", "is 0 to 1", self.mirror, "give a chance")
        assert self.loss

    @property
    def loss(self) -> Loss:
        return Loss(self.label_smoothing, self.distillation, self.temperature)

    def epochs(self, phase: str) -> int:
        if phase == "admm" and self.method == "direct":
            return 0
        return getattr(self, f"{phase}_epochs")

    def rate(self, phase: str) -> float:
        return self.lr if phase == "dense" else getattr(self, f"{phase}_lr")

    def warmup_epochs(self, phase: str) -> int:
        return 0 if phase == "dense" else self.warmup

    def rate_cycles(self, phase: str) -> int:
        return self.cycles if phase == "tuning" else 1


def make_settings(values: Mapping[str, Any]) -> Settings:
    """Settings by name.

    Raises
    ------
    InputError:
        an unknown name, or a value of the wrong type or out of range.
    """
    known = {f.name: f for f in fields(Settings)}
    for name, value in values.items():
        if name not in known:
            raise InputError(
                f"compression, {name}",
                "is a setting",
                f"{name}={value!r}",
                f"use one of {', '.join(known)}",
            )
        default = known[name].default
        kind = int if default is None or type(default) is int else type(default)
        good = isinstance(value, kind) or (kind is float and isinstance(value, int))
        good = good and isinstance(value, bool) == (kind is bool)
        if not (good or (value is None and default is None)):
            raise InputError(
                f"compression, {name}", f"is of type {kind.__name__}", repr(value), "mend its value"
            )
    return Settings(**values)


def json_values(value: Any) -> Any:
    """The same values as JSON would give them back."""
    return json.loads(json.dumps(value))
