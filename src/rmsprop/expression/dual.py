"""Evaluate a tree on dual numbers: the value and its exact partial derivatives in one pass, without code generation.

A dual number is a triple (u, du/dx, du/dy) of float64 numbers or arrays; None stands for a derivative that is zero
whatever the point. Each node of the tree becomes a Python closure over its children:

    (a + b)' = a' + b'         (a b)' = a' b + a b'         (a / b)' = (a' - (a / b) b') / b
    (a^b)' = b a^(b-1) a' + a^b log(a) b'                   f(a)' = f'(a) a'

With None for every seed the same closures compute the value alone. Whole exponents up to 16 are multiplied out, so
that a point has the same bits alone and in a grid; the rest are NumPy's functions on contiguous arrays.

Where a derivative does not exist, the conventions are: the slope of abs, relu, sign and floor is 0 at a kink or jump;
where an outer slope is infinite or NaN but the value is not NaN (sqrt, cbrt, log and powers below 1 at 0, asin and acos
at 1, a division by 0, a variable power of a negative base), an inner derivative of 0 contributes 0. So sqrt(x^2 + y^2)
has the gradient 0 at the origin, as abs(x) has. Outside the domain of a function its value and derivative are NaN.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

__all__ = ["ALIASES", "CONSTANTS", "FUNCTIONS", "Dual", "Evaluator", "build"]

Value: TypeAlias = Any
"""A float64 number or array."""
Dual: TypeAlias = tuple[Value, Any, Any]
"""(value, derivative by x, derivative by y); None for a derivative that is always zero."""
Evaluator: TypeAlias = Callable[[Dual, Dual], Dual]
"""From the dual numbers of x and y to that of the expression."""

CONSTANTS = {"pi": np.float64(np.pi), "e": np.float64(np.e)}
_LONGEST_PRODUCT = 16


class _Function(NamedTuple):
    value: Callable[[Value], Value]
    """f(u)."""
    slope: Callable[[Value, Value], Value] | None
    """f'(u), given u and f(u); None where it is zero everywhere."""
    is_steep: bool = False
    """Whether f' is infinite at some point."""


def _sigmoid(u: Value) -> Value:
    decay = np.exp(-np.abs(u))
    return np.where(u >= 0, 1.0, decay) / (1.0 + decay)


def _slope_of_sigmoid(u: Value, _: Value) -> Value:
    decay = np.exp(-np.abs(u))
    return decay / ((1.0 + decay) * (1.0 + decay))


def _slope_of_log(u: Value, _: Value) -> Value:
    return np.where(u < 0, np.nan, 1.0 / np.abs(u))


_TABLE: dict[str, _Function] = {
    "sin": _Function(np.sin, lambda u, f: np.cos(u)),
    "cos": _Function(np.cos, lambda u, f: -np.sin(u)),
    "tan": _Function(np.tan, lambda u, f: 1.0 + f * f),
    "asin": _Function(np.arcsin, lambda u, f: 1.0 / np.sqrt((1.0 - u) * (1.0 + u)), is_steep=True),
    "acos": _Function(np.arccos, lambda u, f: -1.0 / np.sqrt((1.0 - u) * (1.0 + u)), is_steep=True),
    "atan": _Function(np.arctan, lambda u, f: 1.0 / (1.0 + u * u)),
    "sinh": _Function(np.sinh, lambda u, f: np.cosh(u)),
    "cosh": _Function(np.cosh, lambda u, f: np.sinh(u)),
    # 1 - tanh^2 would cancel to 0 long before the slope does.
    "tanh": _Function(np.tanh, lambda u, f: (1.0 / np.cosh(u)) ** 2),
    "exp": _Function(np.exp, lambda u, f: f),
    "log": _Function(np.log, _slope_of_log, is_steep=True),
    "log2": _Function(np.log2, lambda u, f: _slope_of_log(u, f) / np.log(2.0), is_steep=True),
    "log10": _Function(np.log10, lambda u, f: _slope_of_log(u, f) / np.log(10.0), is_steep=True),
    "sqrt": _Function(np.sqrt, lambda u, f: 0.5 / f, is_steep=True),
    "cbrt": _Function(np.cbrt, lambda u, f: 1.0 / (3.0 * f * f), is_steep=True),
    "abs": _Function(np.abs, lambda u, f: np.sign(u)),
    "sign": _Function(np.sign, None),
    "floor": _Function(np.floor, None),
    "relu": _Function(lambda u: np.maximum(u, 0.0), lambda u, f: np.heaviside(u, 0.0)),
    "sigmoid": _Function(_sigmoid, _slope_of_sigmoid),
    "softplus": _Function(lambda u: np.logaddexp(0.0, u), lambda u, f: _sigmoid(u)),
    "gauss": _Function(lambda u: np.exp(-u * u), lambda u, f: -2.0 * u * f),
}
FUNCTIONS: tuple[str, ...] = tuple(_TABLE)
"""The functions of the language, each of one argument; gauss(u) is exp(-u^2), softplus(u) is log(1 + exp(u))."""
ALIASES = {"ln": "log", "arcsin": "asin", "arccos": "acos", "arctan": "atan"}
"""Other names for some of them."""


