"""Runs, step by step: float64 arrays with a row per step, bit for bit those of a `step` loop."""

from __future__ import annotations

import dataclasses
import math
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmsprop import baselines, formula
from rmsprop.expression import Expression
from rmsprop.lab.experiment import Deadline, Experiment, Setting
from rmsprop.numpy import RMSprop

__all__ = ["Path", "simulate"]

Array = NDArray[np.float64]
_BLOCK = 64
"""Steps between two checks of the time limit."""
_MOST_PATHS = 32
_paths: dict[str, Path] = {}
_lock = threading.Lock()


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Path:
    """A run; a run that became infinite or NaN has fewer steps than requested.

    Attributes:
        x: The points, shape (steps + 1, 2).
        f: The function there, shape (steps + 1,).
        grad: The gradient each step used, noise included, shape (steps, 2).
        statistic: Mean or sum of squares after the step, in units of grad**2, shape (steps, 2); NaN without one.
        rate: The effective learning rate, shape (steps, 2).
        broken: The step after which a number is not finite, or None.
    """

    x: Array
    f: Array
    grad: Array
    statistic: Array
    rate: Array
    broken: int | None = None


def simulate(experiment: Experiment, deadline: Deadline | None = None) -> list[Path]:
    """Run every setting from the same start, with the same noise.

    Raises:
        InputError: The time limit is exceeded.
    """
    deadline = deadline or Deadline()
    noise = experiment.noise.draw(experiment.steps)
    return [_run_cached(experiment, setting, noise, deadline) for setting in experiment.settings]


def _run_cached(experiment: Experiment, setting: Setting, noise: Array | None, deadline: Deadline) -> Path:
    """Return a run from the cache, or compute it: moving one slider changes only one run."""
    noise_key = None if noise is None else experiment.noise
    key = repr((experiment.function.text, experiment.start, experiment.steps, noise_key, setting))
    with _lock:
        found = _paths.pop(key, None)
        if found is not None:
            _paths[key] = found
            return found
    path = _run(experiment, setting, noise, deadline)
    with _lock:
        _paths[key] = path
        while len(_paths) > _MOST_PATHS:
            del _paths[next(iter(_paths))]
    return path


def _run(experiment: Experiment, setting: Setting, noise: Array | None, deadline: Deadline) -> Path:
    steps = experiment.steps
    point = np.array(experiment.start)
    is_baseline = setting.rule is None
    optimizer: Any = (
        setting.make_baseline(point) if is_baseline else RMSprop(point, lr=setting.lr, dialect=setting.rule, threads=1)
    )
    history = {name: np.empty((steps, 2)) for name in optimizer.buffers}
    recorded = [(history[name], arrays[0]) for name, arrays in optimizer.buffers.items()]
    x, f, grads = np.empty((steps + 1, 2)), np.empty(steps + 1), np.empty((steps, 2))
    x[0] = point
    done, broken = 0, None
    evaluate = _make_evaluator(experiment.function)
    advance = _make_step(optimizer, point) if is_baseline else optimizer.step
    finite = math.isfinite
    grad = np.empty(2)
    with np.errstate(all="ignore"):
        f[0], grad[0], grad[1] = evaluate(*point.tolist())
        for t in range(steps):
            if not t % _BLOCK:
                deadline.check()
            if noise is not None:
                grad += noise[t]
            grads[t] = grad
            advance(grad)
            for rows, buffer in recorded:
                rows[t] = buffer
            x[t + 1] = point
            place = point.tolist()
            value, by_x, by_y = evaluate(*place)
            done = t + 1
            f[done], grad[0], grad[1] = value, by_x, by_y
            if not finite(value + by_x + by_y + place[0] + place[1]):
                broken = done
                break
    history = {name: rows[:done] for name, rows in history.items()}
    statistic, rate = _compute_rates(setting, optimizer, history, done)
    arrays = {"x": x[: done + 1], "f": f[: done + 1], "grad": grads[:done], "statistic": statistic, "rate": rate}
    for array in arrays.values():
        array.setflags(write=False)
    return Path(**arrays, broken=broken)


def _make_evaluator(function: Expression) -> Any:
    """Return f(x, y) -> (value, df/dx, df/dy) of two numbers: `value_and_grad` without its checks."""
    one = np.float64(1.0)
    evaluate = function._evaluate

    def numbers(x: float, y: float) -> tuple[Any, Any, Any]:
        try:
            # Python's floats are faster than NumPy's; where NumPy gives infinity, they raise.
            value, by_x, by_y = evaluate((x, 1.0, None), (y, None, 1.0))
        except ZeroDivisionError:
            value, by_x, by_y = evaluate((np.float64(x), one, None), (np.float64(y), None, one))
        return value, 0.0 if by_x is None else by_x, 0.0 if by_y is None else by_y

    return numbers


def _make_step(optimizer: Any, point: Array) -> Any:
    """Return a baseline's step without its checks, which these arrays do not need."""
    buffers = [optimizer.buffers[name][0] for name in optimizer.buffer_names]
    update, lr, steps = optimizer._update, optimizer.lr, optimizer.steps
    count = 0

    def advance(grad: Array) -> None:
        nonlocal count
        count += 1
        steps[0] = count
        update(point, grad, *buffers, lr=lr, t=count)

    return advance


def _compute_rates(setting: Setting, optimizer: Any, history: dict[str, Array], done: int) -> tuple[Array, Array]:
    """Return the statistic and the effective learning rate of every step, from the recorded buffers."""
    with np.errstate(all="ignore"):
        if setting.rule is not None:
            step = np.arange(1, done + 1)[:, None]
            rate = formula.effective_lr(setting.rule, history, setting.lr, step=step)
            return formula.mean_square(history), rate
        name = optimizer.statistic
        statistic = np.full((done, 2), np.nan) if name is None else history[name]
        if not isinstance(optimizer, baselines.Adam):
            rate = optimizer._factor(*history.values(), lr=setting.lr, t=done)
            return statistic, np.broadcast_to(np.asarray(rate, np.float64), (done, 2))
        # Adam's bias corrections as powers of numbers: powers of arrays may differ in the last bit.
        first = np.array([1.0 - optimizer.beta1**t for t in range(1, done + 1)])[:, None]
        second = np.array([math.sqrt(1.0 - optimizer.beta2**t) for t in range(1, done + 1)])[:, None]
        denominator = np.sqrt(statistic) / second + optimizer.eps
        return statistic, np.where(denominator == 0, 0.0, setting.lr / first / denominator)
