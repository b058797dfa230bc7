"""The user's `fun`, `jac` and `batches`: checked values and gradients of k starts, and the number of calls.

A user's function gets a fresh copy of x at each call, so that it may keep it or write into it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmsprop.errors import InputError, InputTypeError

__all__ = ["DIFFERENCES", "Problem", "convert_start", "iterate_batches"]

Array = NDArray[Any]
Batch = tuple[Any, ...]

DIFFERENCES = {"2-point": 1 / 2, "3-point": 1 / 3, "cs": 1 / 2}
"""The difference schemes; the step is this power of the unit roundoff, as in SciPy."""


class Problem:
    """Evaluate objective and gradient together.

    Args:
        fun: The user's objective. Called once, at x.
        jac: A callable, True, or one of `DIFFERENCES`.
        x: The start, or the starts, shape (k, n). Read.
        vectorized: Whether they are starts; None: if `fun` returns k values.
        extra: The arguments after x in the first call.

    Attributes:
        many, starts: Whether there is an axis of starts, and k.
        shape: The shape of a point.
        nfev, njev: The number of calls so far.
    """

    def __init__(self, fun: Callable[..., Any], jac: Any, x: Array, *, vectorized: bool | None, extra: Batch) -> None:
        self.fun, self.jac, self._shape, self._dtype = fun, jac, x.shape, x.dtype
        self.nfev = self.njev = 0
        first = self._call(x.copy(), extra)
        self._first = [first]
        if vectorized is None:
            value = first[0] if jac is True and isinstance(first, (tuple, list)) and first else first
            vectorized = x.ndim == 2 and np.shape(value) == x.shape[:1]
        self.many = bool(vectorized)
        self.starts, self.shape = (len(x), x.shape[1:]) if self.many else (1, x.shape)

    def evaluate(self, point: Array, extra: Batch) -> tuple[Array, Array]:
        """Return the objective, float64 of shape (k,), and the gradient, like `point` of shape (k, n)."""
        answer = self._first.pop() if self._first else self._call(point.copy(), extra)
        if self.jac is True:
            self.njev += 1
            if not isinstance(answer, (tuple, list)) or len(answer) != 2:
                kind = type(answer).__name__
                raise InputError(f"fun(x): {kind}, expected the pair (value, gradient) because jac=True")
            # A copy, because the function may write all its gradients into the same array.
            return self._convert_values(answer[0]), self._convert_gradient(answer[1]).copy()
        f = self._convert_values(answer)
        # Where the objective is not finite, the gradient is not needed, and `jac` may raise.
        if not np.isfinite(f).any():
            return f, np.zeros_like(point)
        self.njev += 1
        if not callable(self.jac):
            return f, self._compute_differences(point, f, extra)
        g = self._convert_gradient(self.jac(point.copy().reshape(self._shape)[()], *extra))
        return f, g.copy() if self.many else g

    def _call(self, x: Array, extra: Batch) -> Any:
        self.nfev += 1
        # [()] turns an array without axes into a number, which functions such as math.sin take.
        return self.fun(x.reshape(self._shape)[()], *extra)

    def _compute_differences(self, point: Array, f: Array, extra: Batch) -> Array:
        """Move one coordinate of all starts at a time: n more calls, 2 n for "3-point"."""
        size = np.finfo(self._dtype).eps ** DIFFERENCES[self.jac] * np.maximum(np.abs(point), 1)
        # The actual step, after rounding.
        width = (point + np.copysign(size, point)) - point
        ahead, behind = np.empty(point.shape), np.zeros(point.shape)
        for j in range(point.shape[1]):
            step = np.zeros_like(point)
            step[:, j] = width[:, j]
            if self.jac == "cs":
                ahead[:, j] = self._convert_values(np.imag(self._call(point + 1j * step, extra)))
                continue
            ahead[:, j] = self._convert_values(self._call(point + step, extra))
            behind[:, j] = self._convert_values(self._call(point - step, extra)) if self.jac == "3-point" else f
        with np.errstate(all="ignore"):
            return ((ahead - behind) / (2 * width if self.jac == "3-point" else width)).astype(self._dtype)

    def _convert_values(self, value: Any) -> Array:
        """Return the result of `fun` as an array (k,), or raise."""
        array = _convert_real("fun(x)", value)
        if self.many and array.shape != (self.starts,):
            raise InputError(f"fun(x): shape {array.shape}, expected {(self.starts,)}, one number per start")
        if not self.many and array.size != 1:
            raise InputError(
                f"fun(x): shape {array.shape}, expected one number; return their sum or mean, or, for many starts, "
                "pass x0 of shape (starts, n) and return shape (starts,)"
            )
        return array.reshape(-1).astype(np.float64)

    def _convert_gradient(self, value: Any) -> Array:
        """Return the result of `jac` as a contiguous array (k, n) of x's dtype, or raise."""
        array = _convert_real("jac(x)", value)
        if array.shape != self._shape and not (array.size == math.prod(self._shape) == 1):
            raise InputError(f"jac(x): shape {array.shape}, expected {self._shape} like x0")
        return np.ascontiguousarray(array, dtype=self._dtype).reshape(self.starts, -1)


def convert_start(x0: Any) -> Array:
    """Return a fresh, contiguous float32 or float64 array of x0."""
    try:
        x = np.array(x0, order="C", subok=False)
    except ValueError as error:
        raise InputError(f"x0: {error}") from error
    if x.dtype.kind in "iub":
        x = x.astype(np.float64)
    if x.dtype not in (np.float32, np.float64):
        raise InputTypeError(f"x0: dtype {x.dtype}, expected float32, float64 or integers")
    if x.size == 0:
        raise InputError(f"x0: shape {x.shape} has no elements, expected at least one")
    if not np.isfinite(x).all():
        raise InputError("x0: contains NaN or infinity, expected finite numbers")
    return x


def iterate_batches(batches: Iterable[Any] | None, args: Batch) -> Iterator[Batch]:
    """Yield the arguments after x of each step: a batch, and args; a container starts over at its end."""
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


def _convert_real(name: str, value: Any) -> Array:
    """Return `value` as a real array, or raise."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputError(f"{name}: {error}") from error
    if array.dtype.kind not in "fiub":
        what = type(value).__name__ if array.dtype.kind == "O" else f"dtype {array.dtype}"
        raise InputTypeError(f"{name}: {what}, expected real numbers")
    return array
