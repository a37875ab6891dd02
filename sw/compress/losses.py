"""What training minimises: cross entropy, optionally softened or drawn to a teacher's outputs."""

from __future__ import annotations

from dataclasses import dataclass

from drawbar.gen.errors import InputError
from drawbar.sw.compress.backend import nn, torch


@dataclass(frozen=True)
class Loss:
    """The loss of a batch.

    Arguments
    ---------
    label_smoothing:
        Share of each target that is spread evenly over all classes, 0 up to 1.
    distillation:
        Share of the loss that compares with a teacher's outputs (Hinton et al. 2015), 0 to 1.
    temperature:
        What outputs are divided by there; the gradient is scaled back by its square.

    Raises
    ------
    InputError:
        a value out of range.
    """

    label_smoothing: float = 0.0
    distillation: float = 0.0
    temperature: float = 4.0

    def __post_init__(self) -> None:
        for name, good, rule in (
            ("label_smoothing", 0 <= self.label_smoothing < 1, "is at least 0 and less than 1"),
            ("distillation", 0 <= self.distillation <= 1, "is 0 to 1"),
            ("temperature", self.temperature > 0, "is more than 0"),
        ):
            if not good:
                raise InputError(f"loss, {name}", rule, getattr(self, name), f"mend {name}")

    def __call__(
        self, outputs: torch.Tensor, classes: torch.Tensor, teacher: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The mean over a batch.

        Arguments
        ---------
        outputs, teacher:
            ``(samples, classes)`` before the softmax; the teacher's only with distillation.
        classes:
            ``(samples,)``.
        """
        loss = nn.functional.cross_entropy(outputs, classes, label_smoothing=self.label_smoothing)
        if teacher is None:
            return loss
        soft = nn.functional.kl_div(
            torch.log_softmax(outputs / self.temperature, dim=1),
            torch.log_softmax(teacher / self.temperature, dim=1),
            reduction="batchmean",
            log_target=True,
        )
        share = self.distillation
        return (1 - share) * loss + share * self.temperature**2 * soft
