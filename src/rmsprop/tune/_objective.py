"""What tells one objective from another, so that a study never hands out the trials of a function that it never ran.

A digest of the compiled function (its instructions, constants and names, also of the functions inside it) and of the
plain values that it was made with: defaults, what it closes over, its object's attributes. Comments, positions and the
file do not count. Not seen: data that are no plain values, functions that it calls, and its module's variables, which
hold what differs from process to process, such as a device's number.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["identity"]

PLAIN = (type(None), bool, int, float, complex, str, bytes)


def identity(objective: Callable[..., Any]) -> str:
    """Return a function's name and a digest of what it does.

    Example:
        >>> identity(lambda setting: setting.lr) == identity(lambda setting: setting.lr)
        True
        >>> identity(lambda setting: setting.lr) == identity(lambda setting: setting.rule.rho)
        False
    """
    innermost: Any = objective
    while isinstance(innermost, functools.partial):
        innermost = innermost.func
    named = innermost if hasattr(innermost, "__qualname__") else type(innermost)
    digest = hashlib.sha256(repr(_callable(objective, set())).encode()).hexdigest()[:12]
    return f"{named.__qualname__.replace('<locals>.', '')} {digest}"


def _callable(thing: Any, done: set[int]) -> Any:
    """Return what a function is made of, as text and lists of it; each function once, as it may close over itself."""
    if id(thing) in done:
        return None
    done.add(id(thing))
    if isinstance(thing, functools.partial):
        return [_callable(thing.func, done), _values(dict(enumerate(thing.args)), done), _values(thing.keywords, done)]
    if isinstance(thing, types.MethodType):
        return [_callable(thing.__func__, done), _values(getattr(thing.__self__, "__dict__", {}), done)]
    if isinstance(thing, types.FunctionType):
        defaults: dict[Any, Any] = {**dict(enumerate(thing.__defaults__ or ())), **(thing.__kwdefaults__ or {})}
        closed = dict(zip(thing.__code__.co_freevars, thing.__closure__ or (), strict=True))
        return [_code(thing.__code__), _values(defaults, done), _values({n: _held(c) for n, c in closed.items()}, done)]
    own = inspect.getattr_static(type(thing), "__call__", None)
    return _callable(types.MethodType(own, thing), done) if isinstance(own, types.FunctionType) else None


def _values(named: Mapping[Any, Any], done: set[int]) -> list[Any]:
    """Return the plain values of a mapping, and what the functions among the others are made of."""
    plain = [(name, repr(value)) for name, value in named.items() if _plain(value)]
    functions = (types.FunctionType, types.MethodType, functools.partial)
    return [*plain, *((name, _callable(value, done)) for name, value in named.items() if isinstance(value, functions))]


def _held(cell: types.CellType) -> Any:
    with contextlib.suppress(ValueError):  # a variable that has no value yet
        return cell.cell_contents
    return None


def _plain(value: Any) -> bool:
    return isinstance(value, PLAIN) or (isinstance(value, tuple) and all(map(_plain, value)))


def _code(code: types.CodeType) -> list[Any]:
    return [code.co_code.hex(), list(map(_constant, code.co_consts)), code.co_names, code.co_varnames, code.co_freevars]


def _constant(value: Any) -> Any:
    if isinstance(value, types.CodeType):
        return _code(value)
    # The order of a set of strings differs from process to process.
    return sorted(map(repr, value)) if isinstance(value, frozenset) else repr(value)
