"""One run, ready to be drawn: where it is at any time, what it keeps, and where it left the picture.

A time is a number of steps and may lie between two of them: the point then lies on the straight line between its
neighbours. What belongs to a step (gradient, accumulator, effective learning rate) is that of the step about to be
made; at the last point, that of the step that led there.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmsprop.trace import Trace

__all__ = ["Box", "Track", "crossing"]

Array = NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Box:
    """What the picture shows of the plane or line: the lowest and highest value of each coordinate."""

    low: Array
    high: Array

    @property
    def span(self) -> Array:
        """Its size along each coordinate."""
        return self.high - self.low

    def holds(self, points: Array) -> Array:
        """Return which points of shape (..., n) are in it, edges included."""
        inside: Array = np.all((points >= self.low) & (points <= self.high), axis=-1)
        return inside


def crossing(inner: Array, outer: Array, box: Box) -> Array:
    """Return where the segment from a point in the box to one outside of it crosses the edge, shape (n,).

    Formula: the least t in [0, 1] at which a coordinate of inner + t (outer - inner) reaches its limit.
    """
    share = 1.0
    for a, b, low, high in zip(inner.tolist(), outer.tolist(), box.low.tolist(), box.high.tolist()):
        limit = high if b > high else low if b < low else None
        if limit is not None:
            # Halves, because the difference of two huge numbers may be infinite.
            share = min(share, (limit / 2 - a / 2) / (b / 2 - a / 2))
    return np.clip(inner + 2 * (share * (outer / 2 - inner / 2)), box.low, box.high)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Track:
    """One run of one start, with a name.

    Attributes:
        label: What the picture calls it.
        trace: The run.
        box: What the picture shows; None for a run of more than two parameters.
        left: The step after which the run is out of the picture for good, and None if it ends in it.
        exit: Where it crossed the edge then, shape (n,), or None.
    """

    label: str
    trace: Trace
    box: Box | None = None
    left: int | None = dataclasses.field(init=False)
    exit: Array | None = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        left = None if self.box is None else self._left(self.box)
        object.__setattr__(self, "left", left)
        x, place = self.trace.x, None
        if self.box is not None and left is not None:
            place = crossing(x[left - 1], x[left], self.box) if left else np.clip(x[0], self.box.low, self.box.high)
        object.__setattr__(self, "exit", place)

    def _left(self, box: Box) -> int | None:
        inside = np.flatnonzero(box.holds(self.trace.x))
        first_out = int(inside[-1]) + 1 if len(inside) else 0
        return first_out if first_out <= self.trace.steps else None

    @property
    def steps(self) -> int:
        """How many steps the run has."""
        return self.trace.steps

    def point(self, time: float) -> Array:
        """Return where the run is, shape (n,)."""
        return _between(self.trace.x, self._clip(time))

    def loss(self, time: float) -> float:
        """Return the objective there, on the straight line between steps."""
        return float(_between(self.trace.f[:, None], self._clip(time))[0])

    def trail(self, time: float) -> Array:
        """Return the way so far, shape (m, n), cut where it leaves the picture for good."""
        time = self._clip(time)
        end = math.floor(time)
        if self.left is not None and self.exit is not None and time >= self.left:
            return np.concatenate([self.trace.x[: self.left], self.exit[None]])
        points = self.trace.x[: end + 1]
        return points if end == time else np.concatenate([points, self.point(time)[None]])

    def of_step(self, name: str, time: float) -> Array:
        """Return a row of `grad`, `mean_sq`, `effective_lr` or `update`, shape (n,); NaN for a run without steps."""
        rows: Array = getattr(self.trace, name)
        if not len(rows):
            return np.full(self.trace.x.shape[1:], math.nan)
        row: Array = rows[min(math.floor(self._clip(time)), len(rows) - 1)]
        return row

    def step_length(self) -> Array:
        """Return the length of every step, shape (steps,), in units of x."""
        with np.errstate(over="ignore"):
            return np.sqrt(np.square(self.trace.update.astype(np.float64)).sum(axis=-1))

    def _clip(self, time: float) -> float:
        return min(max(float(time), 0.0), float(self.steps))


def _between(rows: Array, time: float) -> Array:
    before = math.floor(time)
    if before == time:
        row: Array = rows[before]
        return row
    share = time - before
    with np.errstate(over="ignore", invalid="ignore"):
        mixed: Array = (1.0 - share) * rows[before] + share * rows[before + 1]
    return mixed
