"""The dialects: what each framework, library and paper means by RMSprop.

    rmsprop.dialect("tensorflow1", momentum=0.9)     a Rule, with all that momentum brings along in TensorFlow 1
    dialects.get("tf1")                              the row: defaults, source, evidence, words, bugs
    print(dialects.compare("pytorch", "tf1"))        how two differ, in words and numbers

What holds in every row, whatever the framework does:
* a centered rule stores the variance itself, which cannot become negative (`rmsprop.rule`); no framework does;
* a denominator of 0 gives an update of 0, and a finite gradient gives a finite parameter;
* rho, eps, momentum and 1 - rho are double precision, rounded once to the dtype of the state;
* 16-bit arrays are computed in float32.
Where a framework is finite and keeps its hyperparameters in double, its numbers are these.

Not included: CNTK, whose RmsProp is another method (step sizes as in RPROP); DeepSpeed and kozistr/pytorch_optimizer,
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

    A change brings along what it brings along in the framework: momentum its kind of buffer, weight decay its mode.

    Args:
        name: A name or an alias, in any case: "torch", "tf1", "Keras".
        **changes: Switches of `Rule`, in this library's words: rho, eps, momentum, centered, weight_decay...

    Raises:
        RuleError: An unknown name or switch, or a switch that the framework has no option for.

    Example:
        >>> from rmsprop.dialects import dialect
        >>> dialect("torch", momentum=0.9)
        Rule(rho=0.99, eps=1e-08, eps_mode='outside', buffer='unit', momentum=0.9)
        >>> dialect("tensorflow1", momentum=0.9)
        Rule(rho=0.9, eps=1e-10, eps_mode='inside', init='ones', buffer='lr', momentum=0.9)

    Differs: the defaults of `Rule()` itself are those of no framework.
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
    """Return the name of every dialect, grouped by origin.

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
    """Describe how two dialects or rules differ, switch by switch, and what that does to a step.

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
          sparse gradients: libtorch error, candle none
    """
    rows = [get(side) if isinstance(side, str) else side for side in (left, right)]
    names = [repr(side) if isinstance(side, Rule) else side.name for side in rows]
    rules = [side.replace(**changes) if isinstance(side, Rule) else side.resolve(**changes) for side in rows]
    remarks = []
    for what, describe in _PROPERTIES.items():
        values = [describe(side) for side in rows if isinstance(side, Dialect)]
        if len(set(values)) == 2:
            remarks.append(f"{what}: {names[0]} {values[0]}, {names[1]} {values[1]}")
    if names[0] == names[1]:
        names = [f"{names[0]} (left)", f"{names[1]} (right)"]
    return compare_rules(names[0], rules[0], names[1], rules[1], tuple(remarks))


_PROPERTIES: dict[str, Callable[[Dialect], str]] = {
    "default lr": lambda row: "none, it must be given" if row.lr is None else f"{row.lr:g}",
    "sparse gradients": lambda row: row.sparse,
    "complex parameters": lambda row: row.complex,
    "order of clipping and weight decay": lambda row: row.pre_order,
}
