"""The effective learning rate as a picture: per tensor for a checkpoint, over the steps for a watched training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rmsprop._files import write_atomically
from rmsprop.doctor.look import Look
from rmsprop.errors import FileError, InputError, MissingDependency

__all__ = ["check", "draw", "drawable"]

MOST = 40
"""Tensors in one picture of a checkpoint; more are not legible."""
CURVES = 10
_THIN, _BOX, _INK, _ALARM = "#9db4c8", "#3f78a8", "#202830", "#c0392b"


def check(path: str | Path) -> str:
    """Return the format of a picture's name: "png", "svg" or "pdf".

    Raises:
        InputError: A name with another ending.
        FileError: There is no such folder.
    """
    path = Path(path)
    format = path.suffix.removeprefix(".").lower()
    if format not in ("png", "svg", "pdf"):
        raise InputError(f"{path}: expected a name that ends in .png, .svg or .pdf")
    if not path.parent.is_dir():
        raise FileError(f"{path}: there is no folder {path.parent}; create it first")
    return format


def drawable(looks: Sequence[Look]) -> list[Look]:
    """Return the looks with an effective learning rate above 0, which have a place on a logarithmic scale."""
    return [look for look in looks if look.effective_lr is not None and min(look.effective_lr) > 0]


def draw(looks: Sequence[Look], path: str | Path, *, troubled: Sequence[str] = ()) -> None:
    """Draw the quantiles of lr / denominator.

    Args:
        looks: Of one moment (a bar for each tensor) or of many (a curve for each tensor).
        path: What to write; .png, .svg or .pdf. Whole or not at all.
        troubled: Names of tensors with findings: marked.

    Raises:
        InputError: Nothing to draw, or a name with another ending.
        FileError: There is no such folder, or it cannot be written.
        MissingDependency: matplotlib is not installed.
    """
    path, format, drawn = Path(path), check(path), drawable(looks)
    if not drawn:
        raise InputError("nothing to draw: no tensor has an effective learning rate yet")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependency.of("matplotlib", extra="doctor", purpose="a picture") from error
    over_time = len({look.step for look in drawn}) > 1 and len(drawn) > len({look.tensor for look in drawn})
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    (_curves if over_time else _bars)(figure, axes, drawn, set(troubled))
    axes.spines[["top", "right"]].set_visible(False)
    try:
        with write_atomically(path) as temporary:
            figure.savefig(temporary, format=format, dpi=140)
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from error


def _bars(figure: Any, axes: Any, looks: Sequence[Look], troubled: set[str]) -> None:
    shown = looks[:MOST]
    figure.set_size_inches(8, 1.4 + 0.28 * len(shown))
    for place, look in enumerate(shown):
        assert look.effective_lr is not None
        low, lower, middle, upper, high = look.effective_lr
        axes.plot([low, high], [place, place], color=_THIN, linewidth=2, solid_capstyle="round")
        axes.plot([lower, upper], [place, place], color=_BOX, linewidth=7, solid_capstyle="butt")
        axes.plot([middle], [place], "o", color="white", markeredgecolor=_INK, markersize=5)
    rates = {look.lr for look in shown if look.lr}
    if len(rates) == 1:
        axes.axvline(*rates, color=_INK, linewidth=0.8, linestyle=":")
        axes.annotate("lr", (next(iter(rates)), 1), xycoords=("data", "axes fraction"), ha="center", va="bottom")
    axes.set_yticks(range(len(shown)), [look.tensor for look in shown])
    for label in axes.get_yticklabels():
        if label.get_text() in troubled:
            label.set_color(_ALARM)
            label.set_fontweight("bold")
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xscale("log")
    left_out = f"; {len(looks) - MOST} more tensors are not shown" if len(looks) > MOST else ""
    named = "lr / denominator" if rates else "1 / denominator (lr not known)"
    marked = "; red: with findings" if troubled else ""
    axes.set_xlabel(f"{named}: 5 to 95 % thin, 25 to 75 % thick, median white{marked}{left_out}")


def _curves(figure: Any, axes: Any, looks: Sequence[Look], troubled: set[str]) -> None:
    names = list(dict.fromkeys(look.tensor for look in looks))
    names = sorted(names, key=lambda name: name not in troubled)[:CURVES]
    for name in names:
        own = sorted((look for look in looks if look.tensor == name), key=lambda look: look.step)
        steps = [look.step for look in own]
        quantiles = list(zip(*(look.effective_lr or () for look in own)))
        label = f"{name} (findings)" if name in troubled else name
        line = axes.plot(steps, quantiles[2], linewidth=1.6, label=label, marker="o" if len(own) < 8 else None)[0]
        axes.fill_between(steps, quantiles[1], quantiles[3], color=line.get_color(), alpha=0.15, linewidth=0)
    total = len({look.tensor for look in looks})
    left_out = f", {len(names)} of {total} tensors" if total > len(names) else ""
    axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("lr / denominator")
    axes.set_title(f"effective learning rate: median and 25 to 75 %{left_out}", loc="left", fontsize=10)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
