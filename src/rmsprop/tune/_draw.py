"""Two pictures of a search: every trial on the plane of lr and rho, and which of the numbers mattered.

The map's background is a mean of the complete trials' values, each weighted by a normal curve of its distance in
decades (standard deviation 0.25 decades of lr and of 1 - rho): the other numbers differ from trial to trial, so no
surface passes through all of them. The colours grow from dark to light (cividis) and every kind of trial has a marker
of its own, so nothing depends on telling hues apart.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rmsprop.optimizers import TABLE
from rmsprop.tune._found import Ended, Tuned
from rmsprop.tune._page import INK, page, png
from rmsprop.tune._url import quietly

__all__ = ["importance_png", "importances", "map_png"]

WIDTH = 0.25
FAR = 1.8
WORDS = {"lr": "lr", "1 - rho": "rho", "eps": "eps", "momentum": "momentum", "centered": "centered"}
FEWEST = 20
"""Complete trials below which importances are noise."""


def importances(found: Tuned) -> dict[str, float]:
    """Return how much of what decides between good and bad each searched number explains, adding up to 1.

    Optuna's PED-ANOVA over the complete trials. Empty with fewer than 20 of them, or nothing that differs.

    Source: S. Watanabe and others, PED-ANOVA, IJCAI 2023.
    """
    values = [trial.value for trial in found.trials if trial.state == "complete"]
    if len(values) < FEWEST or min(values) == max(values):
        return {}
    from optuna.importance import get_param_importances

    with quietly():
        shares = get_param_importances(found.study)
    return {WORDS[name]: float(share) for name, share in shares.items() if WORDS[name] in found.space.searched}


def map_png(found: Tuned, *, title: str, value: str = "value", log: bool = False, percent: bool = False) -> bytes:
    """Draw every trial over lr and rho, the best one marked.

    Args:
        found: The search.
        title: Over the picture.
        value: What the colours mean.
        log: Whether they follow the value's logarithm.
        percent: The value is a fraction, to be shown in percent.

    Returns:
        A PNG file.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    figure, ax = page(8.4, 5.6)
    complete = [trial for trial in found.trials if trial.state == "complete"]
    kinds = {
        "pruned": [trial for trial in found.trials if trial.state == "pruned" and not trial.diverged],
        "diverged": [trial for trial in found.trials if trial.diverged],
    }
    ax.set(xscale="log", yscale="log", xlim=_ends(found.space.lr), ylim=_ends(_fresh(found.space.rho))[::-1])
    best = found.best
    if complete and best is not None:
        _colours(figure, ax, complete, found.direction, value=value, log=log)
        if percent:
            from matplotlib.ticker import PercentFormatter

            figure.axes[-1].yaxis.set_major_formatter(PercentFormatter(1.0))
        ax.plot(
            best.setting.lr, 1 - best.setting.rule.rho, marker="*", markersize=24, markerfacecolor="white",
            markeredgecolor=INK, markeredgewidth=1.6, linestyle="none", zorder=6,
            label=f"best: lr {best.setting.lr:g}, rho {best.setting.rule.rho:.5g}",
        )  # fmt: skip
    for marker, (kind, trials) in zip(("|", "x"), kinds.items(), strict=True):
        if trials:
            ax.plot(
                [t.setting.lr for t in trials], [1 - t.setting.rule.rho for t in trials], marker=marker, markersize=8,
                markeredgewidth=1.5, color=INK, linestyle="none", label=f"{kind} ({len(trials)})", zorder=5,
            )  # fmt: skip
    from matplotlib.ticker import FuncFormatter, NullFormatter

    ax.yaxis.set_major_formatter(FuncFormatter(lambda fresh, _: f"{1 - fresh:.6g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("lr")
    ax.set_ylabel("rho")
    ax.set_title(title, loc="left", fontweight="bold")
    if ax.get_legend_handles_labels()[1]:
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3, frameon=False)
    return png(figure)


def _colours(figure: Any, ax: Any, complete: list[Ended], direction: str, *, value: str, log: bool) -> None:
    values = np.array([trial.value for trial in complete])
    x = np.log10([trial.setting.lr for trial in complete])
    y = np.log10([1 - trial.setting.rule.rho for trial in complete])
    log = log and bool((values > 0).all())
    heights = np.log10(values) if log else values
    # A few hopeless trials would leave one shade for all the others: the scale ends before the worst quarter.
    bulk = float(np.quantile(heights, 0.75 if direction == "minimize" else 0.25))
    low, high = (float(heights.min()), bulk) if direction == "minimize" else (bulk, float(heights.max()))
    if low == high:
        low, high = float(heights.min()), float(heights.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    cmap = "cividis_r" if direction == "minimize" else "cividis"
    (left, right), (bottom, top) = np.log10(ax.get_xlim()), sorted(np.log10(ax.get_ylim()))
    gx, gy = np.meshgrid(np.linspace(left, right, 160), np.linspace(bottom, top, 120))
    square = ((gx[..., None] - x) ** 2 + (gy[..., None] - y) ** 2) / WIDTH**2
    weight = np.exp(-square / 2)
    surface = (weight * np.clip(heights, low, high)).sum(axis=-1) / np.maximum(weight.sum(axis=-1), 1e-300)
    surface = np.where(square.min(axis=-1) < FAR**2, surface, np.nan)
    ax.pcolormesh(10**gx, 10**gy, surface, cmap=_pale(cmap), vmin=low, vmax=high, shading="nearest", zorder=1)
    dots = ax.scatter(
        10**x, 10**y, c=heights, cmap=cmap, vmin=low, vmax=high, s=52, edgecolors=INK, linewidths=0.8, zorder=4,
        label=f"complete ({len(complete)})",
    )  # fmt: skip
    worse_below = direction == "maximize"
    beyond = (heights < low - 1e-12).any() if worse_below else (heights > high + 1e-12).any()
    bar = figure.colorbar(dots, ax=ax, extend=("min" if worse_below else "max") if beyond else "neither", pad=0.02)
    if log:
        from matplotlib.ticker import FuncFormatter

        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda exponent, _: f"{10**exponent:.3g}"))
    bar.set_label(f"{value} ({'higher' if worse_below else 'lower'} is better)")


