"""Runs cocotb tests of one Amaranth component from pytest, on Verilator or Icarus Verilog.

A test is two files: ``test_array.py``, which pytest collects and which calls ``run_cocotb``, and
``cocotb_array.py`` beside it, whose ``@cocotb.test()`` coroutines run inside the simulator. What a
simulator compiles is kept in the build cache, so that an unchanged component starts in a second.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from amaranth.lib.wiring import Component

from drawbar.gen.errors import ToolError
from drawbar.gen.verilog import to_verilog
from drawbar.sim import tools
from drawbar.sim.cache import cached, digest, quiet
from drawbar.sim.verilator import (
    build_step,
    link_model,
    module_header,
    run_program,
    toolchain,
    verilate,
)

#: For ``@pytest.mark.parametrize("simulator", simulators)``.
simulators = ["verilator", "icarus"]

_PARAMETERS = "DRAWBAR_COCOTB_PARAMETERS"
_LOG_LINES = 25
_TIMESCALE = "1ns/1ps"
#: Verilog wakes every ``always @*`` at the start, as Amaranth's output needs; SystemVerilog does
#: not, and leaves unknown what no change has driven yet.
_ICARUS_LANGUAGE = "-g2005"
#: The compiler's time dominates a unit test, and the simulation's that of a whole engine.
_UNIT_FLAGS, _ENGINE_FLAGS = ("-O0",), ("-O1",)


@functools.lru_cache(maxsize=256)
def cached_verilog(factory: Callable[..., Component], **arguments: Any) -> str:
    """Verilog of ``factory(**arguments)``, made once in this process: for a test that runs on both
    simulators.
    """
    return to_verilog(factory(**arguments), "dut")


def parameters() -> dict[str, Any]:
    """In a cocotb test module: the ``parameters`` that ``run_cocotb`` was given."""
    return json.loads(os.environ[_PARAMETERS])


def require_simulator(simulator: str) -> None:
    """Skip the test where Icarus is not installed; with DRAWBAR_REQUIRE_ICARUS=1 fail it.

    Verilator comes with the project's own environment, so that a missing one is always an error.
    """
    if simulator not in simulators:
        raise ToolError(
            f"simulator {simulator!r}", "is known", simulator, f"use one of {', '.join(simulators)}"
        )
    if simulator == "verilator":
        toolchain()
        return
    try:
        tools.find_icarus()
    except ToolError as error:
        if os.environ.get("DRAWBAR_REQUIRE_ICARUS") == "1":
            raise
        import pytest

        pytest.skip(str(error))


def run_cocotb(
    component: Component | str,
    test_module: str,
    *,
    simulator: str,
    name: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    folder: Path | None = None,
    timeout: float = 120.0,
    internals: bool = False,
    optimise: bool = False,
) -> None:
    """Run every cocotb test of ``test_module`` against a component.

    Arguments
    ---------
    component:
        The device under test, or its Verilog as module ``dut`` (``cached_verilog``).
    test_module:
        Name of the Python module with the cocotb tests; ``folder``, by default the caller's, is put
        on its path.
    simulator:
        One of ``simulators``.
    name:
        For messages; by default the component's class.
    parameters:
        JSON values for the test module, which gets them from ``parameters()``.
    env:
        More environment variables for the simulation.
    timeout:
        Wall-clock seconds after which the simulation is killed.
    internals:
        Let the tests see every signal and not only the ports; slower.
    optimise:
        Compile for speed: for a whole engine, and not for a unit.

    Raises
    ------
    AssertionError:
        a test failed, there is none, or the simulation died or ran past ``timeout``; with the end
        of its log.
    ToolError:
        a tool is missing, or the build failed.
    """
    require_simulator(simulator)
    if folder is None:
        folder = Path(sys._getframe(1).f_globals["__file__"]).resolve().parent
    if isinstance(component, str):
        text, label = component, name or test_module
    else:
        text, label = to_verilog(component, "dut"), name or type(component).__name__
    build = _build_verilator if simulator == "verilator" else _build_icarus
    binary = build(text, internals, optimise)
    extra = {
        "COCOTB_RANDOM_SEED": "1",  # a failure comes back on the next run
        "COCOTB_ANSI_OUTPUT": "0",
        _PARAMETERS: json.dumps(dict(parameters or {})),
        **(env or {}),
    }
    with tempfile.TemporaryDirectory(prefix="drawbar-cocotb-") as work:
        _simulate(simulator, binary, test_module, folder, extra, label, timeout, Path(work))


def _build_verilator(text: str, internals: bool, optimise: bool) -> Path:
    """The folder of the program ``dut``."""
    import cocotb_tools.config

    chain = toolchain()
    harness = Path(cocotb_tools.config.share_dir) / "lib" / "verilator" / "verilator.cpp"
    libraries = Path(cocotb_tools.config.libs_dir)
    fast = _ENGINE_FLAGS if optimise else _UNIT_FLAGS
    key = digest(
        "cocotb", text, internals, fast, chain.identity, harness.read_text(), str(libraries)
    )

    def build(scratch: Path, product: Path) -> None:
        flags = ["--vpi", "--timescale", _TIMESCALE, "--output-split", "20000"]
        if internals:
            flags.append("--public-flat-rw")
        else:
            # Making all signals public keeps Verilator from optimising any of them.
            ports = [port.strip() for port in module_header(text, "dut").split(",")]
            lines = ["`verilator_config"]
            lines += [f'public_flat_rw -module "dut" -var "{p}"' for p in ports]
            (scratch / "ports.vlt").write_text("\n".join(lines) + "\n")
            flags.append("ports.vlt")
        model = verilate(chain, text, "dut", scratch, "Vtop", flags)
        link = [f"-L{libraries}", "-lcocotbvpi_verilator", f"-Wl,-rpath,{libraries}"]
        link_model(
            chain,
            model,
            [harness],
            product / "dut",
            flags=(),
            fast=fast,
            link=link,
            cache=None,
            progress=quiet,
        )

    return cached("cocotb", key, build)


@functools.cache
def _icarus_version() -> str:
    status, output = run_program([tools.find_icarus(), "-V"], cwd=Path.cwd(), timeout=20)
    return output.splitlines()[0] if status == 0 and output else ""


def _build_icarus(text: str, internals: bool, optimise: bool) -> Path:
    """The folder of ``sim.vvp``; Icarus shows every signal and knows no optimisation."""
    compiler = tools.find_icarus()

    def build(scratch: Path, product: Path) -> None:
        (scratch / "top.v").write_text(text)
        (scratch / "options").write_text(f"+timescale+{_TIMESCALE}\n")
        command = [
            compiler,
            _ICARUS_LANGUAGE,
            "-s",
            "dut",
            "-f",
            "options",
            "-o",
            product / "sim.vvp",
        ]
        build_step([*command, "top.v"], cwd=scratch, what="Icarus Verilog")

    return cached(
        "icarus", digest("icarus", text, _ICARUS_LANGUAGE, _TIMESCALE, _icarus_version()), build
    )


def _simulate(
    simulator: str,
    binary: Path,
    test_module: str,
    folder: Path,
    extra: Mapping[str, str],
    label: str,
    timeout: float,
    work: Path,
) -> None:
    from cocotb_tools import runner

    log = ""
    where = f"{label} on {simulator}, {test_module}"

    base: Any = runner.Icarus if simulator == "icarus" else runner.Verilator

    class Watched(base):
        """cocotb's own runner waits for a simulation for ever; this one kills it, and keeps what it
        said.
        """

        def _execute_cmds(self, cmds: Sequence[Any], cwd: Any, stdout: Any = None) -> None:
            nonlocal log
            search = [str(folder), self.env["PYTHONPATH"]]
            environment = {**self.env, "PYTHONPATH": os.pathsep.join(search)}
            for command in cmds:
                _, said = run_program(command, cwd=Path(cwd), timeout=timeout, env=environment)
                log += said

    results = work / "results.xml"
    try:
        # Under pytest it leaves with SystemExit where a test failed; the results file says more.
        Watched().test(
            test_module=test_module,
            hdl_toplevel="dut",
            hdl_toplevel_lang="verilog",
            build_dir=binary,
            test_dir=work,
            results_xml=str(results),
            extra_env=extra,
        )
    except subprocess.TimeoutExpired as stop:
        raise AssertionError(
            f"{where}: killed after {timeout} s\n{_tail(str(stop.output))}"
        ) from None
    except SystemExit:
        pass
    if not results.is_file():
        raise AssertionError(f"{where}: the simulation died\n{_tail(log)}")
    cases = list(ElementTree.parse(results).iter("testcase"))
    failed = [
        case.get("name", "?")
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    ]
    if failed:
        raise AssertionError(
            f"{where}: {len(failed)} of {len(cases)} failed: {', '.join(failed)}\n{_tail(log)}"
        )
    if not cases:
        raise AssertionError(f"{where}: there is no cocotb test in it\n{_tail(log)}")


def _tail(log: str) -> str:
    return "\n".join(log.strip().splitlines()[-_LOG_LINES:])
