"""Settings that are known to do harm: said once, where an optimizer is built, and again by the doctor.

    largest of the first steps, in units of lr, under a gradient of size 1 that does not change (uncentered):
    10 at rho 0.99, 31.6 at 0.999; with momentum more

Two things are said, and no default of any framework and no published recipe says either:
* "start": the first steps go above 30 lr, and to at least twice what they settle at. 30 lies between the longest start
  of a framework's default (29.9, Burn: rho 0.99, momentum 0.9) and the shortest that is known to have ruined trainings
  (31.6, rho 0.999; then 38.9, rho 0.99 with momentum 0.937, in ultralytics#24516). It is only said where that length
  reaches 0.01, the size of a weight whose layer has 10,000 inputs; below, it moves nothing far.
* "rounding": 16-bit parameters rounded to nearest, with an lr of which three do not reach half a unit in the last
  place of most of them. Measured with bfloat16 weights near 1 at lr 1e-4: moved by 0.0 in 1000 steps.

Switched off by RMSPROP_QUIET=1 in the environment or `rmsprop.doctor.quiet()`; by Python's own filters too, for the
category is `RMSpropWarning`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmsprop import formula
from rmsprop.errors import RMSpropWarning
from rmsprop.rule import Rule

__all__ = ["Advice", "Start", "advise", "advise_rounding", "quiet", "quieted", "rounding_remedy", "start", "warn"]

LONGEST_PUBLISHED = 30.0
FAR = 0.01
REACH = 3.0
"""Gradients beyond three times their root mean square are rare: 3 in 1000 of a normal distribution."""
SIGNIFICANT_BITS = {"bfloat16": 8, "float16": 11}
_STEPS = 1000

_said: set[str] = set()
_quiet = os.environ.get("RMSPROP_QUIET", "") not in ("", "0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Advice:
    """One thing to know about a setting.

    Attributes:
        kind: "start" or "rounding".
        value: The figure it rests on.
        words: What is the matter.
        remedy: What to do about it.
    """

    kind: str
    value: float
    words: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.words}: {self.remedy}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """How long the first steps are, as multiples of lr.

    Attributes:
        first: The first step.
        largest: The largest of the first steps.
        at: Which step that is, counted from 1.
        steady: What the steps settle at.
    """

    first: float
    largest: float
    at: int
    steady: float


@functools.lru_cache(maxsize=256)
def start(rule: Rule) -> Start:
    """Return the length of the first steps under a gradient of size 1 that does not change, as if uncentered.

    Example:
        >>> from rmsprop import Rule
        >>> found = start(Rule(rho=0.99, eps_mode="outside", buffer="unit", momentum=0.937))
        >>> round(found.first, 1), round(found.largest, 1), found.at, round(found.steady, 1)
        (10.0, 38.9, 18, 15.9)
    """
    rule = rule.replace(centered=False)
    moves = formula.step_lengths(rule, steps=_STEPS if rule.buffer != "none" else 1)
    largest = max(moves)
    steady = formula.steady_length(rule)
    return Start(first=moves[0], largest=largest, at=moves.index(largest) + 1, steady=steady)


def advise(rule: Rule, lr: float | None = None) -> tuple[Advice, ...]:
    """Return what is known against a rule.

    Args:
        rule: The rule.
        lr: Its learning rate; None: not known.

    Example:
        >>> from rmsprop import Rule
        >>> [item.words for item in advise(Rule(rho=0.999), 1e-3)]
        ['a first step of 31.6 x lr, as mean_sq starts at 0 with rho 0.999']
        >>> advise(Rule(rho=0.99), 1e-3)
        ()
    """
    found = start(rule)
    if found.largest < LONGEST_PUBLISHED or found.largest < 2 * found.steady:
        return ()
    if lr is not None and not found.largest * lr >= FAR:
        return ()
    length = f"{found.largest:.3g} x lr"
    first = f"a first step of {length}" if found.at == 1 else f"first steps of up to {length} (at step {found.at})"
    momentum = f" and momentum {rule.momentum:g}" if rule.momentum else ""
    return (
        Advice(
            kind="start",
            value=found.largest,
            words=f"{first}, as mean_sq starts at {rule.init_value:g} with rho {rule.rho:g}{momentum}",
            remedy="start mean_sq at 1 (dialect tensorflow1), or bias_correction=True, or warm lr up over "
            f"{_memory(rule):.0f} steps",
        ),
    )


def _memory(rule: Rule) -> float:
    return 1.0 / (1.0 - rule.rho) if rule.rho < 1.0 else 1.0


def advise_rounding(weights: NDArray[Any], dtype: str, lr: float) -> tuple[Advice, ...]:
    """Return what is known against 16-bit parameters that are rounded to nearest.

    Args:
        weights: Some of the parameters, any shape, float32 or float64. Read.
        dtype: "bfloat16" or "float16"; of others nothing is said.
        lr: Learning rate, in units of the parameters.

    Example:
        >>> import numpy as np
        >>> [item.words for item in advise_rounding(np.ones(3), "bfloat16", 1e-4)]
        ['lr 0.0001 is lost in bfloat16: half a unit in the last place of these parameters is 0.00391']
        >>> advise_rounding(np.ones(3), "bfloat16", 1e-2)
        ()
    """
    weights = weights[np.isfinite(weights) & (weights != 0)]
    if dtype not in SIGNIFICANT_BITS or not weights.size or not lr > 0:
        return ()
    half = float(np.median(half_ulp(weights, dtype)))
    if REACH * lr >= half:
        return ()
    words = f"lr {lr:g} is lost in {dtype}: half a unit in the last place of these parameters is {half:.3g}"
    return (Advice(kind="rounding", value=lr / half, words=words, remedy=rounding_remedy(dtype)),)


def rounding_remedy(dtype: str) -> str:
    """Return what keeps small steps of 16-bit parameters.

    Args:
        dtype: "bfloat16" or "float16".

    Example:
        >>> rounding_remedy("float16")
        'param_rounding="stochastic" of rmsprop.torch.RMSprop, or float32 parameters'
    """
    compensated = ' or "compensated"' if dtype == "bfloat16" else ""
    return f'param_rounding="stochastic"{compensated} of rmsprop.torch.RMSprop, or float32 parameters'


def half_ulp(x: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Return half a unit in the last place of each normal number of a 16-bit dtype: less added to it changes nothing.

    Example:
        >>> import numpy as np
        >>> half_ulp(np.array([1.0, 0.02]), "bfloat16").tolist()
        [0.00390625, 6.103515625e-05]
    """
    _, exponent = np.frexp(np.abs(x))
    return np.ldexp(1.0, exponent - 1 - SIGNIFICANT_BITS[dtype])


def warn(advice: Iterable[Advice], *, stacklevel: int = 2) -> None:
    """Warn of each thing, once in a process.

    Args:
        advice: What there is to say.
        stacklevel: As of `warnings.warn`, seen from the caller.
    """
    for item in advice:
        text = str(item)
        if not _quiet and text not in _said:
            _said.add(text)
            warnings.warn(f"{text} (RMSPROP_QUIET=1 silences this)", RMSpropWarning, stacklevel=stacklevel + 1)


def quiet(on: bool = True) -> None:
    """Switch the warnings at construction off, or on again.

    Example:
        >>> quiet()
        >>> warn(advise(Rule(rho=0.9999), 1.0))
        >>> quiet(False)
    """
    global _quiet  # noqa: PLW0603 (one switch for the process)
    _quiet = bool(on)


@contextlib.contextmanager
def quieted() -> Iterator[None]:
    """Keep the warnings off for a while: for a search, which tries harmful settings on purpose."""
    before = _quiet
    quiet()
    try:
        yield
    finally:
        quiet(before)
