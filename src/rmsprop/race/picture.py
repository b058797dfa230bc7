"""Draw a benchmark: all panels on one sheet, `curves.png`, or each as inline SVG for the report.

In the SVG each color is a CSS variable, so that one drawing serves light and dark pages.
"""

from __future__ import annotations

import html
import io
import math
import re
import statistics
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rmsprop._theme import LIGHT, open_figure, save_figure, save_png
from rmsprop.optimizers import TABLE
from rmsprop.race import choice
from rmsprop.race.record import Results, Trial
from rmsprop.race.task import Task
from rmsprop.race.verdict import RMSPROP, Row, make_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

__all__ = ["PANELS", "draw_png", "draw_svg", "line_style", "number_log_axis"]

Panel = Callable[["Axes", Task, Results, Sequence[Row]], None]
_NEEDS: dict[str, Any] = {"extra": "lab", "purpose": "the report's pictures", "points": 11.0}


def draw_png(task: Task, results: Results, verdict: str) -> bytes:
    """Return all panels on one sheet, with a legend, as a PNG on white."""
    table = make_table(task, results)
    with open_figure(13.5, 14.6, **_NEEDS) as figure:
        from matplotlib.lines import Line2D

        figure.get_layout_engine().set(w_pad=0.14, h_pad=0.14, hspace=0.04, wspace=0.03, rect=(0, 0, 1, 0.9))
        for ax, (draw, _) in zip(figure.subplots(3, 2).flat, PANELS.values(), strict=True):
            draw(ax, task, results, table)
        figure.text(
            0.012, 0.985, f"{task.title}: which optimizer learns best?", fontsize=19, fontweight="bold", va="top"
        )
        figure.text(0.012, 0.96, textwrap.fill(verdict, 150), fontsize=10.5, color=LIGHT.muted, va="top")
        names = results.settings.optimizers
        handles = [Line2D([], [], label=choice.get(name).label, **line_style(name)) for name in names]
        place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0.004, 0.931), "handlelength": 3.2}
        figure.legend(handles=handles, ncols=min(len(handles), 7), columnspacing=1.6, **place)
        return save_png(figure, dpi=130)


def draw_svg(name: str, task: Task, results: Results) -> str:
    """Return one panel as an SVG element for an HTML page that defines the colors as CSS variables."""
    with open_figure(6.6, 4.5, **_NEEDS) as figure:
        ax = figure.subplots()
        PANELS[name][0](ax, task, results, make_table(task, results))
        buffer = io.StringIO()
        save_figure(figure, buffer, format="svg", transparent=True)
    return _make_inline(buffer.getvalue(), prefix=name, label=ax.get_title(loc="left"))


