"""The background of the map: the part of the plane or line worth showing, the function's values there, its levels."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmsprop.errors import InputError
from rmsprop.view.track import Box

__all__ = ["LEVELS", "Background", "choose_box", "compute_background"]

Array = NDArray[Any]

GRID = 201
CURVE = 601
LEVELS = 14
FAR = 1000.0
"""A run that moves this many times further than its start is from the origin does not decide what is shown."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Background:
    """The function over the picture.

    Attributes:
        axes: For each coordinate the values at which it was computed.
        values: The function there: shape (len(x),), or (len(y), len(x)) as contours are drawn; NaN where it has none.
        levels: The contour levels, rising, at least two; for a function of one variable the vertical limits.
    """

    axes: tuple[Array, ...]
    values: Array
    levels: Array


def compute_background(function: Callable[[Array], Any], box: Box) -> Background:
    """Compute the function on a grid over the box."""
    flat = len(box.low) == 1
    axes = tuple(np.linspace(low, high, CURVE if flat else GRID) for low, high in zip(box.low, box.high))
    values = _evaluate(function, np.stack(np.meshgrid(*axes), axis=-1))
    known = values[np.isfinite(values)]
    if not known.size:
        known = np.array([0.0, 1.0])
    return Background(axes=axes, values=values, levels=_compute_limits(known) if flat else _compute_levels(known))


def _evaluate(function: Callable[[Array], Any], points: Array) -> Array:
    """Return the values at all points, in one call, or point by point for a function that takes only one."""
    shape = points.shape[:-1]
    with np.errstate(all="ignore"):
        try:
            values = np.asarray(function(points.copy()), float)
        except (ValueError, TypeError, IndexError):
            values = np.empty(0)
        # A function of one point may return numbers of the right shape and no meaning for many points.
        probe = tuple(size // 3 for size in shape)
        if values.shape == shape:
            expected = float(function(points[probe].copy()))
            if np.isclose(values[probe], expected, rtol=1e-9, atol=0.0) or not math.isfinite(expected):
                return np.where(np.isfinite(values), values, np.nan)
        values = np.array([float(function(point.copy())) for point in points.reshape(-1, points.shape[-1])])
    return np.where(np.isfinite(values), values, np.nan).reshape(shape)


def _compute_levels(values: Array) -> Array:
    """Return quantiles of the values at the squares of evenly spaced numbers: the rings of any bowl are equally wide.

    Quantiles do not depend on the function's scale, so the same rule works for a bowl and for a valley a thousand
    times as deep as it is wide.
    """
    levels = np.unique(np.quantile(values, np.linspace(0.0, 1.0, LEVELS + 1) ** 2))
    # Levels closer than rounding would give empty rings.
    distinct = np.diff(levels, prepend=-math.inf) > 1e-9 * (levels[-1] - levels[0])
    levels = levels[distinct]
    return levels if len(levels) > 1 else np.array([levels[0], levels[0] + max(1.0, abs(levels[0])) * 1e-3])


def _compute_limits(values: Array) -> Array:
    """Return the vertical limits of a curve; a pole does not flatten the rest."""
    low, high = float(values.min()), float(values.max())
    q1, q3 = np.quantile(values, [0.02, 0.98])
    if q3 > q1:
        low, high = max(low, q1 - 4.0 * (q3 - q1)), min(high, q3 + 4.0 * (q3 - q1))
    margin = 0.08 * (high - low) or max(1.0, abs(high)) * 0.1
    return np.array([low - margin, high + margin])


def choose_box(paths: Sequence[Array], losses: Sequence[Array], *, domain: Sequence[Any] | None = None) -> Box:
    """Return what to show: `domain`, widened to contain the starts, or else a padded box around the runs.

    A run that diverges is shown from its start up to the edge; it does not shrink the others to a dot.

    Args:
        paths: Points, shape (steps + 1, n) each.
        losses: The objective at them, shape (steps + 1,) each.
        domain: (low, high) for each coordinate, or None.

    Raises:
        InputError: A domain of another form, or without an interior.
    """
    n = paths[0].shape[-1]
    starts = np.stack([path[0] for path in paths]).astype(float)
    if domain is not None:
        low, high = _check_domain(domain, n)
        return Box(np.minimum(low, starts.min(axis=0)), np.maximum(high, starts.max(axis=0)))
    reach = 3.0 * max(1.0, float(np.abs(starts).max()))
    points = np.concatenate([_select_points(path.astype(float), f, reach) for path, f in zip(paths, losses)])
    low, high = points.min(axis=0), points.max(axis=0)
    # Where only one coordinate moves, the other gets a quarter of its size rather than none.
    span = np.maximum(high - low, 0.25 * float((high - low).max()) or 1.0)
    half = span * (0.68 if n == 2 else 0.85)
    return Box((low + high) / 2 - half, (low + high) / 2 + half)


def _select_points(path: Array, f: Array, reach: float) -> Array:
    """Return the points that decide what is shown: all, or for a run that diverges those near its start."""
    distance = np.abs(path - path[0]).max(axis=-1)
    furthest = distance.max()
    is_worse = not math.isfinite(float(f[-1])) or float(f[-1]) > float(f[0])
    return path[distance <= reach] if furthest > FAR * reach or (is_worse and furthest > reach) else path


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
