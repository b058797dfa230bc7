"""From the arrays of one step to a sample, for every front end: no framework, no thresholds for findings.

    effective lr     lr / d, the factor of the gradient; d: the rule's denominator        quantiles over elements
    decoupling       sum g^2 / sum v, v the mean square before this gradient came         1 in steady training
    update : weight  rms(new p - p) / rms(p)
    step : lr        largest |new p - p| / lr
    eps              share of elements where eps is larger than the root of v (inside the root: than v)
    stalled          share of elements that did not change although they have a gradient and lr is above 0
    collapsed        share of elements whose standard deviation makes the denominator 100 times less than the root mean
                     square would: the gradient no longer changes
    dead, exploding  rows whose mean square is far below, far above that of the median row
    active rows      share of the rows that ever had a gradient with one in this step: small where rows are words

Elements whose mean square holds nothing but its start have had no gradient and count in none of the shares.

Of a large tensor the same few elements are sampled every time. A tensor is a matrix here: one axis the rows (the units
of a layer, the words of an embedding), all others the columns. That is the first axis, but the last for a `kernel`
(Keras, Flax) or a `w` (Haiku, Sonnet).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmsprop import formula
from rmsprop.doctor.sample import QUANTILES, Sample, has_units_last
from rmsprop.rule import Rule

__all__ = ["LIMIT", "Grid", "choose_grid", "measure"]

Array = NDArray[Any]

LIMIT = 4096
"""Elements sampled of one tensor: a share of 1 % is known to within 0.3 points (two standard errors)."""
ROWS = 64
COLLAPSE = 100.0
"""A denominator this many times too small makes a step this many times too long."""
DEAD_DECAYS = 20.0
"""Times 1 / (1 - rho) steps without a gradient leave exp(-20) = 2e-9 of mean_sq."""
DEAD_STEPS = 100
"""Steps before a row without any gradient is called dead: its inputs may only have been rare."""
EXPLODING = 1e6
"""1000 in the root: beyond what layers of one kind differ by, and most of what a global clip then cuts is this row."""
ROUNDING = 1e-5
"""g^2 below this share of v cannot be told from the rounding of v in float32: taken as 0."""


@dataclasses.dataclass(frozen=True)
class Grid:
    """The rows and columns that are sampled."""

    shape: tuple[int, int]  # of the whole tensor as a matrix
    rows: NDArray[np.int64]  # indices, ascending
    columns: NDArray[np.int64]  # indices, ascending
    units_last: bool = False  # whether the rows are the tensor's last axis

    @property
    def is_whole(self) -> bool:
        """Whether every element is sampled."""
        return self.rows.size == self.shape[0] and self.columns.size == self.shape[1]

    def flat(self) -> NDArray[np.int64]:
        """Return the positions of the elements in the flattened tensor, row by row; rows on the first axis."""
        return (self.rows[:, None] * self.shape[1] + self.columns).ravel()

    def take(
        self, array: Any, xp: Any = np, to_numpy: Callable[[Any], NDArray[Any]] = np.asarray
    ) -> NDArray[np.floating[Any]]:
        """Return the sampled elements as a matrix (rows, columns).

        `xp` is the array's namespace, for `reshape` and `take`: numpy, jax.numpy or keras.ops.
        """
        order = -1 if self.units_last else 1
        matrix = xp.reshape(array, self.shape[::order])
        if not self.is_whole:
            for axis, indices in enumerate((self.rows, self.columns)[::order]):
                matrix = xp.take(matrix, indices, axis=axis)
        found = to_numpy(matrix)
        return found.T if self.units_last else found


def choose_grid(shape: Sequence[int], name: str = "", *, seed: int = 0, limit: int = LIMIT) -> Grid:
    """Choose at most `limit` elements of a tensor; its name tells where JAX and Keras layers have their units."""
    units_last = len(shape) > 1 and has_units_last(name)
    height = 1 if len(shape) < 2 else shape[-1] if units_last else shape[0]
    width = math.prod(shape) // max(height, 1)
    rows, columns = height, width
    if height * width > limit:
        rows = min(height, max(ROWS, limit // width))
        columns = min(width, limit // rows)
    rng = np.random.default_rng(seed)
    return Grid((height, width), _choose(rng, height, rows), _choose(rng, width, columns), units_last)


def _choose(rng: np.random.Generator, total: int, count: int) -> NDArray[np.int64]:
    return np.sort(rng.choice(total, count, replace=False)) if count < total else np.arange(total)


def measure(
    tensor: str,
    rule: Rule,
    statistics: Mapping[str, Array],
    *,
    shape: Sequence[int],
    dtype: str,
    step: int = 0,
    lr: float = math.nan,
    param: Array | None = None,
    change: Array | None = None,
    grad: Array | None = None,
    grad_scale: float = 1.0,
    before: Mapping[str, Array] | None = None,
    is_corrected: bool = True,
    is_nearest: bool = True,
    not_finite: Sequence[str] = (),
    start_lr: float = math.nan,
) -> Sample:
    """Measure one step of one tensor.

    Each array is a matrix (rows, columns) of the same sampled elements, float32 or float64, and only read.

    Args:
        tensor: Name of the tensor.
        rule: The rule of its optimizer.
        statistics: The averages after the step: mean_sq; where centered mean_grad and mean_sq or grad_var.
        shape: Shape of the whole tensor.
        dtype: Dtype of the parameter: "float32", "bfloat16", ...
        step: Steps done, this one included; 0: not known.
        lr: Learning rate of this step; NaN: not known.
        param: The parameter before the step.
        change: How the step changed it.
        grad: The gradient as the optimizer received it. Where it is not known but `before` is, its size is estimated
            from the change of the statistics: g^2 = (v' - rho v) / (1 - rho).
        grad_scale: What the optimizer multiplies the gradient by: one over a loss scale, a clipping factor.
        before: The averages before the step.
        is_corrected: Whether the averages are as this library keeps them; False: still to be divided by 1 - rho**step.
        is_nearest: Whether the parameter is rounded to nearest, so that an element that did not change lost its update.
        not_finite: What of the whole tensor has NaN or infinity, in words: "the gradient".
        start_lr: Learning rate of the first steps, where it differs from `lr` and is known.

    Example:
        >>> import numpy as np
        >>> from rmsprop import Rule
        >>> ones = np.ones((1, 4))
        >>> sample = measure("w", Rule(eps=0.0), {"mean_sq": ones / 10}, shape=(4,), dtype="float32", step=1, lr=0.1,
        ...     param=ones, change=-ones / 10**0.5, grad=ones)
        >>> round(sample.effective_lr[2], 3), round(sample.step_over_lr, 3), sample.stalled_share
        (0.316, 3.162, 0.0)
    """
    divisor = 1.0 if is_corrected or not step else formula.bias_divisor(rule.rho, step)
    with np.errstate(invalid="ignore", over="ignore"):  # of a training that diverged
        known = _complete(rule, statistics, divisor)
        old = None if before is None else _complete(rule, before)
        if grad is not None:
            n = formula.numbers_of(rule, lr=lr, grad_scale=grad_scale)
            grad = formula.scale_grad(0.0 if param is None else param, grad, rule, n)
        elif old is not None:
            grad = _estimate_grad(rule, step, old, known)
        square = formula.mean_square(known)
        found = _measure_change(param, change, grad if is_nearest else None, lr)
    start = rule.init_value * rule.rho**step  # what mean_sq still holds of it
    # An element without any gradient holds exactly that; 1e-3 is more than a thousand float32 roundings of it.
    touched = square > start * 1.001 if start else square > 0
    if grad is not None:
        touched = touched | (grad != 0)
    count = int(touched.sum())
    found["untouched_share"] = 1.0 - count / touched.size if touched.size else None
    if count:
        found |= _measure_denominator(rule, known, square, touched, step, lr if math.isfinite(lr) else 1.0)
        if grad is not None:
            found["grad_rms"] = _rms(grad)
            held = None if old is None else formula.mean_square(old)
            found["decoupling"] = _measure_decoupling(rule, step, grad, square, held, start)
        if len(shape) > 1 and len(square) > 1:
            found |= _measure_rows(rule, step, square, grad)
    return Sample(
        tensor=tensor,
        shape=tuple(shape),
        dtype=dtype,
        step=step,
        lr=_number(lr),
        rule={name: mine for name, (mine, _) in rule.difference(Rule()).items()},
        not_finite=" and ".join(_name_not_finite(list(not_finite), param, change, grad, square)),
        start_lr=_number(start_lr),
        **found,
    )


def _complete(rule: Rule, statistics: Mapping[str, Array], divisor: float = 1.0) -> dict[str, Array]:
    """Return the averages that a rule keeps, float64, from those that are known."""
    known = {name: np.asarray(array, np.float64) / divisor for name, array in statistics.items()}
    if not rule.centered:
        return {"mean_sq": formula.mean_square(known)}
    mean = known["mean_grad"] if "mean_grad" in known else np.zeros_like(known["mean_sq"])
    if "grad_var" not in known or divisor != 1.0:
        known["grad_var"] = np.maximum(known["mean_sq"] - mean * mean, 0.0)
    return {"mean_grad": mean, "grad_var": known["grad_var"]}


def _estimate_grad(rule: Rule, step: int, old: Mapping[str, Array], new: Mapping[str, Array]) -> Array | None:
    """Return the gradient of a step from what it did to the averages, without its sign where not centered."""
    rho, fresh = formula.decay(rule.rho, step if rule.bias_correction else None)
    if not fresh:
        return None
    if rule.centered:
        return (new["mean_grad"] - old["mean_grad"]) / fresh + old["mean_grad"]
    square = (new["mean_sq"] - rho * old["mean_sq"]) / fresh
    return np.sqrt(np.where(square > ROUNDING * new["mean_sq"], square, 0.0))


def _name_not_finite(
    found: list[str], param: Array | None, change: Array | None, grad: Array | None, square: Array
) -> list[str]:
    """Return the words for what has NaN or infinity; a parameter that had it before the step explains the step."""
    for words, array in (("the gradient", grad), ("the parameter", param), ("mean_sq", square), ("the step", change)):
        explained = any(words in known for known in found) or (words == "the step" and "the parameter" in found)
        if array is not None and not explained and not np.isfinite(array).all():
            found.append(words)
    return found


def _number(x: float) -> float | None:
    """Return a float that JSON can hold."""
    return float(x) if math.isfinite(x) else None


def _rms(x: Array) -> float | None:
    return _number(math.sqrt(float(np.mean(np.square(x, dtype=np.float64)))))


def _measure_change(param: Array | None, change: Array | None, grad: Array | None, lr: float) -> dict[str, Any]:
    found: dict[str, Any] = {"weight_rms": None if param is None else _rms(param)}
    if change is None:
        return found
    moved = _rms(change)
    if moved is not None and found["weight_rms"]:
        found["update_to_weight"] = moved / found["weight_rms"]
    if lr > 0:
        found["step_over_lr"] = _number(float(np.abs(change).max()) / lr)
        if grad is not None and (grad != 0).any():
            found["stalled_share"] = float((change[grad != 0] == 0).mean())
    return found


def _measure_denominator(
    rule: Rule, known: Mapping[str, Array], square: Array, touched: Array, step: int, lr: float
) -> dict[str, Any]:
    rate = formula.effective_lr(rule, known, lr, step=step)
    rates = np.sort(rate[touched])
    quantiles = [float(rates[min(int(q * rates.size), rates.size - 1)]) for q in QUANTILES]
    # Beside the mean square, where centered too: a variance that vanishes does not ask for a lower eps.
    floored = np.maximum(square, rule.var_floor)[touched]
    dominated = floored < (rule.eps if rule.eps_mode == "inside" else rule.eps * rule.eps)
    found: dict[str, Any] = {
        "effective_lr": tuple(quantiles) if np.isfinite(quantiles).all() else None,
        "root_mean_sq": _number(math.sqrt(float(square.mean()))) if np.isfinite(square).all() else None,
        "eps_share": float(dominated.mean()),
    }
    low = np.sort(floored[dominated & (floored > 0)])
    if low.size:  # an eps below this dominates few of these elements any more
        found["eps_root"] = _number(math.sqrt(float(low[int(QUANTILES[0] * low.size)])))
    if rule.centered:
        plain = formula.effective_lr(rule.replace(centered=False), {"mean_sq": square}, lr)
        with np.errstate(invalid="ignore"):
            found["collapsed_share"] = float((rate > COLLAPSE * plain)[touched].mean())
    return found


def _measure_decoupling(
    rule: Rule, step: int, grad: Array, square: Array, before: Array | None, start: float
) -> float | None:
    """Return sum g^2 / sum v, v as it was before g came, corrected for its start."""
    if step < 2 or rule.rho >= 1.0:
        return None
    squares = float(np.square(grad, dtype=np.float64).sum())
    if before is not None:
        held = float(before.sum())
    else:  # v <- rho v + (1 - rho) g^2, backwards; below 1e-5 of v that is rounding
        rho, fresh = formula.decay(rule.rho, step if rule.bias_correction else None)
        held = (float(square.sum()) - fresh * squares) / rho if rho else 0.0
        held = held if held > ROUNDING * float(square.sum()) else 0.0
    if not rule.bias_correction:
        past = start / rule.rho * square.size if rule.rho else 0.0
        held = held - past if held > 1.001 * past else 0.0
        held /= formula.bias_divisor(rule.rho, step - 1)
    return _number(squares / held) if held > 0 else None


def _measure_rows(rule: Rule, step: int, square: Array, grad: Array | None) -> dict[str, Any]:
    decays = step * (1.0 - rule.rho)
    highest = square.max(axis=1)
    alive = highest > 0
    hidden = rule.init_value and step and decays < DEAD_DECAYS  # by what is left of the start
    if hidden or not alive.any() or not np.isfinite(highest).all():
        return {}
    median = float(np.median(highest[alive]))
    dead = ~alive if step >= DEAD_STEPS or not step else np.zeros_like(alive)
    if decays >= DEAD_DECAYS or not step:
        dead |= highest < math.exp(-DEAD_DECAYS) * median
    return {
        "rows": int(highest.size),
        "active_rows": None if grad is None else float((grad != 0).any(axis=1)[alive].mean()),
        "dead_rows": int(dead.sum()),
        "exploding_rows": int((highest > EXPLODING * median).sum()),
    }
