"""Translate a typed function to Python source, for `ast.parse`.

    sum      = product { ("+" | "-") product }
    product  = signed { ("*" | "/") signed  |  implied }
    signed   = ("-" | "+") signed  |  power
    power    = atom [ ("^" | "**") signed ]                        right to left: 2^3^2 is 2^9; -x^2 is -(x^2)
    atom     = number | variable | constant | function "(" sum ")" | "(" sum ")"

Implied means a multiplication without its sign, as tutorials write it: a number before a name or a parenthesis (2x,
3sin(x), 2(x + 1)) and the letters x and y side by side (2xy). It is refused where two readings differ: after a division
(1/2x) and after an exponent (x^2y).

Python never sees the text itself: each token is checked, and the source is written from known names, `repr` of floats,
operators and parentheses. Only ASCII is allowed, so no character is taken for another one that looks like it.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from typing import NamedTuple, NoReturn

from rmsprop.errors import ExpressionError
from rmsprop.expression.dual import ALIASES, CONSTANTS, FUNCTIONS

__all__ = ["VARIABLES", "make_error", "translate"]

VARIABLES = ("x", "y")
MAX_LENGTH = 400
"""Characters in a text; checked before anything else."""
MAX_NODES = 300
"""Numbers, names and operators in a text."""
MAX_DEPTH = 40
"""Parentheses, signs and exponents inside one another."""

# A run of the letters x and y is one name for each letter, as no other name consists of them.
_TOKEN = re.compile(
    r"(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>[xy](?=[xy]*\b)|[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<operator>\*\*|[-+*/^()])"
    r"|(?P<unexpected>[^ \t\r\n])",
    re.ASCII,
)
_ALLOWED = "only ASCII letters, digits, + - * / ^ ( ) and . are read"
_EXPECTED = "expected a number, x, y, a function or a parenthesis"
HINTS = {
    "=": "type the right-hand side alone",
    ",": "every function takes one argument",
    ".": "a dot stands only inside a number",
    "|": "write abs(x)",
    "!": "there is no factorial",
    "%": "there is no remainder",
    "[]{}": "use round parentheses",
    "<>": "there are no comparisons",
    "'\"`": "there are no strings",
    "\N{MULTIPLICATION SIGN}\N{MIDDLE DOT}\N{DOT OPERATOR}": "write *",
    "\N{DIVISION SIGN}": "write /",
    "\N{MINUS SIGN}\N{EN DASH}": "write -",
    "\N{SUPERSCRIPT TWO}": "write ^2",
    "\N{SUPERSCRIPT THREE}": "write ^3",
    "\N{GREEK SMALL LETTER PI}": "write pi",
    "\N{SQUARE ROOT}": "write sqrt(x)",
}


def translate(text: str, variables: tuple[str, ...]) -> str:
    """Return Python source of known names, floats, calls of one argument, parentheses and + - * / **, nothing else.

    Raises:
        ExpressionError: The text is not in the language, or names a variable outside `variables`.
    """
    if not isinstance(text, str):
        raise ExpressionError(f"text: {type(text).__name__}, expected a str such as 'x^2 + y^2'")
    return _Translator(text, variables).translate()


class _Token(NamedTuple):
    kind: str
    text: str
    column: int


class _Translator:
    def __init__(self, text: str, variables: tuple[str, ...]) -> None:
        self.text = text
        self.variables = variables
        self.source: list[str] = []
        self.nodes = 0
        # Inside the current parentheses: the last binary operator, how deep they are nested, and with the signs and
        # exponents since the last + - * /. The same three of each outer pair wait in `outer`.
        self.operator, self.level, self.depth = "", 0, 0
        self.outer: list[tuple[_Token, str, int, int]] = []

    def translate(self) -> str:
        """Check each token against the one before it, and return the text as Python source."""
        before = _Token("operator", "", 0)
        for token in self._tokenize():
            ends_value = before.kind in ("number", "name") or before.text == ")"
            if before.text in (*FUNCTIONS, *ALIASES) and token.text != "(":
                self._fail(f"{before.text} needs its argument in parentheses: {before.text}(x)", token)
            elif token.text == "(":
                if ends_value and before.text not in (*FUNCTIONS, *ALIASES):
                    self._imply_product(before, token)
                self._open(token)
            elif token.kind in ("number", "name"):
                if ends_value:
                    self._imply_product(before, token)
                self._count(token)
                self.source.append(self._translate_value(token))
            elif ends_value:
                self._end_value(token)
            elif token.text in ("+", "-"):
                self._count(token)
                self._nest(token, self.depth + 1)
                if token.text == "-":
                    self.source.append("-")
            else:
                found = f"{token.text!r} stands here" if token.text else "the text ends here"
                self._fail(f"{found}, {_EXPECTED}", token)
            before = token
        return " ".join(self.source)

    def _end_value(self, token: _Token) -> None:
        """Take what may follow a value: a binary operator, a closing parenthesis or the end."""
        if token.kind == "end":
            if self.outer:
                self._fail("this parenthesis is never closed", self.outer[-1][0])
        elif token.text == ")":
            if not self.outer:
                self._fail("this parenthesis closes nothing", token)
            _, self.operator, self.level, self.depth = self.outer.pop()
            self.source.append(")")
        else:
            self._count(token)
            self.operator = token.text
            self._nest(token, self.depth + 1 if token.text == "^" else self.level)
            self.source.append("**" if token.text == "^" else token.text)

    def _imply_product(self, left: _Token, right: _Token) -> None:
        """Write the `*` between two values side by side, unless the text has another reading."""
        is_glued = {left.text, right.text} <= set(VARIABLES) and right.column == left.column + 1
        if left.kind == right.kind == "number":
            self._fail("two numbers side by side, expected an operator between them", right)
        if left.kind == "name" and right.text == "(":
            self._fail(f"{left.text} is not a function: write {left.text}*(...)", right)
        if left.kind != "number" and not is_glued:
            self._fail(f"expected an operator before {right.text!r}: write * to multiply", right)
        if self.operator in ("/", "^"):
            shown = "(...)" if right.text == "(" else f"{right.text}(...)" if right.text in FUNCTIONS else right.text
            readings = f"{self.operator}{left.text}*{shown} or {self.operator}({left.text}*{shown})"
            self._fail(f"two readings: write {readings}", right)
        self._end_value(_Token("operator", "*", right.column))

    def _translate_value(self, token: _Token) -> str:
        if token.kind == "number":
            # float, never int: 9^9^9 must be infinite at once instead of a number of 369 million digits.
            return repr(float(token.text)).replace("inf", "1e999")
        name = ALIASES.get(token.text, token.text)
        if name in VARIABLES and name not in self.variables:
            self._fail(f"{name} in a function of {' and '.join(self.variables)} alone", token)
        if name not in (*VARIABLES, *CONSTANTS, *FUNCTIONS):
            self._fail(_describe_unknown(name), token)
        return name

    def _open(self, token: _Token) -> None:
        self.outer.append((token, self.operator, self.level, self.depth))
        self._nest(token, self.depth + 1)
        self.operator, self.level = "", self.depth
        self.source.append("(")

    def _nest(self, token: _Token, depth: int) -> None:
        self.depth = depth
        if depth > MAX_DEPTH:
            self._fail(f"nested more than {MAX_DEPTH} deep", token)

    def _count(self, token: _Token) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            self._fail(f"more than {MAX_NODES} numbers, names and operators", token)

    def _tokenize(self) -> list[_Token]:
        if len(self.text) > MAX_LENGTH:
            raise make_error(f"{len(self.text)} characters, expected at most {MAX_LENGTH}", self.text, MAX_LENGTH)
        found = [_Token(str(m.lastgroup), m[0].replace("**", "^"), m.start()) for m in _TOKEN.finditer(self.text)]
        for token in found:
            if token.kind == "unexpected":
                self._fail(_describe_unexpected(token.text), token)
        if not found:
            raise make_error("nothing typed, expected a function of x and y such as x^2 + y^2", self.text, 0)
        return [*found, _Token("end", "", len(self.text.rstrip()))]

    def _fail(self, message: str, token: _Token) -> NoReturn:
        raise make_error(message, self.text, token.column)


def make_error(message: str, text: str, column: int) -> ExpressionError:
    """Build the error; what it prints holds no control character and at most `MAX_LENGTH` characters of `text`."""
    shown = text if len(text) <= MAX_LENGTH else ""
    # One character for one, so that the caret stays under the column.
    printable = "".join(" " if c.isspace() else c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in shown)
    error = ExpressionError(message, text=printable, column=column)
    error.text = text
    return error


def _describe_unexpected(char: str) -> str:
    """Name a character that the language does not have, and what to type in its place."""
    title = f" ({unicodedata.name(char, 'no name')})" if ord(char) > 127 else ""
    hints = [hint for chars, hint in HINTS.items() if char in chars]
    return f"unexpected character {char!r}{title}: {(hints or [_ALLOWED])[0]}"


def _describe_unknown(name: str) -> str:
    """Suggest the nearest known name, or list the names that there are."""
    shown = name if len(name) <= 40 else name[:39] + "…"
    letter, digits = name[0], name[1:10]
    if letter in VARIABLES and name[1:].isdigit():
        return f"unknown name {shown!r}: write {letter}^{digits} for a power, {digits}*{letter} for a product"
    near = difflib.get_close_matches(name.lower(), (*VARIABLES, *CONSTANTS, *FUNCTIONS, *ALIASES), n=1)
    if near:
        return f"unknown name {shown!r}, did you mean {near[0]!r}?"
    return f"unknown name {shown!r}: the variables are x and y, the functions {', '.join(FUNCTIONS)}"
