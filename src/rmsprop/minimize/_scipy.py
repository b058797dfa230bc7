"""RMSprop as a method of `scipy.optimize.minimize`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rmsprop.errors import InputError
from rmsprop.minimize._minimize import minimize

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

__all__ = ["scipy_method"]

_OPTIONS = ("lr", "rule", "batches", "gtol", "xtol", "ftol", "patience", "trace", "optimizer")


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

    SciPy hands on its own arguments; `options` holds the rest.

    Args:
        fun: See `scipy.optimize.minimize`.
        x0: See there; one axis.
        args: See there.
        jac: See there. SciPy keeps "3-point" and "cs" from foreign methods: use the option `differences` for them.
        hess: Ignored with a warning, as SciPy's own first-order methods do.
        hessp: Likewise.
        bounds: Refused.
        constraints: Refused.
        callback: See there.
        tol: The option `gtol` where that is not given.
        maxiter: How many steps at most.
        disp: Print the message at the end.
        differences: How to compute the gradient if `jac` is not given: "2-point", "3-point" or "cs".
        **options: lr, rule, batches, gtol, xtol, ftol, patience, trace and optimizer of `rmsprop.minimize`.

    Raises:
        InputError: Bounds, constraints, an unknown option, or what `rmsprop.minimize` refuses.

    Example:
        >>> import rmsprop, scipy.optimize
        >>> options = {"lr": lambda step: 0.005 * 0.999**step, "maxiter": 5000}
        >>> run = scipy.optimize.minimize(scipy.optimize.rosen, [-1.0, 1.0], jac=scipy.optimize.rosen_der,
        ...                               method=rmsprop.scipy_method, options=options)
        >>> print(run.x.round(2), run.nit)
        [1. 1.] 5000
    """
    if bounds is not None:
        raise InputError("bounds: RMSprop has none; transform the variables, or use a method such as L-BFGS-B")
    # A single constraint may be a dict or an object, neither of which is an empty sequence.
    if not (isinstance(constraints, (tuple, list)) and len(constraints) == 0):
        raise InputError("constraints: RMSprop has none; use a method such as SLSQP or trust-constr")
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown:
        known = ", ".join((*_OPTIONS, "maxiter", "disp", "differences"))
        raise InputError(f"unknown option {unknown[0]!r}, expected one of {known}")
    for name, given in (("hess", hess), ("hessp", hessp)):
        if given is not None:
            warnings.warn(f"RMSprop does not use {name}", RuntimeWarning, stacklevel=3)
    if tol is not None:
        options.setdefault("gtol", tol)
    result = minimize(
        fun, x0, jac=differences if jac is None else jac, args=args, steps=maxiter, callback=callback, **options
    )
    if disp:
        print(f"{result.message} fun={result.fun:g}, nit={result.nit}, nfev={result.nfev}, njev={result.njev}")
    return result
