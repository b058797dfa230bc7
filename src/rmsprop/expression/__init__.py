"""A typed f(x) or f(x, y): its value and exact gradient, with nothing executed that was typed.

    numbers, x, y, pi, e      + - * / ^ **      ( )      and the functions in `FUNCTIONS`, each of one argument

`^` and `**` are the same power, from right to left, and bind tighter than a sign: -x^2 is -(x^2), 2^3^2 is 2^9. A
number may stand before a name or a parenthesis without `*` (2x^2 + 2xy, 3sin(x)); after a division or an exponent that
would have two readings and is refused. A text has at most 400 characters, 300 numbers, names and operators, and 40
levels of nesting. All arithmetic is float64: overflow is inf, and a point outside a domain is NaN, without a warning.

The gradient is computed by dual numbers (`rmsprop.expression.dual`, which also states what a kink's derivative is).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmsprop.errors import ExpressionError, InputError, InputTypeError
from rmsprop.expression.dual import FUNCTIONS, Dual, Evaluator, build
from rmsprop.expression.parser import parse_tree
from rmsprop.expression.tokens import VARIABLES
from rmsprop.expression.tree import Node, write

__all__ = ["FUNCTIONS", "Expression", "parse"]

_SEED = np.float64(1.0)


@dataclass(frozen=True, repr=False)
class Expression:
    """A function of one or two variables, made by `parse`; equal to another with the same tree and variables.

    Attributes:
        text: As typed; `str` of the expression writes it anew, with every `*`.
        variables: ("x",) or ("x", "y"): the coordinates of a point, in order.
        tree: What the text was parsed to.

    Example:
        >>> from rmsprop import expression
        >>> f = expression.parse("0.1x^2 + 2y^2")
        >>> f, str(f)
        (Expression('0.1x^2 + 2y^2'), '0.1*x^2 + 2*y^2')
        >>> f([-5.0, -2.0])
        10.5
        >>> f.grad([-5.0, -2.0])
        array([-1., -8.])
    """

    text: str = field(compare=False)
    variables: tuple[str, ...]
    tree: Node
    _evaluate: Evaluator = field(compare=False)

    def value(self, x: ArrayLike, y: ArrayLike | None = None) -> Any:
        """Return f(x) or f(x, y).

        Args:
            x: Any shape. Read.
            y: A shape that broadcasts with `x`; None for a function of x alone. Read.

        Returns:
            float64, of the shape the two broadcast to; a float where both are numbers.

        Raises:
            InputError: y is missing or one too many, or the shapes do not broadcast.
            InputTypeError: Not real numbers.

        Example:
            >>> from rmsprop import expression
            >>> expression.parse("x*y").value([1.0, 2.0], 3.0)
            array([3., 6.])
        """
        if (y is None) != (len(self.variables) == 1):
            came = "no y" if y is None else "a y"
            raise InputError(f"y: {came}, expected values for {' and '.join(self.variables)}")
        columns = [_real(x, "x")] if y is None else [_real(x, "x"), _real(y, "y")]
        try:
            columns = list(np.broadcast_arrays(*columns))
        except ValueError as error:
            shapes = [column.shape for column in columns]
            raise InputError(f"y: shape {shapes[1]}, expected one that broadcasts with x {shapes[0]}") from error
        return self._values([_contiguous(column) for column in columns])

    def value_and_grad(self, point: ArrayLike) -> tuple[Any, NDArray[np.float64]]:
        """Return the value and the gradient at one point or many.

        Args:
            point: Shape (n,) or (..., n), with n the number of variables; of one variable, a number too. Read.

        Returns:
            The value, a float or float64 of shape (...), and the gradient, float64 of the shape of `point`. Each
            point's numbers have the same bits alone and among others.

        Raises:
            InputError: The last axis has not one entry for each variable.
            InputTypeError: Not real numbers.

        Example:
            >>> from rmsprop import expression
            >>> value, grad = expression.parse("x - x^3").value_and_grad([-1.0])
            >>> value, grad
            (0.0, array([-2.]))
        """
        columns, shape = self._columns(point)
        value, *partials = self._run(columns, _SEED)
        grad = np.zeros(shape)
        if not shape:
            return float(value), np.asarray(grad if partials[0] is None else partials[0], np.float64)
        for axis, _ in enumerate(self.variables):
            if partials[axis] is not None:
                grad[..., axis] = partials[axis]
        return self._shaped(value, columns), grad

    def grad(self, point: ArrayLike) -> NDArray[np.float64]:
        """Return the gradient alone; see `value_and_grad`."""
        return self.value_and_grad(point)[1]

    def __call__(self, point: ArrayLike) -> Any:
        """Return the value alone: a float for one point, an array for many; see `value_and_grad`."""
        return self._values(self._columns(point)[0])

    def __repr__(self) -> str:
        usual = parse(self.text).variables == self.variables
        return f"Expression({self.text!r}{'' if usual else f', variables={self.variables!r}'})"

    def __str__(self) -> str:
        return write(self.tree)

    def __reduce__(self) -> tuple[Any, ...]:
        # Closures do not pickle; the text says everything.
        return _restore, (self.text, self.variables)

    def _columns(self, point: ArrayLike) -> tuple[list[Any], tuple[int, ...]]:
        """Split points into one contiguous array for each variable."""
        array = _real(point, "point")
        count = len(self.variables)
        if array.ndim == 0 and count == 1:
            return [array[()]], ()
        if array.ndim == 0 or array.shape[-1] != count:
            raise InputError(
                f"point: shape {array.shape}, expected (..., {count}) for a function of {' and '.join(self.variables)}"
            )
        return [_contiguous(array[..., axis]) for axis in range(count)], array.shape

    def _run(self, columns: Sequence[Any], seed: Any) -> Dual:
        x = (columns[0], seed, None)
        y = (columns[-1], None, seed)
        with np.errstate(all="ignore"):
            return self._evaluate(x, y)

    def _values(self, columns: Sequence[Any]) -> Any:
        return self._shaped(self._run(columns, None)[0], columns)

    @staticmethod
    def _shaped(value: Any, columns: Sequence[Any]) -> Any:
        """Give a constant the shape of the points, and never hand out the caller's own array."""
        shape = columns[0].shape
        if not shape:
            return float(value)
        if value.shape != shape or any(value is column for column in columns):
            return np.array(np.broadcast_to(value, shape))
        return value


