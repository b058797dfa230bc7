"""The pictures of a search and of a sensitivity, as PNG files.

The background of the map is a mean of the complete trials' values, weighted by a normal density of the distance in
decades (standard deviation 0.25 decades of lr and of 1 - rho): the other numbers differ from trial to trial, so no
surface passes through all of them. The colors grow from dark to light (cividis) and every kind of trial has its own
marker, so nothing depends on telling hues apart.
"""

from __future__ import annotations

import functools
import math
import statistics
from typing import Any

import numpy as np

from rmsprop._theme import LIGHT, open_figure, save_png
from rmsprop.optimizers import TABLE
from rmsprop.race import choice
from rmsprop.race.task import Metric, Task
from rmsprop.tune._sensitivity import Row, Sensitivity
from rmsprop.tune._storage import silence_optuna
from rmsprop.tune._study import Trial, TuneResult

__all__ = ["compute_importances", "draw_importances", "draw_map", "draw_sensitivity"]

KERNEL_WIDTH = 0.25
KERNEL_RADIUS = 1.8 * KERNEL_WIDTH
FEWEST = 20
"""Complete trials below which importances are noise."""
COLUMNS = 3

_open = functools.partial(open_figure, extra="tune", purpose="the pictures of a search")


def compute_importances(result: TuneResult) -> dict[str, float]:
    """Return the share of each searched number in the difference between good and bad trials; they add up to 1.

    Optuna's PED-ANOVA over the complete trials. Empty with fewer than 20 of them, or if their values are equal.

    Source: S. Watanabe and others, PED-ANOVA, IJCAI 2023.
    """
    values = [trial.value for trial in result.trials if trial.state == "complete"]
    if len(values) < FEWEST or min(values) == max(values):
        return {}
    from optuna.importance import get_param_importances

    with silence_optuna():
        shares = get_param_importances(result.study)
    named = {"rho" if name == "1 - rho" else name: float(share) for name, share in shares.items()}
    return {name: share for name, share in named.items() if name in result.space.searched}


def draw_importances(task: Task, importances: dict[str, float]) -> bytes:
    """Draw the importances as bars."""
    shares = sorted(importances.items(), key=lambda item: item[1])
    with _open(7.2, 0.55 * len(shares) + 1.5) as figure:
        ax = figure.subplots()
        bars = ax.barh(*zip(*shares, strict=True), color=TABLE["rmsprop"].light, height=0.62)
        ax.bar_label(bars, labels=[f"{100 * share:.0f} %" for _, share in shares], padding=5)
        title = f"{task.title}: what determined the validation {task.metric.name}"
        ax.set(title=title, xlim=(0, 1.12 * shares[-1][1]))
        ax.grid(visible=False)
        ax.xaxis.set_visible(False)
        ax.spines["bottom"].set_visible(False)
        ax.tick_params(axis="y", length=0)
        return save_png(figure)


def draw_map(task: Task, result: TuneResult) -> bytes:
    """Draw every trial over lr and rho, the best one marked."""
    trials = [trial for trial in result.trials if trial.state != "failed"]
    groups = {
        "complete": [trial for trial in trials if trial.state == "complete"],
        "pruned": [trial for trial in trials if trial.state == "pruned" and not trial.diverged],
        "diverged": [trial for trial in trials if trial.diverged],
    }
    with _open(8.4, 5.6) as figure:
        from matplotlib.ticker import FuncFormatter, NullFormatter

        ax = figure.subplots()
        low, high = result.space.rho
        ax.set(
            title=f"{task.title}: {len(trials)} trials of RMSprop", xlabel="lr", ylabel="rho", xscale="log",
            yscale="log", xlim=_widen(*result.space.lr), ylim=_widen(1 - high, 1 - low)[::-1],
        )  # fmt: skip
        ax.grid(visible=False)
        if (best := result.best) is not None:
            _draw_values(ax, groups["complete"], task.metric)
            ax.plot(
                best.setting.lr, 1 - best.setting.rule.rho, marker="*", markersize=24, markerfacecolor=LIGHT.paper,
                markeredgecolor=LIGHT.ink, markeredgewidth=1.6, linestyle="none", zorder=6,
                label=f"best: lr {best.setting.lr:g}, rho {best.setting.rule.rho:.5g}",
            )  # fmt: skip
        for kind, marker in (("pruned", "|"), ("diverged", "x")):
            if groups[kind]:
                ax.plot(
                    *_list_positions(groups[kind]), marker=marker, markersize=8, markeredgewidth=1.5, color=LIGHT.ink,
                    linestyle="none", label=f"{kind} ({len(groups[kind])})", zorder=5,
                )  # fmt: skip
        ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{1 - y:.6g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
        if trials:
            ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=4)
        return save_png(figure)


