"""What the curves beside the map show: for each name the numbers over the steps, and how to head and scale them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmsprop.view.track import Track

__all__ = ["HEADINGS", "Curve", "curve", "limits", "logarithmic"]

Array = NDArray[Any]
Curve = tuple[Array, Array]
"""Steps, shape (m,), and values, shape (m, lines)."""

HEADINGS = {
    "loss": "Loss",
    "effective_lr": "Effective learning rate",
    "step_length": "Step length",
    "accumulator": "Root of the accumulator",
}
SHORT = {**HEADINGS, "effective_lr": "Effective lr", "accumulator": "Accumulator"}
"""The same where there is little room."""
FEW = 3
"""Up to so many coordinates get a line each; more are shown by their least, middle and largest value."""


def curve(track: Track, name: str) -> Curve:
    """Return one run's numbers: of the points for "loss", of the steps for the others."""
    run = track.trace
    if name == "loss":
        return np.arange(run.steps + 1), run.f[:, None].astype(float)
    steps = np.arange(run.steps)
    if name == "step_length":
        return steps, track.step_length()[:, None]
    with np.errstate(invalid="ignore"):
        values = run.effective_lr if name == "effective_lr" else np.sqrt(run.mean_sq)
    values = values.astype(float)
    if values.shape[1] > FEW:
        values = np.stack([values.min(axis=1), np.median(values, axis=1), values.max(axis=1)], axis=1)
    return steps, values


def logarithmic(curves: Sequence[Curve], *, always: bool) -> bool:
    """Whether the values span so much that a linear axis would hide the most of it."""
    values = _finite(curves)
    positive = values[values > 0]
    if not positive.size or (values < 0).any() or (len(positive) < 0.7 * len(values)):
        return False
    ratio = float(positive.max() / positive.min())
    return ratio > (3.0 if always else 30.0)


def limits(curves: Sequence[Curve], *, log: bool) -> tuple[float, float]:
    """Return the vertical limits: all finite values, but of a logarithmic axis no more than 24 decades."""
    values = _finite(curves)
    if log:
        positive = np.log10(values[values > 0])
        # Twelve decades say all that a curve of a few hundred pixels can say.
        low, high = max(float(positive.min()), float(np.median(positive)) - 12), float(positive.max())
        if high - low > 24:
            high = float(np.quantile(positive, 0.5)) + 12
        margin = 0.06 * (high - low) or 0.5
        return 10.0 ** (low - margin), 10.0 ** min(high + margin, 300.0)
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    margin = 0.07 * (high - low) or max(abs(high), 1e-6) * 0.5
    return low - margin, high + margin


def _finite(curves: Sequence[Curve]) -> Array:
    values = np.concatenate([np.ravel(values) for _, values in curves]) if curves else np.empty(0)
    # Beyond this matplotlib's own arithmetic overflows.
    found: Array = values[np.isfinite(values) & (np.abs(values) < 1e150)]
    return found
