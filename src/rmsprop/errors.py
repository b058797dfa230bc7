"""Every exception that this library raises on purpose.

    RMSpropError
    ├── RuleError (ValueError)          a switch out of its domain, or switches that contradict each other
    ├── InputError (ValueError)         an array or number that a step cannot take: shape, layout, overlap, range
    │   └── InputTypeError (TypeError)  ... because of its type or dtype
    ├── StateError (ValueError)         a state that does not belong to these parameters or this rule
    │   └── FileError                   a file that cannot be read as what it claims to be
    ├── ExpressionError (ValueError)    a typed function that does not parse; carries the column
    └── MissingDependency (ImportError) an extra that is not installed; the message names it
    RMSpropWarning (UserWarning)        another dialect's checkpoint, a complete study, a full disk

Each class also derives from the builtin in parentheses, so code that catches `ValueError`, `TypeError` or
`ImportError` keeps working. A message names the argument, what was expected, and what came:
`grads[3]: shape (3, 2), expected (2, 3) like params[3]`.
"""

from __future__ import annotations

__all__ = [
    "ExpressionError",
    "FileError",
    "InputError",
    "InputTypeError",
    "MissingDependency",
    "RMSpropError",
    "RMSpropWarning",
    "RuleError",
    "StateError",
]


class RMSpropError(Exception):
    """The base class: catch it to catch every error that this library raises on purpose."""


class RMSpropWarning(UserWarning):
    """A checkpoint of another dialect, a study that is complete already, and what the doctor could not write."""


class RuleError(RMSpropError, ValueError):
    """A `Rule` that cannot exist: a number outside its domain or a combination without a meaning."""


class InputError(RMSpropError, ValueError):
    """An array or number that a step cannot take. It is raised before anything has changed."""


class InputTypeError(InputError, TypeError):
    """An argument of a type or dtype that a step cannot take."""


class StateError(RMSpropError, ValueError):
    """A state that does not fit: other shapes, another structure, another rule."""


class FileError(StateError):
    """A file that is truncated, corrupt, or of another kind than its name says."""


class ExpressionError(RMSpropError, ValueError):
    """A typed function that does not parse.

    Attributes:
        column: Where in the text, counted from 0.
        text: The text itself.
    """

    def __init__(self, message: str, *, text: str = "", column: int = 0) -> None:
        self.text = text
        self.column = column
        self.reason = message
        pointer = f"\n  {text}\n  {' ' * column}^" if text else ""
        super().__init__(f"column {column + 1}: {message}{pointer}")


class MissingDependency(RMSpropError, ImportError):
    """An optional package that this call needs; the message says which extra brings it."""

    @classmethod
    def of(cls, package: str, *, extra: str, purpose: str) -> MissingDependency:
        """Build the message: `torch is needed for ...: pip install "rmsprop[torch]"`."""
        return cls(f'{package} is needed for {purpose}: pip install "rmsprop[{extra}]"')
