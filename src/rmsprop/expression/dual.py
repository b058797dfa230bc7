"""Evaluate a tree on dual numbers: the value and its exact partial derivatives in one pass, without code generation.

A dual number is a triple (u, du/dx, du/dy) of float64 numbers or arrays; None stands for a derivative that is zero
whatever the point. Each node of the tree becomes one Python closure over its children:

    (a + b)' = a' + b'         (a b)' = a' b + a b'         (a / b)' = (a' - (a / b) b') / b
    (a^b)' = b a^(b-1) a' + a^b log(a) b'                   f(a)' = f'(a) a'

With None for every seed the same closures compute the value alone. Whole exponents up to 16 are multiplied out, so
that a point has the same bits alone and in a grid; the rest are NumPy's functions on contiguous arrays.

Where a derivative does not exist, the conventions are: the slope of abs, relu, sign and floor is 0 at a kink or jump;
an infinite slope where the value is finite (sqrt, cbrt and x^0.5 at 0, asin and acos at 1) times an inner derivative of
0 is 0. So sqrt(x^2 + y^2) has the gradient 0 at the origin, as abs(x) has. Outside the domain of a function both its
value and its derivative are NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from rmsprop.expression.tree import Call, Constant, Negate, Node, Number, Power, Product, Sum, Variable

__all__ = ["ALIASES", "FUNCTIONS", "Dual", "Evaluator", "build"]

Value: TypeAlias = Any
"""A float64 number or array."""
Dual: TypeAlias = tuple[Value, Any, Any]
"""(value, derivative by x, derivative by y); None for a derivative that is always zero."""
Evaluator: TypeAlias = Callable[[Dual, Dual], Dual]
"""From the dual numbers of x and y to that of the expression."""

_ONE = np.float64(1.0)
_CONSTANTS = {"pi": np.float64(np.pi), "e": np.float64(np.e)}
_LONGEST_PRODUCT = 16


class _Function(NamedTuple):
    """A function of one argument.

    Attributes:
        value: f(u).
        slope: f'(u), given u and f(u); None where it is zero everywhere.
        steep: f' is infinite at a point where f is finite.
    """

    value: Callable[[Value], Value]
    slope: Callable[[Value, Value], Value] | None
    steep: bool = False


def _sigmoid(u: Value) -> Value:
    decay = np.exp(-np.abs(u))
    return np.where(u >= 0, 1.0, decay) / (1.0 + decay)


def _sigmoid_slope(u: Value, _: Value) -> Value:
    decay = np.exp(-np.abs(u))
    return decay / ((1.0 + decay) * (1.0 + decay))


def _reciprocal(u: Value, _: Value) -> Value:
    """1 / u on the domain of the logarithm, NaN below it."""
    return np.where(u < 0, np.nan, 1.0 / np.abs(u))


_TABLE: dict[str, _Function] = {
    "sin": _Function(np.sin, lambda u, f: np.cos(u)),
    "cos": _Function(np.cos, lambda u, f: -np.sin(u)),
    "tan": _Function(np.tan, lambda u, f: 1.0 + f * f),
    "asin": _Function(np.arcsin, lambda u, f: 1.0 / np.sqrt((1.0 - u) * (1.0 + u)), steep=True),
    "acos": _Function(np.arccos, lambda u, f: -1.0 / np.sqrt((1.0 - u) * (1.0 + u)), steep=True),
    "atan": _Function(np.arctan, lambda u, f: 1.0 / (1.0 + u * u)),
    "sinh": _Function(np.sinh, lambda u, f: np.cosh(u)),
    "cosh": _Function(np.cosh, lambda u, f: np.sinh(u)),
    # 1 - tanh^2 would cancel to 0 long before the slope does.
    "tanh": _Function(np.tanh, lambda u, f: (1.0 / np.cosh(u)) ** 2),
    "exp": _Function(np.exp, lambda u, f: f),
    "log": _Function(np.log, _reciprocal),
    "log2": _Function(np.log2, lambda u, f: _reciprocal(u, f) / np.log(2.0)),
    "log10": _Function(np.log10, lambda u, f: _reciprocal(u, f) / np.log(10.0)),
    "sqrt": _Function(np.sqrt, lambda u, f: 0.5 / f, steep=True),
    "cbrt": _Function(np.cbrt, lambda u, f: 1.0 / (3.0 * f * f), steep=True),
    "abs": _Function(np.abs, lambda u, f: np.sign(u)),
    "sign": _Function(np.sign, None),
    "floor": _Function(np.floor, None),
    "relu": _Function(lambda u: np.maximum(u, 0.0), lambda u, f: np.heaviside(u, 0.0)),
    "sigmoid": _Function(_sigmoid, _sigmoid_slope),
    "softplus": _Function(lambda u: np.logaddexp(0.0, u), lambda u, f: _sigmoid(u)),
    "gauss": _Function(lambda u: np.exp(-u * u), lambda u, f: -2.0 * u * f),
}
FUNCTIONS: tuple[str, ...] = tuple(_TABLE)
"""The functions of the language, each of one argument; gauss(u) is exp(-u^2), softplus(u) is log(1 + exp(u))."""
ALIASES = {"ln": "log", "arcsin": "asin", "arccos": "acos", "arctan": "atan"}
"""Other names for some of them."""


class _Built(NamedTuple):
    evaluate: Evaluator
    constant: Value | None = None


def build(node: Node) -> Evaluator:
    """Return the closure that evaluates `node`; parts without a variable are evaluated here, once."""
    with np.errstate(all="ignore"):
        return _build(node).evaluate


def _build(node: Node) -> _Built:
    match node:
        case Number(value):
            return _constant(np.float64(value))
        case Constant(name):
            return _constant(_CONSTANTS[name])
        case Variable(name):
            return _Built((lambda x, y: x) if name == "x" else (lambda x, y: y))
        case Negate(operand):
            inner = _build(operand)
            return _folded(_negate(inner.evaluate), inner)
        case Sum(terms):
            parts = [_build(term) for _, term in terms]
            signs = [sign for sign, _ in terms]
            return _folded(_sum(signs, [part.evaluate for part in parts]), *parts)
        case Product(factors):
            parts = [_build(factor) for _, factor in factors]
            operators = [operator for operator, _ in factors]
            if operators[1:] == ["*"] and parts[0].constant is not None and parts[1].constant is None:
                return _Built(_scaled(parts[0].constant, parts[1].evaluate))
            return _folded(_product(operators, [part.evaluate for part in parts]), *parts)
        case Power(base, exponent):
            below, above = _build(base), _build(exponent)
            if above.constant is None:
                return _folded(_general_power(below.evaluate, above.evaluate), below, above)
            if above.constant == 0:
                return _constant(_ONE)
            return _folded(_constant_power(below.evaluate, float(above.constant)), below)
        case Call(function, argument):
            inner = _build(argument)
            return _folded(_call(_TABLE[function], inner.evaluate), inner)


def _constant(value: Value) -> _Built:
    dual = (value, None, None)
    return _Built(lambda x, y: dual, value)


def _folded(evaluate: Evaluator, *parts: _Built) -> _Built:
    """Replace a node whose parts are all constant by its value."""
    if any(part.constant is None for part in parts):
        return _Built(evaluate)
    nothing = (_ONE, None, None)
    return _constant(np.float64(evaluate(nothing, nothing)[0]))


def _negate(inner: Evaluator) -> Evaluator:
    def evaluate(x: Dual, y: Dual) -> Dual:
        u, ux, uy = inner(x, y)
        return -u, None if ux is None else -ux, None if uy is None else -uy

    return evaluate


def _sum(signs: list[str], terms: list[Evaluator]) -> Evaluator:
    first, rest = terms[0], list(zip(signs, terms, strict=True))[1:]

    def evaluate(x: Dual, y: Dual) -> Dual:
        u, ux, uy = first(x, y)
        for sign, term in rest:
            v, vx, vy = term(x, y)
            if sign == "+":
                u, ux, uy = u + v, _plus(ux, vx), _plus(uy, vy)
            else:
                u, ux, uy = u - v, _minus(ux, vx), _minus(uy, vy)
        return u, ux, uy

    return evaluate


def _product(operators: list[str], factors: list[Evaluator]) -> Evaluator:
    first, rest = factors[0], list(zip(operators, factors, strict=True))[1:]

    def evaluate(x: Dual, y: Dual) -> Dual:
        u, ux, uy = first(x, y)
        for operator, factor in rest:
            v, vx, vy = factor(x, y)
            if operator == "*":
                u, ux, uy = u * v, _plus(_times(ux, v), _times(vx, u)), _plus(_times(uy, v), _times(vy, u))
            else:
                u = u / v
                ux, uy = _over(_minus(ux, _times(vx, u)), v), _over(_minus(uy, _times(vy, u)), v)
        return u, ux, uy

    return evaluate


def _scaled(factor: Value, inner: Evaluator) -> Evaluator:
    """What `_product` gives for a number times an expression, without its questions: the commonest term of all."""

    def evaluate(x: Dual, y: Dual) -> Dual:
        u, ux, uy = inner(x, y)
        return factor * u, None if ux is None else ux * factor, None if uy is None else uy * factor

    return evaluate


def _call(function: _Function, inner: Evaluator) -> Evaluator:
    value, slope, steep = function
    chain = _steep_times if steep else _times

    def evaluate(x: Dual, y: Dual) -> Dual:
        u, ux, uy = inner(x, y)
        f = value(u)
        if slope is None or (ux is None and uy is None):
            return f, None, None
        df = slope(u, f)
        return f, chain(ux, df), chain(uy, df)

    return evaluate


def _constant_power(base: Evaluator, exponent: float) -> Evaluator:
    if exponent == 1.0:
        return base
    if exponent == 2.0:
        power = _Function(lambda u: u * u, lambda u, f: 2.0 * u)
    elif exponent.is_integer() and abs(exponent) <= _LONGEST_PRODUCT:
        n = int(exponent)
        power = _Function(lambda u: _multiplied(u, n), lambda u, f: exponent * _multiplied(u, n - 1))
    else:
        power = _Function(
            lambda u: np.power(u, exponent),
            lambda u, f: exponent * np.power(u, exponent - 1.0),
            steep=0.0 < exponent < 1.0,
        )
    return _call(power, base)


def _multiplied(u: Value, n: int) -> Value:
    """u^n by squaring."""
    if n < 0:
        return 1.0 / _multiplied(u, -n)
    result, square = None, u
    while True:
        if n & 1:
            result = square if result is None else result * square
        n >>= 1
        if not n:
            return result
        square = square * square


def _general_power(base: Evaluator, exponent: Evaluator) -> Evaluator:
    def evaluate(x: Dual, y: Dual) -> Dual:
        u, ux, uy = base(x, y)
        n, nx, ny = exponent(x, y)
        f = _power(u, n)
        if ux is not None or uy is not None:
            by_base = np.where(n == 0, 0.0, n * _power(u, n - 1.0))
            ux, uy = _times(ux, by_base), _times(uy, by_base)
        if nx is not None or ny is not None:
            # 0^n stays 0 while n moves, as long as n is positive; the product would be 0 times minus infinity.
            by_exponent = np.where((u == 0) & (n > 0), 0.0, f * np.log(u))
            ux, uy = _plus(ux, _times(nx, by_exponent)), _plus(uy, _times(ny, by_exponent))
        return f, ux, uy

    return evaluate


def _power(u: Value, n: Value) -> Value:
    """u^n for an exponent that varies from point to point."""
    if np.size(n) > 1:
        return np.power(u, n)
    # For a lone exponent of -1, 0.5 or 2 NumPy takes a short cut, with other last bits than among many exponents.
    return np.power(np.repeat(u, 2), np.repeat(n, 2))[:1].reshape(np.shape(n))[()]


def _plus(a: Any, b: Any) -> Any:
    return b if a is None else a if b is None else a + b


def _minus(a: Any, b: Any) -> Any:
    return a if b is None else -b if a is None else a - b


def _times(derivative: Any, factor: Value) -> Any:
    return None if derivative is None else derivative * factor


def _over(derivative: Any, divisor: Value) -> Any:
    return None if derivative is None else derivative / divisor


def _steep_times(derivative: Any, slope: Value) -> Any:
    """The product, but 0 where an infinite slope meets a derivative of 0."""
    if derivative is None:
        return None
    return np.where((derivative == 0) & np.isinf(slope), 0.0, derivative * slope)
