"""Draw a race: all panels on one sheet, or each by itself for the report.

The same panels become `curves.png`, on white, and the report's inline SVG. There each colour is replaced by a CSS
variable of the same role, so that one drawing serves light and dark pages.
"""

from __future__ import annotations

import html
import io
import re
from typing import Any

from rmsprop.errors import MissingDependency
from rmsprop.optimizers import TABLE
from rmsprop.race import choice
from rmsprop.race.panels import GRID, INK, MUTED, PANELS, PAPER, line_style
from rmsprop.race.record import Results
from rmsprop.race.task import Task
from rmsprop.race.verdict import rows

__all__ = ["PANELS", "draw_png", "draw_svg"]

_ROLES = {INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper"}

_STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.size": 11,
    "svg.fonttype": "none",
    "svg.hashsalt": "rmsprop",
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.labelsize": 11,
    "axes.titlesize": 12.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.9,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.solid_capstyle": "round",
}


def draw_png(task: Task, results: Results, verdict: str) -> bytes:
    """Return all panels on one sheet, with a legend, as a PNG on white."""
    import textwrap

    matplotlib, figure_class = _matplotlib()
    table = rows(task, results)
    with matplotlib.rc_context(_STYLE):
        figure = figure_class(figsize=(13.5, 14.6), dpi=130, facecolor="white", layout="constrained")
        figure.get_layout_engine().set(w_pad=0.14, h_pad=0.14, hspace=0.04, wspace=0.03, rect=(0, 0, 1, 0.9))
        for ax, (draw, _) in zip(figure.subplots(3, 2).flat, PANELS.values(), strict=True):
            draw(ax, task, results, table)
        figure.text(0.012, 0.985, f"{task.title}: who learns best?", fontsize=19, fontweight="bold", va="top")
        figure.text(0.012, 0.96, textwrap.fill(verdict, 150), fontsize=10.5, color=MUTED, va="top", linespacing=1.35)
        handles = [
            matplotlib.lines.Line2D([], [], label=choice.get(optimizer).label, **line_style(optimizer))
            for optimizer in results.settings.optimizers
        ]
        figure.legend(
            handles=handles, loc="upper left", bbox_to_anchor=(0.004, 0.931), ncols=min(len(handles), 7), frameon=False,
            handlelength=3.2, columnspacing=1.6,
        )  # fmt: skip
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def draw_svg(name: str, task: Task, results: Results) -> str:
    """Return one panel as an SVG element for an HTML page that defines the colours as CSS variables."""
    matplotlib, figure_class = _matplotlib()
    with matplotlib.rc_context(_STYLE):
        figure = figure_class(figsize=(6.6, 4.5), facecolor="none", layout="constrained")
        ax = figure.subplots()
        PANELS[name][0](ax, task, results, rows(task, results))
        # The caption below is read out anyway; what the drawing is called stands only in it.
        title = ax.get_title(loc="left")
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing)
    return _inline(buffer.getvalue(), prefix=name, label=title)


def _inline(svg: str, *, prefix: str, label: str) -> str:
    """Strip what a page does not need (prolog, metadata, namespaces) and turn colours into CSS variables."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    head, body = svg.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)
    assert box is not None
    # Two drawings on one page must not share ids.
    body = re.sub(r'id="([^"]*)"', rf'id="{prefix}-\1"', body)
    body = re.sub(r'(href="#|url\(#)', rf"\1{prefix}-", body)
    for colour, role in {**_ROLES, **{entry.light: entry.name for entry in TABLE.values()}}.items():
        body = body.replace(colour, f"var(--{role})")
    body = re.sub(r"font: ([^;\"]*?)(\d+(?:\.\d+)?px) [^;\"]*", r"font: \1\2 var(--sans)", body)
    body = body.replace("xlink:href", "href")
    return f'<svg {box.group()} role="img" aria-label="{html.escape(label)}">{body}'


def _matplotlib() -> tuple[Any, Any]:
    """Import what draws without a screen: a Figure of its own, and no pyplot with its global state."""
    try:
        import matplotlib
        import matplotlib.lines
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependency.of("matplotlib", extra="lab", purpose="the report's pictures") from error
    return matplotlib, Figure
