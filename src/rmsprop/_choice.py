"""Which rule a front end steps by: a dialect by name or a `Rule`, changed by the arguments that a caller gave.

A framework's signature has defaults, and a dialect has others. An argument that was left out is the dialect's to
decide; one that was given changes the dialect, also where it repeats the signature's default. So a front end has to
know which of its arguments were given.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from rmsprop import dialects
from rmsprop.errors import RuleError
from rmsprop.rule import Rule

__all__ = ["choose", "remember_given"]

P = ParamSpec("P")
R = TypeVar("R")


def remember_given(function: Callable[P, R]) -> Callable[P, R]:
    """Hand a function the names of the arguments it was called with, as its keyword argument `given`.

    `given` is no part of the signature that the outside sees.

    Example:
        >>> @remember_given
        ... def count(first=1, second=2, *, given=frozenset()):
        ...     return sorted(given)
        >>> count(second=2)
        ['second']
    """
    inner = inspect.signature(function)
    outer = inner.replace(parameters=[p for name, p in inner.parameters.items() if name != "given"])

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> R:
        bound = outer.bind(*args, **kwargs)
        return function(*bound.args, **bound.kwargs, given=frozenset(bound.arguments))  # type: ignore[arg-type]

    call.__signature__ = outer  # type: ignore[attr-defined]
    return call


def choose(
    dialect: str | Rule | None, *, default: str, changes: Mapping[str, Any]
) -> tuple[Rule, dialects.Dialect | None]:
    """Return the rule that `dialect` names with `changes` applied, and the row it is from (None for a `Rule`).

    Raises:
        RuleError: An unknown name, a change the host has no option for, or a rule that cannot exist.
    """
    if isinstance(dialect, Rule):
        return dialect.replace(**changes), None
    if dialect is not None and not isinstance(dialect, str):
        raise RuleError(f"dialect: a {type(dialect).__name__}, expected a name of rmsprop.dialects or a rmsprop.Rule")
    row = dialects.get(default if dialect is None else dialect)
    return row.resolve(**changes), row
