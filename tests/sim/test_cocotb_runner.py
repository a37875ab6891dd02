from __future__ import annotations

import time

import pytest
from echo import Echo

from drawbar.gen.errors import ToolError
from drawbar.sim import tools
from drawbar.sim.cocotb_runner import cached_verilog, require_simulator, run_cocotb, simulators


@pytest.mark.parametrize("simulator", simulators)
@pytest.mark.parametrize("add", [0, 3])
def test_echo(simulator: str, add: int) -> None:
    dut = cached_verilog(Echo, add=add)
    run_cocotb(dut, "cocotb_echo", simulator=simulator, parameters={"add": add})


@pytest.mark.parametrize("simulator", simulators)
def test_a_wrong_device_fails(simulator: str) -> None:
    with pytest.raises(AssertionError, match="1 of 1 failed: every_byte_comes_back"):
        run_cocotb(Echo(add=0), "cocotb_echo", simulator=simulator, parameters={"add": 3})


@pytest.mark.parametrize("simulator", simulators)
def test_a_failing_test_is_named(simulator: str) -> None:
    with pytest.raises(AssertionError, match="1 of 2 failed: counts_wrongly") as caught:
        run_cocotb(
            cached_verilog(Echo, add=0), "cocotb_bad", simulator=simulator, env={"BAD": "fails"}
        )
    assert "== 9" in str(caught.value)


@pytest.mark.parametrize("simulator", simulators)
def test_a_hung_test_is_killed(simulator: str) -> None:
    start = time.monotonic()
    with pytest.raises(AssertionError, match="killed after 3"):
        run_cocotb(
            cached_verilog(Echo, add=0),
            "cocotb_bad",
            simulator=simulator,
            env={"BAD": "hangs"},
            timeout=3,
        )
    assert time.monotonic() - start < 60


@pytest.mark.parametrize("bad", ["dies", "nothing"])
def test_no_results_is_a_failure(bad: str) -> None:
    with pytest.raises(AssertionError, match=r"died|no cocotb test"):
        run_cocotb(
            cached_verilog(Echo, add=0), "cocotb_bad", simulator="verilator", env={"BAD": bad}
        )


def test_missing_icarus_skips_unless_required(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ToolError("iverilog", "is installed", "nothing", "install it")

    monkeypatch.setattr(tools, "find_icarus", missing)
    monkeypatch.delenv("DRAWBAR_REQUIRE_ICARUS", raising=False)
    with pytest.raises(pytest.skip.Exception, match="iverilog"):
        require_simulator("icarus")
    monkeypatch.setenv("DRAWBAR_REQUIRE_ICARUS", "1")
    with pytest.raises(ToolError, match="iverilog"):
        require_simulator("icarus")


def test_unknown_simulator() -> None:
    with pytest.raises(ToolError, match="verilator, icarus"):
        run_cocotb(cached_verilog(Echo, add=0), "cocotb_echo", simulator="modelsim")