def parse(text: str, *, variables: Sequence[str] | None = None) -> Expression:
    """Parse a typed function.

    Args:
        text: At most 400 characters; the module's docstring has the language.
        variables: The coordinates of a point: ("x",) or ("x", "y"). Default: x and y if y occurs in the text, else x.

    Raises:
        ExpressionError: Not a sentence of the language; `column` says where, counted from 0.

    Example:
        >>> from rmsprop import expression
        >>> expression.parse("x^2").variables, expression.parse("x^2", variables=("x", "y")).variables
        (('x',), ('x', 'y'))
        >>> expression.parse("sine(x)")
        Traceback (most recent call last):
        rmsprop.errors.ExpressionError: column 1: unknown name 'sine', did you mean 'sin'?
          sine(x)
          ^
    """
    chosen = None if variables is None else tuple(variables)
    if chosen not in (None, VARIABLES[:1], VARIABLES):
        raise ExpressionError(f"variables={chosen!r}, expected ('x',) or ('x', 'y')")
    tree, used = parse_tree(text, VARIABLES if chosen is None else chosen)
    return Expression(text, chosen or _of(used), tree, build(tree))


def _of(used: tuple[str, ...]) -> tuple[str, ...]:
    """The variables of a text that names these."""
    return VARIABLES if "y" in used else VARIABLES[:1]


def _restore(text: str, variables: tuple[str, ...]) -> Expression:
    """What a pickle calls."""
    return parse(text, variables=variables)


def _real(values: ArrayLike, name: str) -> NDArray[np.float64]:
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: not an array ({error}), expected real numbers") from error
    if array.dtype.kind not in "fiu":
        raise InputTypeError(f"{name}: dtype {array.dtype}, expected real numbers")
    return array.astype(np.float64, copy=False)


def _contiguous(column: NDArray[np.float64]) -> Any:
    # NumPy's functions may take another path, with other last bits, through strided memory.
    return np.ascontiguousarray(column) if column.ndim else column[()]
