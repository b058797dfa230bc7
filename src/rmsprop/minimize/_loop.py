"""The loop: evaluate, check, record, call back, compare with the tolerances, step. A single start is k = 1 of many.

A start that has ended stays where it is while the others go on; its row is still passed to `fun`, whose value for it
is ignored.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import numbers
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmsprop.errors import InputError
from rmsprop.minimize._problem import Problem

__all__ = ["Runs", "Status", "Tolerances", "describe_status", "run_starts"]

Array = NDArray[Any]
_ACTIVE = 99


class Status(enum.IntEnum):
    """Why a run ended, the `status` of its result: 0 and above for success.

    Attributes:
        STEPS_DONE: All steps were done; no tolerance was set.
        GRADIENT: No element of the gradient is larger than gtol.
        STEP_SIZE: A step moved no element by more than xtol.
        STALL: The objective has not improved by more than ftol.
        BATCHES_ENDED: There were no more batches.
        STEPS_USED_UP: All steps were done and no tolerance was met.
        CALLBACK: The callback stopped the run.
        NONFINITE_OBJECTIVE: The objective became NaN or infinite.
        NONFINITE_GRADIENT: The gradient became NaN or infinite.
        NO_START: The objective or the gradient is not finite at the start.

    Example:
        >>> int(Status.GRADIENT), int(Status.NONFINITE_OBJECTIVE)
        (1, -3)
    """

    STEPS_DONE = 0
    GRADIENT = 1
    STEP_SIZE = 2
    STALL = 3
    BATCHES_ENDED = 4
    STEPS_USED_UP = -1
    CALLBACK = -2
    NONFINITE_OBJECTIVE = -3
    NONFINITE_GRADIENT = -4
    NO_START = -5


_MESSAGES = {
    Status.STEPS_DONE: "All {nit} steps were done; no tolerance was set.",
    Status.GRADIENT: "No element of the gradient is larger than gtol={t.gtol:g} after {nit} steps.",
    Status.STEP_SIZE: "No element of x moved by more than xtol={t.xtol:g} in step {nit}.",
    Status.STALL: "The best objective improved by no more than ftol={t.ftol:g} in {t.patience} steps, {nit} in all.",
    Status.BATCHES_ENDED: "The batches ended after {nit} steps.",
    Status.STEPS_USED_UP: "All {nit} steps were done before a tolerance was met.",
    Status.CALLBACK: "The callback raised StopIteration after {nit} steps.",
    Status.NONFINITE_OBJECTIVE: (
        "Step {next} led to a point where fun is {bad}; x is the last point where it is finite."
    ),
    Status.NONFINITE_GRADIENT: (
        "The gradient is not finite at the point after {nit} steps, although fun is; x is that point."
    ),
    Status.NO_START: "fun(x0) is {bad}: there is no finite point to start from.",
}


@dataclasses.dataclass(frozen=True)
class Tolerances:
    """When to stop before the last step; None never stops."""

    gtol: float | None
    xtol: float | None
    ftol: float | None
    patience: int

    def __post_init__(self) -> None:
        for name in ("gtol", "xtol", "ftol"):
            value = getattr(self, name)
            is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
            if value is not None and not (is_number and 0 <= value < math.inf):
                raise InputError(f"{name}={value!r}, expected a finite number, at least 0, or None")
        if isinstance(self.patience, bool) or not isinstance(self.patience, numbers.Integral) or self.patience < 1:
            raise InputError(f"patience={self.patience!r}, expected a whole number, at least 1")

    @property
    def is_set(self) -> bool:
        """Whether there is a tolerance."""
        return (self.gtol, self.xtol, self.ftol) != (None, None, None)


def describe_status(status: Status, *, nit: int, tolerances: Tolerances, bad: object) -> str:
    """Return a sentence that says why the run ended. `bad` is the value that was not finite."""
    return _MESSAGES[status].format(nit=nit, next=nit + 1, t=tolerances, bad=bad)


class Runs:
    """The state of k runs, and how each ended.

    Attributes:
        x: The points, shape (k, n): the memory that the optimizer updates.
        f: The objective at them, shape (k,).
        g: The gradients there, shape (k, n).
        x_best: The best point of each so far, shape (k, n).
        score: The objective there, times `sign`, shape (k,).
        nit: How many steps led to x, shape (k,).
        status: Why each ended, shape (k,), the numbers of `Status`.
        bad: The values of the objective that were not finite and ended a run, shape (k,).
        active: Which starts go on, shape (k,).
        count: How many go on.
        sign: -1.0 to maximize, else 1.0.
    """

    def __init__(self, x: Array, *, sign: float) -> None:
        k = self.count = len(x)
        self.x, self.x_best, self.sign = x, x.copy(), sign
        self.f, self.bad, self.score = np.full(k, np.nan), np.full(k, np.nan), np.full(k, np.inf)
        self.g = np.full_like(x, np.nan)
        self.nit, self.status, self.active = np.zeros(k, np.int64), np.full(k, _ACTIVE), np.ones(k, np.bool_)

    def end(self, which: Any, status: Status, nit: int) -> None:
        """End those of `which` that go on."""
        which = which & self.active
        if np.count_nonzero(which):
            self.status[which], self.nit[which] = status, nit
            self.active = self.active & ~which
            self.count = int(np.count_nonzero(self.active))

    def update(self, f: Array, g: Array, point: Array) -> None:
        """Store the values at `point` of the starts that go on; keeps references to all three arrays."""
        score = self.sign * f
        better = self.active & (score < self.score)
        improved = np.count_nonzero(better)
        if improved == len(f):
            self.x_best, self.score = point, score
        elif improved:
            self.x_best, self.score = np.where(better[:, None], point, self.x_best), np.where(better, score, self.score)
        if self.count == len(f):
            self.f, self.g = f, g
        else:
            self.f, self.g = np.where(self.active, f, self.f), np.where(self.active[:, None], g, self.g)

    @property
    def best(self) -> int:
        """The start with the smallest objective (the largest, if the rule maximizes)."""
        return int(np.argmin(np.where(np.isfinite(self.f), self.sign * self.f, np.inf)))


def run_starts(
    problem: Problem,
    x: Array,
    optimizer: Any,
    *,
    steps: int,
    batches: Iterator[tuple[Any, ...]],
    tolerances: Tolerances,
    sign: float,
    callback: Callable[[Runs, int], None] | None,
    recorder: Any,
) -> Runs:
    """Step until every start has ended; `x` is the array that `optimizer` updates."""
    # Until a larger array has been freed, glibc returns freed arrays to the system, and every step pays for new pages.
    np.empty(8 * x.size)
    runs = Runs(x.reshape(problem.starts, -1), sign=sign)
    level, since = runs.score, np.zeros(problem.starts, np.int64)
    extra, is_last_batch, previous = next(batches), False, runs.x
    t = 0
    while True:
        point = runs.x.copy()
        f, g = problem.evaluate(point, extra)

        finite = np.isfinite(f)
        if not finite.all():
            lost = ~finite & runs.active
            runs.bad[lost] = f[lost]
            if t == 0:
                runs.f[lost] = f[lost]
            runs.x[lost] = point[lost] = previous[lost]
            runs.end(lost, Status.NONFINITE_OBJECTIVE if t else Status.NO_START, max(t - 1, 0))
        runs.update(f, g, point)
        if recorder is not None and (runs.count or t == 0):
            recorder.add_point(runs.x, f=runs.f)
        # The sum is the fastest check of all elements; if only the sum overflows, no start ends.
        if not np.isfinite(np.einsum("ij->", g)):
            runs.end(~np.isfinite(g).all(axis=1), Status.NONFINITE_GRADIENT, t)

        if callback is not None and t and runs.count:
            try:
                callback(runs, t)
            except StopIteration:
                runs.end(True, Status.CALLBACK, t)
        if tolerances.gtol is not None:
            runs.end(np.abs(runs.g).max(axis=1) <= tolerances.gtol, Status.GRADIENT, t)
        if tolerances.xtol is not None and t:
            runs.end(np.abs(runs.x - previous).max(axis=1) <= tolerances.xtol, Status.STEP_SIZE, t)
        if tolerances.ftol is not None:
            better = np.isinf(level) | (sign * runs.f < level - tolerances.ftol)
            level, since = np.where(better, sign * runs.f, level), np.where(better, 0, since + 1)
            runs.end(since >= tolerances.patience, Status.STALL, t)
        if t == steps:
            runs.end(True, Status.STEPS_USED_UP if tolerances.is_set else Status.STEPS_DONE, t)
        elif is_last_batch:
            runs.end(True, Status.BATCHES_ENDED, t)
        if not runs.count:
            return runs

        previous = point
        grad = runs.g
        if runs.count < len(f):
            grad = np.where(runs.active[:, None], grad, grad.dtype.type(0))
        optimizer.step(grad.reshape(x.shape))
        if runs.count < len(f):
            # A momentum buffer or weight decay moves a parameter even if its gradient is zero.
            runs.x[~runs.active] = previous[~runs.active]
        if recorder is not None:
            recorder.add_step(grad=grad, **_get_step_values(optimizer, t))
        t += 1
        if t < steps:
            # The last evaluation has no step of its own and uses the last batch again.
            following = next(batches, None)
            is_last_batch = following is None
            extra = extra if following is None else following


def _get_step_values(optimizer: Any, step: int) -> dict[str, Any]:
    """Return the statistic and the learning rates of the last step, as arguments of `Recorder.add_step`."""
    if hasattr(optimizer, "mean_square"):
        statistic = optimizer.mean_square()
    else:
        statistic = math.nan if optimizer.statistic is None else optimizer.buffers[optimizer.statistic][0]
    lr = optimizer.lr(step) if callable(optimizer.lr) else optimizer.lr
    return {"mean_sq": statistic, "effective_lr": optimizer.effective_lr(), "lr": lr}
