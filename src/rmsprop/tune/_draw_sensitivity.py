"""The picture of a sensitivity: a small panel per optimizer, all on one scale, the plateau shaded."""

from __future__ import annotations

import math
import statistics
from typing import Any

from rmsprop.race import choice
from rmsprop.race.task import Task
from rmsprop.tune._page import INK, MUTED, page, png
from rmsprop.tune._points import Sensitivity
from rmsprop.tune._sensitivity import Row, curve, rows

__all__ = ["sensitivity_png"]

PER_ROW = 3


def sensitivity_png(task: Task, found: Sensitivity) -> bytes | None:
    """Draw the metric over lr, an optimizer per panel; a PNG file, None while no optimizer is measured.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    table = rows(task, found)
    if not table:
        return None
    columns = min(PER_ROW, len(table))
    lines = math.ceil(len(table) / columns)
    figure, blank = page(4.1 * columns + 0.4, 2.9 * lines + 0.9)
    blank.remove()
    axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    curves = {row.optimizer: curve(task, found, row.optimizer) for row in table}
    low, high = _window(task, table, curves)
    for ax, row in zip(axes.flat, table):
        _panel(ax, task, found, row)
        ax.set_ylim(low, high)
    for ax in list(axes.flat)[len(table) :]:
        ax.remove()
    for ax in axes[:, 0]:
        ax.set_ylabel(f"validation {task.metric.name}{' (%)' if task.metric.percent else ''}")
    for column in range(columns):
        shown = [ax for ax in axes[:, column] if ax.figure is not None]
        shown[-1].set_xlabel("lr")
        shown[-1].tick_params(labelbottom=True)
    figure.suptitle(
        f"{task.title}: how many decades of lr end within 1 % of the best", x=0.01, ha="left", fontweight="bold"
    )
    return png(figure)


def _panel(ax: Any, task: Task, found: Sensitivity, row: Row) -> None:
    entry, scale = choice.get(row.optimizer), 100.0 if task.metric.percent else 1.0
    for low, high in row.plateau.parts:
        # A part of a single point has no width, and is shown as a line.
        ax.axvspan(low, high, color=entry.light, alpha=0.2, linewidth=0 if high > low else 1.5)
    for seed in range(found.settings.seeds):
        rates, scores = curve(task, found, row.optimizer, seed=seed)
        ax.plot(rates, [scale * score for score in scores], color=entry.light, linewidth=0.8, alpha=0.55)
    rates, scores = curve(task, found, row.optimizer)
    ax.plot(
        rates, [scale * score for score in scores], color=entry.light, linewidth=2.2, linestyle=entry.dash,
        marker=entry.marker, markersize=5, zorder=4,
    )  # fmt: skip
    lost = [rate for rate, score in zip(rates, scores, strict=True) if math.isnan(score)]
    if lost:
        ax.plot(
            lost, [0.05] * len(lost), marker="x", color=INK, linestyle="none", markersize=6,
            transform=ax.get_xaxis_transform(),
        )  # fmt: skip
        ax.annotate(
            "diverged", (lost[len(lost) // 2], 0.05), xycoords=ax.get_xaxis_transform(), textcoords="offset points",
            xytext=(0, 6), ha="center", fontsize=8, color=INK,
        )  # fmt: skip
    if math.isfinite(row.plateau.threshold):
        ax.axhline(scale * row.plateau.threshold, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    ax.set_xscale("log")
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_title(f"{row.label}: {row.text} decades", loc="left", fontsize=11)


def _window(task: Task, table: list[Row], curves: dict[str, tuple[list[float], list[float]]]) -> tuple[float, float]:
    """Return the range of the metric worth showing: the best of all at one end, the middle of the field inside."""
    scale = 100.0 if task.metric.percent else 1.0
    values = [scale * score for _, scores in curves.values() for score in scores if math.isfinite(score)]
    if not values:
        return 0.0, 1.0
    higher = task.metric.better == "higher"
    best = max(values) if higher else min(values)
    middle = statistics.median(values)
    span = abs(best - middle) or abs(best) or 1.0
    if higher:
        return max(min(values), best - 2.5 * span) - 0.05 * span, best + 0.15 * span
    return best - 0.15 * span, min(max(values), best + 2.5 * span) + 0.05 * span
