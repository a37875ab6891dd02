"""The one error that a user of Drawbar sees: what is wrong, by which rule, with which value, and
the fix.
"""

from __future__ import annotations

from typing import Any


class DrawbarError(Exception):
    """A problem that the user can mend.

    Arguments
    ---------
    subject:
        The thing that is wrong: a layer, a file, a port.
    rule:
        The rule that it breaks, as a full phrase ("modes multiply to the layer's size").
    value:
        What was found instead.
    fix:
        What to do about it, in the imperative.
    """

    def __init__(self, subject: str, rule: str, value: object, fix: str) -> None:
        super().__init__(subject, rule, value, fix)
        self.subject = subject
        self.rule = rule
        self.value = value
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.subject}: {self.rule}; found {self.value}. Fix: {self.fix}."

    def as_dict(self) -> dict[str, Any]:
        """The same four parts for ``--json``."""
        return {
            "error": type(self).__name__,
            "subject": self.subject,
            "rule": self.rule,
            "value": str(self.value),
            "fix": self.fix,
        }


class ConfigError(DrawbarError):
    """An engine configuration that cannot be built."""


class NetworkError(DrawbarError):
    """A contraction network or model that is not well formed."""


class FitError(DrawbarError):
    """A model that does not fit the engine."""

    def as_dict(self) -> dict[str, Any]:
        # What kind of it the planner tells apart is the planner's own.
        return {**super().as_dict(), "error": "FitError"}


class ArtefactError(DrawbarError):
    """A file that is truncated, corrupted, foreign, or made for another engine."""


class InputError(DrawbarError):
    """Input data of the wrong shape, type or value."""


class ToolError(DrawbarError):
    """A missing or failing tool (simulator, compiler, package)."""


class TimingError(DrawbarError):
    """A build whose best result is slower than its clock; ``report`` is all that is known of it."""

    def __init__(self, subject: str, rule: str, value: object, fix: str, report: Any) -> None:
        super().__init__(subject, rule, value, fix)
        self.report = report

    def as_dict(self) -> dict[str, Any]:
        return {**super().as_dict(), **self.report.as_dict()}


class LinkError(DrawbarError):
    """A device that does not answer, or answers wrongly."""


class RankWarning(UserWarning):
    """A rank was clipped to its largest useful value."""
