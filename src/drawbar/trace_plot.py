"""The picture of a trace: ratios, and where in their range the values lie."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from drawbar.plots import new_figure, save_figure
from drawbar.tracing import LayerTrace, Trace

_NOISE, _OWN, _WORST, _FLOAT = "#a0aec0", "#2b6cb0", "#c53030", "#dd6b20"
#: Height of a layer's row, in inches.
ROW = 0.46


def plot_trace(found: Trace, path: str | Path) -> Path:
    """Signal-to-quantisation-noise ratio of each layer, and a histogram of its integers over their
    range; PNG, SVG or PDF by suffix.

    Raises
    ------
    ToolError:
        Matplotlib is missing.
    InputError:
        the file has another suffix, or cannot be written.
    """
    count = len(found.layers)
    figure = new_figure(path, 11, 1.7 + ROW * max(count, 3))
    ratios, histograms = figure.subplots(1, 2, sharey=True, width_ratios=[1, 1.25])
    figure.suptitle(
        f"{found.model} on engine {found.engine} ({found.data_width} bit), "
        f"{found.samples} samples: {found.worst.name} adds the most noise",
        fontsize=11,
        x=0.01,
        ha="left",
    )
    _draw_ratios(ratios, found)
    _draw_histograms(histograms, found)
    return save_figure(figure, path)


def _draw_ratios(axes: Any, found: Trace) -> None:
    """A bar for all noise so far, and a dot for what the layer adds."""
    known = [v for row in found.layers for v in (row.sqnr, row.own_sqnr) if isfinite(v)]
    most, least = max([1.0, *known]), min([0.0, *known])
    for place, row in enumerate(found.layers):
        worst = row is found.worst
        if isfinite(row.sqnr):
            axes.barh(place, row.sqnr, height=0.62, color=_NOISE, zorder=1)
        if isfinite(row.own_sqnr):
            colour = _WORST if worst else _OWN
            axes.scatter([row.own_sqnr], [place], color=colour, s=34, zorder=3)
        text = "exact" if not isfinite(row.own_sqnr) else f"{row.own_sqnr:.1f}"
        axes.annotate(
            text,
            (max(v for v in (row.sqnr, row.own_sqnr, 0.0) if isfinite(v)), place),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=_WORST if worst else "#1a202c",
            fontweight="bold" if worst else "normal",
        )
    labels = [row.name if len(row.name) < 26 else f"...{row.name[-23:]}" for row in found.layers]
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.set_ylim(len(labels) - 0.4, -0.75)
    axes.set_xlim(min(0.0, least * 1.1), most * 1.17)
    axes.scatter([], [], color=_NOISE, marker="s", s=60, label="all noise so far")
    axes.scatter([], [], color=_OWN, s=34, label="its own noise (the number)")
    axes.scatter([], [], color=_WORST, s=34, label="the worst")
    axes.set_title("Signal-to-quantisation-noise ratio, dB", fontsize=10, loc="left")
    _finish(axes, ncols=3)


def _draw_histograms(axes: Any, found: Trace) -> None:
    """A ridge for each layer: logarithmic counts over the range, the float values as a line."""
    for place, row in enumerate(found.layers):
        edges = np.linspace(-1, 1, len(row.histogram) + 1)
        centres = (edges[1:] + edges[:-1]) / 2
        most = max(*row.histogram, *row.float_histogram, 1)
        base = place + 0.38
        heights, lines = (
            0.8 * np.log1p(np.asarray(counts, float)) / np.log1p(most)
            for counts in (row.histogram, row.float_histogram)
        )
        axes.fill_between(
            centres, base - heights, base, step="mid", color=_OWN, alpha=0.75, linewidth=0
        )
        axes.step(centres, base - lines, where="mid", color=_FLOAT, linewidth=0.8)
        axes.plot([-1, 1], [base, base], color="#cbd5e0", linewidth=0.6, zorder=0)
        axes.annotate(
            _remark(row),
            (1, place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=_WORST if row.saturated or row.saturated_inside else "#4a5568",
            annotation_clip=False,
        )
    axes.set_xlim(-1.02, 1.42)
    axes.set_xticks([-1, -0.5, 0, 0.5, 1], ["least", "-1/2", "0", "1/2", "greatest"])
    axes.tick_params(left=False, labelleft=False)
    axes.fill_between([], [], color=_OWN, alpha=0.75, label="golden model's integers")
    axes.plot([], [], color=_FLOAT, linewidth=0.8, label="float values, clipped at the ends")
    axes.set_title("Values over the range of integers, logarithmic counts", fontsize=10, loc="left")
    _finish(axes, ncols=2)


def _remark(row: LayerTrace) -> str:
    if row.saturated or row.saturated_inside:
        return f"{row.saturated + row.saturated_inside:,} saturated"
    return f"{100 * row.range_use:.0f} % used"


def _finish(axes: Any, ncols: int) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.legend(
        fontsize=8,
        frameon=False,
        ncols=ncols,
        loc="upper left",
        bbox_to_anchor=(0, 0, 1, 0),
        borderaxespad=2.6,
        handletextpad=0.5,
        columnspacing=1.2,
    )
