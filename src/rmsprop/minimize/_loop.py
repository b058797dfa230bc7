"""The loop: evaluate, check, record and call back, compare with the tolerances, step. One start is k = 1 of many.

A start that has ended stays where it is while the others go on; its row is still handed to `fun`, whose answer for it
is ignored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmsprop.minimize._problem import Problem
from rmsprop.minimize._stopping import Status, Tolerances

__all__ = ["Runs", "run_starts"]

Array = NDArray[Any]
_ACTIVE = 99


class Runs:
    """Where k runs stand, and how each ended.

    Attributes:
        x: The points, shape (k, n): the memory that the optimizer updates.
        f: The objective at them, shape (k,).
        g: The gradients there, shape (k, n).
        x_best: The best point that each has seen, shape (k, n).
        score: The objective there, times `sign`, shape (k,).
        nit: How many steps led to x, shape (k,).
        status: Why each ended, shape (k,), the numbers of `Status`.
        bad: The objective's values that ended a run by not being finite, shape (k,).
        active, going: Which starts go on, shape (k,), and how many.
        sign: -1.0 where the greatest objective is wanted, else 1.0.
    """

    def __init__(self, x: Array, *, sign: float) -> None:
        k = self.going = len(x)
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
            self.going = int(np.count_nonzero(self.active))

    def update(self, f: Array, g: Array, point: Array) -> None:
        """Take over what was evaluated at `point` for the starts that go on; keeps all three."""
        score = self.sign * f
        better = self.active & (score < self.score)
        improved = np.count_nonzero(better)
        if improved == len(f):
            self.x_best, self.score = point, score
        elif improved:
            self.x_best, self.score = np.where(better[:, None], point, self.x_best), np.where(better, score, self.score)
        if self.going == len(f):
            self.f, self.g = f, g
        else:
            self.f, self.g = np.where(self.active, f, self.f), np.where(self.active[:, None], g, self.g)

    @property
    def best(self) -> int:
        """The start that ends with the least objective (the greatest, if the rule maximizes)."""
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
    """Step until every start has a reason to stop; `x` is the array that `optimizer` updates."""
    # glibc gives freed arrays back to the system, and every step pays for new pages, until it has seen a larger one go.
    np.empty(8 * x.size)
    runs = Runs(x.reshape(problem.starts, -1), sign=sign)
    level, since = runs.score, np.zeros(problem.starts, np.int64)
    extra, ended, previous = next(batches), False, runs.x
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
        if recorder is not None and (runs.going or t == 0):
            recorder.add_point(runs.x, f=runs.f)
        # The fastest look at all of them; where only their sum overflows, none ends.
        if not np.isfinite(np.einsum("ij->", g)):
            runs.end(~np.isfinite(g).all(axis=1), Status.NONFINITE_GRADIENT, t)

        if callback is not None and t and runs.going:
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
            runs.end(True, Status.STEPS_USED_UP if tolerances.any else Status.STEPS_DONE, t)
        elif ended:
            runs.end(True, Status.BATCHES_ENDED, t)
        if not runs.going:
            return runs

        previous = point
        grad = runs.g
        if runs.going < len(f):
            grad = np.where(runs.active[:, None], grad, grad.dtype.type(0))
        optimizer.step(grad.reshape(x.shape))
        if runs.going < len(f):
            # A momentum buffer or weight decay moves a parameter without a gradient too.
            runs.x[~runs.active] = previous[~runs.active]
        if recorder is not None:
            recorder.add_step(grad=grad, **_used_by(optimizer, t))
        t += 1
        if t < steps:
            # The last evaluation has no step of its own and keeps the last batch.
            following = next(batches, None)
            ended = following is None
            extra = extra if following is None else following


def _used_by(optimizer: Any, step: int) -> dict[str, Any]:
    """Return the statistic and the learning rates that the last step used, as `Recorder.add_step` takes them."""
    if hasattr(optimizer, "mean_square"):
        statistic = optimizer.mean_square()
    else:
        statistic = math.nan if optimizer.statistic is None else optimizer.buffers[optimizer.statistic][0]
    lr = optimizer.lr(step) if callable(optimizer.lr) else optimizer.lr
    return {"mean_sq": statistic, "effective_lr": optimizer.effective_lr(), "lr": lr}
