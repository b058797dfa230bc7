"""From tokens to a tree, by recursive descent.

    sum      = product { ("+" | "-") product }
    product  = signed { ("*" | "/") signed  |  juxtaposed }
    signed   = ("-" | "+") signed  |  power
    power    = atom [ ("^" | "**") signed ]                        right to left: 2^3^2 is 2^9; -x^2 is -(x^2)
    atom     = number | variable | constant | function "(" sum ")" | "(" sum ")"

Juxtaposed means a multiplication without its sign, as tutorials write it: a number before a name or a parenthesis (2x,
3sin(x), 2(x + 1)) and the letters x and y side by side (2xy). It is refused where two readings differ: after a division
(1/2x) and after an exponent (x^2y).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable

from rmsprop.errors import ExpressionError
from rmsprop.expression.dual import ALIASES, FUNCTIONS
from rmsprop.expression.tokens import CONSTANTS, MAX_DEPTH, MAX_NODES, VARIABLES, Token, refusal, tokenize
from rmsprop.expression.tree import Call, Constant, Negate, Node, Number, Power, Product, Sum, Variable

__all__ = ["parse_tree"]

_KNOWN = (*VARIABLES, *CONSTANTS, *FUNCTIONS, *ALIASES)


def parse_tree(text: str, variables: tuple[str, ...] = VARIABLES) -> tuple[Node, tuple[str, ...]]:
    """Return the tree of `text` and the variables that occur in it.

    Raises:
        ExpressionError: The text is not a sentence of the language, or names a variable outside `variables`.
    """
    parser = _Parser(text, variables)
    return parser.whole(), tuple(name for name in VARIABLES if name in parser.used)


class _Parser:
    def __init__(self, text: str, variables: tuple[str, ...]) -> None:
        self.text = text
        self.variables = variables
        self.used: set[str] = set()
        self.tokens = tokenize(text)
        self.position = 0
        self.depth = 0
        self.nodes = 0

    @property
    def token(self) -> Token:
        """The token that comes next."""
        return self.tokens[self.position]

    def whole(self) -> Node:
        node = self._sum()
        if self.token.text == ")":
            raise self._refusal("this parenthesis closes nothing", self.token)
        return node

    def _sum(self) -> Node:
        terms = [("+", self._product())]
        while self.token.text in ("+", "-"):
            sign = self._take()
            terms.append((sign.text, self._product()))
        return terms[0][1] if len(terms) == 1 else Sum(tuple(terms))

    def _product(self) -> Node:
        factors = [("*", self._signed())]
        while True:
            token = self.token
            if token.text in ("*", "/"):
                self._take()
                factors.append((token.text, self._signed()))
            elif token.kind in ("number", "name") or token.text == "(":
                self._allow_juxtaposition(*factors[-1])
                self._count(token)
                factors.append(("*", self._signed()))
            else:
                return factors[0][1] if len(factors) == 1 else Product(tuple(factors))

    def _allow_juxtaposition(self, operator: str, factor: Node) -> None:
        """Raise unless the next token may stand beside the one before it without a `*`."""
        left, right = self.tokens[self.position - 1], self.token
        if left.kind == "number" and right.kind == "number":
            raise self._refusal("two numbers side by side, expected an operator between them", right)
        if left.kind == "name" and right.text == "(":
            raise self._refusal(f"{left.text} is not a function: write {left.text}*(...)", right)
        if not right.glued and left.kind != "number":
            raise self._refusal(f"expected an operator before {right.text!r}: write * to multiply", right)
        power = isinstance(factor.operand if isinstance(factor, Negate) else factor, Power)
        if operator == "/" or power:
            shown = "(...)" if right.text == "(" else f"{right.text}(...)" if right.text in FUNCTIONS else right.text
            sign = "^" if power else "/"
            raise self._refusal(f"two readings: write {sign}{left.text}*{shown} or {sign}({left.text}*{shown})", right)

    def _signed(self) -> Node:
        if self.token.text == "-":
            return Negate(self._nested(self._take(), self._signed))
        if self.token.text == "+":
            return self._nested(self._take(), self._signed)
        return self._power()

    def _power(self) -> Node:
        base = self._atom()
        if self.token.text != "^":
            return base
        return Power(base, self._nested(self._take(), self._signed))

    def _atom(self) -> Node:
        token = self.token
        if token.kind == "number":
            self._take()
            # float, never int: 9^9^9 must be infinite at once instead of a number of 369 million digits.
            return Number(float(token.text))
        if token.kind == "name":
            self._take()
            return self._name(token)
        if token.text == "(":
            self.position += 1
            return self._closed(token)
        raise self._refusal(self._missing(token), token)

    def _name(self, token: Token) -> Node:
        name = ALIASES.get(token.text, token.text)
        if name in FUNCTIONS:
            opening = self.token
            if opening.text != "(":
                raise self._refusal(f"{token.text} needs its argument in parentheses: {token.text}(x)", opening)
            self.position += 1
            return Call(name, self._closed(opening))
        if name in CONSTANTS:
            return Constant(name)
        if name not in VARIABLES:
            raise self._refusal(_unknown(name), token)
        if name not in self.variables:
            raise self._refusal(f"{name} in a function of {' and '.join(self.variables)} alone", token)
        self.used.add(name)
        return Variable(name)

    def _closed(self, opening: Token) -> Node:
        """What stands between `opening`, already taken, and its closing parenthesis."""
        node = self._nested(opening, self._sum)
        if self.token.text != ")":
            raise self._refusal("this parenthesis is never closed", opening)
        self.position += 1
        return node

    def _nested(self, token: Token, rule: Callable[[], Node]) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self._refusal(f"nested more than {MAX_DEPTH} deep", token)
        node = rule()
        self.depth -= 1
        return node

    def _take(self) -> Token:
        """Return the next token, count it as a node, and go past it."""
        token = self.token
        self._count(token)
        self.position += 1
        return token

    def _count(self, token: Token) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise self._refusal(f"more than {MAX_NODES} numbers, names and operators", token)

    def _missing(self, token: Token) -> str:
        """Say what stands, or does not stand, where a value should."""
        expected = "expected a number, x, y, a function or a parenthesis"
        if token.kind == "end":
            return f"the text ends here, {expected}"
        return f"{token.text!r} stands here, {expected}"

    def _refusal(self, message: str, token: Token) -> ExpressionError:
        return refusal(message, self.text, token.column)


def _unknown(name: str) -> str:
    """Name the nearest known word, or say which words there are."""
    shown = name if len(name) <= 40 else name[:39] + "…"
    letter, digits = name[0], name[1:]
    if letter in VARIABLES and digits.isdigit():
        return f"unknown name {shown!r}: write {letter}^{digits[:9]} for a power, {digits[:9]}*{letter} for a product"
    near = difflib.get_close_matches(name.lower(), _KNOWN, n=1)
    if near:
        return f"unknown name {shown!r}, did you mean {near[0]!r}?"
    return f"unknown name {shown!r}: the variables are x and y, the functions {', '.join(FUNCTIONS)}"