def build(tree: ast.expr) -> Evaluator:
    """Return the closure that evaluates `tree`; parts without a variable are evaluated here, once."""
    with np.errstate(all="ignore"):
        return _to_closure(_build(tree))


def _build(node: ast.expr) -> Evaluator | Dual:
    """Return a closure, or the dual number of a part without a variable."""
    match node:
        case ast.Constant(value=float(value)):
            return np.float64(value), None, None
        case ast.Name(id="x"):
            return lambda x, y: x
        case ast.Name(id="y"):
            return lambda x, y: y
        case ast.Name(id=name) if name in CONSTANTS:
            return CONSTANTS[name], None, None
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _apply(_negate, _build(operand))
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in _TABLE:
            return _apply(_lift(_TABLE[name]), _build(argument))
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _build_power(_build(left), _build(right))
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _OPERATORS:
            return _apply(_OPERATORS[type(operator)], _build(left), _build(right))
    raise TypeError(f"{ast.dump(node)} is not part of the language")


def _build_power(base: Evaluator | Dual, exponent: Evaluator | Dual) -> Evaluator | Dual:
    if callable(exponent):
        return _apply(_raise_to_power, base, exponent)
    n = float(exponent[0])
    if n == 0.0:
        return np.float64(1.0), None, None
    return base if n == 1.0 else _apply(_lift(_make_power(n)), base)


def _apply(function: Callable[..., Dual], *parts: Evaluator | Dual) -> Evaluator | Dual:
    """Return the closure of `function` over its arguments, or its value where all are constant."""
    if not any(map(callable, parts)):
        return np.float64(function(*parts)[0]), None, None
    first, *others = map(_to_closure, parts)
    if not others:
        return lambda x, y: function(first(x, y))
    (second,) = others
    return lambda x, y: function(first(x, y), second(x, y))


def _to_closure(part: Evaluator | Dual) -> Evaluator:
    return part if callable(part) else lambda x, y: part


def _negate(a: Dual) -> Dual:
    u, ux, uy = a
    return -u, None if ux is None else -ux, None if uy is None else -uy


def _add(a: Dual, b: Dual) -> Dual:
    (u, ux, uy), (v, vx, vy) = a, b
    return u + v, _plus(ux, vx), _plus(uy, vy)


def _subtract(a: Dual, b: Dual) -> Dual:
    return _add(a, _negate(b))


def _multiply(a: Dual, b: Dual) -> Dual:
    (u, ux, uy), (v, vx, vy) = a, b
    return u * v, _plus(_times(ux, v), _times(vx, u)), _plus(_times(uy, v), _times(vy, u))


