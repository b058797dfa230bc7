"""The curves beside the map: their names, their numbers over the steps, and how to scale their axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmsprop.view.track import Track

__all__ = ["FEW", "HEADINGS", "SHORT_HEADINGS", "Curve", "compute_curve", "compute_limits", "needs_log_axis"]

Array = NDArray[Any]
Curve = tuple[Array, Array]
"""Steps, shape (m,), and values, shape (m, lines)."""

HEADINGS = {
    "loss": "Loss",
    "effective_lr": "Effective learning rate",
    "step_length": "Step length",
    "accumulator": "Root of the accumulator",
}
SHORT_HEADINGS = {**HEADINGS, "effective_lr": "Effective lr", "accumulator": "Accumulator"}
FEW = 3
"""Up to so many coordinates get a line each; more are shown by their smallest, median and largest value."""


def compute_curve(track: Track, name: str) -> Curve:
    """Return one run's numbers: of the points for "loss", of the steps for the others."""
    run = track.trace
    if name == "loss":
        return np.arange(run.steps + 1), run.f[:, None].astype(float)
    with np.errstate(invalid="ignore", over="ignore"):
        if name == "step_length":
            values = np.sqrt(np.square(run.update.astype(float)).sum(axis=-1, keepdims=True))
        else:
            values = (run.effective_lr if name == "effective_lr" else np.sqrt(run.mean_sq)).astype(float)
    if values.shape[1] > FEW:
        values = np.stack([values.min(axis=1), np.median(values, axis=1), values.max(axis=1)], axis=1)
    return np.arange(run.steps), values


def needs_log_axis(curves: Sequence[Curve], *, ratio: float) -> bool:
    """Return whether the values are positive and the largest is more than `ratio` times the smallest."""
    values = _collect_finite(curves)
    positive = values[values > 0]
    if not positive.size or (values < 0).any() or len(positive) < 0.7 * len(values):
        return False
    return float(positive.max() / positive.min()) > ratio


def compute_limits(curves: Sequence[Curve], *, log: bool) -> tuple[float, float]:
    """Return the vertical limits: all finite values, but on a logarithmic axis at most 24 decades around the median."""
    values = _collect_finite(curves)
    if log:
        exponents = np.log10(values[values > 0])
        middle = float(np.median(exponents))
        low, high = max(float(exponents.min()), middle - 12), min(float(exponents.max()), middle + 12)
        margin = 0.06 * (high - low) or 0.5
        return 10.0 ** (low - margin), 10.0 ** min(high + margin, 300.0)
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    margin = 0.07 * (high - low) or max(abs(high), 1e-6) * 0.5
    return low - margin, high + margin


def _collect_finite(curves: Sequence[Curve]) -> Array:
    values = np.concatenate([np.ravel(values) for _, values in curves])
    # Beyond 1e150 matplotlib's own arithmetic overflows.
    finite: Array = values[np.isfinite(values) & (np.abs(values) < 1e150)]
    return finite
