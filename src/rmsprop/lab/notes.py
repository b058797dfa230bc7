"""Sentences about the runs, computed from their numbers, for the page and for a screen reader."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmsprop.lab.experiment import Experiment, Setting
from rmsprop.lab.simulate import Path
from rmsprop.optimizers import TABLE

__all__ = ["Note", "find_exit", "get_title", "write_notes"]


@dataclasses.dataclass(frozen=True)
class Note:
    """A sentence about a run.

    Attributes:
        run: The run's index.
        step: The step that it describes; None if it is about all steps.
        text: The sentence.
    """

    run: int
    step: int | None
    text: str


def get_title(setting: Setting) -> str:
    """Return the optimizer's name as usually written."""
    return TABLE[setting.optimizer].label


def find_exit(path: Path, domain: tuple[tuple[float, float], tuple[float, float]]) -> int | None:
    """Return the number of the first point outside the picture after which the run does not come back, or None."""
    (left, right), (bottom, top) = domain
    x, y = path.x.T
    with np.errstate(invalid="ignore"):
        inside = (x >= left) & (x <= right) & (y >= bottom) & (y <= top)
    if inside[-1]:
        return None
    last = np.flatnonzero(inside)
    return int(last[-1]) + 1 if len(last) else 0


def write_notes(experiment: Experiment, paths: list[Path], *, lowest: float | None = None) -> list[Note]:
    """Return a few sentences about every run.

    Args:
        experiment: The experiment.
        paths: The result of `simulate`.
        lowest: The function's smallest value, if it is known.
    """
    found = []
    for run, (setting, path) in enumerate(zip(experiment.settings, paths)):
        for step, text in _describe_run(experiment, setting, path, lowest):
            found.append(Note(run, step, text))
    return found


def _describe_run(
    experiment: Experiment, setting: Setting, path: Path, lowest: float | None
) -> Iterator[tuple[int | None, str]]:
    steps = len(path.grad)
    with np.errstate(all="ignore"):
        length = np.sqrt((np.diff(path.x, axis=0) ** 2).sum(1))
    yield from _describe_first_step(setting, path)
    if path.broken is not None:
        yield path.broken, f"Diverged: the numbers stop being finite at step {path.broken}."
    gone = find_exit(path, experiment.domain)
    if gone is not None:
        x, y = path.x[gone]
        yield gone, f"Left the picture at step {gone}, at ({_format(x)}, {_format(y)}), and did not return."
    if path.broken is not None or gone is not None:
        return
    yield from _describe_progress(path, lowest)
    tail = max(10, steps // 5)
    if steps >= 2 * tail:
        yield from _describe_end(setting, path, length, tail)


def _describe_first_step(setting: Setting, path: Path) -> Iterator[tuple[int | None, str]]:
    rule = setting.rule
    if rule is None or not len(path.grad):
        return
    moved = np.abs(path.x[1] - path.x[0])
    moved = moved[(path.grad[0] != 0) & np.isfinite(moved)]
    if rule.centered or rule.bias_correction or rule.momentum or rule.weight_decay or not len(moved) or rule.rho == 1:
        return
    usual = setting.lr / math.sqrt(1 - rule.rho)
    if rule.init_value == 0 and np.allclose(moved, usual, rtol=0.02):
        yield 1, f"The first step is {_format(usual)} along each axis: lr / sqrt(1 - rho), for any gradient."
    elif rule.init_value > 0:
        size, start = _format(moved.max()), _format(rule.init_value)
        yield 1, f"The mean square starts at {start}, so the first step, {size}, depends on the gradient."


def _describe_progress(path: Path, lowest: float | None) -> Iterator[tuple[int | None, str]]:
    if not np.isfinite(path.f).all():
        return
    if lowest is None or not math.isfinite(lowest):
        best = int(path.f.argmin())
        yield best, f"Lowest value {_format(path.f[best])}, at step {best}."
        return
    gap, start = path.f - lowest, path.f[0] - lowest
    near = np.flatnonzero(gap <= 0.01 * start)
    if start > 0 and len(near):
        yield int(near[0]), f"99 % of the way to the minimum by step {near[0]}; ends at f = {_format(path.f[-1])}."
    elif start > 0:
        percent = max(0.0, 100 * (1 - gap[-1] / start))
        yield None, f"Ends at f = {_format(path.f[-1])}: {percent:.0f} % of the way to the minimum."


def _describe_end(
    setting: Setting, path: Path, length: NDArray[np.float64], tail: int
) -> Iterator[tuple[int | None, str]]:
    steps, last = len(length), path.x[-tail:]
    center, spread = last.mean(0), (last.max(0) - last.min(0)) / 2
    walked, net = float(length[-tail:].sum()), float(np.hypot(*(path.x[-1] - path.x[-tail - 1])))
    extent = float(np.hypot(*(path.x.max(0) - path.x.min(0))))
    where = f"({_format(center[0])}, {_format(center[1])})"
    if extent > 0 and walked > 4 * net and float(spread.max()) > 1e-6 * extent and walked > 1e-4 * extent:
        wide, lr = _format(spread.max()), _format(setting.lr)
        yield steps - tail, f"Oscillates around {where} by about {wide} with lr {lr}: a smaller lr comes closer."
    elif extent > 0 and walked <= 1e-3 * extent:
        yield steps - tail, f"Converges to {where}."
    else:
        yield None, f"Still moving at step {steps}, by {_format(length[-1])} per step."
    if setting.optimizer == "adagrad" and np.isfinite(path.rate).all():
        first, final = path.rate[0].max(), path.rate[-1].max()
        if final < 0.5 * first:
            rates = f"from {_format(first)} to {_format(final)}"
            yield None, f"Its sum of squares only grows: the effective learning rate fell {rates}."


def _format(value: Any) -> str:
    number = float(value)
    if number != 0 and abs(number) < 5e-13:
        return "0"
    return f"{number:.3g}"
