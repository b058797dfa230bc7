"""What minimize() makes of `fun`, `jac`, `args` and `batches`: checked values and gradients, counted calls.

Every array that a user's function is handed is its own copy, so that neither keeping it nor writing into it does harm.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmsprop.errors import InputError, InputTypeError

__all__ = ["Problem", "batch_source", "check_start", "is_finite"]

Array = NDArray[Any]
Batch = tuple[Any, ...]

DIFFERENCES = ("2-point", "3-point", "cs")
FEW = 8


class Problem:
    """Evaluate objective and gradient together.

    Args:
        fun: The user's objective.
        jac: A callable, True, or one of `DIFFERENCES`.
                start: The starting point, or the points, shape (starts, n). Read.
        many: Whether `fun` takes and answers for a leading axis of starts.
    """

    def __init__(self, fun: Callable[..., Any], jac: Any, start: Array, *, many: bool) -> None:
        self.fun, self.jac = fun, jac
        self.shape, self.dtype = start.shape, start.dtype
        self.many = many
        self.nfev = self.njev = 0
        self._value = self._values if many else self.number
        self.evaluate: Callable[[Array, Batch], tuple[Any, Array]] = (
            self._both if jac is True else self._two if callable(jac) else self._differences
        )
        """(x, what follows it) -> the objective (a float, or float64 of shape (starts,)) and the gradient, like x."""

    def _two(self, x: Array, extra: Batch) -> tuple[Any, Array]:
        self.nfev += 1
        f = self._value(self.fun(x.copy(), *extra))
        # Where the objective has no value its gradient has no use, and `jac` may well raise.
        if not np.isfinite(f).any():
            return f, np.zeros_like(x)
        self.njev += 1
        return f, self.gradient(self.jac(x.copy(), *extra))

    def _both(self, x: Array, extra: Batch) -> tuple[Any, Array]:
        self.nfev += 1
        self.njev += 1
        pair = self.fun(x.copy(), *extra)
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise InputError(f"fun(x): {_describe(pair)}, expected the pair (value, gradient) because jac=True")
        # A copy: a function that fills one array at each call would change the gradient of the point before.
        return self._value(pair[0]), self.gradient(pair[1]).copy()

    def _differences(self, x: Array, extra: Batch) -> tuple[Any, Array]:
        # SciPy keeps this function in a private module, and has no public one with all three schemes.
        from scipy.optimize._numdiff import approx_derivative

        self.nfev += 1
        f = self._value(self.fun(x.copy(), *extra))
        if not np.any(np.isfinite(f)):
            return f, np.zeros_like(x)
        self.njev += 1

        def objective(z: Array) -> Any:
            self.nfev += 1
            value = np.asarray(self.fun(z.reshape(self.shape).astype(_wider(z, self.dtype)), *extra))
            if value.size != (self.shape[0] if self.many else 1):
                raise InputError(f"fun(x): shape {value.shape}, but at the starting point it had another one")
            return value.reshape(-1) if self.many else value.reshape(())[()]

        if not self.many:
            return f, self.gradient(approx_derivative(objective, x.reshape(-1), self.jac, f0=f).reshape(self.shape))
        # The starts do not depend on each other: SciPy's grouping of columns then needs n differences for all of them.
        starts, n = self.shape
        rows, columns = np.repeat(np.arange(starts), n), np.arange(starts * n)
        from scipy.sparse import coo_array

        pattern = coo_array((np.ones(starts * n), (rows, columns))).tocsr()
        groups = np.tile(np.arange(n), starts)
        jacobian = approx_derivative(objective, x.reshape(-1), self.jac, f0=f, sparsity=(pattern, groups)).tocoo()
        gradient = np.zeros(starts * n, dtype=self.dtype)
        gradient[jacobian.col] = jacobian.data
        return f, gradient.reshape(self.shape)

    def number(self, f: Any) -> float:
        """Return what `fun` gave as a float, or say what is wrong with it."""
        if isinstance(f, (float, numbers.Real, np.floating, np.integer, np.bool_)):
            return float(f)
        array = _as_array("fun(x)", f)
        if array.size != 1:
            hint = "; x0 of shape (starts, n) makes a run of many starts" if array.ndim == 1 else ""
            raise InputError(f"fun(x): shape {array.shape}, expected one number{hint}")
        return float(array.reshape(()))

    def _values(self, f: Any) -> Array:
        array = _as_array("fun(x)", f)
        if array.shape != self.shape[:1]:
            raise InputError(f"fun(x): shape {array.shape}, expected {self.shape[:1]}, one number per start")
        return array.astype(np.float64)

    def gradient(self, g: Any) -> Array:
        """Return what `jac` gave as a contiguous array of x's shape and dtype, or say what is wrong with it."""
        array = _as_array("jac(x)", g)
        if array.shape != self.shape and not (array.size == math.prod(self.shape) == 1):
            raise InputError(f"jac(x): shape {array.shape}, expected {self.shape} like x0")
        return np.ascontiguousarray(array, dtype=self.dtype).reshape(self.shape)


def is_finite(g: Array) -> bool:
    """Whether no element is NaN or infinite; for few elements five times as fast as NumPy."""
    # The sum of finite numbers may overflow, which only means that all of them have to be looked at.
    if g.size <= FEW and math.isfinite(sum(g.ravel().tolist())):
        return True
    # The least and the greatest are NaN if one element is; unlike np.isfinite this allocates nothing.
    return math.isfinite(g.min()) and math.isfinite(g.max())


def check_start(x0: Any) -> Array:
    """Return a fresh, contiguous float32 or float64 array of x0."""
    try:
        x = np.array(x0, order="C")
    except ValueError as error:
        raise InputError(f"x0: {error}") from error
    if x.dtype.kind in "iub":
        x = x.astype(np.float64)
    if x.dtype not in (np.float32, np.float64):
        raise InputTypeError(f"x0: dtype {x.dtype}, expected float32, float64 or integers")
    if x.size == 0:
        raise InputError(f"x0: shape {x.shape} has no elements, expected at least one")
    if not np.isfinite(x).all():
        raise InputError("x0: NaN or infinity in it, expected finite numbers")
    return np.ascontiguousarray(x).reshape(x.shape)


def batch_source(batches: Iterable[Any] | None, args: Batch) -> Iterator[Batch]:
    """Yield what follows x in each call: one batch per step, and args; a container starts over at its end."""
    if batches is None:
        while True:
            yield args
    if not isinstance(batches, Iterable):
        raise InputTypeError(f"batches: {type(batches).__name__}, expected an iterable of batches")
    empty = True
    while True:
        for batch in (iterator := iter(batches)):
            empty = False
            yield (*batch, *args) if isinstance(batch, (tuple, list)) else (batch, *args)
        if empty:
            raise InputError("batches: empty, expected at least one batch")
        if iterator is batches:
            return


def _as_array(name: str, value: Any) -> Array:
    """Return `value` as a real array, or say what it is."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputError(f"{name}: {error}") from error
    if array.dtype.kind not in "fiub":
        what = type(value).__name__ if array.dtype.kind == "O" else f"dtype {array.dtype}"
        raise InputTypeError(f"{name}: {what}, expected real numbers")
    return array


def _describe(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of length {len(value)}"
    return f"shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


def _wider(z: Array, dtype: Any) -> Any:
    """The dtype in which to call `fun`: x's own, or complex for the complex step."""
    return z.dtype if z.dtype.kind == "c" else dtype
