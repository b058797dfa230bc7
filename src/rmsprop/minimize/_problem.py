"""What minimize() makes of `fun`, `jac` and `batches`: checked values and gradients of k starts, counted calls.

Every array that a user's function is handed is its own copy, so that neither keeping it nor writing into it does harm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmsprop.errors import InputError, InputTypeError

__all__ = ["DIFFERENCES", "Problem", "batch_source", "check_start"]

Array = NDArray[Any]
Batch = tuple[Any, ...]

DIFFERENCES = {"2-point": 1 / 2, "3-point": 1 / 3, "cs": 1 / 2}
"""The ways to compute a gradient by differences, and the power of the unit roundoff that is the step, as in SciPy."""


class Problem:
    """Evaluate objective and gradient together.

    Args:
        fun: The user's objective. Called once, at x.
        jac: A callable, True, or one of `DIFFERENCES`.
        x: The start, or the starts, shape (k, n). Read.
        vectorized: Whether they are starts; None: if `fun` returns k values.
        extra: What follows x in the first call.

    Attributes:
        many, starts: Whether there is an axis of starts, and k.
        shape: That of one point.
        nfev, njev: The calls so far.
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
            # A copy: a function that fills one array at each call would change the gradient of the point before.
            return self._values(answer[0]), self._gradient(answer[1]).copy()
        f = self._values(answer)
        # Where the objective has no value its gradient has no use, and `jac` may well raise.
        if not np.isfinite(f).any():
            return f, np.zeros_like(point)
        self.njev += 1
        if not callable(self.jac):
            return f, self._differences(point, f, extra)
        g = self._gradient(self.jac(point.copy().reshape(self._shape)[()], *extra))
        return f, g.copy() if self.many else g

    def _call(self, x: Array, extra: Batch) -> Any:
        self.nfev += 1
        # Indexed by nothing, an array without axes is the number in it, which also math.sin and the like take.
        return self.fun(x.reshape(self._shape)[()], *extra)

    def _differences(self, point: Array, f: Array, extra: Batch) -> Array:
        """Move one coordinate of all starts at a time: n calls more, for "3-point" 2 n."""
        size = np.finfo(self._dtype).eps ** DIFFERENCES[self.jac] * np.maximum(np.abs(point), 1)
        # The step that the sum really makes after rounding.
        width = (point + np.copysign(size, point)) - point
        ahead, behind = np.empty(point.shape), np.zeros(point.shape)
        for j in range(point.shape[1]):
            step = np.zeros_like(point)
            step[:, j] = width[:, j]
            if self.jac == "cs":
                ahead[:, j] = self._values(np.imag(self._call(point + 1j * step, extra)))
                continue
            ahead[:, j] = self._values(self._call(point + step, extra))
            behind[:, j] = self._values(self._call(point - step, extra)) if self.jac == "3-point" else f
        with np.errstate(all="ignore"):
            return ((ahead - behind) / (2 * width if self.jac == "3-point" else width)).astype(self._dtype)

    def _values(self, value: Any) -> Array:
        """Return what `fun` gave as an array (k,), or say what is wrong with it."""
        array = _as_array("fun(x)", value)
        if self.many and array.shape != (self.starts,):
            raise InputError(f"fun(x): shape {array.shape}, expected {(self.starts,)}, one number per start")
        if not self.many and array.size != 1:
            raise InputError(
                f"fun(x): shape {array.shape}, expected one number; return their sum or mean, or, for a run of many "
                "starts, pass x0 of shape (starts, n) and return shape (starts,)"
            )
        return array.reshape(-1).astype(np.float64)

    def _gradient(self, value: Any) -> Array:
        """Return what `jac` gave as a contiguous array (k, n) of x's dtype, or say what is wrong with it."""
        array = _as_array("jac(x)", value)
        if array.shape != self._shape and not (array.size == math.prod(self._shape) == 1):
            raise InputError(f"jac(x): shape {array.shape}, expected {self._shape} like x0")
        return np.ascontiguousarray(array, dtype=self._dtype).reshape(self.starts, -1)


def check_start(x0: Any) -> Array:
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
        raise InputError("x0: NaN or infinity in it, expected finite numbers")
    return x


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
