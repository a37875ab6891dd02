"""Delay lines for control that travels beside a pipeline."""

from __future__ import annotations

from amaranth.hdl import Module, Shape, Signal, Value


def delayed(m: Module, value: Value, cycles: int, name: str, *, reset_less: bool = False) -> Value:
    """``value`` as it was ``cycles`` cycles ago, through registers named ``{name}_1`` and so on.

    ``reset_less`` is for data, which nobody looks at until it has come through.
    """
    for n in range(1, cycles + 1):
        register = Signal(Shape.cast(value.shape()), name=f"{name}_{n}", reset_less=reset_less)
        m.d.sync += register.eq(value)
        value = register
    return value
