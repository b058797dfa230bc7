"""One run, ready to be drawn: where it is at any time, and where it left the picture.

A time is a number of steps and may lie between two of them: the point then lies on the straight line between its
neighbors. What belongs to a step (gradient, accumulator, effective learning rate) is that of the step about to be
made; at the last point, that of the step that led there.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmsprop.trace import Trace

__all__ = ["Box", "Track", "find_crossing"]

Array = NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Box:
    """The part of the plane or line that the picture shows: the lowest and highest value of each coordinate."""

    low: Array
    high: Array

    def contains(self, points: Array) -> Array:
        """Return which points of shape (..., n) are in it, edges included."""
        inside: Array = np.all((points >= self.low) & (points <= self.high), axis=-1)
        return inside


def find_crossing(inner: Array, outer: Array, box: Box) -> Array:
    """Return where the segment from a point in the box to one outside of it crosses the edge, shape (n,).

    Formula: the least t in [0, 1] at which a coordinate of inner + t (outer - inner) reaches its limit.
    """
    t = 1.0
    for a, b, low, high in zip(inner.tolist(), outer.tolist(), box.low.tolist(), box.high.tolist()):
        limit = high if b > high else low if b < low else None
        if limit is not None:
            # Halves, because the difference of two huge numbers may be infinite.
            t = min(t, (limit / 2 - a / 2) / (b / 2 - a / 2))
    return np.clip(inner + 2 * (t * (outer / 2 - inner / 2)), box.low, box.high)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Track:
    """One run from one start, with the label that the picture shows; `box` is None for more than two parameters."""

    label: str
    trace: Trace
    box: Box | None = None

    @functools.cached_property
    def exit_step(self) -> int | None:
        """The step after which the run stays outside the picture; None if it ends inside."""
        if self.box is None:
            return None
        inside = np.flatnonzero(self.box.contains(self.trace.x))
        first_outside = int(inside[-1]) + 1 if len(inside) else 0
        return first_outside if first_outside <= self.trace.steps else None

    @functools.cached_property
    def exit_point(self) -> Array | None:
        """Where it crossed the edge then, shape (n,), or None."""
        if self.exit_step is None or self.box is None:
            return None
        x = self.trace.x
        if self.exit_step == 0:
            return np.clip(x[0], self.box.low, self.box.high)
        return find_crossing(x[self.exit_step - 1], x[self.exit_step], self.box)

    def has_left(self, time: float) -> bool:
        """Return whether the run is outside the picture for the rest of its steps."""
        return self.exit_step is not None and time >= self.exit_step

    def get_point(self, time: float) -> Array:
        """Return where the run is, shape (n,); after it has left, where it left."""
        if self.exit_point is not None and self.has_left(time):
            return self.exit_point
        return _interpolate(self.trace.x, time)

    def get_loss(self, time: float) -> float:
        """Return the objective there, interpolated between steps."""
        return float(_interpolate(self.trace.f[:, None], time)[0])

    def get_trail(self, time: float) -> Array:
        """Return the path so far, shape (m, n), cut where it leaves the picture for good."""
        time = min(time, self.trace.steps)
        count = self.exit_step if self.has_left(time) else math.floor(time) + 1
        points = self.trace.x[:count]
        return points if count == time + 1 else np.concatenate([points, self.get_point(time)[None]])

    def get_row(self, name: str, time: float) -> Array:
        """Return a row of `grad`, `mean_sq` or `effective_lr`, shape (n,); NaN for a run without steps."""
        rows: Array = getattr(self.trace, name)
        if not len(rows):
            return np.full(self.trace.x.shape[1:], math.nan)
        row: Array = rows[min(math.floor(time), len(rows) - 1)]
        return row


def _interpolate(rows: Array, time: float) -> Array:
    """Return the row at `time`, which may lie between two rows or after the last one."""
    time = min(time, len(rows) - 1)
    before = math.floor(time)
    if before == time:
        row: Array = rows[before]
        return row
    t = time - before
    with np.errstate(over="ignore", invalid="ignore"):
        mixed: Array = (1.0 - t) * rows[before] + t * rows[before + 1]
    return mixed
