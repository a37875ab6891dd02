"""Delay lines for control that travels beside a pipeline."""

from __future__ import annotations

from amaranth.hdl import Module, Shape, Signal, Value


def delayed(m: Module, value: Value, cycles: int, name: str) -> Value:
    """``value`` as it was ``cycles`` cycles ago, through registers named ``{name}_1`` and so on."""
    for n in range(1, cycles + 1):
        register = Signal(Shape.cast(value.shape()), name=f"{name}_{n}")
        m.d.sync += register.eq(value)
        value = register
    return value
