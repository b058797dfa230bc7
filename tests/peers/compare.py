"""What an original implementation's run is compared by: two figures, each with the bound that is promised.

**The way**, float64: this library runs the course on its own, beside the original. The difference of the parameters is
taken relative to the farthest that this element has been from 0, which is what rounding is relative to. Bound: WAY.

**One step**, both dtypes: this library does one step from upstream's parameters and state, for every step of the run.
The difference is counted in units in the last place of the largest term that was added up for the element, since the
unit of a result that cancels out says nothing of how it was computed. The terms: the parameter before and after, the
buffer, lr * grad / d. Bound: STEP units, with two additions that are derived and not chosen:

* A centered original takes m**2 from v. That turns an error of one unit in v into v / (v - m**2) of them, and the root
  halves it: the term lr * grad / d counts as (v + eps) / (v - m**2 + eps) times as large. It is this library that is
  exact there (see `rmsprop.rule`).
* An original that computes 1 - rho in float32 weighs the new square in another way than this library, which computes
  it in double and rounds it once. The mean square is off by at most that, and its root by half of it: `fresh_gap`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

import rmsprop
from cases import ULP
from peers.cases import Case
from peers.course import GRADS, LRS, START, STEPS

WAY = 1e-12
STEP = 4.0

Path_ = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Figures:
    """How far an original implementation's run is from this library's.

    Attributes:
        way: Largest relative difference over the whole float64 run, at the steps that the path holds; None where there
            is none to compare.
        step: Largest difference of one step, in units in the last place; None where the state is not known.
        bound: What `step` may be.
        steps: How many steps were compared one by one.
    """

    way: float | None
    step: float | None
    bound: float
    steps: int


def rule_of(case: Case) -> rmsprop.Rule:
    """Return the rule of a case, with the numbers rounded that the original rounds."""
    rule = rmsprop.dialect(case.dialect, **case.ours)
    return rule.replace(**{name: float(np.float32(getattr(rule, name))) for name in case.rounded})


def own_path(rule: rmsprop.Rule, dtype: str = "float64") -> np.ndarray:
    """Run the course with this library; return the parameters before the first step and after every step."""
    param = START.astype(dtype)
    optimizer = rmsprop.RMSprop(param, lr=float(LRS[0]), dialect=rule)
    rows = [param.copy()]
    for grad, lr in zip(GRADS.astype(dtype), LRS):
        optimizer.step(grad, lr=float(lr))
        rows.append(param.copy())
    return np.array(rows)


def figures(case: Case, path: Path_, dtype: str) -> Figures:
    """Measure one run of an original implementation."""
    rule = rule_of(case)
    way = _way(own_path(rule), path) if dtype == "float64" and case.first == 1 else None
    bound = STEP + (fresh_gap(rule.rho, case.fresh) / 2 if dtype == "float32" else 0.0)
    steps = _steps(case, rule, path, dtype) if "mean_sq" in path else []
    # Not Python's max, which may pass over NaN.
    return Figures(way, float(np.max(steps)) if steps else None, bound, len(steps))


def fresh_gap(rho: float, fresh: str) -> float:
    """Return how far the weight of the new square, formed in float32, can be from ours, in units in the last place.

    1 - rho: the two are computed here. 1 - rho**t: rho**t and the difference are each off by up to half of 2**-23 at 1,
    together 2**-23 at most, and 1 - rho**t is 1 - rho or more.
    """
    if fresh == "once":
        once = np.float32(1.0 - rho)
        return float(abs(np.float64(np.float32(1.0) - np.float32(rho)) - once) / once / ULP["float32"])
    return 1.0 / (1.0 - rho) if fresh == "each step" else 0.0


def _way(ours: np.ndarray, path: Path_) -> float:
    farthest = np.maximum.accumulate(np.abs(ours), axis=0)[path["steps"]]
    difference = np.abs(path["param"] - ours[path["steps"]])
    # NaN must not pass for small.
    return float(np.max(np.where(difference == 0, 0.0, difference / np.where(farthest == 0, np.nan, farthest))))


def _steps(case: Case, rule: rmsprop.Rule, path: Path_, dtype: str) -> list[float]:
    """The difference after each step that the path holds together with the step before it."""
    at = {int(t): i for i, t in enumerate(path["steps"])}
    differences = []
    for t in range(case.first, STEPS + 1):
        if t in at and (t == 1 or t - 1 in at):
            before = None if t == 1 else {name: rows[at[t - 1]] for name, rows in path.items() if name != "steps"}
            after = {name: rows[at[t]] for name, rows in path.items() if name != "steps"}
            differences.append(_measure_step(case, rule, t, before, after, dtype))
    return differences


def _measure_step(case: Case, rule: rmsprop.Rule, t: int, before: Path_ | None, after: Path_, dtype: str) -> float:
    param = START.astype(dtype) if before is None else before["param"].copy()
    start = param.astype(np.float64)
    optimizer = rmsprop.RMSprop(param, lr=float(LRS[0]), dialect=rule)
    optimizer.lr_max = float(LRS[0])
    optimizer.steps[:] = t - 1
    if before is not None:
        correction = 1 - rule.rho ** (t - 1) if case.raw else 1.0
        for name, (array,) in optimizer.buffers.items():
            array[...] = _statistic(name, before, correction)
    kept = [array.astype(np.float64) for array in _first(optimizer.buffers, "momentum_buf")]
    optimizer.step(GRADS[t - 1].astype(dtype), lr=float(LRS[t - 1]))
    unit = _units(rule, optimizer, t, start, kept, dtype)
    difference = np.abs(after["param"].astype(np.float64) - param) / unit
    if case.first > 1:
        # What the original's bug made NaN stays NaN.
        difference = difference[np.isfinite(start)]
    return float(np.max(difference))


def _statistic(name: str, state: Path_, correction: float) -> np.ndarray:
    if name == "momentum_buf":
        return state[name]
    mean = state["mean_grad"].astype(np.float64) / correction if name != "mean_sq" else 0.0
    square = state["mean_sq"].astype(np.float64) / correction
    return {"mean_sq": square, "mean_grad": mean, "grad_var": np.maximum(square - mean * mean, 0.0)}[name]


def _first(buffers: dict[str, list[np.ndarray]], name: str) -> list[np.ndarray]:
    return [buffers[name][0]] if name in buffers else []


def _units(rule: rmsprop.Rule, optimizer: rmsprop.RMSprop, t: int, start: np.ndarray, kept: Any, dtype: str) -> Any:
    """The unit in the last place of the largest term of each element's step."""
    lr = float(LRS[t - 1])
    grad = np.abs(GRADS[t - 1]) + (rule.weight_decay * np.abs(start) if rule.weight_decay_mode == "l2" else 0.0)
    square = optimizer.mean_square().astype(np.float64)
    spread = optimizer.buffers["grad_var"][0].astype(np.float64) if rule.centered else square
    if rule.bias_correction and rule.centered and t == 1:
        spread = square
    inside = rule.eps if rule.eps_mode == "inside" else 0.0
    root = np.sqrt(spread + inside)
    d = {"outside": root + rule.eps, "inside": root, "max": np.maximum(root, rule.eps)}[rule.eps_mode]
    with np.errstate(divide="ignore", invalid="ignore"):
        unit_step = np.where(grad == 0, 0.0, lr * grad / d)
        amplified = np.where(spread + inside == 0, 1.0, (square + inside) / (spread + inside))
    terms = [np.abs(start), np.abs(optimizer.params.astype(np.float64)), unit_step * amplified]
    scale = lr if rule.buffer == "unit" else 1.0
    buffers = [*kept, *(b.astype(np.float64) for b in _first(optimizer.buffers, "momentum_buf"))]
    terms += [scale * np.abs(b) for b in buffers]
    largest = np.maximum(np.max(terms, axis=0), np.finfo(dtype).tiny)
    return np.exp2(np.floor(np.log2(largest))) * ULP[dtype]
