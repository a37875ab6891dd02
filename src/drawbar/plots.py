"""Pictures. Matplotlib is imported here only, and only when a picture is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import atan, degrees, log2, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drawbar.gen.errors import InputError, ToolError
from drawbar.gen.explain import Explanation, StageReport
from drawbar.sw.driver.profile import StageCycles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: File types of pictures.
SUFFIXES = (".png", ".svg", ".pdf")

#: Colours of data widths, narrowest first.
_WIDTHS = ("#dd6b20", "#2b6cb0")
#: Causes in the order in which they are stacked: field of ``Cycles``, label, colour.
_CAUSES = (
    ("busy", "multiplying", "#2b6cb0"),
    ("stall_drain", "waiting for the drain", "#dd6b20"),
    ("stall_fetch", "waiting for a descriptor", "#d69e2e"),
    ("flush", "filling and emptying the pipeline", "#a0aec0"),
)


def check_plot(path: str | Path) -> None:
    """Find out that a picture cannot be drawn before the work whose result it shows.

    Raises
    ------
    InputError, ToolError:
        the path's suffix is of no picture; Matplotlib is missing.
    """
    target = Path(path)
    if target.suffix not in SUFFIXES:
        raise InputError(
            f"picture {target}",
            f"ends in one of {', '.join(SUFFIXES)}",
            target.suffix or "no suffix",
            "name it so",
        )
    try:
        import matplotlib.backends.backend_agg  # noqa: F401
    except ImportError:
        raise ToolError(
            "picture of the cycles",
            "needs Matplotlib",
            "not installed",
            "pip install 'drawbar[demo]', or leave the picture out (demo: --no-plot)",
        ) from None


def new_figure(path: str | Path, width: float, height: float) -> Figure:
    """An empty figure of so many inches, for a picture at this path."""
    check_plot(path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure to this path, its folder included.

    Raises
    ------
    InputError:
        the file cannot be written.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(target, dpi=150)
    except OSError as error:
        raise InputError(
            f"picture {target}",
            "can be written",
            error.strerror or error,
            "give a path that you may write to",
        ) from None
    return target


def plot_stages(stages: Sequence[StageCycles], title: str, path: str | Path) -> Path:
    """Cycles of each stage, stacked by cause, as measured on the device; PNG, SVG or PDF by suffix.

    Raises
    ------
    ToolError:
        Matplotlib is missing, or the file cannot be written.
    """
    figure = new_figure(path, 9, 1.6 + 0.42 * len(stages))
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
    return save_figure(figure, path)


#: Phases of a compression run: background colour.
_PHASES = {"dense": "#edf2f7", "admm": "#ebf8ff", "tuning": "#f0fff4"}


def plot_training(
    history: Sequence[Mapping[str, Any]], accuracy: Mapping[str, float], path: str | Path
) -> Path:
    """Loss, accuracy and ADMM's residuals over the epochs; PNG, SVG or PDF by suffix.

    Arguments
    ---------
    history, accuracy:
        As in ``CompressionResult``.

    Raises
    ------
    ToolError:
        Matplotlib is missing.
    InputError:
        the file has another suffix, or cannot be written.
    """
    figure = new_figure(path, 9, 8)
    loss, right, residual = figure.subplots(3, 1, sharex=True)
    epochs = list(range(1, len(history) + 1))
    loss.plot(epochs, [row["loss"] for row in history], color="#2b6cb0")
    loss.set_ylabel("loss", fontsize=9)
    measured = [
        (n, row["accuracy"])
        for n, row in zip(epochs, history, strict=True)
        if row["accuracy"] is not None
    ]
    shown = [value for _, value in measured] or list(accuracy.values())
    right.plot([n for n, _ in measured], [value for _, value in measured], color="#2b6cb0")
    right.set_ylabel("test accuracy, %", fontsize=9)
    for (name, value), colour in zip(accuracy.items(), _PARTS.values(), strict=False):
        label = f"{name}: {value:.2f} %"
        right.axhline(value, color=colour, linewidth=0.8, linestyle="--", label=label)
    # A direct decomposition's accuracy would squeeze all else.
    right.set_ylim(min(shown) - 1, 100)
    right.legend(fontsize=8, frameon=False, loc="lower right")
    traced = [(n, row) for n, row in zip(epochs, history, strict=True) if "residuals" in row]
    layers = [entry["layer"] for entry in traced[0][1]["residuals"]] if traced else []
    for number, layer in enumerate(layers):
        for kind, style in (("primal", "-"), ("dual", ":")):
            values = [row["residuals"][number][kind] for _, row in traced]
            residual.semilogy(
                [n for n, _ in traced],
                [max(value, 1e-12) for value in values],
                style,
                color=list(_PARTS.values())[number % len(_PARTS)],
                label=f"{layer}, {kind}",
            )
    residual.set_ylabel("residual / |W|", fontsize=9)
    residual.set_xlabel("epoch", fontsize=9)
    if traced:
        residual.legend(fontsize=8, frameon=False)
    for axes in (loss, right, residual):
        for phase, colour in _PHASES.items():
            inside = [n for n, row in zip(epochs, history, strict=True) if row["phase"] == phase]
            if inside:
                axes.axvspan(inside[0] - 0.5, inside[-1] + 0.5, color=colour, zorder=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    loss.set_title("Compression: dense, ADMM, fine-tuning of the cores", fontsize=10, loc="left")
    return save_figure(figure, path)


#: Where a stage's cycles go, in the order in which they are drawn: colour by name.
_PARTS = {
    "useful products": "#2b6cb0",
    "ragged rows": "#63b3ed",
    "ragged lanes": "#bee3f8",
    "drain": "#dd6b20",
    "descriptor": "#d69e2e",
    "pipeline": "#a0aec0",
}
_OTHER = "#9f7aea"
#: Part of the time axis that a stage's text may take.
TEXT_ROOM = 0.45


def _parts(stage: StageReport) -> dict[str, float]:
    return {"useful products": stage.ideal, **stage.losses}


def plot_explanation(found: Explanation, path: str | Path) -> Path:
    """Stages over time with what takes their cycles, and a roofline; PNG, SVG or PDF by suffix.

    Raises
    ------
    ToolError:
        Matplotlib is missing.
    InputError:
        the file has another suffix, or cannot be written.
    """
    count = len(found.stages)
    rows = max(3.4, 1.7 + 0.34 * count)
    figure = new_figure(path, 10, rows + 4.6)
    time, roof = figure.subplots(2, 1, height_ratios=[rows, 4.4])
    config = found.config
    figure.suptitle(
        f"{found.name} on engine {config.name}, batch {found.batch}: "
        f"{found.total.total:,} cycles, {100 * found.utilisation:.1f} % of "
        f"{config.multipliers} multipliers used",
        fontsize=11,
        x=0.01,
        ha="left",
    )
    _draw_time(time, found)
    _draw_roof(roof, found)
    return save_figure(figure, path)


def _label(stage: StageReport) -> str:
    return f"{stage.number}  {stage.cores}"


def _draw_time(axes: Any, found: Explanation) -> None:
    """A bar for each stage, from its first cycle to its last; its parts in proportion."""
    end = found.total.total
    drawn: set[str] = set()
    for position, stage in enumerate(found.stages):
        left = float(stage.start)
        for name, width in _parts(stage).items():
            if width <= 0:
                continue
            axes.barh(
                position,
                width,
                left=left,
                height=0.66,
                color=_PARTS.get(name, _OTHER),
                label=None if name in drawn else name,
            )
            drawn.add(name)
            left += width
        text = (
            f"{stage.core_text} by {stage.columns:,}: {stage.cycles.total:,} cycles, "
            f"{100 * stage.utilisation:.0f} %"
        )
        if stage.limit != "array":
            text += f", {stage.limit}"
        _beside(axes, text, position, stage.start, stage.start + stage.cycles.total, end)
    axes.set_yticks(range(len(found.stages)), [_label(s) for s in found.stages], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, end)
    axes.set_xlabel("cycle", fontsize=9)
    axes.set_title("Stages over time", fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda n: [*_PARTS, *labels].index(labels[n]))
    axes.legend(
        [handles[n] for n in order],
        [labels[n] for n in order],
        fontsize=8,
        frameon=False,
        ncols=6,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.16 if len(found.stages) < 8 else -0.1),
    )


def _beside(axes: Any, text: str, position: int, start: int, stop: int, end: int) -> None:
    """Write beside a bar where there is room, else on it."""
    offset = 0
    if end - stop >= TEXT_ROOM * end:
        place, side, offset = stop, "left", 5
    elif start >= TEXT_ROOM * end:
        place, side, offset = start, "right", -5
    else:
        place, side = (start + stop) / 2, "center"
    axes.annotate(
        text,
        (place, position),
        xytext=(offset, 0),
        textcoords="offset points",
        ha=side,
        va="center",
        fontsize=8,
        bbox=None if offset else {"facecolor": "white", "edgecolor": "none", "alpha": 0.85},
    )


def _near(a: StageReport, b: StageReport) -> bool:
    """Whether two stages are within half an octave of each other on the roofline."""
    speeds = [stage.multiplications / stage.cycles.total for stage in (a, b)]
    return abs(log2(a.intensity / b.intensity)) < 0.5 and abs(log2(speeds[0] / speeds[1])) < 0.5


def _lines(labels: Sequence[str], each: int = 3) -> str:
    """Labels in lines of a few."""
    return "\n".join(", ".join(labels[n : n + each]) for n in range(0, len(labels), each))


def _draw_roof(axes: Any, found: Explanation) -> None:
    """Multiplications a cycle over multiplications for each pair of operand vectors: the array's
    peak against what one vector of each operand a cycle can feed.
    """
    config = found.config
    peak = config.multipliers
    least = min(1.0, *(s.multiplications / s.cycles.total for s in found.stages))
    low, high = least / 1.6, 4.0 * peak
    axes.plot([low, peak, high], [low, peak, peak], color="#2d3748", linewidth=1.6, zorder=2)
    axes.fill_between([low, peak, high], [low, peak, peak], low, color="#edf2f7", zorder=1)
    axes.annotate(
        f"array: {peak} a cycle",
        (high, peak),
        xytext=(-4, 4),
        textcoords="offset points",
        ha="right",
        fontsize=8,
    )
    # Along the slope: as steep as it is drawn there, where y is a little more than x.
    above = 1.2
    cores = config.rows * config.fold
    axes.text(
        sqrt(low * peak),
        sqrt(low * peak) * above,
        f"operand bandwidth: {config.lanes} live, {cores} core elements a cycle",
        rotation=degrees(atan(above)),
        rotation_mode="anchor",
        transform_rotates_text=True,
        ha="center",
        va="bottom",
        fontsize=8,
    )
    # Stages at nearly the same place share one label.
    groups: list[list[StageReport]] = []
    for stage in found.stages:
        near = (group for group in groups if _near(group[0], stage))
        group = next(near, None)
        if group is None:
            groups.append([stage])
        else:
            group.append(stage)
        axes.scatter(
            [stage.intensity],
            [stage.multiplications / stage.cycles.total],
            s=40 + 300 * stage.cycles.total / found.total.total,
            color=_PARTS.get("useful products" if stage.limit == "array" else stage.limit, _OTHER),
            alpha=0.85,
            zorder=3,
            edgecolors="#1a202c",
            linewidths=0.6,
        )
    for group in groups:
        first = group[0]
        axes.annotate(
            _lines([f"{stage.number} {stage.cores}" for stage in group]),
            (first.intensity, first.multiplications / first.cycles.total),
            xytext=(10, -10),
            textcoords="offset points",
            va="top",
            fontsize=8,
            zorder=4,
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xlim(low, high)
    axes.set_ylim(low, 2.2 * peak)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.tick_params(labelsize=8)
    axes.set_xlabel("multiplications for each pair of operand vectors read", fontsize=9)
    axes.set_ylabel("multiplications a cycle", fontsize=9)
    axes.set_title(
        "Roofline: left of the ridge, tiles are ragged; below the roof, the array waits",
        fontsize=10,
        loc="left",
    )
    axes.spines[["top", "right"]].set_visible(False)


def plot_pareto(rows: Sequence[Mapping[str, Any]], title: str, path: str | Path) -> Path:
    """Engines by what they take and how fast they are, as ``drawbar.explore`` gives them; those on
    the Pareto front are named.

    Raises
    ------
    ToolError, InputError:
        Matplotlib is missing, or the file cannot be written.
    """
    figure = new_figure(path, 9, 5.5)
    axes = figure.add_subplot()
    for width, colour in zip(sorted({row["data_width"] for row in rows}), _WIDTHS, strict=False):
        of_width = [row for row in rows if row["data_width"] == width]
        front = [row for row in of_width if row["pareto"]]
        for chosen, size, alpha in ((of_width, 14, 0.3), (front, 36, 1.0)):
            axes.scatter(
                [row["luts"] for row in chosen],
                [row["inferences_per_s"] for row in chosen],
                s=size,
                alpha=alpha,
                color=colour,
                label=f"{width} bit, front" if chosen is front else f"{width} bit",
            )
        # The smallest engine of each shape is named.
        smallest = {(r["rows"], r["lanes"]): r for r in sorted(front, key=lambda r: -r["luts"])}
        for row in smallest.values():
            axes.annotate(
                f"{row['rows']} x {row['lanes']}",
                (row["luts"], row["inferences_per_s"]),
                xytext=(0, 6 if colour == _WIDTHS[0] else -12),
                textcoords="offset points",
                fontsize=7,
                color=colour,
            )
    axes.set_yscale("log")
    axes.set_xlabel("look-up tables, estimated")
    axes.set_ylabel("inferences a second, without the link")
    axes.set_title(title, fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    return save_figure(figure, path)
