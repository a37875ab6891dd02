"""gen/errors.py: every error says what, by which rule, with which value, and what to do."""

from __future__ import annotations

import pytest

from drawbar.gen import errors
from drawbar.gen.errors import DrawbarError, RankWarning

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type)
    and issubclass(kind, DrawbarError)
    # It also carries a report: tests/test_bitstream.py.
    and kind is not errors.TimingError
]


@pytest.mark.parametrize("kind", KINDS)
def test_all_four_parts_are_said(kind: type[DrawbarError]) -> None:
    error = kind("layer 'fc1'", "has at least one mode", 0, "give one")
    text = "layer 'fc1': has at least one mode; found 0. Fix: give one."
    assert str(error) == text
    assert (error.subject, error.rule, error.value, error.fix) == error.args
    assert error.as_dict() == {
        "error": kind.__name__,
        "subject": "layer 'fc1'",
        "rule": "has at least one mode",
        "value": "0",
        "fix": "give one",
    }


def test_one_class_catches_them_all() -> None:
    assert len(KINDS) > 5
    assert all(issubclass(kind, DrawbarError) for kind in KINDS)
    assert not issubclass(RankWarning, DrawbarError)
