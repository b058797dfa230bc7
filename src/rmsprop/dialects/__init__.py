"""The dialects: what each framework, library and paper means by RMSprop.

    rmsprop.dialect("tensorflow1", momentum=0.9)     a Rule, with all that momentum brings along in TensorFlow 1
    dialects.get("tf1")                              the row: defaults, source, evidence, words, bugs
    print(dialects.compare("pytorch", "tf1"))        how two differ, in words and numbers

What holds in every row, whatever the host does:
* a centered rule keeps the variance itself, which cannot turn negative (`rmsprop.rule`); no host does;
* a denominator of 0 gives an update of 0, and a finite gradient gives a finite parameter;
* rho, eps, momentum and 1 - rho are double precision, rounded once to the dtype of the state;
* 16-bit arrays are computed in float32.
Where a host is finite and keeps its hyperparameters in double, its numbers are these.

Not here: CNTK, whose RmsProp is of another family (step sizes as in RPROP); DeepSpeed and kozistr/pytorch_optimizer,
which pass torch's through; tinygrad, candle's core, apex, torchao and optimi, which have none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rmsprop.dialects import _classic, _jax, _pytorch, _tensorflow
from rmsprop.dialects._compare import Comparison, Difference, compare_rules, first_step, steady_step
from rmsprop.dialects._model import BufferWhen, Complex, Dialect, Evidence, PreOrder, Sparse, When, nearest
from rmsprop.errors import RuleError
from rmsprop.rule import Rule

__all__ = [
    "BufferWhen",
    "Comparison",
    "Complex",
    "Dialect",
    "Difference",
    "Evidence",
    "PreOrder",
    "Sparse",
    "When",
    "all",
    "compare",
    "dialect",
    "first_step",
    "get",
    "names",
    "steady_step",
]

_ROWS = {row.name: row for row in (*_pytorch.ROWS, *_tensorflow.ROWS, *_jax.ROWS, *_classic.ROWS)}
_ALIASES = {alias: row.name for row in _ROWS.values() for alias in row.aliases}


def dialect(name: str, /, **changes: Any) -> Rule:
    """Return the rule that a framework, library or paper means, with some of its switches changed.

    A change brings along what it brings along in the host: momentum its kind of buffer, weight decay its place.

    Args:
        name: A name or an alias, in any case: "torch", "tf1", "Keras".
        **changes: Switches of `Rule`, in this library's words: rho, eps, momentum, centered, weight_decay...

    Raises:
        RuleError: An unknown name or switch, or a switch that the host has no option for.

    Example:
        >>> from rmsprop.dialects import dialect
        >>> dialect("torch", momentum=0.9)
        Rule(rho=0.99, eps=1e-08, eps_mode='outside', buffer='unit', momentum=0.9)
        >>> dialect("tensorflow1", momentum=0.9)
        Rule(rho=0.9, eps=1e-10, eps_mode='inside', init='ones', buffer='lr', momentum=0.9)

    Differs: the defaults of `Rule()` itself are no host's.
    Source: the field `source` of `get(name)`.
    """
    return get(name).resolve(**changes)


def get(name: str, /) -> Dialect:
    """Return the row of a name or alias.

    Raises:
        RuleError: An unknown name; the message suggests the nearest.

    Example:
        >>> from rmsprop import dialects
        >>> dialects.get("pytorch").words["rho"]
        'alpha'
        >>> dialects.get("lasagna")
        Traceback (most recent call last):
        rmsprop.errors.RuleError: unknown dialect 'lasagna', did you mean 'lasagne'?
    """
    if not isinstance(name, str):
        raise RuleError(f"dialect {name!r}, expected a name: see rmsprop.dialects.names()")
    key = name.strip().lower().replace("_", "-").replace(" ", "-")
    key = _ALIASES.get(key, key)
    if key not in _ROWS:
        raise RuleError(f"unknown dialect {name!r}, {nearest(key, _ROWS, also=_ALIASES)}")
    return _ROWS[key]


def names() -> tuple[str, ...]:
    """Return the name of every dialect, family by family.

    Example:
        >>> from rmsprop import dialects
        >>> dialects.names()[:3]
        ('torch', 'libtorch', 'torch-lua')
    """
    return tuple(_ROWS)


def all() -> tuple[Dialect, ...]:
    """Return every row, in the order of `names`."""
    return tuple(_ROWS.values())


def compare(left: str | Dialect | Rule, right: str | Dialect | Rule, /, **changes: Any) -> Comparison:
    """Say how two dialects or rules differ, switch by switch, and what that does to a step.

    Args:
        left: A name, a row, or a rule.
        right: The other.
        **changes: Switches that both are given, as in `dialect`.

    Returns:
        The differences and their consequences; `print` it for plain sentences.

    Raises:
        RuleError: An unknown name, or a change that one of the two cannot take.

    Example:
        >>> from rmsprop import dialects
        >>> comparison = dialects.compare("torch", "sonnet")
        >>> [item.switch for item in comparison.differences]
        ['rho', 'eps', 'eps_mode']
        >>> comparison.consequences[0]
        'first step, |grad| = 1: torch 10 x lr, sonnet 3.16 x lr'
        >>> print(dialects.compare("libtorch", "candle"))
        libtorch and candle: the same rule
          gradients that name rows: libtorch error, candle none
    """
    (left_name, left_rule), (right_name, right_rule) = _named(left, changes), _named(right, changes)
    if left_name == right_name:
        left_name, right_name = f"{left_name} (left)", f"{right_name} (right)"
    return compare_rules(left_name, left_rule, right_name, right_rule, _remarks(left, right))


def _named(side: str | Dialect | Rule, changes: dict[str, Any]) -> tuple[str, Rule]:
    if isinstance(side, Rule):
        return repr(side), side.replace(**changes)
    row = side if isinstance(side, Dialect) else get(side)
    return row.name, row.resolve(**changes)


def _remarks(left: str | Dialect | Rule, right: str | Dialect | Rule) -> tuple[str, ...]:
    """What two rows differ in besides the rule."""
    if isinstance(left, Rule) or isinstance(right, Rule):
        return ()
    mine, theirs = (side if isinstance(side, Dialect) else get(side) for side in (left, right))
    return tuple(
        f"{what}: {mine.name} {told(mine)}, {theirs.name} {told(theirs)}"
        for what, told in _TOLD.items()
        if told(mine) != told(theirs)
    )


_TOLD: dict[str, Callable[[Dialect], str]] = {
    "default lr": lambda row: "none, it must be given" if row.lr is None else f"{row.lr:g}",
    "gradients that name rows": lambda row: row.sparse,
    "complex parameters": lambda row: row.complex,
    "order of clipping and weight decay": lambda row: row.pre_order,
}
