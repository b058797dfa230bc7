"""Harmful settings that can be seen when an optimizer is built: logged once, and found again by the doctor.

    largest of the first steps, in units of lr, under a constant gradient of size 1 (uncentered):
    10 at rho 0.99, 31.6 at 0.999; with momentum more

Two settings are logged; no default of any framework and no published recipe is:
* "start": the first steps exceed 30 lr, and are at least twice as long as what they settle at. 30 lies between the
  longest start of a framework's default (29.9, Burn: rho 0.99, momentum 0.9) and the shortest that is known to have
  ruined trainings (31.6, rho 0.999; then 38.9, rho 0.99 with momentum 0.937, in ultralytics#24516). It is logged
  only where that length reaches 0.01, the size of a weight whose layer has 10,000 inputs; a shorter step does no harm.
* "rounding": 16-bit parameters are rounded to nearest, and a step of 3 * lr is below half a unit in the last place of
  most of them. Measured with bfloat16 weights near 1 at lr 1e-4: they moved by 0.0 in 1000 steps.

They are logged and not warned of, because a program that turns warnings into errors may still choose such a setting.
RMSPROP_QUIET=1 in the environment, `rmsprop.doctor.quiet()` or the level of the logger "rmsprop" silences both.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmsprop import formula
from rmsprop.rule import Rule

__all__ = [
    "SIGNIFICANT_BITS",
    "Advice",
    "Start",
    "advise",
    "advise_rounding",
    "log",
    "measure_start",
    "quiet",
    "recommend_rounding",
    "suppress_warnings",
]

LONGEST_PUBLISHED = 30.0
HARMFUL_LENGTH = 0.01
REACH = 3.0
"""Gradients beyond three times their root mean square are rare: 3 in 1000 of a normal distribution."""
SIGNIFICANT_BITS = {"bfloat16": 8, "float16": 11}
_STEPS = 1000

logger = logging.getLogger("rmsprop")
_issued: set[str] = set()
_is_quiet = os.environ.get("RMSPROP_QUIET", "") not in ("", "0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Advice:
    """A harmful setting: its kind, the number it was judged by, what is wrong, what to do."""

    kind: str
    value: float
    words: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.words}: {self.remedy}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """How long the first steps are, as multiples of lr; `at` is the number of the largest, counted from 1."""

    first: float
    largest: float
    at: int
    steady: float


@functools.lru_cache(maxsize=256)
def measure_start(rule: Rule) -> Start:
    """Return the length of the first steps under a constant gradient of size 1, as if uncentered.

    Example:
        >>> from rmsprop import Rule
        >>> found = measure_start(Rule(rho=0.99, eps_mode="outside", buffer="unit", momentum=0.937))
        >>> round(found.first, 1), round(found.largest, 1), found.at, round(found.steady, 1)
        (10.0, 38.9, 18, 15.9)
    """
    rule = rule.replace(centered=False)
    moves = formula.step_lengths(rule, steps=_STEPS if rule.buffer != "none" else 1)
    largest = max(moves)
    return Start(first=moves[0], largest=largest, at=moves.index(largest) + 1, steady=formula.steady_length(rule))


def advise(rule: Rule, lr: float | None = None) -> Advice | None:
    """Return the advice on a rule whose first steps are too long, or None.

    Args:
        rule: The rule.
        lr: Its learning rate; None: not known.

    Example:
        >>> from rmsprop import Rule
        >>> advise(Rule(rho=0.999), 1e-3).words
        'a first step of 31.6 x lr, as mean_sq starts at 0 with rho 0.999'
        >>> advise(Rule(rho=0.99), 1e-3) is None
        True
    """
    found = measure_start(rule)
    if found.largest < LONGEST_PUBLISHED or found.largest < 2 * found.steady:
        return None
    if lr is not None and not found.largest * lr >= HARMFUL_LENGTH:
        return None
    length = f"{found.largest:.3g} x lr"
    first = f"a first step of {length}" if found.at == 1 else f"first steps of up to {length} (at step {found.at})"
    momentum = f" and momentum {rule.momentum:g}" if rule.momentum else ""
    memory = 1.0 / (1.0 - rule.rho) if rule.rho < 1.0 else 1.0
    return Advice(
        kind="start",
        value=found.largest,
        words=f"{first}, as mean_sq starts at {rule.init_value:g} with rho {rule.rho:g}{momentum}",
        remedy="start mean_sq at 1 (dialect tensorflow1), or bias_correction=True, or warm lr up over "
        f"{memory:.0f} steps",
    )


def advise_rounding(weights: NDArray[Any], dtype: str, lr: float) -> Advice | None:
    """Return the advice on 16-bit parameters whose steps are lost when rounded to nearest, or None.

    Args:
        weights: Some of the parameters, any shape, float32 or float64. Read.
        dtype: "bfloat16" or "float16"; other dtypes give None.
        lr: Learning rate, in units of the parameters.

    Example:
        >>> import numpy as np
        >>> advise_rounding(np.ones(3), "bfloat16", 1e-4).words
        'lr 0.0001 is lost in bfloat16: half a unit in the last place of these parameters is 0.00391'
        >>> advise_rounding(np.ones(3), "bfloat16", 1e-2) is None
        True
    """
    weights = weights[np.isfinite(weights) & (weights != 0)]
    if dtype not in SIGNIFICANT_BITS or not weights.size or not lr > 0:
        return None
    _, exponent = np.frexp(np.abs(weights))
    half_ulp = float(np.median(np.ldexp(1.0, exponent - 1 - SIGNIFICANT_BITS[dtype])))  # adding less changes nothing
    if REACH * lr >= half_ulp:
        return None
    words = f"lr {lr:g} is lost in {dtype}: half a unit in the last place of these parameters is {half_ulp:.3g}"
    return Advice(kind="rounding", value=lr / half_ulp, words=words, remedy=recommend_rounding(dtype))


def recommend_rounding(dtype: str) -> str:
    """Return what preserves small steps of "bfloat16" or "float16" parameters."""
    compensated = ' or "compensated"' if dtype == "bfloat16" else ""
    return f'param_rounding="stochastic"{compensated} of rmsprop.torch.RMSprop, or float32 parameters'


def log(advice: Advice | None, *, stacklevel: int = 2) -> None:
    """Log a warning, once in a process for each text; `stacklevel` as in `warnings.warn`, seen from the caller."""
    if advice is not None and not _is_quiet and str(advice) not in _issued:
        _issued.add(str(advice))
        logger.warning("%s (RMSPROP_QUIET=1 silences this)", advice, stacklevel=stacklevel + 1)


def quiet(on: bool = True) -> None:
    """Switch the advice at construction off, or on again.

    Example:
        >>> quiet()
        >>> log(advise(Rule(rho=0.9999), 1.0))
        >>> quiet(False)
    """
    global _is_quiet  # noqa: PLW0603 (one switch for the process)
    _is_quiet = bool(on)


@contextlib.contextmanager
def suppress_warnings() -> Iterator[None]:
    """Keep the advice off within a `with`: for a search, which tries harmful settings on purpose."""
    before = _is_quiet
    quiet()
    try:
        yield
    finally:
        quiet(before)
