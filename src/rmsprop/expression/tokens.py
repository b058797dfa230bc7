"""Cut a typed function into tokens; refuse every character that the language does not have.

The language is ASCII: no Unicode digit, letter or minus sign passes, however much it looks like one. That is what
keeps a homoglyph from meaning something else than it shows.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from rmsprop.errors import ExpressionError

__all__ = ["CONSTANTS", "MAX_DEPTH", "MAX_LENGTH", "MAX_NODES", "VARIABLES", "Token", "refusal", "tokenize"]

MAX_LENGTH = 400
"""Characters in a text; checked before anything else looks at it."""
MAX_NODES = 300
"""Numbers, names, operators and function calls in a text."""
MAX_DEPTH = 40
"""Parentheses, signs and exponents inside one another."""

VARIABLES = ("x", "y")
CONSTANTS = ("pi", "e")

_TOKEN = re.compile(
    r"(?P<space>[ \t\r\n]+)"
    r"|(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<operator>\*\*|[-+*/^()])"
)
_GLUED = re.compile(r"[xy]{2,}")

_HINTS = {
    "=": "type the right-hand side alone",
    ",": "every function takes one argument",
    ".": "a dot stands only inside a number",
    "|": "write abs(x)",
    "!": "there is no factorial",
    "%": "there is no remainder",
    "\N{MULTIPLICATION SIGN}": "write *",
    "\N{MIDDLE DOT}": "write *",
    "\N{DOT OPERATOR}": "write *",
    "\N{DIVISION SIGN}": "write /",
    "\N{MINUS SIGN}": "write -",
    "\N{EN DASH}": "write -",
    "\N{SUPERSCRIPT TWO}": "write ^2",
    "\N{SUPERSCRIPT THREE}": "write ^3",
    "\N{GREEK SMALL LETTER PI}": "write pi",
    "\N{SQUARE ROOT}": "write sqrt(x)",
    **dict.fromkeys("[]{}", "use round parentheses"),
    **dict.fromkeys("<>", "there are no comparisons"),
    **dict.fromkeys("'\"`", "there are no strings"),
}


class Token(NamedTuple):
    """A piece of the text.

    Attributes:
        kind: "number", "name", "operator" or "end".
        text: As typed, except that `**` reads `^`.
        column: Where it begins, counted from 0.
        glued: A letter that touches the one before it, as y does in xy.
    """

    kind: str
    text: str
    column: int
    glued: bool = False


def tokenize(text: str) -> list[Token]:
    """Return the tokens of `text`, the last one of kind "end".

    A run of the letters x and y becomes one token for each letter: no other name consists of them.

    Raises:
        ExpressionError: Too long, empty, or a character outside the language.
    """
    if not isinstance(text, str):
        raise ExpressionError(f"text: {type(text).__name__}, expected a str such as 'x^2 + y^2'")
    if len(text) > MAX_LENGTH:
        raise refusal(f"{len(text)} characters, expected at most {MAX_LENGTH}", text, MAX_LENGTH)
    tokens: list[Token] = []
    column = 0
    while column < len(text):
        match = _TOKEN.match(text, column)
        if match is None:
            raise refusal(_unexpected(text[column]), text, column)
        kind, word = str(match.lastgroup), match.group()
        if kind == "name" and _GLUED.fullmatch(word):
            tokens += [Token(kind, letter, column + i, glued=i > 0) for i, letter in enumerate(word)]
        elif kind != "space":
            tokens.append(Token(kind, "^" if word == "**" else word, column))
        column = match.end()
    if not tokens:
        raise refusal("nothing typed, expected a function of x and y such as x^2 + y^2", text, 0)
    return [*tokens, Token("end", "", len(text.rstrip()))]


def refusal(message: str, text: str, column: int) -> ExpressionError:
    """Build the error; what it prints holds no control character and at most `MAX_LENGTH` characters of `text`."""
    shown = text if len(text) <= MAX_LENGTH else ""
    # One character for one, so that the caret stays under the column.
    printable = "".join(" " if c.isspace() else c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in shown)
    error = ExpressionError(message, text=printable, column=column)
    error.text = text
    return error


def _unexpected(char: str) -> str:
    """Name a character that the language does not have, and what to type in its place."""
    title = f" ({unicodedata.name(char, 'no name')})" if ord(char) > 127 else ""
    hint = _HINTS.get(char, "only ASCII letters, digits, + - * / ^ ( ) and . are read")
    return f"unexpected character {char!r}{title}: {hint}"
