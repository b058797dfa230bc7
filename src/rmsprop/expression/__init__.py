"""A typed f(x) or f(x, y): its value and exact gradient, with nothing executed that was typed.

    numbers, x, y, pi, e      + - * / ^ **      ( )      and the functions in `FUNCTIONS`, each of one argument

`^` and `**` are the same power, from right to left, and bind tighter than a sign: -x^2 is -(x^2), 2^3^2 is 2^9. A
number may stand before a name or a parenthesis without `*` (2x^2 + 2xy, 3sin(x)); after a division or an exponent that
would have two readings and is refused. A text has at most 400 characters, 300 numbers, names and operators, and 40
levels of nesting. All arithmetic is float64: overflow is inf, and a point outside a domain is NaN, without a warning.

The gradient is computed by dual numbers (`rmsprop.expression.dual`, which also states what a kink's derivative is).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmsprop.errors import ExpressionError, InputError, InputTypeError
from rmsprop.expression.dual import FUNCTIONS, Dual, Evaluator, build
from rmsprop.expression.parser import VARIABLES, make_error, translate

__all__ = ["FUNCTIONS", "Expression", "parse"]


@dataclass(frozen=True, repr=False)
class Expression:
    """A function of one or two variables, made by `parse`; equal to another with the same formula and variables.

    Attributes:
        text: As typed.
        formula: The same function in normal form, with every `*` and few parentheses; `str` of the expression.
        variables: ("x",) or ("x", "y"): the coordinates of a point, in order.

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
    formula: str
    variables: tuple[str, ...]
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
        columns = [_to_real(x, "x")] if y is None else [_to_real(x, "x"), _to_real(y, "y")]
        try:
            columns = list(np.broadcast_arrays(*columns))
        except ValueError as error:
            shapes = [column.shape for column in columns]
            raise InputError(f"y: shape {shapes[1]}, expected one that broadcasts with x {shapes[0]}") from error
        return self._run(np.stack(columns, axis=-1), None)[0]

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
        points = self._to_points(point)
        value, *slopes = self._run(points, np.float64(1.0))
        grad = np.zeros(points.shape)
        for axis, slope in enumerate(slopes[: len(self.variables)]):
            if slope is not None:
                grad[..., axis] = slope
        return value, grad.reshape(np.shape(point))

    def grad(self, point: ArrayLike) -> NDArray[np.float64]:
        """Return the gradient alone; see `value_and_grad`."""
        return self.value_and_grad(point)[1]

    def __call__(self, point: ArrayLike) -> Any:
        """Return the value alone: a float for one point, an array for many; see `value_and_grad`."""
        return self._run(self._to_points(point), None)[0]

    def __repr__(self) -> str:
        is_default = parse(self.text).variables == self.variables
        return f"Expression({self.text!r}{'' if is_default else f', variables={self.variables!r}'})"

    def __str__(self) -> str:
        return self.formula

    def __reduce__(self) -> tuple[Any, ...]:
        # Closures cannot be pickled; the text says everything.
        return partial(parse, variables=self.variables), (self.text,)

    def _to_points(self, point: ArrayLike) -> NDArray[np.float64]:
        array, count = _to_real(point, "point"), len(self.variables)
        if array.ndim == 0 and count == 1:
            return array.reshape(1)
        if array.ndim == 0 or array.shape[-1] != count:
            expected = f"(..., {count}) for a function of {' and '.join(self.variables)}"
            raise InputError(f"point: shape {array.shape}, expected {expected}")
        return array

    def _run(self, points: NDArray[np.float64], seed: Any) -> Dual:
        """Return the dual number at `points`, the value with the shape of the points; `seed` None: no derivatives."""
        # Copies, because NumPy's functions may take another path, with other last bits, through strided memory.
        columns = [np.array(points[..., axis], order="C")[()] for axis in range(len(self.variables))]
        with np.errstate(all="ignore"):
            value, by_x, by_y = self._evaluate((columns[0], seed, None), (columns[-1], None, seed))
        if points.ndim == 1:
            return float(value), by_x, by_y
        shape = points.shape[:-1]
        return value if value.shape == shape else np.full(shape, value), by_x, by_y


def parse(text: str, *, variables: Sequence[str] | None = None) -> Expression:
    """Parse a typed function.

    Args:
        text: At most 400 characters; the module's docstring describes the language.
        variables: The coordinates of a point: ("x",) or ("x", "y"). Default: x and y if y occurs in the text, else x.

    Raises:
        ExpressionError: The text is not in the language; `column` says where, counted from 0.

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
    source = translate(text, chosen or VARIABLES)
    try:
        tree = ast.parse(source, mode="eval").body
        formula = re.sub(r"\.0\b", "", ast.unparse(tree)).replace(" ** ", "^").replace(" * ", "*").replace(" / ", "/")
        evaluate = build(tree)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise make_error(f"Python cannot parse it: {error}", text, 0) from error
    has_y = any(isinstance(node, ast.Name) and node.id == "y" for node in ast.walk(tree))
    return Expression(text, formula, chosen or (VARIABLES if has_y else VARIABLES[:1]), evaluate)


def _to_real(values: ArrayLike, name: str) -> NDArray[np.float64]:
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: not an array ({error}), expected real numbers") from error
    if array.dtype.kind not in "fiu":
        raise InputTypeError(f"{name}: dtype {array.dtype}, expected real numbers")
    return array.astype(np.float64, copy=False)
