"""Draw a race: learning curves, training loss, the seeds one by one, and how far each learning rate carries.

The same panels become `curves.png`, on white, and the report's inline SVG. There each colour is replaced by a CSS
variable of the same role, so that one drawing serves light and dark pages.
"""

from __future__ import annotations

import io
import math
import re
import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rmsprop.errors import MissingDependency
from rmsprop.race import contestant
from rmsprop.race.record import Results, Trial
from rmsprop.race.task import Task
from rmsprop.race.verdict import SUBJECT, Row, rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PANELS", "draw_png", "draw_svg"]

INK, MUTED, GRID, PAPER = "#1c1e21", "#5c6169", "#e2e4e8", "#fffffe"
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

Panel = Callable[["Axes", Task, Results, Sequence[Row]], None]


def _finals(results: Results, row: Row) -> list[Trial]:
    """The reported trials of a row that ran to the end."""
    trials = (results.trials.get(("final", row.rival, row.lr, seed)) for seed in results.settings.seeds)
    return [trial for trial in trials if trial is not None and trial.diverged is None]


def _line_style(rival: str) -> dict[str, Any]:
    """RMSprop is drawn thicker and above the others."""
    runner, first = contestant.get(rival), rival == SUBJECT
    return {
        "color": runner.light,
        "linestyle": runner.dash,
        "linewidth": 2.6 if first else 1.7,
        "zorder": 4 if first else 3,
        "marker": runner.marker,
        "markersize": 5.5 if first else 5,
    }


