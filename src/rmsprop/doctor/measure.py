"""What one look at one tensor measures, from plain arrays: no framework, no thresholds.

    effective lr     lr / d, the factor of the gradient; d: the rule's denominator        quantiles over elements
    decoupling       sum g^2 / sum v, v the mean square before this gradient came         1 in steady training
    update : weight  rms(new p - p) / rms(p)
    eps              share of elements where eps is more than half of the denominator (inside the root: of its square)
    stalled          share of elements that did not move although they have a gradient and lr is above 0
    step : lr        largest |new p - p| / lr
    collapsed        share of elements whose standard deviation makes the denominator 100 times less than the root mean
                     square would: the gradient no longer changes
    dead, exploding  rows whose mean square is far below, far above that of the median row
    coming rows      share of the living rows with a gradient in this step: small where rows are words

Elements whose mean square holds nothing but its start have had no gradient and count in none of the shares.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmsprop import formula
from rmsprop.doctor.look import QUANTILES, Look, Sample
from rmsprop.rule import Rule

__all__ = ["QUANTILES", "Look", "Sample", "measure"]

Array = NDArray[Any]

COLLAPSE = 100.0
"""A denominator this many times too small makes a step this many times too long."""
SILENT = 20.0
"""1 / (1 - rho) is the memory of mean_sq in steps. 20 of them without a gradient leave exp(-20) = 2e-9 of it."""
YOUNG = 100
"""Steps before a row without any gradient is called dead: it may only have had no luck with its batches."""
EXPLODING = 1e6
"""1000 in the root: beyond what layers of one kind differ by, and most of what a global clip then cuts is this row."""


def measure(sample: Sample) -> Look:
    """Measure what a sample shows.

    Args:
        sample: Elements of one tensor. Read.

    Example:
        >>> import numpy as np
        >>> from rmsprop import Rule
        >>> ones = np.ones((1, 4))
        >>> look = measure(Sample(tensor="w", shape=(4,), dtype="float32", step=1, lr=0.1, rule=Rule(eps=0.0),
        ...     buffers={"mean_sq": ones / 10}, param=ones, update=-ones / 10**0.5, grad=ones))
        >>> round(look.effective_lr[2], 3), round(look.step_over_lr, 3), look.stalled_share
        (0.316, 3.162, 0.0)
    """
    rule, lr = sample.rule, sample.lr
    known = {name: np.asarray(value, np.float64) for name, value in sample.buffers.items()}
    square = formula.mean_square(known)
    start = _remainder(rule, sample.step)
    # What has had no gradient holds rho^t of the start; 1e-3 is more than a thousand float32 roundings of that.
    touched = square > start * 1.001 if start else square > 0
    if sample.grad is not None:
        touched = touched | (sample.grad != 0)
    count = int(touched.sum())
    found: dict[str, Any] = {"untouched_share": 1.0 - count / touched.size if touched.size else None}
    if count:
        found |= _denominator(sample, known, square, touched, count)
        found |= _movement(sample, touched)
        found["decoupling"] = _decoupling(sample, square, start)
        found |= _rows(sample, square)
    troubles = _not_finite(sample, square)
    return Look(
        tensor=sample.tensor,
        shape=tuple(sample.shape),
        dtype=sample.dtype,
        step=sample.step,
        lr=_number(lr),
        rule={name: mine for name, (mine, _) in rule.difference(Rule()).items()},
        finite=not troubles,
        not_finite=" and ".join(troubles),
        start_lr=_number(sample.start_lr),
        **found,
    )


def _not_finite(sample: Sample, square: Array) -> list[str]:
    """Return the words for what has NaN or infinity; a parameter that had it before the step explains the step."""
    found = [] if sample.finite else ["the gradient"]
    found += sample.not_finite
    for word, array in (
        ("the gradient", sample.grad),
        ("the parameter", sample.param),
        ("mean_sq", square),
        ("the step", sample.update),
    ):
        known = any(word in part for part in found) or (word == "the step" and "the parameter" in found)
        if array is not None and not known and not np.isfinite(array).all():
            found.append(word)
    return found


def _number(x: float) -> float | None:
    """Return a float that JSON can hold."""
    return float(x) if math.isfinite(x) else None


def _rms(x: Array) -> float | None:
    return _number(math.sqrt(float(np.mean(np.square(x, dtype=np.float64))))) if x.size else None


def _remainder(rule: Rule, step: int) -> float:
    """Return what mean_sq still holds of its start."""
    return rule.init_value * rule.rho**step if rule.init_value else 0.0


def _denominator(
    sample: Sample, known: Mapping[str, Array], square: Array, touched: Array, count: int
) -> dict[str, Any]:
    rule = sample.rule
    lr = sample.lr if math.isfinite(sample.lr) else 1.0
    rate = formula.effective_lr(rule, known, lr, step=sample.step)
    rates = np.sort(rate[touched])
    places = [min(int(q * count), count - 1) for q in QUANTILES]
    n = formula.numbers_of(rule, lr=lr)._replace(is_first=sample.step == 1)
    floored = formula.bounded_square(known, rule, n, xp=np)
    eps = rule.eps * rule.eps if rule.eps_mode != "inside" else rule.eps
    ruled = touched & (floored < eps)
    found = {
        "effective_lr": tuple(float(rates[i]) for i in places) if np.isfinite(rates[places]).all() else None,
        "root_mean_sq": _number(math.sqrt(float(square.mean()))) if np.isfinite(square).all() else None,
        "eps_share": float(ruled.sum() / count),
        "eps_root": _low_root(floored[ruled]),
    }
    if rule.centered:
        plain = formula.effective_lr(rule.replace(centered=False), {"mean_sq": square}, lr)
        with np.errstate(invalid="ignore"):
            gone = rate > COLLAPSE * plain
        found["collapsed_share"] = float((touched & gone).sum() / count)
    return found


def _low_root(squares: Array) -> float | None:
    """Return the root of the low quantile: an eps below it rules few of these elements any more."""
    squares = np.sort(squares[squares > 0])
    return _number(math.sqrt(float(squares[int(QUANTILES[0] * squares.size)]))) if squares.size else None


def _movement(sample: Sample, touched: Array) -> dict[str, Any]:
    param, update, grad, lr = sample.param, sample.update, sample.grad, sample.lr
    found: dict[str, Any] = {}
    if grad is not None:
        found["grad_rms"] = _rms(grad)
    if param is not None:
        found["weight_rms"] = _rms(param)
    if update is None:
        return found
    moved = _rms(update)
    if moved is not None and found.get("weight_rms"):
        found["update_to_weight"] = moved / found["weight_rms"]
    if lr > 0:
        found["step_over_lr"] = _number(float(np.abs(update).max(initial=0.0)) / lr)
        if grad is not None and sample.nearest:
            pushed = grad != 0
            total = int(pushed.sum())
            found["stalled_share"] = float((pushed & (update == 0)).sum() / total) if total else None
    return found


def _decoupling(sample: Sample, square: Array, start: float) -> float | None:
    """Return sum g^2 / sum v, v corrected for its start, as it was before g came."""
    rule, grad, step = sample.rule, sample.grad, sample.step
    if grad is None or step < 2 or rule.rho >= 1.0:
        return None
    fed = float(np.square(grad, dtype=np.float64).sum())
    rho, fresh = formula.decay(rule.rho, step if rule.bias_correction else None)
    if sample.before is not None:
        held = float(sample.before.sum(dtype=np.float64))
    else:  # v <- rho v + (1 - rho) g^2, backwards; below 1e-5 of v that is rounding
        held = (float(square.sum()) - fresh * fed) / rho if rho else 0.0
        held = held if held > 1e-5 * float(square.sum()) else 0.0
    if not rule.bias_correction:
        past = start / rule.rho * square.size if rule.rho else 0.0
        held = held - past if held > 1.001 * past else 0.0
        held /= formula.bias_divisor(rule.rho, step - 1)
    return _number(fed / held) if held > 0 else None


def _rows(sample: Sample, square: Array) -> dict[str, Any]:
    rule, step = sample.rule, sample.step
    if len(sample.shape) < 2 or square.shape[0] < 2:
        return {}
    memories = step * (1.0 - rule.rho)
    if rule.init_value and step and memories < SILENT:
        return {}  # rows cannot be told apart under what is left of the start
    highest = square.max(axis=1)
    alive = highest[highest > 0]
    if not alive.size or not np.isfinite(highest).all():
        return {}
    median = float(np.median(alive))
    never = highest == 0 if step >= YOUNG or not step else np.zeros_like(highest, bool)
    silent = highest < math.exp(-SILENT) * median if memories >= SILENT or not step else never
    coming = None
    if sample.grad is not None:
        coming = float((sample.grad != 0).any(axis=1)[highest > 0].mean())
    return {
        "rows": int(highest.size),
        "coming_rows": coming,
        "dead_rows": int((never | silent).sum()),
        "exploding_rows": int((highest > EXPLODING * median).sum()),
    }