def _draw_values(ax: Any, complete: list[Trial], metric: Metric) -> None:
    """Draw the complete trials in the color of their value, and the mean of the values around them."""
    import matplotlib
    from matplotlib.colors import ListedColormap, LogNorm, Normalize
    from matplotlib.ticker import PercentFormatter

    values = np.array([trial.value for trial in complete])
    # The scale ends before the worst quarter, as a few bad trials would leave one color for all others.
    low, high = values.min(), values.max()
    if metric.better == "higher":
        cmap, low = "cividis", min(np.quantile(values, 0.25), np.nextafter(high, low))
    else:
        cmap, high = "cividis_r", max(np.quantile(values, 0.75), np.nextafter(low, high))
    norm = LogNorm(low, high) if low > 0 and not metric.percent else Normalize(low, high)
    x, y = _list_positions(complete)
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    gx, gy = np.meshgrid(np.geomspace(left, right, 160), np.geomspace(bottom, top, 120))
    square = np.log10(gx[..., None] / x) ** 2 + np.log10(gy[..., None] / y) ** 2
    weight = np.exp(-square / (2 * KERNEL_WIDTH**2))
    surface = (weight * np.clip(norm(values), 0, 1)).sum(axis=-1) / np.maximum(weight.sum(axis=-1), 1e-300)
    surface[square.min(axis=-1) > KERNEL_RADIUS**2] = np.nan
    # Mixed with white, as a transparent mesh would show its seams.
    pale = ListedColormap(0.55 * matplotlib.colormaps[cmap](np.linspace(0, 1, 256)) + 0.45)
    ax.pcolormesh(gx, gy, surface, cmap=pale, vmin=0, vmax=1, shading="nearest", zorder=1)
    dots = ax.scatter(
        x, y, c=values, cmap=cmap, norm=norm, s=52, edgecolors=LIGHT.ink, linewidths=0.8, zorder=4,
        label=f"complete ({len(complete)})",
    )  # fmt: skip
    bar = ax.figure.colorbar(dots, ax=ax, extend="min" if metric.better == "higher" else "max", pad=0.02)
    if metric.percent:
        bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    bar.set_label(f"validation {metric.name} ({metric.better} is better)")


def _list_positions(trials: list[Trial]) -> Any:
    return np.array([(trial.setting.lr, 1 - trial.setting.rule.rho) for trial in trials]).T


def _widen(low: float, high: float) -> tuple[float, float]:
    """Return a range a little wider on both sides, in decades, so that no marker is cut."""
    margin = 0.04 * math.log10(high / low) or 0.5
    return low / 10**margin, high * 10**margin


def draw_sensitivity(task: Task, result: Sensitivity) -> bytes | None:
    """Draw the metric over lr, a panel per optimizer on the same scale, the plateau shaded."""
    table = result.list_rows()
    if not table:
        return None
    columns = min(COLUMNS, len(table))
    lines = math.ceil(len(table) / columns)
    scale = 100.0 if task.metric.percent else 1.0
    with _open(4.1 * columns + 0.4, 2.9 * lines + 0.9) as figure:
        axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        for ax, row in zip(axes.flat, table):
            _draw_panel(ax, result, row, scale)
        axes[0, 0].set_ylim(*_choose_limits(task, result, table, scale))
        for ax in axes.flat[len(table) :]:
            ax.remove()
        for ax in axes[:, 0]:
            ax.set_ylabel(f"validation {task.metric.name}{' (%)' if task.metric.percent else ''}")
        for ax in axes.flat[len(table) - columns : len(table)]:
            ax.set_xlabel("lr")
            ax.tick_params(labelbottom=True)
        title = f"{task.title}: how many decades of lr end within 1 % of the best"
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
        return save_png(figure)


def _draw_panel(ax: Any, result: Sensitivity, row: Row, scale: float) -> None:
    style = choice.get(row.optimizer)
    for low, high in row.plateau.parts:
        # A part of a single point has no width and is drawn as a line.
        ax.axvspan(low, high, color=style.light, alpha=0.2, linewidth=0 if high > low else 1.5)
    for seed in range(result.settings.seeds):
        rates, scores = result.compute_curve(row.optimizer, seed=seed)
        ax.plot(rates, scale * np.array(scores), color=style.light, linewidth=0.8, alpha=0.55)
    rates, scores = result.compute_curve(row.optimizer)
    ax.plot(
        rates, scale * np.array(scores), color=style.light, linewidth=2.2, linestyle=style.dash, marker=style.marker,
        markersize=5, zorder=4,
    )  # fmt: skip
    diverged = [rate for rate, score in zip(rates, scores, strict=True) if math.isnan(score)]
    if diverged:
        at_bottom = ax.get_xaxis_transform()
        ax.plot(diverged, [0.05] * len(diverged), "x", color=LIGHT.ink, transform=at_bottom)
        middle = diverged[len(diverged) // 2]
        ax.text(middle, 0.09, "diverged", ha="center", fontsize=8, transform=at_bottom)
    if math.isfinite(row.plateau.threshold):
        ax.axhline(scale * row.plateau.threshold, color=LIGHT.muted, linewidth=0.8, linestyle=(0, (4, 3)))
    ax.set(xscale="log", title=f"{row.label}: {row.text} decades")


def _choose_limits(task: Task, result: Sensitivity, table: list[Row], scale: float) -> tuple[float, float]:
    """Return the range of the metric to show: from the best score to beyond the median."""
    scores = [score for row in table for score in result.compute_curve(row.optimizer)[1]]
    goodness = [task.metric.goodness(scale * score) for score in scores if math.isfinite(score)]
    if not goodness:
        return 0.0, 1.0
    best, middle = max(goodness), statistics.median(goodness)
    span = best - middle or abs(best) or 1.0
    ends = max(min(goodness), best - 2.5 * span) - 0.05 * span, best + 0.15 * span
    return ends if task.metric.better == "higher" else (-ends[1], -ends[0])
