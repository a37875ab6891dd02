"""PLL settings: a search over every divider, and the nearest clocks where there is none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from drawbar.gen.errors import ConfigError

#: How far a clock may be from what is asked for: no more than the oscillator itself.
TOLERANCE = Fraction(1, 10_000)


@dataclass(frozen=True)
class PllLimits:
    """What a family's PLL can do; frequencies in MHz, as datasheets give them.

    ::

        input / reference -> phase detector -> VCO -> / output -> clock
                                   ^                        |
                                   └───── / feedback <──────┘ (or from the VCO itself)

    Members
    -------
    reference, feedback, output:
        Values that the dividers can have.
    feedback_after_output:
        Whether the feedback divider follows the output divider, or the VCO.
    input_mhz, detector_mhz, vco_mhz, clock_mhz:
        Least and greatest frequency at each place.
    """

    reference: Sequence[int]
    feedback: Sequence[int]
    output: Sequence[int]
    feedback_after_output: bool
    input_mhz: tuple[float, float]
    detector_mhz: tuple[float, float]
    vco_mhz: tuple[float, float]
    clock_mhz: tuple[float, float]


@dataclass(frozen=True)
class PllSettings:
    """Dividers, as counts (not as the primitive's parameters encode them), and what they give."""

    reference: int
    feedback: int
    output: int
    input_hz: int
    clock_hz: Fraction
    vco_hz: Fraction

    @property
    def detector_hz(self) -> Fraction:
        """Frequency at the phase detector."""
        return Fraction(self.input_hz, self.reference)


def _within(hz: Fraction, limits: tuple[float, float]) -> bool:
    return limits[0] * 1_000_000 <= hz <= limits[1] * 1_000_000


def all_settings(limits: PllLimits, input_hz: int) -> Iterator[PllSettings]:
    """Legal settings for an oscillator: every one, but of those that differ in nothing but the
    VCO's frequency only the fastest.
    """
    if not _within(Fraction(input_hz), limits.input_mhz):
        return
    for reference in limits.reference:
        detector = Fraction(input_hz, reference)
        if not _within(detector, limits.detector_mhz):
            continue
        for feedback in limits.feedback:
            fed_back = detector * feedback
            if limits.feedback_after_output:
                if not _within(fed_back, limits.clock_mhz):
                    continue
                fastest = int(limits.vco_mhz[1] * 1_000_000 / fed_back)
                output = max((o for o in limits.output if o <= fastest), default=0)
                if _within(fed_back * output, limits.vco_mhz):
                    vco = fed_back * output
                    yield PllSettings(reference, feedback, output, input_hz, fed_back, vco)
            elif _within(fed_back, limits.vco_mhz):
                for output in limits.output:
                    if _within(fed_back / output, limits.clock_mhz):
                        clock = fed_back / output
                        yield PllSettings(reference, feedback, output, input_hz, clock, fed_back)


def nearest_clocks(limits: PllLimits, input_hz: int, clock_hz: int) -> list[Fraction]:
    """The reachable clocks next below and next above, in Hz; the oscillator's own is among them."""
    reachable = {s.clock_hz for s in all_settings(limits, input_hz)} | {Fraction(input_hz)}
    below = max((c for c in reachable if c <= clock_hz), default=None)
    above = min((c for c in reachable if c >= clock_hz), default=None)
    return [clock for clock in dict.fromkeys((below, above)) if clock is not None]


def find_pll(limits: PllLimits, input_hz: int, clock_hz: int) -> PllSettings | None:
    """Settings that give ``clock_hz`` from an oscillator of ``input_hz``; None where they are the
    same and no PLL is needed.

    Of the settings within ``TOLERANCE`` the nearest is taken; of those, the one with the fastest
    phase detector, and then with the fastest VCO, for the least jitter.

    Raises
    ------
    ConfigError:
        no setting comes so near; the error names the clocks next below and above.
    """
    if input_hz == clock_hz:
        return None

    def badness(settings: PllSettings) -> tuple[Fraction, Fraction, Fraction]:
        error = abs(settings.clock_hz - clock_hz)
        return error, -settings.detector_hz, -settings.vco_hz

    best = min(all_settings(limits, input_hz), key=badness, default=None)
    if best is None or abs(best.clock_hz - clock_hz) > clock_hz * TOLERANCE:
        near = " and ".join(
            f"{float(hz) / 1e6:.6g}" for hz in nearest_clocks(limits, input_hz, clock_hz)
        )
        raise ConfigError(
            f"clock of {clock_hz / 1e6:.6g} MHz",
            f"comes from the PLL, out of an oscillator of {input_hz / 1e6:g} MHz",
            "no setting that gives it",
            f"use {near} MHz, the nearest that it can make",
        )
    return best
