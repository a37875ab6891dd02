"""cocotb tests of AddBias, RoundShift, Saturate and Requantise; run by test_requantise.py.

Each unit takes one value a cycle and is compared with its function in the golden model; the golden
functions are compared with exact fractions.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from fractions import Fraction

import cocotb
import numpy as np
from cocotb_bench import Unit, for_each, pack, signed, unit, unpack

from drawbar.gen.config import EngineConfig
from drawbar.gen.pipeline import pipeline
from drawbar.sim.golden import add_bias, round_shift, saturate

#: Accumulator and shift widths, and whether it is short.
SHIFT = {"shift_6": (6, 3, False), "shift_40": (40, 6, False), "shift_40_short": (40, 6, True)}
#: Accumulator and data widths, and whether it is short.
SATURATE = {
    "saturate_8": (10, 8, False),
    "saturate_16": (36, 16, False),
    "saturate_same": (15, 16, False),
    "saturate_16_short": (36, 16, True),
}

CONFIGS = {
    "requantise_8": EngineConfig(lanes=4, data_width=8, acc_width=20),
    "requantise_16": EngineConfig(lanes=1, data_width=16, acc_width=36),
    "requantise_short": EngineConfig(lanes=8, data_width=8, acc_width=24, short_pipeline=1),
    # Four lane groups.
    "requantise_groups": EngineConfig(lanes=16, data_width=8, acc_width=24),
}


async def compare(
    dut: Unit, cases: Iterable[dict[str, int]], expected: Iterable[int], latency: int, width: int
) -> None:
    """One case a cycle, each result ``latency`` cycles later."""
    due = list(expected)
    given = list(cases)
    assert len(due) == len(given)
    for n in range(len(given) + latency):
        if n >= latency:
            got = signed(dut.get("o"), width)
            assert got == due[n - latency], (given[n - latency], got)
        if n < len(given):
            dut.set(**given[n])
        await dut.tick()


@for_each(width=[4, 40])
async def add_bias_is_exact(dut, width: int) -> None:
    least, most = -(1 << (width - 1)), (1 << (width - 1)) - 1
    if width == 4:
        pairs = [(i, b) for i in range(least, most + 1) for b in range(least, most + 1)]
    else:
        edges = (least, least + 1, -1, 0, 1, most - 1, most)
        pairs = [(i, b) for i in edges for b in edges]
        rng = random.Random(width)
        pairs += [(rng.randint(least, most), rng.randint(least, most)) for _ in range(200)]
    cases, expected = [], []
    mask = (1 << width) - 1
    before = 0  # the accumulator comes a cycle after its bias
    for i, bias in pairs:
        for enable in (1, 0):
            cases.append({"i": before & mask, "bias": bias & mask, "enable": enable})
            expected.append(int(add_bias(np.array(i), np.array(bias) if enable else None)))
            assert expected[-1] == i + bias * enable
            before = i
    cases.append({"i": before & mask})
    expected.append(before)
    await compare(await unit(dut, f"bias_{width}"), cases, expected, 2, width + 1)


def half_to_even(value: int, shift: int) -> int:
    """Python's ``round`` of the exact quotient: half to even."""
    return round(Fraction(value, 1 << shift))


@for_each(name=list(SHIFT))
async def round_shift_rounds_half_to_even(dut, name: str) -> None:
    """The narrow one with every value and every shift, the wide one around every tie."""
    acc_width, _, short = SHIFT[name]
    least, most = -(1 << acc_width), (1 << acc_width) - 1
    shifter = await unit(dut, name)
    rng = random.Random(name)
    ties = 0
    for shift in range(acc_width + 1):
        if acc_width < 10:
            values = list(range(least, most + 1))
            rng.shuffle(values)
        else:
            half = (1 << shift) >> 1
            near = [
                sign * (rng.randint(0, most >> max(shift, 1)) * (2 * half) + half) + off
                for _ in range(12)
                for sign in (1, -1)
                for off in (-1, 0, 1)
            ]
            near += [least, least + 1, most - 1, most, -1, 0, 1, rng.randint(least, most)]
            values = [v for v in near if least <= v <= most]
        expected = [half_to_even(v, shift) for v in values]
        assert round_shift(np.array(values, np.int64), shift).tolist() == expected
        ties += sum(Fraction(v, 1 << shift).denominator == 2 for v in values)
        shifter.set(shift=shift)
        cases = [{"i": v & ((1 << (acc_width + 1)) - 1)} for v in values]
        await compare(shifter, cases, expected, 1 if short else 3, acc_width + 1)
    assert ties > 100