def _pale(cmap: str) -> Any:
    """Mix a colour map with the paper. A transparent mesh would show its seams."""
    import matplotlib
    from matplotlib.colors import ListedColormap

    colours = matplotlib.colormaps[cmap](np.linspace(0, 1, 256))
    return ListedColormap(0.55 * colours + 0.45)


def importance_png(found: Tuned, *, title: str) -> bytes | None:
    """Draw the importances as bars, a PNG file; None while there is nothing to draw.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    shares = importances(found)
    if not shares:
        return None
    figure, ax = page(7.2, 0.55 * len(shares) + 1.5)
    names = sorted(shares, key=lambda name: shares[name])
    bars = ax.barh(names, [shares[name] for name in names], color=TABLE["rmsprop"].light, height=0.62)
    ax.bar_label(bars, labels=[f"{100 * shares[name]:.0f} %" for name in names], padding=5)
    ax.set_xlim(0, 1.12 * max(shares.values()))
    ax.xaxis.set_visible(False)
    ax.spines["bottom"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.set_title(title, loc="left", fontweight="bold")
    return png(figure)


def _fresh(rho: tuple[float, float]) -> tuple[float, float]:
    return 1 - rho[1], 1 - rho[0]


def _ends(ends: tuple[float, float]) -> tuple[float, float]:
    """A little more than the range on both sides, in decades, so that no marker is cut."""
    low, high = map(math.log10, ends)
    margin = 0.04 * (high - low) or 0.5
    return 10 ** (low - margin), 10 ** (high + margin)
