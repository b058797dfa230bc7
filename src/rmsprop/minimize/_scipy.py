"""RMSprop as a method of `scipy.optimize.minimize`."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from rmsprop.errors import InputError
from rmsprop.minimize._loop import Status
from rmsprop.minimize._minimize import minimize
from rmsprop.select import describe_unknown

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

__all__ = ["scipy_method"]

_OWN = ("fun", "x0", "jac", "args", "steps", "callback", "vectorized")
_OPTIONS = [name for name in inspect.signature(minimize).parameters if name not in _OWN]
_GTOL = 1e-5


def scipy_method(
    fun: Callable[..., Any],
    x0: Any,
    args: tuple[Any, ...] = (),
    *,
    jac: Any = None,
    hess: Any = None,
    hessp: Any = None,
    bounds: Any = None,
    constraints: Any = (),
    callback: Callable[..., Any] | None = None,
    tol: float | None = None,
    maxiter: int = 1000,
    disp: bool = False,
    differences: str = "2-point",
    **options: Any,
) -> OptimizeResult:
    """Run `rmsprop.minimize` as `scipy.optimize.minimize(..., method=rmsprop.scipy_method)`.

    SciPy passes its own arguments on; `options` holds the rest. Without a tolerance all steps are done, and success
    means that no element of the gradient is larger than 1e-5 max(1, |fun|) at the end.

    Args:
        fun: See `scipy.optimize.minimize`, as for x0, args, jac and callback.
        x0: The start, an array with one axis.
        args: See `fun`.
        jac: SciPy does not pass "3-point" and "cs" to custom methods: use the option `differences` for them.
        hess: Ignored with a warning, as SciPy's own first-order methods do; `hessp` too.
        hessp: See `hess`.
        bounds: Not supported; raises, as `constraints` does.
        constraints: See `bounds`.
        callback: See `fun`.
        tol: The default of the option `gtol`.
        maxiter: The maximum number of steps.
        disp: Print the message at the end.
        differences: How to approximate the gradient if `jac` is not given: "2-point", "3-point" or "cs".
        **options: lr, rho, eps, momentum, centered, weight_decay, dialect, batches, gtol, xtol, ftol, patience, trace
            and optimizer of `rmsprop.minimize`.

    Raises:
        InputError: Bounds, constraints, an unknown option, or an argument that `rmsprop.minimize` rejects.

    Example:
        >>> import rmsprop, scipy.optimize
        >>> options = {"lr": lambda step: 0.005 * 0.999**step, "maxiter": 5000}
        >>> run = scipy.optimize.minimize(scipy.optimize.rosen, [-1.0, 1.0], jac=scipy.optimize.rosen_der,
        ...                               method=rmsprop.scipy_method, options=options)
        >>> print(run.x.round(2), run.nit)
        [1. 1.] 5000
    """
    if bounds is not None:
        raise InputError("bounds: not supported by RMSprop; transform the variables, or use a method such as L-BFGS-B")
    # A single constraint may be a dict or an object, neither of which is an empty sequence.
    if not (isinstance(constraints, (tuple, list)) and len(constraints) == 0):
        raise InputError("constraints: not supported by RMSprop; use a method such as SLSQP or trust-constr")
    for name in sorted(set(options) - set(_OPTIONS)):
        raise InputError(describe_unknown(name, [*_OPTIONS, "maxiter", "disp", "differences"]))
    for name, given in (("hess", hess), ("hessp", hessp)):
        if given is not None:
            warnings.warn(f"RMSprop does not use {name}", RuntimeWarning, stacklevel=3)
    if tol is not None:
        options.setdefault("gtol", tol)
    jac = differences if jac is None else jac
    result = minimize(fun, x0, jac=jac, args=args, steps=maxiter, callback=callback, **options)
    largest = np.abs(result.jac).max()
    if result.status == Status.STEPS_DONE and not largest <= _GTOL * max(1.0, abs(result.fun)):
        result.update(status=int(Status.STEPS_USED_UP), success=False)
        result.message += f" The gradient is not small: its largest element is {largest:.3g}."
    if disp:
        print(f"{result.message} fun={result.fun:g}, nit={result.nit}, nfev={result.nfev}, njev={result.njev}")
    return result
