"""Which rule a front end steps by: a dialect by name or a `Rule`, and the options that the caller gave.

One resolver for every front end, `minimize`, the command line and the tuner:
* an option that is None is the dialect's own; any other value, also False and 0, is a request;
* a request that the dialect has no option for raises, and so does one that contradicts a given `Rule`;
* a learning rate that is None is the dialect's own, or the front end's default where the dialect has none.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, ParamSpec, TypeVar

from rmsprop import dialects
from rmsprop.dialects import Dialect
from rmsprop.dialects._model import nearest
from rmsprop.errors import InputError, InputTypeError, RuleError
from rmsprop.rule import Rule

__all__ = ["OWN", "SYNONYMS", "Selection", "check_option_names", "describe_unknown", "select", "translate_words"]

P = ParamSpec("P")
R = TypeVar("R")

OWN = Dialect(
    name="rmsprop",
    title="rmsprop",
    rule=Rule(),
    lr=0.01,
    source="src/rmsprop/rule.py",
    evidence="V",
    offers=tuple(field.name for field in dataclasses.fields(Rule)),
    choices={"buffer": ("lr",)},
    momentum_buffer="unit",
    weight_decay_modes=("l2", "decoupled", "decoupled_corrected", "in_buffer"),
)
"""What NumPy, `minimize` and the command line do without a dialect: `Rule()`; momentum and weight decay as in torch."""

_RULE_FIELDS = {field.name for field in dataclasses.fields(Rule)}

SYNONYMS = {
    **{"step_size": "lr", "damping": "eps", "delta": "eps", "gamma": "rho", "beta2": "rho"},
    **{"smoothing_constant": "rho", "discounting_factor": "rho", "wd": "weight_decay"},
    **{
        theirs: ours
        for row in dialects.all()
        for ours, theirs in row.words.items()
        if theirs not in _RULE_FIELDS and (ours == "lr" or ours in _RULE_FIELDS)
    },
}
"""A framework's word for a number or switch -> this library's."""

_ADVICE = {
    "decoupled_decay": "decoupled weight decay is a rule: "
    "dialect=rmsprop.dialect('timm', weight_decay=0.01, weight_decay_mode='decoupled')",
    "lr_in_momentum": "where lr stands is the rule's: dialect=rmsprop.dialect('timm', momentum=0.9, buffer='unit') "
    "for lr_in_momentum=False",
    "caution": "there is no cautious update; timm's own RMSpropTF has it",
}
"""Options of other implementations that are no single word here, and what to do instead."""


class Selection(NamedTuple):
    """The outcome of `select`.

    Attributes:
        rule: The rule.
        dialect: The dialect's name, for logs and checkpoints; "custom" for a `Rule`.
        row: The dialect's row; None for a `Rule`.
        lr: The learning rate where none is given; None if neither the dialect nor the front end has a default.
    """

    rule: Rule
    dialect: str
    row: Dialect | None
    lr: float | None


def select(
    dialect: str | Rule | None,
    options: Mapping[str, Any],
    *,
    default: str | Dialect = OWN,
    words: Mapping[str, str] | None = None,
) -> Selection:
    """Return the rule that `dialect` names, changed by the options that are not None.

    Args:
        dialect: A name of `rmsprop.dialects`, a `Rule`, or None for the front end's own.
        options: What the caller gave, by this library's words: {"rho": 0.99, "centered": None}.
        default: The front end's own dialect.
        words: The front end's word of a switch, for messages, where it is another one.

    Raises:
        RuleError: An unknown name, an option that the dialect does not have, or a rule that cannot exist.
        InputError: An option that contradicts a given `Rule`.
        InputTypeError: `dialect` is neither a name nor a `Rule`.

    Example:
        >>> select("tensorflow1", {"rho": 0.95, "momentum": None}).rule
        Rule(rho=0.95, eps=1e-10, eps_mode='inside', init='ones')
        >>> select("dqn", {"centered": False})  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        rmsprop.errors.RuleError: dialect 'dqn': centered=False, but DeepMind's DQN (Lua) has no such option; ...
    """
    given = {switch: value for switch, value in options.items() if value is not None}
    own = dialects.get(default) if isinstance(default, str) else default
    if isinstance(dialect, Rule):
        for switch, value in given.items():
            mine = getattr(dialect, switch)
            if value != mine or isinstance(value, bool) != isinstance(mine, bool):
                word = (words or {}).get(switch, switch)
                raise InputError(
                    f"{word}={value!r} contradicts the given Rule, which has {switch}={mine!r}; "
                    f"leave {word} out, or pass dialect=rule.replace({switch}={value!r})"
                )
        return Selection(dialect, "custom", None, own.lr)
    if dialect is not None and not isinstance(dialect, str):
        raise InputTypeError(f"dialect: a {type(dialect).__name__}, expected a dialect's name or a rmsprop.Rule")
    row = own if dialect in (None, own.name) else dialects.get(dialect)
    try:
        rule = row.resolve(**given)
    except RuleError as error:
        raise translate_words(error, words or {}) from None
    return Selection(rule, row.name, row, own.lr if row.lr is None else row.lr)


def translate_words(error: RuleError, words: Mapping[str, str]) -> RuleError:
    """Return the error in the front end's words: alpha=2.0 where the caller wrote alpha."""
    message = str(error)
    for switch, word in words.items():
        message = re.sub(rf"(?<![(\w]){switch}=", f"{word}=", message)
    return RuleError(message)


def check_option_names(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function name the right word where it gets an unknown keyword.

    Raises:
        InputTypeError: From the function: an unknown option.

    Example:
        >>> @check_option_names
        ... def train(lr=None, alpha=None): ...
        >>> train(decay=0.9)
        Traceback (most recent call last):
        rmsprop.errors.InputTypeError: unknown option 'decay'; use 'alpha'
    """
    known = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        for word in kwargs:
            if word not in known:
                raise InputTypeError(describe_unknown(word, known))
        return function(*args, **kwargs)

    return call


def describe_unknown(word: str, known: list[str]) -> str:
    """Return the message about an option that is not known, with the word to use if there is one."""
    if word in _ADVICE:
        return f"unknown option {word!r}; {_ADVICE[word]}"
    meant = SYNONYMS.get(word, word)
    for mine in known:
        if SYNONYMS.get(mine, mine) == meant:
            return f"unknown option {word!r}; use {mine!r}"
    if meant in _RULE_FIELDS:
        return f"unknown option {word!r}; it is a switch of the rule: dialect=rmsprop.dialect(name, {meant}=...)"
    return f"unknown option {word!r}; {nearest(word, [name for name in known if name != 'self'])}"
