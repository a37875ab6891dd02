"""Transfers of a run: their bytes, their order, and what they cost in steady state."""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction

import pytest
from random_models import planner_config, random_model

from drawbar.gen.errors import FitError
from drawbar.gen.pipeline import RUN_GAP
from drawbar.gen.plan import plan_model
from drawbar.gen.presets import PRESETS
from drawbar.gen.program import decode, encode
from drawbar.gen.protocol import WAIT_IDLE, WAIT_PENDING, Header, Op, pack_frame
from drawbar.gen.slots import Slots
from drawbar.gen.timeline import (
    ANSWER_TO_BYTE,
    ARRIVAL,
    TAKE_TO_ACT,
    plan_streaming,
    streaming,
)
from drawbar.gen.transfers import (
    STREAMS,
    LinkRate,
    Transfer,
    layout_span,
    lead_writes,
    row_of_runs,
    serial_rate,
    spread,
)
from drawbar.layer_suites import TIE_LAYERS, Layer

SMALL = Layer("small", (4, 4, 4), (4, 4, 4), (1, 4, 4, 1)).model()
TINY = PRESETS["tiny"]
UNEVEN = LinkRate(Fraction(3), 2)


def plans():
    for seed in range(40):
        rng = random.Random(seed)
        model, config, batch = random_model(rng), planner_config(rng), rng.choice((1, 2, 5))
        try:
            yield plan_model(model, config, batch=batch)
        except FitError:
            continue


def test_a_transfer_has_the_bytes_of_its_frames() -> None:
    for op, length in ((Op.WRITE, 7), (Op.READ, 12), (Op.RUN, 0), (Op.WAIT, 40)):
        transfer = Transfer(op, length)
        asked = pack_frame(Header(op, 1, 0, length), bytes(length) if op == Op.WRITE else b"")
        answer = bytes(length) if op in (Op.READ, Op.WAIT) else b""
        assert transfer.bytes_in == len(asked)
        assert transfer.bytes_out == len(pack_frame(Header(op, 1, 0, len(answer)), answer))


def test_each_run_moves_its_tensors_whole_and_in_order() -> None:
    counted = 0
    for plan in plans():
        buffers, config, runs = plan.buffers, plan.config, 5
        row = row_of_runs(
            buffers, config, batch=plan.batch, cycles=plan.total.total, rate=UNEVEN, runs=runs
        )
        started: list[int] = []
        written: dict[int, list[int]] = {n: [] for n in range(runs)}
        read: dict[int, list[int]] = {n: [] for n in range(runs)}
        waits = reads_done = 0
        for transfer in row:
            items = range(transfer.item, transfer.item + transfer.length // config.element_bytes)
            match transfer.op:
                case Op.WRITE:
                    written[len(started)] += items
                case Op.READ:
                    first, size = layout_span(buffers[reads_done % len(buffers)].output, plan.batch)
                    read[reads_done] += items
                    # The run has ended: a WAIT after it said so.
                    assert waits > reads_done
                    reads_done += read[reads_done][-1] == first + size - 1
                case Op.RUN:
                    # Results of the buffer's last run are out before it runs again.
                    assert reads_done >= len(started) + 1 - len(buffers)
                    started.append(waits)
                case Op.WAIT:
                    waits += 1
                    last = waits == runs
                    idle = len(buffers) == 1 or last
                    assert transfer.item == (WAIT_IDLE if idle else WAIT_PENDING)
                    assert len(started) >= min(runs, waits + len(buffers) - 1)
        assert (len(started), waits, reads_done) == (runs, runs, runs)
        for run in range(runs):
            buffer = buffers[run % len(buffers)]
            for layout, items in ((buffer.input, written[run]), (buffer.output, read[run])):
                first, size = layout_span(layout, plan.batch)
                addresses = layout.addresses(plan.batch)
                assert (addresses.min(), addresses.max()) == (first, first + size - 1)
                assert items == list(range(first, first + size))
        counted += 1
    assert counted >= 15


def test_reads_among_writes() -> None:
    assert spread(["r", "s"], list("abcd"), 0) == list("rabscd")
    assert spread(["r", "s"], list("abcd"), 2) == list("abrcsd")
    assert spread(["r", "s"], list("abcd"), 9) == list("abcdrs")
    assert spread([], list("ab"), 1) == list("ab")
    assert spread(list("rst"), list("a"), 0) == list("rsat")


def test_writes_go_first_for_as_long_as_a_run_takes() -> None:
    assert lead_writes(5320, STREAMS) == 10
    assert lead_writes(5320, LinkRate(Fraction(10), 10)) == 1
    assert lead_writes(5320, serial_rate(TINY)) == 0


def test_serial_lines() -> None:
    rate = serial_rate(TINY)
    assert (rate.byte_in, rate.byte_out) == (160, 161)
    odd = serial_rate(TINY.replace(clock_hz=25_000_000))
    assert (odd.byte_in, odd.byte_out) == (Fraction(250, 3), 85)
    assert serial_rate(TINY, 1_000_000).byte_in == 480


@pytest.mark.parametrize("layer", TIE_LAYERS[:2], ids=lambda layer: layer.name)
def test_a_slow_line_is_full_one_way(layer: Layer) -> None:
    """In steady state the longer way of a serial line rests at most once a run: while the RUN,
    which the host sends when all READs are answered, is on its way through the link.
    """
    model = layer.model()
    two = plan_streaming(plan_model(model, PRESETS["large"], buffers=2))
    one = plan_streaming(plan_model(model, PRESETS["large"], buffers=1))
    assert (one.buffers, two.buffers) == (1, 2)
    rest = two.period - max(two.cycles_in, two.cycles_out)
    assert 0 <= rest <= ARRIVAL[0] + TAKE_TO_ACT + ANSWER_TO_BYTE
    assert two.cycles_link == two.period
    assert two.limit == ("link in" if two.cycles_in > two.cycles_out else "link out")
    assert (one.cycles_in, one.cycles_out) == (two.cycles_in, two.cycles_out)
    assert one.period > two.period + two.cycles
    clock = PRESETS["large"].clock_hz
    assert two.inferences_per_second(clock) == clock / two.period
    assert two.as_dict(clock)["idle"] == two.period - two.cycles


def test_a_link_that_is_fast_enough_costs_only_the_gap() -> None:
    plan = plan_model(SMALL, TINY, buffers=2)
    stages = [replace(stage, wait=255) for _, stage in plan.program] * 2
    # So long a wait leaves slots for every transfer, and twice so long a run time for all of them.
    found = streaming(plan.buffers, [stages], TINY, batch=1, rate=STREAMS)
    assert found.cycles > found.cycles_link
    assert (found.limit, found.period) == ("compute", found.cycles + RUN_GAP)
    assert found.idle == RUN_GAP


def test_slots_are_those_of_the_program() -> None:
    """As many reads as busy cycles, as many writes as row vectors."""
    for plan in plans():
        stages = decode(encode([stage for _, stage in plan.program], plan.config), plan.config)
        slots = Slots(stages, plan.config)
        assert slots.cycles == plan.total.total
        rows = sum(stage.row_vectors * stage.lane_tiles(plan.config) for stage in stages)
        span = range(slots.cycles + 1)
        busy = {
            name: sum(free.after(cycle) != cycle for cycle in span)
            for name, free in (("read", slots.reading), ("write", slots.writing))
        }
        assert busy == {"read": plan.total.busy, "write": rows}