def draw_score(ax: Axes, task: Task, results: Results, table: Sequence[Row]) -> None:
    """The test metric after each epoch: the mean over seeds, and from the worst to the best seed as a band."""
    shown: list[float] = []
    for row in table:
        curves = [trial.score for trial in _finals(results, row)]
        if not curves:
            continue
        mean = [statistics.fmean(points) for points in zip(*curves, strict=True)]
        epochs = range(len(mean))
        ax.plot(epochs, mean, markevery=_every(len(mean)), **_line_style(row.rival))
        if row.rival == SUBJECT and len(curves) > 1:
            low, high = zip(*((min(p), max(p)) for p in zip(*curves, strict=True)), strict=True)
            ax.fill_between(epochs, low, high, color=contestant.get(row.rival).light, alpha=0.16, linewidth=0)
        # The steep beginning leaves the picture; what is worth comparing is what follows.
        shown += mean[max(1, len(mean) // 8) :]
    _frame(ax, task, shown)
    ax.set_title(f"Test {task.metric.name}")
    ax.set_xlabel("epoch")


def draw_train_loss(ax: Axes, task: Task, results: Results, table: Sequence[Row]) -> None:
    """The training loss of each epoch, the mean over seeds, on a logarithmic axis."""
    for row in table:
        curves = [trial.train_loss for trial in _finals(results, row)]
        if curves:
            mean = [statistics.fmean(points) for points in zip(*curves, strict=True)]
            ax.plot(range(1, len(mean) + 1), mean, markevery=_every(len(mean)), **_line_style(row.rival))
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.yaxis.set_minor_formatter(lambda value, _: "")
    ax.set_title("Training loss")
    ax.set_xlabel("epoch")


def draw_seeds(ax: Axes, task: Task, results: Results, table: Sequence[Row]) -> None:
    """Every reported seed as a point, and the mean with one standard deviation to each side."""
    scored = [row for row in table if row.scores]
    for place, row in enumerate(scored):
        runner = contestant.get(row.rival)
        offsets = [place + 0.16 * math.sin(2.4 * i) for i in range(len(row.scores))]
        ax.plot(row.scores, offsets, linestyle="", marker=runner.marker, markersize=6.5, color=runner.light, alpha=0.55)
        ax.plot([row.mean] * 2, [place - 0.32, place + 0.32], color=runner.light, linewidth=2.8)
        if not math.isnan(row.spread):
            ends = [row.mean - row.spread, row.mean + row.spread]
            ax.plot(ends, [place, place], color=runner.light, linewidth=1.6)
    ax.set_yticks(range(len(scored)), [row.label for row in scored])
    ax.set_ylim(len(scored) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")
    if task.metric.percent:
        ax.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    ax.set_title("Seed by seed, last epoch")
    ax.set_xlabel(f"test {task.metric.name}")


def draw_rates(ax: Axes, task: Task, results: Results, table: Sequence[Row]) -> None:
    """The tuning: the validation metric at each learning rate; a ring marks the chosen one."""
    shown: list[float] = []
    settings = results.settings
    for rival in settings.rivals:
        points = []
        for lr in settings.grid:
            trials = [results.trials.get(("tuning", rival, lr, seed)) for seed in settings.tuning_seeds]
            scores = [trial.late_score for trial in trials if trial is not None and trial.diverged is None]
            if len(scores) == len(settings.tuning_seeds):
                points.append((lr, statistics.fmean(scores)))
        if not points:
            continue
        rates, means = zip(*points, strict=True)
        ax.plot(rates, means, **_line_style(rival))
        chosen = [(row.lr, means[rates.index(row.lr)]) for row in table if row.rival == rival and row.lr in rates]
        ring: dict[str, Any] = {
            "markersize": 13,
            "markerfacecolor": "none",
            "color": contestant.get(rival).light,
            "zorder": 5,
        }
        for lr, mean in chosen:
            ax.plot([lr], [mean], "o", **ring)
        ranked = sorted(means, key=task.metric.goodness)
        shown += ranked[len(ranked) // 2 :]
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    _frame(ax, task, shown)
    ax.set_title("What each learning rate gives")
    ax.set_xlabel(f"learning rate (validation {task.metric.name}, last quarter of the epochs)")


PANELS: dict[str, tuple[Panel, str]] = {
    "score": (draw_score, "Mean over the seeds; the band reaches from RMSprop's worst seed to its best."),
    "train_loss": (draw_train_loss, "How fast each one fits the training examples. Mean over the seeds."),
    "seeds": (draw_seeds, "Each mark is one seed; the bar is the mean, the line one standard deviation to each side."),
    "rates": (draw_rates, "The wider the top, the less search a learning rate needs. A ring marks the one chosen."),
}


def draw_png(task: Task, results: Results, verdict: str) -> bytes:
    """Return all panels on one sheet, with a legend, as a PNG on white."""
    import textwrap

    matplotlib, figure_class = _matplotlib()
    table = rows(task, results)
    with matplotlib.rc_context(_STYLE):
        figure = figure_class(figsize=(13.5, 10), dpi=130, facecolor="white", layout="constrained")
        figure.get_layout_engine().set(w_pad=0.14, h_pad=0.14, hspace=0.04, wspace=0.03, rect=(0, 0, 1, 0.855))
        for ax, (draw, _) in zip(figure.subplots(2, 2).flat, PANELS.values(), strict=True):
            draw(ax, task, results, table)
        figure.text(0.012, 0.978, f"{task.title}: who learns best?", fontsize=19, fontweight="bold", va="top")
        figure.text(0.012, 0.941, textwrap.fill(verdict, 150), fontsize=10.5, color=MUTED, va="top", linespacing=1.35)
        handles = [
            matplotlib.lines.Line2D([], [], label=contestant.get(rival).label, **_line_style(rival))
            for rival in results.settings.rivals
        ]
        figure.legend(
            handles=handles, loc="upper left", bbox_to_anchor=(0.004, 0.899), ncols=len(handles), frameon=False,
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
        PANELS[name][0](figure.subplots(), task, results, rows(task, results))
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing)
    return _inline(buffer.getvalue(), prefix=name, label=PANELS[name][1])


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
    for colour, role in {**_ROLES, **{runner.light: runner.name for runner in _runners()}}.items():
        body = body.replace(colour, f"var(--{role})")
    body = re.sub(r"font: ([^;\"]*?)(\d+(?:\.\d+)?px) [^;\"]*", r"font: \1\2 var(--sans)", body)
    body = body.replace("xlink:href", "href")
    return f'<svg {box.group()} role="img" aria-label="{label}">{body}'


def _runners() -> list[contestant.Contestant]:
    return [contestant.get(name) for name in contestant.names()]


def _every(points: int) -> tuple[float, float]:
    """Markers a tenth of the axes apart, by length, whatever the number of epochs."""
    return (0.0, 0.12) if points > 12 else (0.0, 0.0001)


def _frame(ax: Axes, task: Task, shown: Sequence[float]) -> None:
    """Fit the metric's axis to what is shown, and write it as a reader would."""
    if shown:
        low, high = min(shown), max(shown)
        room = 0.06 * (high - low) or 0.01
        ax.set_ylim(low - room, high + room)
    if task.metric.percent:
        ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")


def _matplotlib() -> tuple[Any, Any]:
    """Import what draws without a screen: a Figure of its own, and no pyplot with its global state."""
    try:
        import matplotlib
        import matplotlib.lines
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependency.of("matplotlib", extra="lab", purpose="the report's pictures") from error
    return matplotlib, Figure
