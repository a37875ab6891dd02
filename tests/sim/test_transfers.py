"""Transfers beside programs, from the driver's link to the Verilated board: runs take the cycles of
quiet ones and leave the same bits, and every transfer arrives.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
from driver_helpers import FaultyTransport

from drawbar.gen.cycles import Cycles
from drawbar.gen.pipeline import RUN_GAP
from drawbar.gen.presets import PRESETS
from drawbar.gen.program import encode
from drawbar.gen.protocol import WAIT_IDLE, WAIT_PENDING, Counters, Op, Space
from drawbar.gen.stage import Loop, Stage, check_stage
from drawbar.sim.board import SimBoard
from drawbar.sim.golden import GoldenEngine
from drawbar.sw.driver.frames import (
    Request,
    read_requests,
    run_request,
    wait_request,
    write_requests,
)
from drawbar.sw.driver.link import Link
from drawbar.sw.driver.transport import Transport

CONFIG = PRESETS["tiny"]
SIZE = CONFIG.element_bytes
#: Ends of what the program reads and of what it writes; the rest of work memory is the host's.
X_END, Y_END = 100, 200
#: Core vectors of the program; the host's are behind them.
CORE_END = 6


def program(columns: int) -> Stage:
    """The same columns over and over. One slot in seven is free for reads, and one for writes: a
    tile of four rows and three steps, then one of two rows.
    """
    stage = Stage(
        k_loops=(Loop(3, x=1),),
        row_loops=(Loop(6, y=1),),
        column_loops=(Loop(columns), Loop(2, x=36, y=36)),
        lane_count=4,
        lane_x=9,
        lane_y=9,
        y_base=X_END,
        shift=9,
    )
    check_stage(stage, CONFIG, "the program")
    assert stage.span("x")[1] < X_END
    assert stage.span("y")[1] < Y_END
    assert stage.core_vectors(CONFIG) == CORE_END
    return stage


class Host:
    """A link to a board with a program, and a golden engine with the same memories."""

    def __init__(
        self,
        columns: int,
        seed: int,
        wire: Callable[[SimBoard], Transport] = lambda board: board,
        retries: int = 3,
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.golden = GoldenEngine(CONFIG)
        self.board = SimBoard(CONFIG)
        self.link = Link(wire(self.board), first_number=0, retries=retries)
        words = encode([program(columns)], CONFIG)
        self.golden.program[: len(words)] = words
        self.link.write(Space.PROGRAM, 0, words.astype("<u4").tobytes(), 4)
        self.link.exchange([*self.core(0, CORE_END), *self.work(0, CONFIG.work_elements)])

    def work(self, first: int, end: int) -> list[Request]:
        """WRITEs of random elements to work memory."""
        values = self._values(end - first)
        self.golden.work[first:end] = values
        return write_requests(Space.WORK, first, values.tobytes(), SIZE)

    def core(self, first: int, end: int) -> list[Request]:
        """WRITEs of random vectors to core memory."""
        values = self._values((end - first) * CONFIG.rows)
        self.golden.core[first:end] = values.reshape(-1, CONFIG.rows)
        return write_requests(Space.CORE, first << CONFIG.row_bits, values.tobytes(), SIZE)

    def _values(self, count: int) -> np.ndarray:
        return self.rng.integers(CONFIG.data_min, CONFIG.data_max, count, endpoint=True).astype(
            "<i2"
        )

    def run(self) -> Cycles:
        """What the golden engine has for one run."""
        return sum(self.golden.run(0), Cycles())

    def check(self) -> None:
        """Work memory, and the cores, to the last bit."""
        found = self.link.read(Space.WORK, 0, CONFIG.work_elements * SIZE, SIZE)
        np.testing.assert_array_equal(np.frombuffer(found, "<i2"), self.golden.work)
        found = self.link.read(Space.CORE, 0, CONFIG.core_depth * CONFIG.rows * SIZE, SIZE)
        found = np.frombuffer(found, "<i2").reshape(-1, CONFIG.rows)
        np.testing.assert_array_equal(found[: 2 * CORE_END], self.golden.core[: 2 * CORE_END])


def idle_of(answer: bytes | Counters, expected: Cycles) -> int:
    """Checks all counters of a run but one, and returns that."""
    found = Counters.unpack(answer) if isinstance(answer, bytes) else answer
    assert found.cycles == expected.total
    assert (found.busy, found.stall_drain) == (expected.busy, expected.stall_drain)
    assert (found.stall_fetch, found.flush) == (expected.stall_fetch, expected.flush)
    assert found.stages == 1
    return found.idle


def traffic(host: Host, requests: int, rng: random.Random) -> tuple[list[Request], list[bytes]]:
    """Transfers apart from what the program writes, and what the READs among them must answer."""
    sent: list[Request] = []
    answers: list[bytes] = []
    for number in range(requests):
        count = rng.choice((1, 3, 40, 256))
        first = rng.randrange(Y_END, CONFIG.work_elements - count)
        if number % 3 == 0:
            sent += host.work(first, first + count)
        elif number % 3 == 1:
            if rng.random() < 0.3:
                first, count = 0, min(count, X_END)
            answers.append(host.golden.work[first : first + count].astype("<i2").tobytes())
            sent += read_requests(Space.WORK, first, count * SIZE, SIZE)
        else:
            sent += host.core(CORE_END, CORE_END + rng.randint(1, CORE_END))
    return sent, answers


@pytest.mark.parametrize(("pace", "requests"), [(1, 30), (12, 4)])
def test_traffic_beside_two_runs(pace: int, requests: int) -> None:
    """One runs, one is pending: quiet runs' counters and bits, whatever is moved beside them."""
    cycles = []
    for _ in range(2):  # the same calls, the same cycles
        host = Host(columns=1500, seed=pace)
        with host.board:
            expected = host.run()
            assert idle_of(host.link.run(0), expected) > RUN_GAP
            host.board.pace(pace)
            sent, reads = traffic(host, requests, random.Random(pace))
            runs = [run_request(0), run_request(0)]
            waits = [wait_request(WAIT_PENDING), wait_request(WAIT_IDLE)]
            *answers, status, first, second = host.link.exchange(
                [*runs, *sent, Request(Op.STATUS), *waits]
            )
            assert [answer for answer in answers if answer] == reads
            assert Counters.unpack(status).running == 1, "not all of that went beside the runs"
            assert Counters.unpack(first).running == 1
            assert idle_of(first, expected) > RUN_GAP
            assert Counters.unpack(second).running == 0
            assert idle_of(second, expected) == RUN_GAP
            host.run()
            host.run()
            host.check()
            cycles.append(host.board.cycles)
    assert cycles[0] == cycles[1]


