"""`minimize`: check the arguments, run the loop, build the result."""

from __future__ import annotations

import inspect
import itertools
import numbers
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from rmsprop import expression
from rmsprop.errors import InputError, InputTypeError
from rmsprop.minimize._loop import Runs, Status, Tolerances, describe_status, run_starts
from rmsprop.minimize._problem import DIFFERENCES, Problem, convert_start, iterate_batches
from rmsprop.numpy import RMSprop
from rmsprop.rule import Rule
from rmsprop.select import check_option_names
from rmsprop.trace import Recorder

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

__all__ = ["minimize"]

_RAN_TO_THE_END = (Status.STEPS_DONE, Status.STEPS_USED_UP, Status.STALL)
_MOVES = " fun_best is better than fun: a constant lr keeps RMSprop moving; let lr decay, or use x_best."


@check_option_names
def minimize(
    fun: Callable[..., Any] | str,
    x0: Any,
    *,
    jac: Callable[..., Any] | bool | str | None = None,
    args: tuple[Any, ...] = (),
    lr: float | Callable[[int], float] | None = None,
    rho: float | None = None,
    eps: float | None = None,
    momentum: float | None = None,
    centered: bool | None = None,
    weight_decay: float | None = None,
    dialect: str | Rule | None = None,
    steps: int = 1000,
    batches: Iterable[Any] | None = None,
    callback: Callable[..., Any] | None = None,
    gtol: float | None = None,
    xtol: float | None = None,
    ftol: float | None = None,
    patience: int | None = None,
    trace: bool = False,
    optimizer: str | Callable[..., Any] | None = None,
    vectorized: bool | None = None,
) -> OptimizeResult:
    """Minimize `fun` from `x0` by steps of RMSprop.

    Without a tolerance all steps are done, and that is a success. With a constant lr, RMSprop does not converge to a
    minimum: it oscillates around it by about lr / 2. Let lr decay, set a tolerance no smaller than that, or use
    `x_best`.

    Args:
        fun: `fun(x, *batch, *args)` -> a number. x is a fresh array of the shape and dtype of `x0`; if `x0` is a
            number, so is x. Or a typed function of x, or of x and y: "x - x^3" (see `rmsprop.expression`).
        x0: The start: a number, or an array of any shape; float32 or float64, integers become float64. Read. An array
            (k, n), with a `fun` that returns k numbers for it, holds k starts: see `vectorized`.
        jac: `jac(x, *batch, *args)` -> the gradient, shaped like x; or True: `fun` returns (value, gradient); or how
            to approximate it by differences: "2-point" (n more calls of `fun` per step), "3-point" or "cs" (`fun` must
            take complex x). Default: the exact gradient of a typed function, "2-point" of any other.
        args: Passed to `fun` and `jac` after x and the batch.
        lr: Learning rate, in units of x: a number, or a function of the step (0 for the first one). Default: the
            dialect's own where it has one, else 0.01.
        rho: Decay of the mean square. Default for this and the next five: the dialect's own.
        eps: Added to the denominator, inside or outside the root as the dialect does.
        momentum: Decay of the momentum buffer.
        centered: Whether to divide by the standard deviation.
        weight_decay: Strength of the weight decay.
        dialect: The variant of RMSprop: a name (`rmsprop.dialects.names()`) or a `Rule`, which the options may not
            contradict. Default: `Rule()`, rho 0.9 and eps 1e-8 inside the root.
        steps: The maximum number of steps, at least 0.
        batches: For stochastic gradients: an iterable with one batch per step. The elements of a tuple
            or list become the arguments after x, anything else is one argument. A container starts over at its end;
            the end of an iterator ends the run.
        callback: Called after every step as `callback(x)`, or, if its parameter has the name `intermediate_result`,
            with a result (x, fun, jac, nit) as SciPy does it. It stops the run by raising StopIteration.
        gtol: Stop when no element of the gradient is larger in magnitude than this.
        xtol: Stop when no element of x moved by more than this in one step.
        ftol: Stop when the best objective has not improved by more than this for `patience` steps.
        patience: See `ftol`, which it needs. Default: 20.
        trace: Record every step in `result.trace`, a `rmsprop.trace.Trace`.
        optimizer: A baseline by name ("adam") or class, or any callable that is called as `optimizer(x, lr=lr)`.
        vectorized: Whether `fun` (and `jac`) take all k starts as one array (k, n) and return k values (and k
            gradients). Default: if x0 has two axes and `fun(x0)` has shape (k,).

    Returns:
        x and jac (at x), arrays of the shape of `x0`; fun (at x), a float; x_best and fun_best, the best point of all
        evaluated ones (with `batches`, each on its own batch); nit, nfev, njev (calls), success, status (see `Status`)
        and message, which also says if a constant lr led away from x_best. With many starts these describe the best
        start, except nit, x_best and fun_best, which are those of all; start is its index, and xs, funs, jacs, nits,
        statuses hold the values of all starts.

    Raises:
        InputError: An argument out of its range, or a `fun` or `jac` that returns another shape.
        RuleError: An unknown dialect, an option that it does not have, or an option out of its range.
        InputTypeError: An argument, or the result of `fun` or `jac`, of a wrong type; unknown options.
        ExpressionError: A typed function that does not parse; the message shows the column.

    Example:
        >>> import numpy as np, rmsprop
        >>> run = rmsprop.minimize("(x - 1)^2 + 10*y^2", [0.0, 2.0], lr=lambda t: 0.1 * 0.99**t, steps=1000)
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
    tolerances = Tolerances(gtol, xtol, ftol, 20 if patience is None else patience)
    if patience is not None and ftol is None:
        raise InputError(f"patience={patience!r} without ftol: pass ftol too, at least ftol=0")
    if isinstance(steps, bool) or not isinstance(steps, numbers.Integral) or steps < 0:
        raise InputError(f"steps={steps!r}, expected a whole number, at least 0")
    if callback is not None and not callable(callback):
        raise InputTypeError(f"callback: {type(callback).__name__}, expected a function")
    x = convert_start(x0)
    args = args if isinstance(args, tuple) else (args,)
    typed = expression.parse(fun) if isinstance(fun, str) else fun
    fun, jac = _resolve_functions(typed, jac, x, takes_more=args != () or batches is not None)
    if vectorized and x.ndim != 2:
        raise InputError(f"x0: shape {x.shape}, expected (starts, n) because vectorized=True")
    options = {"rho": rho, "eps": eps, "momentum": momentum, "centered": centered, "weight_decay": weight_decay}
    engine = _make_optimizer(optimizer, x, lr, {**options, "dialect": dialect})
    source = iterate_batches(batches, args)
    first = next(source)
    problem = Problem(fun, jac, x, vectorized=vectorized, extra=first)
    rule = getattr(engine, "rule", None)
    recorder = Recorder(x if problem.many else x.reshape(-1), steps=steps) if trace else None
    runs = run_starts(
        problem,
        x,
        engine,
        steps=int(steps),
        batches=itertools.chain([first], source),
        tolerances=tolerances,
        sign=-1.0 if rule is not None and rule.maximize else 1.0,
        callback=_wrap_callback(callback, problem),
        recorder=recorder,
    )
    constant = rule is not None and batches is None and not callable(engine.lr)
    result = _build_result(runs, problem, tolerances, constant_lr=constant)
    if recorder is not None:
        name = "rmsprop" if optimizer is None else getattr(engine, "name", type(engine).__name__)
        text = typed.text if isinstance(typed, expression.Expression) else None
        result.trace = recorder.finish(optimizer=name, rule=rule, shape=problem.shape, function=text)
    return result


def _resolve_functions(fun: Any, jac: Any, x: Any, *, takes_more: bool) -> tuple[Callable[..., Any], Any]:
    """Return `fun` as a callable, and `jac` as a callable, True or the name of a difference scheme."""
    if not callable(fun):
        raise InputTypeError(f"fun: {type(fun).__name__}, expected a function of x, or its text")
    if isinstance(fun, expression.Expression):
        if takes_more:
            raise InputError("args, batches: a typed function takes neither; pass a Python function")
        n = len(fun.variables)
        if x.shape[-1:] != (n,) and not (x.ndim == 0 and n == 1):
            raise InputError(f"x0: shape {x.shape}, expected ({n},) for a function of {' and '.join(fun.variables)}")
        if jac is None or jac is True:
            return fun.value_and_grad, True
    if jac is None or jac is False:
        return fun, "2-point"
    if jac is True or callable(jac) or (isinstance(jac, str) and jac in DIFFERENCES):
        return fun, jac
    raise InputError(f"jac={jac!r}, expected a function, True, or one of {', '.join(map(repr, DIFFERENCES))}")


def _make_optimizer(optimizer: Any, x: Any, lr: Any, options: dict[str, Any]) -> Any:
    """Return the object whose `step` updates x."""
    if optimizer is None or optimizer == "rmsprop":
        return RMSprop(x, lr=lr, **options)
    for name, value in options.items():
        if value is not None:
            raise InputError(f"{name}: an option of RMSprop, but optimizer={optimizer!r}; leave one of them out")
    if isinstance(optimizer, str):
        from rmsprop import baselines

        optimizer = baselines.get(optimizer)
    if not callable(optimizer):
        raise InputTypeError(f"optimizer: {type(optimizer).__name__}, expected a name or a class of rmsprop.baselines")
    return optimizer(x, lr=0.01 if lr is None else lr)


def _describe_point(runs: Runs, problem: Problem) -> dict[str, Any]:
    """Return the fields of a result that describe the best start."""
    b = runs.best
    fields = {"x": runs.x[b].copy().reshape(problem.shape), "fun": float(runs.f[b])}
    fields["jac"] = runs.g[b].copy().reshape(problem.shape)
    return {**fields, "start": b, "xs": runs.x.copy(), "funs": runs.f.copy()} if problem.many else fields


def _build_result(runs: Runs, problem: Problem, tolerances: Tolerances, *, constant_lr: bool) -> OptimizeResult:
    from rmsprop.minimize._result import Result

    b, top = runs.best, int(np.argmin(runs.score))
    status = Status(int(runs.status[b]))
    fields = _describe_point(runs, problem)
    reason = describe_status(status, nit=int(runs.nit[b]), tolerances=tolerances, bad=runs.bad[b])
    if problem.many:
        reason = f"Start {b} of {problem.starts} is the best. {reason}"
        fields |= {"jacs": runs.g, "nits": runs.nit, "statuses": runs.status}
    if constant_lr and status in _RAN_TO_THE_END and runs.sign * fields["fun"] > runs.score[top]:
        reason += _MOVES
    return Result(
        **fields,
        x_best=runs.x_best[top].copy().reshape(problem.shape),
        fun_best=float(runs.sign * runs.score[top]),
        nit=int(runs.nit.max()),
        nfev=problem.nfev,
        njev=problem.njev,
        success=status >= 0,
        status=int(status),
        message=reason,
    )


def _wrap_callback(callback: Any, problem: Problem) -> Callable[[Runs, int], None] | None:
    """Wrap the user's callback, which SciPy's convention lets choose what it is called with."""
    if callback is None:
        return None
    from scipy.optimize import OptimizeResult

    try:
        by_name = set(inspect.signature(callback).parameters) == {"intermediate_result"}
    except ValueError:
        # Some built-in functions have no signature.
        by_name = False

    def call(runs: Runs, nit: int) -> None:
        fields = OptimizeResult(**_describe_point(runs, problem), nit=nit)
        callback(**{"intermediate_result": fields}) if by_name else callback(fields.x)

    return call
