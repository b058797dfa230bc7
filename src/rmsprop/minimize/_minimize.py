"""The one call: check the arguments, choose the loop, build the result."""

from __future__ import annotations

import itertools
import numbers
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from rmsprop.errors import InputError, InputTypeError
from rmsprop.minimize._problem import DIFFERENCES, Problem, batch_source, check_start
from rmsprop.minimize._single import Run, Watch, run_single
from rmsprop.minimize._starts import Runs, run_starts
from rmsprop.minimize._stopping import Status, Tolerances, message
from rmsprop.rule import Rule

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

__all__ = ["minimize"]


def minimize(
    fun: Callable[..., Any],
    x0: Any,
    *,
    jac: Callable[..., Any] | bool | str | None = None,
    args: tuple[Any, ...] = (),
    lr: float | Callable[[int], float] = 0.01,
    rule: Rule | None = None,
    steps: int = 1000,
    batches: Iterable[Any] | None = None,
    callback: Callable[..., Any] | None = None,
    gtol: float | None = None,
    xtol: float | None = None,
    ftol: float | None = None,
    patience: int = 20,
    trace: bool = False,
    optimizer: str | Callable[..., Any] | None = None,
    vectorized: bool | None = None,
) -> OptimizeResult:
    """Minimize `fun` from `x0` by steps of RMSprop.

    Without a tolerance all steps are done, and that is a success. RMSprop with a constant lr does not come to rest at
    a minimum: it ends up swinging around it by about lr / 2. Let lr fall, or set a tolerance no finer than that.

    Args:
        fun: `fun(x, *batch, *args)` -> a number. x is a fresh array of the shape and dtype of `x0`.
        x0: The start, any shape; float32 or float64, integers become float64. Read. Shape (k, n), with a `fun` that
            returns k numbers for it, is a run of k starts at once: see `vectorized`.
        jac: `jac(x, *batch, *args)` -> the gradient, shaped like x; or True: `fun` returns (value, gradient); or how
            SciPy is to compute it by differences: "2-point" (the default, n more calls of `fun` per step), "3-point"
            or "cs" (`fun` must take complex x).
        args: Handed to `fun` and `jac` after x and the batch.
        lr: Learning rate, in units of x: a number, or a function of the step (0 for the first one).
        rule: The member of the RMSprop family. Default: `Rule()`, rho 0.9 and eps 1e-8 inside the root.
        steps: How many steps at most, at least 0.
        batches: For stochastic gradients: an iterable with one batch per step. A tuple or list is spread over the
            arguments after x, anything else is one argument. A container starts over at its end; an iterator that
            ends, ends the run.
        callback: Called after every step as `callback(x)`, or, if its parameter has the name `intermediate_result`,
            with a result (x, fun, jac, nit) as SciPy does it. It stops the run by raising StopIteration.
        gtol: Stop when no element of the gradient is larger than this.
        xtol: Stop when no element of x moved by more than this in one step.
        ftol: Stop when the best objective has not improved by more than this for `patience` steps.
        patience: See `ftol`.
        trace: Keep every step in `result.trace`, a `rmsprop.trace.Trace`.
        optimizer: A baseline by name ("adam") or class, or anything else that is called as `optimizer(x, lr=lr)`.
        vectorized: Whether `fun` (and `jac`) take all k starts as one array (k, n) and return k values (and k
            gradients). Default: if x0 has two axes and `fun(x0)` has shape (k,).

    Returns:
        x, fun, jac (at x), nit, nfev, njev (calls), success, status (see `Status`), message. Of many starts these are
        the best one's, nit excepted, which counts the steps of all; start says which it is, and xs, funs, jacs, nits,
        statuses hold all of them.

    Raises:
        InputError: An argument out of its domain, or a `fun` or `jac` that returns another shape.
        InputTypeError: An argument, or what `fun` or `jac` return, has a type without a meaning here.

    Example:
        >>> import numpy as np, rmsprop
        >>> run = rmsprop.minimize(lambda x: (x[0] - 1) ** 2 + 10 * x[1] ** 2, [0.0, 2.0],
        ...                        lr=lambda t: 0.1 * 0.99**t, steps=1000)
        >>> bool(np.abs(run.x - [1, 0]).max() < 1e-3)
        True
        >>> run.message
        'All 1000 steps were done; no tolerance was set.'

        Five starts at once, for a function with two valleys:

        >>> valleys = lambda x: (x[:, 0] ** 2 - 1) ** 2 + 0.3 * x[:, 0]
        >>> run = rmsprop.minimize(valleys, np.linspace(-2, 2, 5)[:, None], steps=500)
        >>> print(run.xs.round(1).ravel(), run.start)
        [-1. -1. -1.  1.  1.] 0
    """
    tolerances = Tolerances(gtol, xtol, ftol, patience)
    steps = _check_steps(steps)
    x = check_start(x0)
    if not callable(fun):
        raise InputTypeError(f"fun: {type(fun).__name__}, expected a function of x")
    scheme = _check_jac(jac)
    args = args if isinstance(args, tuple) else (args,)
    call_back = _callback(callback)
    source = batch_source(batches, args)
    first = next(source)
    many, objective = _is_many(fun, x, vectorized, pair=scheme is True, extra=first)
    problem = Problem(objective, scheme, x, many=many)
    engine = _engine(optimizer, x, lr, rule)
    sign = -1.0 if getattr(getattr(engine, "rule", None), "maximize", False) else 1.0
    recorder = None
    if trace:
        from rmsprop.trace import Recorder

        recorder = Recorder(x if many else x.reshape(-1), steps=steps)
    source = itertools.chain([first], source)
    if many:
        runs = run_starts(
            problem,
            x,
            engine,
            steps=steps,
            batches=source,
            tolerances=tolerances,
            sign=sign,
            callback=call_back,
            recorder=recorder,
        )
        result = _result_of_many(runs, problem, tolerances)
    else:
        watch = Watch(tolerances, sign=sign, callback=call_back, recorder=recorder)
        run = run_single(
            problem,
            x,
            engine,
            lr=None if callable(lr) else lr,
            steps=steps,
            batches=source,
            changing=batches is not None,
            watch=watch,
        )
        result = _result(run, problem, tolerances)
    if recorder is not None:
        name = "rmsprop" if optimizer is None else getattr(engine, "name", type(engine).__name__)
        shape = x.shape[1:] if many else x.shape
        result.trace = recorder.finish(optimizer=name, rule=getattr(engine, "rule", None), shape=shape)
    return result


