"""Many settings, or many starts, at once: every run is an element of one array.

All operations are elementwise, so each element has the numbers of a separate run.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmsprop import formula
from rmsprop.errors import InputError
from rmsprop.lab.experiment import Deadline, Experiment
from rmsprop.numpy import RMSprop

__all__ = ["compute_basins", "compute_heat_map"]

Array = NDArray[np.float64]
_BLOCK = 16
_NEAR = 0.03
"""Two end points belong to one basin if their distance is below this part of the picture's diagonal."""
_MOST_BASINS = 12


def compute_heat_map(
    experiment: Experiment, *, lr: Array, other: Array, name: str = "rho", deadline: Deadline | None = None
) -> Array:
    """Return f after the last step for every pair of hyperparameters.

    Args:
        experiment: Its first setting, which must be RMSprop, is varied.
        lr: Learning rates, shape (n,). Read.
        other: Values of the second hyperparameter, shape (m,). Read.
        name: The second hyperparameter: "rho" or "eps".
        deadline: Default: a new one.

    Returns:
        float64, shape (m, n); not finite where the run diverged.

    Raises:
        InputError: The first setting is a baseline, or the time limit is exceeded.
        RuleError: A value out of its range.
    """
    deadline = deadline or Deadline()
    rule = experiment.settings[0].rule
    if rule is None:
        raise InputError("runs[0]: a baseline, expected RMSprop, whose rule the map varies")
    rows = [rule.replace(**{name: float(value)}) for value in other]
    column = other[:, None, None]
    shape = (len(other), len(lr), 2)
    points = np.empty(shape)
    points[...] = experiment.start
    buffers = {key: np.zeros(shape) for key in rule.buffers}
    first = "grad_var" if rule.centered else "mean_sq"
    buffers[first][...] = column if rule.init == "eps" and name == "eps" else rule.init_value
    noise = experiment.noise.draw(experiment.steps)
    with np.errstate(all="ignore"):
        for t in range(experiment.steps):
            if not t % _BLOCK:
                deadline.check()
            grad = experiment.function.grad(points)
            if noise is not None:
                grad = grad + noise[t]
            n = formula.numbers_of(rule, lr=lr[None, :, None], step=t + 1)._replace(**{name: column})
            if name == "rho" and (t == 0 or rule.bias_correction):
                # Row by row, because powers of arrays may differ from powers of numbers in the last bit.
                pairs = [formula.decay(row.rho, t + 1 if rule.bias_correction else None) for row in rows]
                decays = np.array(pairs).T[:, :, None, None]
            if name == "rho":
                n = n._replace(rho=decays[0], one_minus_rho=decays[1])
            points, buffers = formula.step_with(points, grad, buffers, rule, n, xp=np)
        values: Array = np.asarray(experiment.function(points))
    return values


def compute_basins(
    experiment: Experiment, *, count: int, minima: Array, deadline: Deadline | None = None
) -> dict[str, Any]:
    """Run the first setting from a grid of starts over the picture.

    Args:
        experiment: Its start is not used.
        count: Starts along each axis.
        minima: Known minima, shape (k, 2); other points where several runs end are added. Read.
        deadline: Default: a new one.

    Returns:
        end: shape (count, count, 2), rows along y; label: int64 of shape (count, count), the number of the minimum
        or -1; minima: shape (k', 2); share: the part of the starts that ended at one of them.

    Raises:
        InputError: The time limit is exceeded.
    """
    deadline = deadline or Deadline()
    (left, right), (bottom, top) = experiment.domain
    # Centers of cells: no start lies on the edge.
    place = (np.arange(count) + 0.5) / count
    points = np.empty((count, count, 2))
    points[..., 0] = (left + (right - left) * place)[None, :]
    points[..., 1] = (bottom + (top - bottom) * place)[:, None]
    setting = experiment.settings[0]
    optimizer: Any = (
        setting.make_baseline(points)
        if setting.rule is None
        else RMSprop(points, lr=setting.lr, dialect=setting.rule, threads=1)
    )
    noise = experiment.noise.draw(experiment.steps)
    tail = max(1, experiment.steps // 10)
    total, value = np.zeros_like(points), np.empty((count, count))
    with np.errstate(all="ignore"):
        for t in range(experiment.steps):
            if not t % _BLOCK:
                deadline.check()
            grad = experiment.function.grad(points)
            optimizer.step(grad if noise is None else grad + noise[t])
            if t >= experiment.steps - tail:
                total += points
        # The mean over the last tenth: a run that oscillates around a minimum has found it.
        center = total / tail
        value[...] = experiment.function(center)
        near = _NEAR * float(np.hypot(right - left, top - bottom))
        known = _add_minima(minima, center, value, near)
        label = np.full((count, count), -1, np.int64)
        if len(known):
            distance = np.sqrt(((center[..., None, :] - known) ** 2).sum(-1))
            distance = np.where(np.isfinite(distance), distance, np.inf)
            label = np.where(distance.min(-1) <= near, distance.argmin(-1), -1)
    return {"end": points, "label": label, "minima": known, "share": float((label >= 0).mean())}


def _add_minima(minima: Array, ends: Array, values: Array, near: float) -> Array:
    """Add the points to `minima` where at least 1 % of the runs end, lowest first."""
    flat, height = ends.reshape(-1, 2), values.reshape(-1)
    inside = np.isfinite(flat).all(1) & np.isfinite(height) & (np.abs(flat) < 1e6).all(1)
    flat, height = flat[inside], height[inside]
    found = [np.asarray(point, np.float64) for point in minima]
    least = max(2, values.size // 100)
    free = np.ones(len(flat), bool)
    for point in found:
        free &= np.hypot(*(flat - point).T) > near
    while free.any() and len(found) < max(_MOST_BASINS, len(minima)):
        lowest = flat[free][height[free].argmin()]
        members = free & (np.hypot(*(flat - lowest).T) <= near)
        if members.sum() >= least:
            found.append(lowest)
        free &= ~members
    return np.array(found).reshape(-1, 2)
