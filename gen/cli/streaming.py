"""How the commands say what runs cost where many follow each other."""

from __future__ import annotations

from typing import Any

from drawbar.gen.cli.output import exact, table
from drawbar.gen.config import EngineConfig


def buffers_text(buffers: int, double_bytes: int, words: int, config: EngineConfig) -> str:
    """How many buffers, and what two would need.

    Arguments
    ---------
    double_bytes:
        Work memory of two buffers; 0 where there cannot be two.
    words:
        Program memory of one.
    """
    if not double_bytes:
        return "one"
    need = f"{exact(double_bytes)} of {exact(config.work_bytes)} bytes of work memory"
    if buffers == 2:
        return f"two, so transfers go beside a run; {need}"
    short = [
        f"{exact(more)} {what} more {memory} memory"
        for more, what, memory in (
            (double_bytes - config.work_bytes, "bytes", "work"),
            (2 * words - config.program_depth, "words", "program"),
        )
        if more > 0
    ]
    return f"one; two would need {' and '.join(short) or need}"


def passes_text(stream: dict[str, Any]) -> str:
    """What streams in while a model computes that is larger than the engine's memories."""
    moved = f"{exact(stream['bytes_loaded'])} bytes a run"
    bound = "compute-bound" if stream["limit"] == "compute" else "link-bound"
    return f"cores stream in: {moved}, in {stream['passes']} passes; {bound}"


def streaming_table(stream: dict[str, Any], config: EngineConfig) -> Any:
    """Steady state over the engine's own serial line."""
    view = table(
        f"Many runs, {config.baud / 1e6:g} Mbaud, if the clock is {config.clock_hz / 1e6:g} MHz",
        "what",
        ">cycles a run",
    )
    for name, key in (
        ("computing", "cycles"),
        ("link, to the device", "cycles_in"),
        ("link, from the device", "cycles_out"),
        ("from the start of a run to its end", "latency"),
        ("from one run to the next, at least", "period"),
    ):
        if key != "latency" or stream["bytes_loaded"]:
            view.add_row(name, f"{stream[key]:,.0f}")
    if stream["bytes_loaded"]:
        view.add_row("bytes of cores, biases and programs a run", exact(stream["bytes_loaded"]))
    view.caption = (
        f"limit: {stream['limit']}; at most "
        f"{stream['inferences_per_second']:,.1f} inferences a second"
    )
    view.caption_justify = "left"
    return view