@for_each(name=list(SATURATE))
async def saturate_clips_and_activates(dut, name: str) -> None:
    acc_width, data_width, short = SATURATE[name]
    least, most = -(1 << acc_width), (1 << acc_width) - 1
    if acc_width <= 10:
        values = list(range(least, most + 1))
    else:
        edge = 1 << (data_width - 1)
        near = [sign * e + off for e in (0, edge) for sign in (1, -1) for off in (-2, -1, 0, 1, 2)]
        near += [sign << j for j in range(acc_width) for sign in (1, -1)]
        values = [v for v in near if least <= v <= most] + [least, most]
        rng = random.Random(name)
        values += [rng.randint(least, most) >> rng.randrange(acc_width) for _ in range(300)]
    cases, expected = [], []
    for value in values:
        for relu in (0, 1):
            cases.append({"i": value & ((1 << (acc_width + 1)) - 1), "relu": relu})
            activation = "relu" if relu else "none"
            expected.append(int(saturate(np.array(value), data_width, activation)))
            floor = 0 if relu else -(1 << (data_width - 1))
            assert expected[-1] == max(floor, min(value, (1 << (data_width - 1)) - 1))
    if not short:  # the activation comes a cycle after its value
        late = [0, *(case.pop("relu") for case in cases)]
        for case, relu in zip(cases, late, strict=False):
            case["relu"] = relu
        cases.append({"relu": late[-1]})
        expected.append(expected[-1])
    await compare(await unit(dut, name), cases, expected, 1 if short else 2, data_width)


@for_each(name=list(CONFIGS))
async def requantise_rows(dut, name: str) -> None:
    """Every shift, with and without bias and ReLU, another in each cycle; lane groups one cycle
    after the other, and all results together.
    """
    config = CONFIGS[name]
    acc, lanes, width = config.acc_width, config.lanes, config.data_width
    requantise = await unit(dut, name)
    rng = random.Random(name)
    pipe = pipeline(config)
    skew, together = pipe.group_skew, pipe.group_lanes
    latency = pipe.row_to_result + skew + 1
    clipped = 0
    due = []
    # What the lanes get of the rows of the next cycle, whose biases come now, and those before.
    given: list[tuple[list[int], list[int]]] = [([0] * lanes, [0] * lanes)] * (skew + 2)
    now = (0, 0)
    shifts = [*range(acc + 1)] * 12
    rng.shuffle(shifts)
    for n, shift in enumerate(shifts):
        if n >= latency:
            assert unpack(requantise.get("o"), width, lanes) == due[n - latency], n
        enable, relu = rng.getrandbits(1), rng.getrandbits(1)
        values = [signed(rng.getrandbits(acc), acc) >> rng.randrange(acc) for _ in range(lanes)]
        biases = [signed(rng.getrandbits(acc), acc) >> rng.randrange(acc) for _ in range(lanes)]
        given = [(values, biases), *given[:-1]]
        result = add_bias(np.array(values), np.array(biases) if enable else None)
        result = round_shift(result, shift)
        final = saturate(result, width, "relu" if relu else "none")
        clipped += int((final != result).sum())
        due.append(final.tolist())
        late = [given[lane // together + 1] for lane in range(lanes)]
        biased = [given[lane // together] for lane in range(lanes)]
        requantise.set(
            bias_enable=enable,
            shift=now[0],
            activation=now[1],
            i=pack([row[0][lane] for lane, row in enumerate(late)], acc),
            bias=pack([row[1][lane] for lane, row in enumerate(biased)], acc),
        )
        now = (shift, relu)
        await requantise.tick()
    assert clipped > 50


@cocotb.test()
async def golden_refuses_to_differ(dut) -> None:
    """Ties of either sign, by hand: the reference itself is right."""
    values = np.array([-7, -6, -5, -3, -2, -1, 1, 2, 3, 5, 6, 7])
    assert round_shift(values, 1).tolist() == [-4, -3, -2, -2, -1, 0, 0, 1, 2, 2, 3, 4]
    assert round_shift(values, 2).tolist() == [-2, -2, -1, -1, 0, 0, 0, 0, 1, 1, 2, 2]
    assert saturate(np.array([-129, -128, 127, 128]), 8, "none").tolist() == [-128, -128, 127, 127]
    assert saturate(np.array([-129, -1, 0, 1, 300]), 8, "relu").tolist() == [0, 0, 0, 1, 127]
