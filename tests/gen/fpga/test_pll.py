"""PLL settings: every limit of the datasheet holds; a clock out of reach names its neighbours."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drawbar.gen.errors import ConfigError
from drawbar.gen.fpga.families import FAMILIES
from drawbar.gen.fpga.pll import TOLERANCE, PllLimits, PllSettings, find_pll, nearest_clocks

CHIPS = [(family, part) for family in FAMILIES.values() for part in family.parts.values()]
LIMITS = {part.name: family.pll_limits(part) for family, part in CHIPS}


def check(limits: PllLimits, found: PllSettings, input_hz: int, clock_hz: int) -> None:
    """The settings against the datasheet's numbers, computed anew."""
    detector = Fraction(input_hz, found.reference)
    if limits.feedback_after_output:
        clock = detector * found.feedback
        vco = clock * found.output
    else:
        vco = detector * found.feedback
        clock = vco / found.output
    assert (clock, vco) == (found.clock_hz, found.vco_hz)
    assert abs(clock - clock_hz) <= TOLERANCE * clock_hz
    for hz, (least, most) in (
        (detector, limits.detector_mhz),
        (vco, limits.vco_mhz),
        (clock, limits.clock_mhz),
    ):
        assert least * 10**6 <= hz <= most * 10**6
    assert found.reference in limits.reference
    assert found.feedback in limits.feedback
    assert found.output in limits.output


@pytest.mark.parametrize(
    ("part", "input_mhz", "clock_mhz"),
    [
        ("LFE5U-25F", 25, 140.0),
        ("LFE5U-85F", 25, 185.0),
        ("LFE5U-25F", 48, 60.0),
        ("LFE5U-25F", 25, 400 / 3),
        ("iCE40UP5K", 12, 24.0),
        ("iCE40UP5K", 12, 39.75),
        ("iCE40UP5K", 12, 48.0),
        ("GW1NR-9C", 27, 40.5),
        ("GW2AR-18C", 27, 60.0),
    ],
)
def test_clocks_of_the_boards(part: str, input_mhz: int, clock_mhz: float) -> None:
    input_hz, clock_hz = input_mhz * 10**6, round(clock_mhz * 1e6)
    found = find_pll(LIMITS[part], input_hz, clock_hz)
    assert found is not None
    check(LIMITS[part], found, input_hz, clock_hz)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(LIMITS)), st.sampled_from([12, 25, 27, 48]), st.integers(4, 300))
def test_found_or_named(part: str, input_mhz: int, clock_mhz: int) -> None:
    """A clock is made within every limit, or the error names clocks that can be made."""
    limits, input_hz = LIMITS[part], input_mhz * 10**6
    try:
        found = find_pll(limits, input_hz, clock_mhz * 10**6)
    except ConfigError as error:
        named = [float(text) for text in re.findall(r"\d+(?:\.\d+)?", error.fix)]
        assert named == pytest.approx(
            [float(hz) / 1e6 for hz in nearest_clocks(limits, input_hz, clock_mhz * 10**6)],
            rel=1e-5,
        )
        assert clock_mhz not in named
        for hz in nearest_clocks(limits, input_hz, clock_mhz * 10**6):
            again = find_pll(limits, input_hz, round(hz))
            assert again is None or abs(again.clock_hz - hz) <= TOLERANCE * hz
    else:
        if found is None:
            assert input_mhz == clock_mhz
        else:
            check(limits, found, input_hz, clock_mhz * 10**6)


def test_the_oscillator_itself_needs_no_pll() -> None:
    assert find_pll(LIMITS["LFE5U-25F"], 25_000_000, 25_000_000) is None


def test_the_error_names_both_neighbours() -> None:
    with pytest.raises(ConfigError, match=r"use 39\.75 and 40\.5 MHz"):
        find_pll(LIMITS["iCE40UP5K"], 12_000_000, 40_000_000)


def test_beyond_the_fastest_only_that_is_named() -> None:
    with pytest.raises(ConfigError, match=r"use 400 MHz"):
        find_pll(LIMITS["LFE5U-25F"], 25_000_000, 1_000_000_000)
