"""The report of a build as one HTML page, which needs nothing but a browser."""

from __future__ import annotations

import io
from collections.abc import Sequence
from html import escape
from typing import Any

from drawbar.gen.fpga.family import RESOURCES
from drawbar.gen.fpga.fit import TITLES as _LABELS

#: Modules in the chart of slack.
_WORST = 16
_GOOD, _BAD, _PLAIN = "#2f855a", "#c53030", "#2b6cb0"
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; }
td, th { text-align: left; padding: .2em 1.2em .2em 0; vertical-align: top; }
.met { color: #2f855a; } .missed { color: #c53030; }
svg { max-width: 100%; height: auto; }
"""


def _bars(
    title: str, labels: Sequence[str], values: Sequence[float], colours: Sequence[str], unit: str
) -> str:
    """Horizontal bars as inline SVG. The same values give the same text."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": title, "svg.fonttype": "none"}):
        figure = Figure(figsize=(8, 0.9 + 0.3 * len(labels)), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        bars = axes.barh(range(len(labels)), values, color=colours, height=0.7)
        axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
        axes.set_yticks(range(len(labels)), labels, fontsize=8)
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.axvline(0, color="#4a5568", linewidth=0.8)
        axes.set_xlabel(unit)
        axes.set_title(title, fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


def _table(rows: Sequence[tuple[str, object]]) -> str:
    cells = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in rows
    )
    return f"<table>{cells}</table>"


def page(report: Any) -> str:
    """The page's text, of a ``drawbar.BuildReport``: figures, utilisation, seeds, slack by module,
    tools.
    """
    verdict = "met" if report.timing_met else "missed"
    percent = {
        kind: 100 * getattr(report, kind) / report.available[kind]
        for kind in RESOURCES
        if report.available[kind]
    }
    routed = [seed for seed in report.seeds if not seed.error]
    worst = list(report.slack_ns.items())[:_WORST]
    facts = [
        ("device", report.device),
        ("engine", f"{report.engine['name']}: {report.engine['rows']} x {report.engine['lanes']}"),
        ("configuration hash", report.config_hash),
        ("clock", f"{report.clock_mhz:g} MHz"),
        ("fastest clock, nextpnr's estimate", f"{report.fmax_mhz:.2f} MHz"),
        ("what the estimate leaves out", report.caveat or "nothing known"),
        ("seed", report.seed),
        ("router", report.router),
        ("bitstream", report.bitstream or "none"),
        ("wall time", f"{report.wall_s:.0f} s"),
        *((f"  {phase}", f"{spent:.0f} s") for phase, spent in report.seconds.items()),
        *(
            (
                _LABELS[kind],
                f"{getattr(report, kind):,} of {report.available[kind]:,}; "
                f"{report.estimate[kind]:,} estimated",
            )
            for kind in RESOURCES
        ),
        ("slowest path", f"{report.path[0]} to {report.path[1]}"),
        ("  in logic, in routing", f"{report.logic_ns:.1f} ns, {report.routing_ns:.1f} ns"),
        ("  through", ", ".join(report.through)),
        *((name, version) for name, version in report.toolchain.items()),
    ]
    failed = [(f"seed {seed.seed}", seed.error) for seed in report.seeds if seed.error]
    charts = [
        _bars(
            "Utilisation",
            [_LABELS[kind] for kind in percent],
            list(percent.values()),
            [_PLAIN if value <= 100 else _BAD for value in percent.values()],
            "% of the chip",
        ),
        _bars(
            f"Clock by seed (wanted: {report.clock_mhz:g} MHz)",
            [f"seed {seed.seed}" for seed in routed],
            [seed.mhz for seed in routed],
            [_GOOD if seed.met else _BAD for seed in routed],
            "MHz, estimated",
        ),
    ]
    if worst:
        charts.append(
            _bars(
                "Least slack of the paths that end in a module",
                [name for name, _ in worst],
                [slack for _, slack in worst],
                [_GOOD if slack >= 0 else _BAD for _, slack in worst],
                "ns",
            )
        )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(report.board)}'
        f"</title><style>{_STYLE}</style><h1>{escape(report.board)}</h1>"
        f'<p class="{verdict}">Timing {verdict}: {report.fmax_mhz:.2f} MHz estimated, '
        f"{report.clock_mhz:g} MHz wanted.</p>{_table(facts)}{_table(failed)}{''.join(charts)}"
        "</html>\n"
    )
