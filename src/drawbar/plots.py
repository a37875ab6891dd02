"""Pictures. Matplotlib is imported here only, and only when a picture is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from drawbar.gen.errors import ToolError
from drawbar.sw.driver.profile import StageCycles

#: Causes in the order in which they are stacked: field of ``Cycles``, label, colour.
_CAUSES = (
    ("busy", "multiplying", "#2b6cb0"),
    ("stall_drain", "waiting for the drain", "#dd6b20"),
    ("stall_fetch", "waiting for a descriptor", "#d69e2e"),
    ("flush", "filling and emptying the pipeline", "#a0aec0"),
)


def plot_stages(stages: Sequence[StageCycles], title: str, path: str | Path) -> Path:
    """Cycles of each stage, stacked by cause, as measured on the device; PNG, SVG or PDF by suffix.

    Raises
    ------
    ToolError:
        Matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ToolError(
            "picture of the cycles",
            "needs Matplotlib",
            "not installed",
            "pip install 'drawbar[demo]', or leave the picture out with --no-plot",
        ) from None
    figure = Figure(figsize=(9, 1.6 + 0.42 * len(stages)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    labels = [f"{stage.layer}, {stage.text}" for stage in stages]
    positions = range(len(stages))
    left = [0] * len(stages)
    for cause, label, colour in _CAUSES:
        widths = [getattr(stage.measured, cause) for stage in stages]
        axes.barh(positions, widths, left=left, color=colour, label=label, height=0.7)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    for position, total in zip(positions, left, strict=True):
        axes.annotate(
            f"{total:,}",
            (total, position),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_yticks(positions, labels, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("cycles")
    axes.set_title(title, fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=150)
    return target
