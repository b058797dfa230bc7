"""The panels of a race's picture: what each one draws on a pair of axes, and how a reader is told to read it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rmsprop.race import choice
from rmsprop.race.record import Results, Trial
from rmsprop.race.task import Task
from rmsprop.race.verdict import RMSPROP, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

__all__ = ["GRID", "INK", "MUTED", "PANELS", "PAPER", "line_style", "number_log_axis"]

INK, MUTED, GRID, PAPER = "#1c1e21", "#5c6169", "#e2e4e8", "#fffffe"

Panel = Callable[["Axes", Task, Results, Sequence[Row]], None]


def _finals(results: Results, row: Row) -> list[Trial]:
    """The reported trials of a row that ran to the end."""
    trials = (results.trials.get(("final", row.optimizer, row.lr, seed)) for seed in results.settings.seeds)
    return [trial for trial in trials if trial is not None and trial.diverged is None]


def line_style(optimizer: str) -> dict[str, Any]:
    """RMSprop is drawn thicker and above the others."""
    entry, first = choice.get(optimizer), optimizer == RMSPROP
    return {
        "color": entry.light,
        "linestyle": entry.dash,
        "linewidth": 2.6 if first else 1.7,
        "zorder": 4 if first else 3,
        "marker": entry.marker,
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
        ax.plot(epochs, mean, markevery=_every(len(mean)), **line_style(row.optimizer))
        if row.optimizer == RMSPROP and len(curves) > 1:
            low, high = zip(*((min(p), max(p)) for p in zip(*curves, strict=True)), strict=True)
            ax.fill_between(epochs, low, high, color=choice.get(row.optimizer).light, alpha=0.16, linewidth=0)
        # The steep beginning leaves the picture; what is worth comparing is what follows.
        shown += mean[max(1, len(mean) // 8) :]
    _frame(ax, task, shown)
    ax.locator_params(axis="x", integer=True)
    ax.set_title(f"Test {task.metric.name}")
    ax.set_xlabel("epoch")


def draw_train_loss(ax: Axes, task: Task, results: Results, table: Sequence[Row]) -> None:
    """The training loss of each epoch, the mean over seeds, on a logarithmic axis."""
    for row in table:
        curves = [trial.train_loss for trial in _finals(results, row)]
        if curves:
            mean = [statistics.fmean(points) for points in zip(*curves, strict=True)]
            ax.plot(range(1, len(mean) + 1), mean, markevery=_every(len(mean)), **line_style(row.optimizer))
    ax.locator_params(axis="x", integer=True)
    ax.set_yscale("log")
    number_log_axis(ax.yaxis)
    ax.set_title("Training loss")
    ax.set_xlabel("epoch")


def number_log_axis(axis: Axis) -> None:
    """Put plain numbers on a logarithmic axis whose limits are set, where it holds too few powers of ten to be read."""
    from matplotlib import ticker

    low, high = axis.get_view_interval()
    decades = math.log10(high / low)
    if decades >= 2.5:
        return
    axis.set_major_locator(ticker.MaxNLocator(5) if decades < 0.7 else ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(ticker.NullFormatter())


def draw_seeds(ax: Axes, task: Task, results: Results, table: Sequence[Row]) -> None:
    """Every reported seed as a point, and the mean with one standard deviation to each side."""
    scored = [row for row in table if row.scores]
    for place, row in enumerate(scored):
        entry = choice.get(row.optimizer)
        offsets = [place + 0.16 * math.sin(2.4 * i) for i in range(len(row.scores))]
        ax.plot(row.scores, offsets, linestyle="", marker=entry.marker, markersize=6.5, color=entry.light, alpha=0.55)
        ax.plot([row.mean] * 2, [place - 0.32, place + 0.32], color=entry.light, linewidth=2.8)
        if not math.isnan(row.spread):
            ends = [row.mean - row.spread, row.mean + row.spread]
            ax.plot(ends, [place, place], color=entry.light, linewidth=1.6)
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
    for optimizer in settings.optimizers:
        points = []
        for lr in settings.grid:
            trials = [results.trials.get(("tuning", optimizer, lr, seed)) for seed in settings.tuning_seeds]
            scores = [trial.late_score for trial in trials if trial is not None and trial.diverged is None]
            if len(scores) == len(settings.tuning_seeds):
                points.append((lr, statistics.fmean(scores)))
        if not points:
            continue
        rates, means = zip(*points, strict=True)
        ax.plot(rates, means, **line_style(optimizer))
        chosen = [
            (row.lr, means[rates.index(row.lr)]) for row in table if row.optimizer == optimizer and row.lr in rates
        ]
        ring: dict[str, Any] = {
            "markersize": 13,
            "markerfacecolor": "none",
            "color": choice.get(optimizer).light,
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


def draw_effective(ax: Axes, task: Task, results: Results, table: Sequence[Row]) -> None:
    """The effective learning rate over the steps: the median entry, and for RMSprop a band from 10 % to 90 %.

    See `rmsprop.race.stepper` for each optimizer's formula. Entries whose gradient was always 0 have no part in it.
    Geometric means over the seeds, at the steps that every seed has reached.
    """
    drawn = False
    for row in table:
        tracks = [trial.effective_lr for trial in _finals(results, row) if trial.effective_lr]
        points = [_mean_point(at) for at in zip(*tracks, strict=False)]
        if not points:
            continue
        drawn = True
        steps, low, middle, high = zip(*points, strict=True)
        ax.plot(steps, middle, **line_style(row.optimizer))
        if row.optimizer == RMSPROP:
            ax.fill_between(steps, low, high, color=choice.get(row.optimizer).light, alpha=0.16, linewidth=0)
    ax.set_title("Effective learning rate")
    if not drawn:
        said = "none recorded, or no optimizer here has one per weight"
        ax.text(0.5, 0.5, said, transform=ax.transAxes, ha="center", color=MUTED)
        ax.set_axis_off()
        return
    ax.set_xscale("log")
    ax.set_yscale("log")
    number_log_axis(ax.yaxis)
    ax.set_xlabel("step")


def _mean_point(points: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """The step, and the geometric mean of each quantile: rates are read on a logarithmic axis."""
    columns = list(zip(*points, strict=True))
    # A rate that underflowed to 0 has no logarithm; the smallest number stands for it.
    means = (math.exp(statistics.fmean(math.log(max(v, 5e-324)) for v in column)) for column in columns[1:])
    return (columns[0][0], *means)


def draw_time(ax: Axes, task: Task, results: Results, table: Sequence[Row]) -> None:
    """A trial's training time: the optimizer's step in its colour, batches and gradients in grey."""
    timed = [row for row in table if not math.isnan(row.train_seconds)]
    for place, row in enumerate(timed):
        entry = choice.get(row.optimizer)
        step = row.share * row.train_seconds
        ax.barh(place, step, height=0.62, color=entry.light)
        ax.barh(place, row.train_seconds - step, left=step, height=0.62, color=GRID)
        ax.text(row.train_seconds, place, f" {100 * row.share:.0f} %", va="center", fontsize=10)
    ax.set_yticks(range(len(timed)), [row.label for row in timed])
    ax.set_ylim(max(len(timed), 1) - 0.5, -0.5)
    ax.margins(x=0.12)
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")
    ax.set_title("Where the time goes")
    ax.set_xlabel("seconds of training per trial (% in the step)")


PANELS: dict[str, tuple[Panel, str]] = {
    "score": (draw_score, "Mean over the seeds; the band reaches from RMSprop's worst seed to its best."),
    "train_loss": (draw_train_loss, "How fast each one fits the training examples. Mean over the seeds."),
    "seeds": (draw_seeds, "Each mark is one seed; the bar is the mean, the line one standard deviation to each side."),
    "rates": (draw_rates, "The wider the top, the less search a learning rate needs. A ring marks the one chosen."),
    "effective": (
        draw_effective,
        "What one weight's gradient is multiplied by: the median weight; RMSprop's band holds 80 % of its weights.",
    ),
    "time": (
        draw_time,
        "In colour the optimizer's own step, in grey batches and gradients. Median over the seeds.",
    ),
}


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