def _result(run: Run, problem: Problem, tolerances: Tolerances) -> OptimizeResult:
    from scipy.optimize import OptimizeResult

    assert run.status is not None
    return OptimizeResult(
        x=run.x,
        fun=run.f,
        jac=run.g.copy(),
        nit=run.nit,
        nfev=problem.nfev,
        njev=problem.njev,
        success=run.status >= 0,
        status=int(run.status),
        message=message(run.status, nit=run.nit, tolerances=tolerances, bad=run.bad),
    )


def _result_of_many(runs: Runs, problem: Problem, tolerances: Tolerances) -> OptimizeResult:
    from scipy.optimize import OptimizeResult

    best = runs.best
    status = Status(int(runs.status[best]))
    reason = message(status, nit=int(runs.nit[best]), tolerances=tolerances, bad=runs.bad[best])
    return OptimizeResult(
        x=runs.x[best].copy(),
        fun=float(runs.f[best]),
        jac=runs.g[best].copy(),
        nit=int(runs.nit.max()),
        nfev=problem.nfev,
        njev=problem.njev,
        success=status >= 0,
        status=int(status),
        message=f"Start {best} of {len(runs.x)} is the best. {reason}",
        start=best,
        xs=runs.x,
        funs=runs.f,
        jacs=runs.g,
        nits=runs.nit,
        statuses=runs.status,
    )


def _engine(optimizer: Any, x: Any, lr: Any, rule: Rule | None) -> Any:
    """Build what updates x."""
    if optimizer is None or optimizer == "rmsprop":
        from rmsprop.numpy import RMSprop

        return RMSprop(x, lr=lr, dialect=rule)
    if rule is not None:
        raise InputError("rule: it describes RMSprop, but optimizer says to use another one; leave one of them out")
    if isinstance(optimizer, str):
        from rmsprop import baselines

        optimizer = baselines.get(optimizer)
    if not callable(optimizer):
        raise InputTypeError(f"optimizer: {type(optimizer).__name__}, expected a name or a class of rmsprop.baselines")
    return optimizer(x, lr=lr)


def _is_many(
    fun: Callable[..., Any], x: Any, vectorized: bool | None, *, pair: bool, extra: tuple[Any, ...]
) -> tuple[bool, Callable[..., Any]]:
    """Return whether x0 holds many starts, and `fun`, made to repeat its first answer if it was asked here."""
    if vectorized is not None:
        if vectorized and x.ndim != 2:
            raise InputError(f"x0: shape {x.shape}, expected (starts, n) because vectorized=True")
        return bool(vectorized), fun
    if x.ndim != 2:
        return False, fun
    value = fun(x.copy(), *extra)
    answers = [value]

    def replay(x: Any, *extra: Any) -> Any:
        return answers.pop() if answers else fun(x, *extra)

    objective = value[0] if pair and isinstance(value, (tuple, list)) and value else value
    return np.shape(objective) == x.shape[:1], replay


def _callback(callback: Any) -> Callable[[Run | Runs], None] | None:
    """Wrap the user's callback, which SciPy's convention lets choose what it is called with."""
    if callback is None:
        return None
    if not callable(callback):
        raise InputTypeError(f"callback: {type(callback).__name__}, expected a function")
    import inspect

    from scipy.optimize import OptimizeResult

    try:
        by_name = set(inspect.signature(callback).parameters) == {"intermediate_result"}
    except ValueError:
        # Some built-in functions do not tell their parameters.
        by_name = False

    def call(run: Run | Runs) -> None:
        if isinstance(run, Run):
            fields = {"x": run.x.copy(), "fun": run.f, "jac": run.g.copy(), "nit": run.nit}
        else:
            b = run.best
            fields = {"x": run.x[b].copy(), "fun": float(run.f[b]), "jac": run.g[b].copy(), "nit": int(run.nit.max())}
            fields |= {"start": b, "xs": run.x.copy(), "funs": run.f.copy()}
        if by_name:
            callback(intermediate_result=OptimizeResult(fields))
        else:
            callback(fields["x"])

    return call


def _check_steps(steps: Any) -> int:
    if isinstance(steps, bool) or not isinstance(steps, (numbers.Integral, np.integer)) or steps < 0:
        raise InputError(f"steps={steps!r}, expected a whole number, at least 0")
    return int(steps)


def _check_jac(jac: Any) -> Any:
    if jac is None or jac is False:
        return DIFFERENCES[0]
    if jac is True or callable(jac) or (isinstance(jac, str) and jac in DIFFERENCES):
        return jac
    raise InputError(f"jac={jac!r}, expected a function, True, or one of {', '.join(map(repr, DIFFERENCES))}")
