"""The effective learning rate as a picture: per tensor for a checkpoint, over the steps for a watched training."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from rmsprop._files import write_atomically
from rmsprop._theme import LIGHT, open_figure, save_figure, save_png
from rmsprop.doctor.sample import Sample
from rmsprop.errors import FileError, InputError

__all__ = ["check_path", "draw", "draw_png", "select_drawable"]

MAX_BARS = 40
"""Tensors in one picture of a checkpoint; more are not legible."""
MAX_CURVES = 9


def check_path(path: str | Path) -> str:
    """Return the format of a picture by its name: "png", "svg" or "pdf".

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


def select_drawable(samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples whose effective learning rate has a place on a logarithmic scale."""
    return [sample for sample in samples if sample.effective_lr is not None and min(sample.effective_lr) > 0]


def draw(samples: Sequence[Sample], path: str | Path, *, marked: Collection[str] = ()) -> None:
    """Draw the quantiles of lr / denominator.

    Args:
        samples: Of one moment (a bar for each tensor) or of many (a curve for each tensor).
        path: What to write, atomically; .png, .svg or .pdf.
        marked: Names of tensors with findings.

    Raises:
        InputError: Nothing to draw, or a name with another ending.
        FileError: There is no such folder, or it cannot be written.
        MissingDependency: matplotlib is not installed.
    """
    path, format = Path(path), check_path(path)
    with _open_drawing(samples, marked) as figure:
        try:
            with write_atomically(path) as temporary:
                save_figure(figure, temporary, format=format, dpi=140)
        except OSError as error:
            raise FileError(f"{path}: {error.strerror or error}") from error


def draw_png(samples: Sequence[Sample], *, marked: Collection[str] = ()) -> bytes:
    """Return the same picture as a PNG file, in the size of a notebook."""
    with _open_drawing(samples, marked) as figure:
        return save_png(figure, dpi=100)


@contextlib.contextmanager
def _open_drawing(samples: Sequence[Sample], marked: Collection[str]) -> Iterator[Any]:
    drawn = select_drawable(samples)
    if not drawn:
        raise InputError("nothing to draw: no tensor has an effective learning rate yet")
    names = {sample.tensor for sample in drawn}
    is_history = len({sample.step for sample in drawn}) > 1 and len(drawn) > len(names)
    height = 4.5 if is_history else 1.4 + 0.28 * min(len(drawn), MAX_BARS)
    with open_figure(8.0, height, extra="doctor", purpose="a picture", points=9.0) as figure:
        (_draw_curves if is_history else _draw_bars)(figure.add_subplot(), drawn, marked)
        yield figure


def _draw_bars(axes: Any, samples: Sequence[Sample], marked: Collection[str]) -> None:
    shown = samples[:MAX_BARS]
    for place, sample in enumerate(shown):
        low, lower, middle, upper, high = sample.effective_lr or ()
        axes.plot([low, high], [place, place], color=LIGHT.contour, linewidth=2)
        axes.plot([lower, upper], [place, place], color=LIGHT.accent, linewidth=7, solid_capstyle="butt")
        axes.plot([middle], [place], "o", color=LIGHT.paper, markeredgecolor=LIGHT.ink, markersize=5)
    rates = {sample.lr for sample in shown if sample.lr}
    if len(rates) == 1:
        axes.axvline(*rates, color=LIGHT.ink, linewidth=0.8, linestyle=":")
        axes.annotate("lr", (*rates, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom")
    axes.set_yticks(range(len(shown)), [sample.tensor for sample in shown])
    for sample, label in zip(shown, axes.get_yticklabels()):
        if sample.tensor in marked:
            label.set(color=LIGHT.alarm, fontweight="bold")
    axes.set(xscale="log", ylim=(len(shown) - 0.5, -0.5))
    axes.grid(axis="y", visible=False)
    quantity = "lr / denominator" if rates else "1 / denominator (lr not known)"
    more = "; red: with findings" if marked else ""
    more += f"; {len(samples) - MAX_BARS} more tensors are not shown" if len(samples) > MAX_BARS else ""
    axes.set_xlabel(f"{quantity}: 5 to 95 % thin, 25 to 75 % thick, median white{more}")


def _draw_curves(axes: Any, samples: Sequence[Sample], marked: Collection[str]) -> None:
    names = list(dict.fromkeys(sample.tensor for sample in samples))
    shown = sorted(names, key=lambda name: name not in marked)[:MAX_CURVES]
    for name in shown:
        own = sorted((sample for sample in samples if sample.tensor == name), key=lambda sample: sample.step)
        steps = [sample.step for sample in own]
        _, lower, middle, upper, _ = zip(*(sample.effective_lr or () for sample in own))
        label = f"{name} (findings)" if name in marked else name
        (line,) = axes.plot(steps, middle, linewidth=1.6, label=label, marker="o" if len(own) < 8 else None)
        axes.fill_between(steps, lower, upper, color=line.get_color(), alpha=0.15, linewidth=0)
    left_out = f", {len(shown)} of {len(names)} tensors" if len(names) > len(shown) else ""
    axes.set(yscale="log", xlabel="step", ylabel="lr / denominator")
    axes.set_title(f"effective learning rate: median and 25 to 75 %{left_out}")
    axes.figure.legend(loc="outside right upper")
