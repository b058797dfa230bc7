"""Parameter groups: torch's words for the numbers, this library's rule behind them.

A group keeps what torch.optim.RMSprop keeps (`alpha`, `eps`, `momentum`, `centered`, `weight_decay`, `maximize`, ...),
so that schedulers and checkpoints work, and under "switches" what torch has no word for.
"""

from __future__ import annotations

from typing import Any

from rmsprop.dialects import dialect as named_dialect
from rmsprop.dialects import get as get_dialect
from rmsprop.errors import InputError, InputTypeError, RuleError
from rmsprop.rule import Rule

__all__ = ["HOST_WORDS", "TORCH_NUMBERS", "TORCH_SWITCHES", "Default", "resolve", "rule_of", "signature", "switches_of"]

HOST_WORDS = {
    "alpha": "rho",
    "eps": "eps",
    "momentum": "momentum",
    "centered": "centered",
    "weight_decay": "weight_decay",
    "maximize": "maximize",
}
"""torch's name of a number in a parameter group -> the rule's."""

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


class Default(float):
    """A default that can be told from the same number passed by the caller, so that a dialect may replace it."""


TORCH_NUMBERS = {
    "alpha": Default(0.99),
    "eps": Default(1e-8),
    "momentum": Default(0),
    "centered": False,
    "weight_decay": Default(0),
    "maximize": False,
}
"""The numbers of torch.optim.RMSprop."""


def resolve(dialect: str | Rule, numbers: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], float | None]:
    """Return (numbers in torch's words, switches, the dialect's own lr or None).

    Args:
        dialect: A dialect's name or a Rule.
        numbers: torch's arguments as passed; a `Default` (or False) was not passed and gives way to the dialect.

    Raises:
        RuleError: An unknown dialect, or a number that it does not have.
    """
    if not isinstance(dialect, (str, Rule)):
        raise InputTypeError(f"dialect: a {type(dialect).__name__}, expected a dialect's name or a rmsprop.Rule")
    if dialect == "torch":
        return {word: _plain(value) for word, value in numbers.items()}, dict(TORCH_SWITCHES), None
    passed = {
        HOST_WORDS[word]: _plain(value)
        for word, value in numbers.items()
        if not isinstance(value, Default) and value is not False
    }
    lr = None
    if isinstance(dialect, Rule):
        rule = dialect
        for switch, value in passed.items():
            if getattr(rule, switch) != value:
                raise InputError(
                    f"{switch}={value!r} beside a dialect=Rule with {switch}={getattr(rule, switch)!r}: "
                    f"give it in one place, e.g. dialect=rule.replace({switch}={value!r})"
                )
    else:
        rule = named_dialect(dialect, **passed)
        lr = get_dialect(dialect).lr
    resolved = {word: getattr(rule, switch) for word, switch in HOST_WORDS.items()}
    return resolved, switches_of(rule, dialect), lr


def switches_of(rule: Rule, dialect: str | Rule) -> dict[str, Any]:
    """Return the switches of `rule` that a group keeps beside torch's words."""
    switches = {name: getattr(rule, name) for name in TORCH_SWITCHES}
    if isinstance(dialect, str):
        # What the dialect would do once momentum or weight decay is switched on, by a scheduler say.
        on = get_dialect(dialect)
        if switches["buffer"] == "none" and on.momentum_buffer is not None:
            switches["buffer"] = on.momentum_buffer
        if switches["weight_decay_mode"] == "none" and on.weight_decay_modes:
            switches["weight_decay_mode"] = on.weight_decay_modes[0]
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
    numbers = {switch: group[word] for word, switch in HOST_WORDS.items()}
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
        raise RuleError(str(error).replace("rho=", "alpha=")) from None  # the caller's word


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, Default) else value
