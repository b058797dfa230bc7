"""Parameter groups: torch's words for the numbers, this library's rule behind them.

A group keeps what torch.optim.RMSprop keeps (`alpha`, `eps`, `momentum`, `centered`, `weight_decay`, `maximize`, ...),
so that schedulers and checkpoints work; under "switches" what torch has no word for; and under "dialect" the name.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rmsprop.errors import InputTypeError, RuleError
from rmsprop.rule import Rule
from rmsprop.select import Selection, describe_unknown, select, translate_words

__all__ = ["TORCH_SWITCHES", "WORDS", "check_numbers", "resolve", "rule_of", "signature"]

WORDS = {
    "alpha": "rho",
    "eps": "eps",
    "momentum": "momentum",
    "centered": "centered",
    "weight_decay": "weight_decay",
    "maximize": "maximize",
}
"""torch's name of a number in a parameter group -> the rule's."""

RULE_WORDS = {switch: word for word, switch in WORDS.items()}

TORCH_SWITCHES = {
    "eps_mode": "outside",
    "init": "zeros",
    "var_floor": 0.0,
    "bias_correction": False,
    "buffer": "unit",
    "nesterov": "none",
    "weight_decay_mode": "l2",
}
"""The other switches of torch.optim.RMSprop; "buffer" and "weight_decay_mode" act once their number is above 0."""

_OPTIMIZERS_OWN = ("max_norm", "seed", "eager_state")
_OTHER_WORDS = {"epsilon", "decay", "learning_rate", *(field.name for field in dataclasses.fields(Rule))}
"""In a group these would do nothing; other unknown keys belong to schedulers and trainers."""


def check_numbers(given: Mapping[str, Any]) -> None:
    """Raise torch's own errors for numbers that torch rejects."""
    titles = {"lr": "learning rate", "eps": "epsilon value"}
    for word in ("lr", "eps", "momentum", "weight_decay", "alpha"):
        value = given.get(word)
        if value is not None and not isinstance(value, (Tensor, str)) and not value >= 0.0:
            raise ValueError(f"Invalid {titles.get(word, f'{word} value')}: {value}")


def resolve(group: Mapping[str, Any], given: Mapping[str, Any], dialect: str | Rule | None) -> dict[str, Any]:
    """Return what a new group holds of its rule.

    Args:
        group: The group as the caller wrote it. Read.
        given: The numbers that the constructor was given, which hold where the group has none of its own.
        dialect: The constructor's dialect, likewise.

    Raises:
        InputTypeError: A key that is another implementation's word for one of these numbers.
        InputError, RuleError: As `rmsprop.select.select`.
    """
    for key in group:
        if key in _OPTIMIZERS_OWN:
            raise InputTypeError(f"param_groups: {key!r} belongs to the optimizer, not to a group")
        known = ["lr", *WORDS]
        if key not in known and (key in _OTHER_WORDS or difflib.get_close_matches(key, known, cutoff=0.8)):
            raise InputTypeError(f"param_groups: {describe_unknown(key, known)}")
    own = {word: group[word] for word in ("lr", *WORDS) if group.get(word) is not None}
    numbers = {**given, **own}
    options = {switch: numbers.get(word) for word, switch in WORDS.items()}
    chosen = select(group.get("dialect", dialect), options, default="torch", words=RULE_WORDS)
    return {
        "lr": numbers.get("lr", chosen.lr),
        **{word: getattr(chosen.rule, switch) for word, switch in WORDS.items()},
        "switches": _switches_of(chosen),
        "dialect": chosen.dialect,
    }


def _switches_of(chosen: Selection) -> dict[str, Any]:
    """Return the switches that a group keeps beside torch's words."""
    switches = {name: getattr(chosen.rule, name) for name in TORCH_SWITCHES}
    if chosen.row is not None:
        # What the dialect would do once momentum or weight decay is switched on, by a scheduler say.
        if switches["buffer"] == "none":
            switches["buffer"] = chosen.row.momentum_buffer
        if switches["weight_decay_mode"] == "none" and chosen.row.weight_decay_modes:
            switches["weight_decay_mode"] = chosen.row.weight_decay_modes[0]
    return switches


def signature(group: dict[str, Any]) -> tuple[Any, ...]:
    """Return everything of a group that its rule depends on, for a cheap comparison."""
    return (
        group["alpha"],
        group["eps"],
        group["momentum"],
        group["centered"],
        group["weight_decay"],
        group["maximize"],
        *group["switches"].values(),
    )


def rule_of(group: dict[str, Any]) -> Rule:
    """Return the rule of a group as its numbers are now.

    Raises:
        RuleError: A number out of its domain.
    """
    switches = dict(group["switches"])
    numbers = {switch: group[word] for word, switch in WORDS.items()}
    if not numbers["momentum"] > 0:
        switches["nesterov"] = "none"
        switches["buffer"] = "none"
    if not numbers["weight_decay"] > 0:
        switches["weight_decay_mode"] = "none"
    numbers["centered"] = bool(numbers["centered"])
    numbers["maximize"] = bool(numbers["maximize"])
    try:
        return Rule(**numbers, **switches)
    except RuleError as error:
        raise translate_words(error, RULE_WORDS) from None