class Faulty(FaultyTransport):
    """In the time of the board behind it."""

    def now(self) -> float:
        return self.inner.now()


@pytest.mark.parametrize("seed", [1, 2])
def test_a_bad_wire_beside_runs(seed: int) -> None:
    """Lost and damaged frames in both directions: each run is done once, and nothing is lost."""

    def wire(board: SimBoard) -> Transport:
        board.timeout = 0.01
        return Faulty(board, seed, corrupt=0.05, drop=0.03, duplicate=0.05, truncate=0.02)

    host = Host(columns=20, seed=seed, wire=wire, retries=20)
    with host.board:
        expected = host.run()
        idle_of(host.link.run(0), expected)
        rng = random.Random(seed)
        for _ in range(3):
            x = host.work(0, X_END)
            sent, reads = traffic(host, 6, rng)
            requests = [*x, run_request(0), *sent, wait_request(), run_request(0), wait_request()]
            answers = [answer for answer in host.link.exchange(requests) if answer]
            for counters in answers[-2:]:
                idle_of(counters, expected)
            assert answers[:-2] == reads
            host.run()
            host.run()
        host.check()
    assert host.link.statistics.retries > 0


def test_reads_of_other_spaces_wait_for_the_end() -> None:
    """A READ of PROGRAM, CORE or BIAS behind a RUN is answered when its program has ended."""
    host = Host(columns=200, seed=3)
    with host.board:
        expected = host.run()
        for space, size in ((Space.PROGRAM, 4), (Space.CORE, SIZE), (Space.BIAS, 8)):
            before = host.board.cycles
            _, answer, status = host.link.exchange(
                [run_request(0), *read_requests(space, 0, 8 * size, size), Request(Op.STATUS)]
            )
            assert host.board.cycles - before > expected.total
            assert Counters.unpack(status).running == 0
            idle_of(status, expected)
            if space == Space.CORE:
                assert answer == host.golden.core[:2].astype("<i2").tobytes()
        host.check()