def _divide(a: Dual, b: Dual) -> Dual:
    (u, ux, uy), (v, vx, vy) = a, b
    f = u / v
    return f, _over(_plus(ux, _chain(vx, -f, f)), v, f), _over(_plus(uy, _chain(vy, -f, f)), v, f)


_OPERATORS: dict[type[ast.operator], Callable[[Dual, Dual], Dual]] = {
    ast.Add: _add,
    ast.Sub: _subtract,
    ast.Mult: _multiply,
    ast.Div: _divide,
}


def _raise_to_power(a: Dual, b: Dual) -> Dual:
    """Return a^b for an exponent that varies from point to point."""
    (u, ux, uy), (n, nx, ny) = a, b
    f = _power(u, n)
    if ux is not None or uy is not None:
        by_base = np.where(n == 0, 0.0, n * _power(u, n - 1.0))
        ux, uy = _chain(ux, by_base, f), _chain(uy, by_base, f)
    if nx is not None or ny is not None:
        # 0^n stays 0 while n moves, as long as n is positive; the product would be 0 times minus infinity.
        by_exponent = np.where((u == 0) & (n > 0), 0.0, f * np.log(u))
        ux, uy = _plus(ux, _chain(nx, by_exponent, f)), _plus(uy, _chain(ny, by_exponent, f))
    return f, ux, uy


def _power(u: Value, n: Value) -> Value:
    if np.size(n) > 1:
        return np.power(u, n)
    # For a single exponent of -1, 0.5 or 2 NumPy takes a short cut, with other last bits than among many exponents.
    return np.power(np.repeat(u, 2), np.repeat(n, 2))[:1].reshape(np.shape(n))[()]


def _make_power(n: float) -> _Function:
    """Return u^n for a constant exponent other than 0 and 1."""
    if n == 2.0:
        return _Function(lambda u: u * u, lambda u, f: 2.0 * u)
    if n.is_integer() and abs(n) <= _LONGEST_PRODUCT:
        power, exponent = _power_by_squaring, int(n)
        return _Function(lambda u: power(u, exponent), lambda u, f: n * power(u, exponent - 1), is_steep=n < 1.0)
    return _Function(lambda u: np.power(u, n), lambda u, f: n * np.power(u, n - 1.0), is_steep=n < 1.0)


def _power_by_squaring(u: Value, n: int) -> Value:
    if n < 0:
        return 1.0 / _power_by_squaring(u, -n)
    result, square = None, u
    while True:
        if n & 1:
            result = square if result is None else result * square
        n >>= 1
        if not n:
            return result
        square = square * square


def _lift(function: _Function) -> Callable[[Dual], Dual]:
    """Return a function of one number as a function of a dual number."""
    value, slope, is_steep = function

    def apply(a: Dual) -> Dual:
        u, ux, uy = a
        f = value(u)
        if slope is None or (ux is None and uy is None):
            return f, None, None
        df = slope(u, f)
        if is_steep:
            return f, _chain(ux, df, f), _chain(uy, df, f)
        return f, _times(ux, df), _times(uy, df)

    return apply


def _plus(a: Any, b: Any) -> Any:
    return b if a is None else a if b is None else a + b


def _times(derivative: Any, factor: Value) -> Any:
    return None if derivative is None else derivative * factor


def _chain(derivative: Any, slope: Value, f: Value) -> Any:
    return None if derivative is None else _keep_zeros(derivative, derivative * slope, f)


def _over(derivative: Any, divisor: Value, f: Value) -> Any:
    return None if derivative is None else _keep_zeros(derivative, derivative / divisor, f)


def _keep_zeros(derivative: Any, result: Any, f: Value) -> Any:
    """Return `result`, but 0 where the derivative it was made from is 0 and the value f is not NaN."""
    if isinstance(f, np.ndarray):
        return np.where((derivative == 0) & ~np.isnan(f), 0.0, result)
    return 0.0 if derivative == 0 and f == f else result  # noqa: PLR0124 (NaN is the one number unlike itself)
