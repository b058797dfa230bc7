"""What the runs run on: the part of the plane or line worth showing, the function's values there, and its levels."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmsprop.errors import InputError
from rmsprop.view.track import Box

__all__ = ["Ground", "box_around", "ground"]

Array = NDArray[Any]

GRID = 201
CURVE = 601
LEVELS = 14
AWAY = 1000.0
"""A run that gets this many times further than its start is from the origin no longer decides what is shown."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ground:
    """The function over the picture.

    Attributes:
        axes: For each coordinate the values at which it was computed.
        values: The function there: shape (len(x),), or (len(y), len(x)) as contours are drawn; NaN where it has none.
        levels: Where contour lines run, rising, at least two; for a function of one variable the vertical limits.
    """

    axes: tuple[Array, ...]
    values: Array
    levels: Array


def ground(function: Callable[[Array], Any], box: Box) -> Ground:
    """Compute the function on a grid over the box."""
    count = GRID if len(box.low) == 2 else CURVE
    axes = tuple(np.linspace(low, high, count) for low, high in zip(box.low, box.high))
    if len(axes) == 1:
        values = _evaluate(function, axes[0][:, None])
        return Ground(axes=axes, values=values, levels=_limits(values))
    points = np.stack(np.meshgrid(*axes), axis=-1)
    values = _evaluate(function, points)
    return Ground(axes=axes, values=values, levels=_levels(values))


def _evaluate(function: Callable[[Array], Any], points: Array) -> Array:
    """Ask for all points at once; a function that cannot do that is asked point by point."""
    shape = points.shape[:-1]
    with np.errstate(all="ignore"):
        try:
            values = np.asarray(function(points.copy()), float)
        except (ValueError, TypeError, IndexError):
            values = np.empty(0)
        # A function written for one point may answer for many with numbers of the right shape and no meaning.
        probe = tuple(size // 3 for size in shape)
        if values.shape != shape or not _same(values[probe], function(points[probe].copy())):
            flat = [float(function(point.copy())) for point in points.reshape(-1, points.shape[-1])]
            values = np.array(flat).reshape(shape)
    return np.where(np.isfinite(values), values, np.nan)


def _same(a: Any, b: Any) -> bool:
    return bool(np.isclose(float(a), float(b), rtol=1e-9, atol=0.0, equal_nan=True)) or not math.isfinite(float(b))


def _levels(values: Array) -> Array:
    """Quantiles of the values at the squares of evenly spaced numbers: the rings of any bowl are then equally wide.

    Quantiles do not depend on the function's scale, so one rule serves a bowl and a valley a thousand times as deep as
    it is wide.
    """
    known = values[np.isfinite(values)]
    if not known.size:
        return np.array([0.0, 1.0])
    levels = np.unique(np.quantile(known, np.linspace(0.0, 1.0, LEVELS + 1) ** 2))
    # Levels closer than rounding would give empty rings.
    span = levels[-1] - levels[0]
    levels = levels[np.concatenate([[True], np.diff(levels) > 1e-9 * span])] if span > 0 else levels
    return levels if len(levels) > 1 else np.array([levels[0], levels[0] + max(1.0, abs(levels[0])) * 1e-3])


def _limits(values: Array) -> Array:
    """The vertical limits of a curve; a pole does not flatten the rest."""
    known = values[np.isfinite(values)]
    if not known.size:
        return np.array([0.0, 1.0])
    low, high = float(known.min()), float(known.max())
    q1, q3 = np.quantile(known, [0.02, 0.98])
    room = 4.0 * (q3 - q1)
    if room > 0:
        low, high = max(low, q1 - room), min(high, q3 + room)
    margin = 0.08 * (high - low) or max(1.0, abs(high)) * 0.1
    return np.array([low - margin, high + margin])


def box_around(
    paths: Sequence[Array], losses: Sequence[Array], *, domain: Sequence[Any] | None = None, pad: float = 0.18
) -> Box:
    """Return what to show: `domain`, widened to hold the starts, or else a padded box around the runs.

    A run that flies away is shown from its start up to the edge; it does not shrink the others to a dot.

    Args:
        paths: Points, shape (steps + 1, n) each.
        losses: The objective at them, shape (steps + 1,) each.
        domain: (low, high) for each coordinate, or None.
        pad: How much to add to each side, as a part of the size.

    Raises:
        InputError: A domain of another form, or without an inside.
    """
    n = paths[0].shape[-1]
    starts = np.stack([path[0] for path in paths]).astype(float)
    if domain is not None:
        low, high = _check_domain(domain, n)
        return Box(np.minimum(low, starts.min(axis=0)), np.maximum(high, starts.max(axis=0)))
    reach = 3.0 * max(1.0, float(np.abs(starts).max()))
    kept = [_worth_showing(path.astype(float), f, reach) for path, f in zip(paths, losses)]
    points = np.concatenate(kept)
    low, high = points.min(axis=0), points.max(axis=0)
    # Where only one coordinate moves, the other gets the same size rather than none.
    span = np.maximum(high - low, 0.25 * float((high - low).max()) or 1.0)
    middle = (low + high) / 2
    half = span * (0.5 + (pad if n == 2 else 0.35))
    return Box(middle - half, middle + half)


def _worth_showing(path: Array, f: Array, reach: float) -> Array:
    """The points that decide what is shown: all, or for a run that flies away those near its start."""
    distance = np.abs(path - path[0]).max(axis=-1)
    furthest = distance.max()
    worse = not math.isfinite(float(f[-1])) or float(f[-1]) > float(f[0])
    away = furthest > AWAY * reach or (worse and furthest > reach)
    return path[distance <= reach] if away else path


def _check_domain(domain: Sequence[Any], n: int) -> tuple[Array, Array]:
    try:
        limits = np.asarray(domain, float).reshape(-1, 2)
    except (TypeError, ValueError):
        raise InputError(f"domain={domain!r}, expected (low, high) for each coordinate") from None
    if len(limits) != n:
        raise InputError(f"domain={domain!r}: {len(limits)} pairs, expected {n}, one for each coordinate")
    for i, (low, high) in enumerate(limits):
        if not -math.inf < low < high < math.inf:
            raise InputError(f"domain[{i}]=({low:g}, {high:g}), expected two finite numbers, the lower first")
    return limits[:, 0], limits[:, 1]
