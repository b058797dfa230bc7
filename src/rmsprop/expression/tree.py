"""What a typed function becomes: a small tree, and its way back to text.

Sums and products are flat lists, so that a hundred terms are no deeper than two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["Call", "Constant", "Negate", "Node", "Number", "Power", "Product", "Sum", "Variable", "write"]


@dataclass(frozen=True, slots=True)
class Number:
    """A literal, at least 0; infinite where the text overflows float64."""

    value: float


@dataclass(frozen=True, slots=True)
class Constant:
    """`pi` or `e`."""

    name: str


@dataclass(frozen=True, slots=True)
class Variable:
    """`x` or `y`."""

    name: str


@dataclass(frozen=True, slots=True)
class Negate:
    """A minus sign."""

    operand: Node


@dataclass(frozen=True, slots=True)
class Sum:
    """Two or more terms with their signs "+" or "-", added from left to right; the first sign is "+"."""

    terms: tuple[tuple[str, Node], ...]


@dataclass(frozen=True, slots=True)
class Product:
    """Two or more factors with "*" or "/" before each, taken from left to right; the first is "*"."""

    factors: tuple[tuple[str, Node], ...]


@dataclass(frozen=True, slots=True)
class Power:
    """`base ^ exponent`."""

    base: Node
    exponent: Node


@dataclass(frozen=True, slots=True)
class Call:
    """A function of one argument, by its first name (`log`, not `ln`)."""

    function: str
    argument: Node


Node: TypeAlias = Number | Constant | Variable | Negate | Sum | Product | Power | Call


def write(node: Node) -> str:
    """Write a tree as text that parses to the same tree, with no parenthesis that is not needed for it."""
    match node:
        case Number(value):
            return _number(value)
        case Constant(name) | Variable(name):
            return name
        case Negate(operand):
            return "-" + _wrapped(operand, Sum, Product)
        case Sum(terms):
            pieces = [f" {sign} {_wrapped(term, Sum)}" for sign, term in terms]
            return "".join(pieces).removeprefix(" + ")
        case Product(factors):
            pieces = [op + _wrapped(factor, Sum, Product) for op, factor in factors]
            return "".join(pieces).removeprefix("*")
        case Power(base, exponent):
            return f"{_wrapped(base, Sum, Product, Power, Negate)}^{_wrapped(exponent, Sum, Product)}"
        case Call(function, argument):
            return f"{function}({write(argument)})"


def _wrapped(node: Node, *kinds: type) -> str:
    text = write(node)
    return f"({text})" if isinstance(node, kinds) else text


def _number(value: float) -> str:
    """The shortest text that reads back as `value`; infinity has no literal, but a number too large does."""
    if value == float("inf"):
        return "1e999"
    return repr(value).removesuffix(".0")
