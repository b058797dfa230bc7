"""The run of one start: a loop that does no more per step than it was asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmsprop.minimize._problem import FEW, Problem, is_finite
from rmsprop.minimize._stopping import Status, Tolerances

__all__ = ["Run", "run_single"]

Array = NDArray[Any]


class Run:
    """Where a run stands, and how it ended.

    Attributes:
        x: The last accepted point; the optimizer updates it in place.
        f: The objective there.
        g: The gradient there.
        nit: How many steps led there.
        status: Why the run ended; None while it goes on.
        bad: The objective's value that ended it, if it was not finite.
    """

    def __init__(self, x: Array) -> None:
        self.x = x
        self.f: float = math.nan
        self.g: Array = np.full_like(x, np.nan)
        self.nit = 0
        self.status: Status | None = None
        self.bad: Any = None


class Watch:
    """What has to be looked at after each step, if anything was asked for: callback, tolerances, trace."""

    def __init__(
        self, tolerances: Tolerances, *, sign: float, callback: Callable[[Run], None] | None, recorder: Any = None
    ) -> None:
        self.tolerances, self.sign, self.callback, self.recorder = tolerances, sign, callback, recorder
        self.last = Status.STEPS_USED_UP if tolerances.any else Status.STEPS_DONE
        self.idle = not tolerances.any and callback is None and recorder is None
        self._best, self._since = math.inf, 0

    def look(self, run: Run, previous: Any) -> Status | None:
        """Record, call back, and return a reason to stop, or None. `previous` is None at the start."""
        if self.recorder is not None:
            self.recorder.point(run.x, f=run.f)
        if self.callback is not None and previous is not None:
            try:
                self.callback(run)
            except StopIteration:
                return Status.CALLBACK
        t = self.tolerances
        if t.gtol is not None and np.abs(run.g).max() <= t.gtol:
            return Status.GRADIENT
        if t.xtol is not None and previous is not None and np.abs(run.x - previous).max() <= t.xtol:
            return Status.STEP_SIZE
        if t.ftol is not None and self._stalled(self.sign * run.f, t.ftol):
            return Status.STALL
        return None

    def _stalled(self, f: float, ftol: float) -> bool:
        if f < self._best - ftol or math.isinf(self._best):
            self._best, self._since = f, 0
            return False
        self._since += 1
        return self._since >= self.tolerances.patience


def run_single(
    problem: Problem,
    x: Array,
    optimizer: Any,
    *,
    lr: float | None,
    steps: int,
    batches: Iterator[tuple[Any, ...]],
    changing: bool,
    watch: Watch,
) -> Run:
    """Step until there is a reason to stop.

    Args:
        problem: What to evaluate.
        x: The start, and the array that `optimizer` updates. Written.
        optimizer: Anything with `step(grads, lr)`.
        lr: Handed to every step; None leaves it to the optimizer.
        steps: How many steps at most.
        batches: What follows x in the calls.
        changing: Whether that is another item for every step; else it is the first one's.
        watch: What to look at after each step.
    """
    run = Run(x)
    fun, jac, evaluate, two = problem.fun, problem.jac, problem.evaluate, callable(problem.jac)
    number, gradient, shape, dtype = problem.number, problem.gradient, x.shape, x.dtype
    step, watched = optimizer.step, not watch.idle
    isfinite, ndarray, float64 = math.isfinite, np.ndarray, np.float64
    # NumPy takes a microsecond to look at two numbers; as a list they cost a tenth of that.
    as_list = x.ndim == 1 and x.size <= FEW
    extra, ended, status = next(batches), False, None
    previous: Any = None
    spare = np.empty_like(x)
    f_before, g_before = math.nan, run.g
    t = 0
    while True:
        if two:
            # problem.evaluate, spelt out: for two numbers the call would cost as much as the step's arithmetic.
            f = fun(x.copy(), *extra)
            if type(f) is not float:
                f = float(f) if type(f) is float64 else number(f)
            if isfinite(f):
                g = jac(x.copy(), *extra)
                if not (type(g) is ndarray and g.shape == shape and g.dtype is dtype and g.flags.c_contiguous):
                    g = gradient(g)
        else:
            f, g = evaluate(x, extra)
        if not isfinite(f):
            status = Status.NO_START if previous is None else Status.NONFINITE_OBJECTIVE
            break
        if not (as_list and isfinite(sum(g.tolist()))) and not is_finite(g):
            status = Status.NONFINITE_GRADIENT
        elif watched:
            run.f, run.g, run.nit = f, g, t
            status = watch.look(run, previous)
        if t == steps or ended or status is not None:
            break
        if as_list:
            previous = x.tolist()
        else:
            np.copyto(spare, x)
            previous = spare
        f_before, g_before = f, g
        step(g, lr)
        if watched and watch.recorder is not None:
            watch.recorder.step(grad=g, **used_by(optimizer, t))
        t += 1
        if changing and t < steps:
            # The last evaluation has no step of its own and keeps the last batch.
            following = next(batches, None)
            ended = following is None
            extra = extra if following is None else following

    lost = status in (Status.NO_START, Status.NONFINITE_OBJECTIVE)
    if two:
        problem.nfev += t + 1
        problem.njev += t if lost else t + 1
    if status is None:
        status = Status.BATCHES_ENDED if ended else watch.last
    run.status, run.bad = status, f if lost else None
    if status is Status.NONFINITE_OBJECTIVE:
        x[...] = previous
        run.f, run.g, run.nit = f_before, g_before, t - 1
    elif status is Status.NO_START:
        run.f = f
    else:
        run.f, run.g, run.nit = f, g, t
    return run


def used_by(optimizer: Any, step: int) -> dict[str, Any]:
    """Return the statistic and the learning rates that the last step used, as `Recorder.step` takes them."""
    if hasattr(optimizer, "mean_square"):
        statistic = optimizer.mean_square()
    else:
        statistic = math.nan if optimizer.statistic is None else optimizer.buffers[optimizer.statistic][0]
    lr = optimizer.lr(step) if callable(optimizer.lr) else optimizer.lr
    return {"mean_sq": statistic, "effective_lr": optimizer.effective_lr(), "lr": lr}
