"""The run of many starts at once: one array, one optimizer, and each start ends for its own reason.

A start that has ended stays where it is while the others go on; its row is still handed to `fun`, whose answer for it
is ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmsprop.minimize._problem import Problem
from rmsprop.minimize._single import used_by
from rmsprop.minimize._stopping import Status, Tolerances

__all__ = ["Runs", "run_starts"]

Array = NDArray[Any]
_GOES_ON = 99


class Runs:
    """Where k runs stand, and how each ended.

    Attributes:
        x: The points, shape (k, n).
        f: The objective at them, shape (k,).
        g: The gradients there, shape (k, n).
        nit: How many steps led there, shape (k,).
        status: Why each ended, shape (k,), the numbers of `Status`.
        bad: The objective's values that ended a run by not being finite, shape (k,).
    """

    def __init__(self, x: Array, *, sign: float) -> None:
        k = len(x)
        self.x, self.sign = x, sign
        self.f, self.bad = np.full(k, np.nan), np.full(k, np.nan)
        self.g = np.full_like(x, np.nan)
        self.nit = np.zeros(k, dtype=np.int64)
        self.status = np.full(k, _GOES_ON)

    @property
    def active(self) -> Array:
        """Which starts go on."""
        active: Array = self.status == _GOES_ON
        return active

    def end(self, which: Any, status: Status) -> None:
        """End those of `which` that go on."""
        self.status[which & self.active] = status

    @property
    def best(self) -> int:
        """The start with the least objective (the greatest, if the rule maximizes)."""
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
    callback: Callable[[Runs], None] | None,
    recorder: Any,
) -> Runs:
    """Step until every start has a reason to stop; `x` is the array that `optimizer` updates."""
    runs = Runs(x, sign=sign)
    everywhere = np.ones(len(x), dtype=bool)
    best, since = np.full(len(x), np.inf), np.zeros(len(x), dtype=np.int64)
    extra, ended = next(batches), False
    previous: Array | None = None
    t = 0
    while True:
        f, g = problem.evaluate(x, extra)
        lost = ~np.isfinite(f) & runs.active
        runs.bad[lost] = f[lost]
        if previous is None:
            runs.f[lost] = f[lost]
            runs.end(lost, Status.NO_START)
        else:
            x[lost] = previous[lost]
            runs.end(lost, Status.NONFINITE_OBJECTIVE)
        active = runs.active
        runs.f[active], runs.g[active], runs.nit[active] = f[active], g[active], t
        runs.end(~np.isfinite(g).all(axis=1), Status.NONFINITE_GRADIENT)
        if recorder is not None:
            recorder.point(x, f=runs.f)
        if callback is not None and previous is not None:
            try:
                callback(runs)
            except StopIteration:
                runs.end(everywhere, Status.CALLBACK)
        if tolerances.gtol is not None:
            runs.end(np.abs(runs.g).max(axis=1) <= tolerances.gtol, Status.GRADIENT)
        if tolerances.xtol is not None and previous is not None:
            runs.end(np.abs(x - previous).max(axis=1) <= tolerances.xtol, Status.STEP_SIZE)
        if tolerances.ftol is not None:
            better: Array = np.isinf(best) | (sign * runs.f < best - tolerances.ftol)
            best[better], since = (sign * runs.f)[better], np.where(better, 0, since + 1)
            runs.end(since >= tolerances.patience, Status.STALL)
        if t == steps:
            runs.end(everywhere, Status.STEPS_USED_UP if tolerances.any else Status.STEPS_DONE)
        elif ended:
            runs.end(everywhere, Status.BATCHES_ENDED)
        active = runs.active
        if not active.any():
            return runs
        previous = x.copy()
        grad = np.where(active[:, None], runs.g, x.dtype.type(0))
        optimizer.step(grad)
        # A momentum buffer or weight decay moves a parameter without a gradient too.
        x[~active] = previous[~active]
        if recorder is not None:
            recorder.step(grad=grad, **used_by(optimizer, t))
        t += 1
        if t < steps:
            following = next(batches, None)
            ended = following is None
            extra = extra if following is None else following
