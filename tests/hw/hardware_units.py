"""Several components in one top, so that a simulator compiles once for a whole test file."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Component, Out, connect, flipped

from drawbar.gen.verilog import ports, to_verilog
from drawbar.sim.cocotb_runner import run_cocotb


class SideBySide(wiring.Component):
    """Unconnected components; port ``p`` of component ``n`` is ``n__p``."""

    def __init__(self, components: Mapping[str, Component]) -> None:
        self.components = dict(components)
        super().__init__({name: Out(c.signature) for name, c in self.components.items()})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for name, component in self.components.items():
            m.submodules[name] = component
            connect(m, component, flipped(getattr(self, name)))
        return m


@functools.lru_cache(maxsize=64)
def _verilog(
    factory: Callable[..., Component], platform: object, **arguments: Any
) -> tuple[str, list[str]]:
    """Verilog and input ports, made once for both simulators."""
    component = factory(**arguments)
    inputs = [
        name
        for name, port in ports(component).items()
        if port["direction"] == "input" and port["width"]
    ]
    return to_verilog(component, "dut", platform), inputs


def run_units(
    factory: Callable[..., Component],
    test_module: str,
    *,
    simulator: str,
    parameters: Mapping[str, Any] | None = None,
    optimise: bool = False,
    timeout: float = 120.0,
    platform: object = None,
    models: str = "",
    **arguments: Any,
) -> None:
    """``run_cocotb`` on ``factory(**arguments)`` for test modules that use ``cocotb_bench``; with a
    platform, ``models`` is Verilog of the primitives that it brings in.
    """
    text, inputs = _verilog(factory, platform, **arguments)
    run_cocotb(
        text + models,
        test_module,
        simulator=simulator,
        parameters={"inputs": inputs, **(parameters or {})},
        optimise=optimise,
        timeout=timeout,
    )