def _make_inline(svg: str, *, prefix: str, label: str) -> str:
    """Remove prolog, metadata and namespaces, make ids unique on the page, and turn colors into CSS variables."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    head, body = svg.split(">", 1)
    box = head[head.index("viewBox=") :].split('"')[1]
    body = re.sub(r'id="([^"]*)"', rf'id="{prefix}-\1"', body)
    body = re.sub(r'(href="#|url\(#)', rf"\1{prefix}-", body)
    roles = {getattr(LIGHT, role): role for role in ("ink", "muted", "grid")}
    for color, role in {**roles, **{entry.light: entry.name for entry in TABLE.values()}}.items():
        body = body.replace(color, f"var(--{role})")
    body = re.sub(r"font: ([^;\"]*?)(\d+(?:\.\d+)?px) [^;\"]*", r"font: \1\2 var(--sans)", body)
    body = body.replace("xlink:href", "href")
    return f'<svg viewBox="{box}" role="img" aria-label="{html.escape(label)}">{body}'


def line_style(optimizer: str) -> dict[str, Any]:
    """Return an optimizer's line style; RMSprop's line is thicker and above the others."""
    entry, is_rmsprop = choice.get(optimizer), optimizer == RMSPROP
    return {
        "color": entry.light,
        "linestyle": entry.dash,
        "linewidth": 2.6 if is_rmsprop else 1.7,
        "zorder": 4 if is_rmsprop else 3,
        "marker": entry.marker,
        "markersize": 5.5 if is_rmsprop else 5,
    }


def draw_score(ax: Axes, task: Task, results: Results, table: Sequence[Row]) -> None:
    """Draw the test metric after each epoch: the mean over the seeds, and RMSprop's range over the seeds as a band."""
    shown: list[float] = []
    for row in table:
        curves = [trial.score for trial in _list_finals(results, row)]
        mean = _plot_mean(ax, row, curves, first_epoch=0)
        if row.optimizer == RMSPROP and len(curves) > 1:
            low, high = zip(*((min(points), max(points)) for points in zip(*curves, strict=True)), strict=True)
            _fill_band(ax, range(len(mean)), low, high)
        # The steep beginning is cut off, so that the differences that follow can be seen.
        shown += mean[max(1, len(mean) // 8) :]
    _fit_metric_axis(ax, task, shown)
    ax.set_title(f"Test {task.metric.name}")


def draw_train_loss(ax: Axes, task: Task, results: Results, table: Sequence[Row]) -> None:
    """Draw the training loss of each epoch, the mean over the seeds, on a logarithmic axis."""
    for row in table:
        _plot_mean(ax, row, [trial.train_loss for trial in _list_finals(results, row)], first_epoch=1)
    ax.set_yscale("log")
    number_log_axis(ax.yaxis)
    ax.set_title("Training loss")


def _list_finals(results: Results, row: Row) -> list[Trial]:
    """Return the reported trials of a row that did not diverge."""
    return [trial for trial in results.list_trials("final", row.optimizer, row.lr) if trial and trial.diverged is None]


def _plot_mean(ax: Axes, row: Row, curves: Sequence[Sequence[float]], *, first_epoch: int) -> list[float]:
    """Draw and return the mean of curves over epochs."""
    mean = [statistics.fmean(points) for points in zip(*curves, strict=True)]
    if mean:
        # Markers are a tenth of the axes apart, whatever the number of epochs.
        markers = (0.0, 0.12) if len(mean) > 12 else (0.0, 0.0001)
        ax.plot(range(first_epoch, first_epoch + len(mean)), mean, markevery=markers, **line_style(row.optimizer))
    ax.locator_params(axis="x", integer=True)
    ax.set_xlabel("epoch")
    return mean


def _fill_band(ax: Axes, x: Sequence[float], low: Sequence[float], high: Sequence[float]) -> None:
    ax.fill_between(x, low, high, color=choice.get(RMSPROP).light, alpha=0.16, linewidth=0)


def number_log_axis(axis: Axis) -> None:
    """Put plain numbers on a logarithmic axis with fixed limits, if it has too few powers of ten to be read."""
    from matplotlib import ticker

    low, high = axis.get_view_interval()
    decades = math.log10(high / low)
    if decades < 2.5:
        axis.set_major_locator(ticker.MaxNLocator(5) if decades < 0.7 else ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_minor_formatter(ticker.NullFormatter())


def draw_seeds(ax: Axes, task: Task, results: Results, table: Sequence[Row]) -> None:
    """Draw the last score of each seed as a point, with mean and standard deviation."""
    scored = [row for row in table if row.scores]
    for place, row in enumerate(scored):
        entry = choice.get(row.optimizer)
        offsets = [place + 0.16 * math.sin(2.4 * i) for i in range(len(row.scores))]
        ax.plot(row.scores, offsets, linestyle="", marker=entry.marker, markersize=6.5, color=entry.light, alpha=0.55)
        ax.plot([row.mean] * 2, [place - 0.32, place + 0.32], color=entry.light, linewidth=2.8)
        ends = [row.mean - row.spread, row.mean + row.spread]
        ax.plot(ends, [place, place], color=entry.light, linewidth=1.6)
    _label_rows(ax, scored)
    if task.metric.percent:
        ax.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    ax.set_title("Each seed, last epoch")
    ax.set_xlabel(f"test {task.metric.name}")


def draw_rates(ax: Axes, task: Task, results: Results, table: Sequence[Row]) -> None:
    """Draw the tuning: the validation metric at each learning rate, with a ring around the chosen rate."""
    shown: list[float] = []
    settings, chosen = results.settings, {(row.optimizer, row.lr) for row in table}
    for optimizer in settings.optimizers:
        means = {}
        for lr in settings.grid:
            trials = results.list_trials("tuning", optimizer, lr)
            scores = [trial.late_score for trial in trials if trial and trial.diverged is None]
            if len(scores) == len(settings.tuning_seeds):
                means[lr] = statistics.fmean(scores)
        ax.plot(list(means), list(means.values()), **line_style(optimizer))
        color = choice.get(optimizer).light
        for lr, mean in means.items():
            if (optimizer, lr) in chosen:
                ax.plot([lr], [mean], "o", markersize=13, markerfacecolor="none", color=color, zorder=5)
        ranked = sorted(means.values(), key=task.metric.goodness)
        shown += ranked[len(ranked) // 2 :]
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    _fit_metric_axis(ax, task, shown)
    ax.set_title("Score at each learning rate")
    ax.set_xlabel(f"learning rate (validation {task.metric.name}, last quarter of the epochs)")


def draw_effective(ax: Axes, task: Task, results: Results, table: Sequence[Row]) -> None:
    """Draw the effective learning rate over the steps: the median, and for RMSprop a band from 10 % to 90 %.

    See `rmsprop.race.stepper` for the formulas. Entries whose gradient was always 0 are left out. Geometric means over
    the seeds, at the steps that all seeds have reached.
    """
    for row in table:
        tracks = [trial.effective_lr for trial in _list_finals(results, row) if trial.effective_lr]
        if points := [_average_point(at) for at in zip(*tracks, strict=False)]:
            steps, low, middle, high = zip(*points, strict=True)
            ax.plot(steps, middle, **line_style(row.optimizer))
            if row.optimizer == RMSPROP:
                _fill_band(ax, steps, low, high)
    ax.set_title("Effective learning rate")
    if not ax.lines:
        text = "not recorded, or no optimizer here has one per weight"
        ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", color=LIGHT.muted)
        ax.set_axis_off()
        return
    ax.set_xscale("log")
    ax.set_yscale("log")
    number_log_axis(ax.yaxis)
    ax.set_xlabel("step")


def _average_point(points: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Return the step, and the geometric mean of each quantile, as the axis is logarithmic."""
    step, *columns = zip(*points, strict=True)
    # A rate that underflowed to 0 has no logarithm: the smallest positive number is used.
    return (step[0], *(statistics.geometric_mean([max(value, 5e-324) for value in column]) for column in columns))


def draw_time(ax: Axes, task: Task, results: Results, table: Sequence[Row]) -> None:
    """Draw a trial's training time: the optimizer's step in its color, batches and gradients in gray."""
    timed = [row for row in table if not math.isnan(row.train_seconds)]
    for place, row in enumerate(timed):
        step = row.share_in_step * row.train_seconds
        ax.barh(place, step, height=0.62, color=choice.get(row.optimizer).light)
        ax.barh(place, row.train_seconds - step, left=step, height=0.62, color=LIGHT.grid)
        ax.text(row.train_seconds, place, f" {100 * row.share_in_step:.0f} %", va="center", fontsize=10)
    _label_rows(ax, timed)
    ax.margins(x=0.12)
    ax.set_title("Training time")
    ax.set_xlabel("seconds of training per trial (% in the step)")


def _label_rows(ax: Axes, rows: Sequence[Row]) -> None:
    """Put the optimizers' names on the y axis, the first at the top."""
    ax.set_yticks(range(len(rows)), [row.label for row in rows])
    ax.set_ylim(max(len(rows), 1) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")


def _fit_metric_axis(ax: Axes, task: Task, shown: Sequence[float]) -> None:
    """Fit the y axis to what must be seen, in percent where the metric is a percentage."""
    if shown:
        low, high = min(shown), max(shown)
        room = 0.06 * (high - low) or 0.01
        ax.set_ylim(low - room, high + room)
    if task.metric.percent:
        ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")


PANELS: dict[str, tuple[Panel, str]] = {
    "score": (draw_score, "Mean over the seeds; the band is the range of RMSprop's seeds."),
    "train_loss": (draw_train_loss, "How fast each optimizer fits the training examples. Mean over the seeds."),
    "seeds": (draw_seeds, "Each mark is a seed; the bar is the mean, the line one standard deviation to each side."),
    "rates": (draw_rates, "The wider the peak, the less tuning a learning rate needs. A ring marks the chosen rate."),
    "effective": (
        draw_effective,
        "What a weight's gradient is multiplied by: the median weight; RMSprop's band holds 80 % of its weights.",
    ),
    "time": (draw_time, "In color the optimizer's step, in gray batches and gradients. Median over the seeds."),
}
