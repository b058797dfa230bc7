"""The plateau of learning rates: how many decades of lr end within 1 % of the best metric.

    higher is better   score >= best - 0.01 |best|
    lower is better    score <= best + 0.01 |best|

between grid points interpolated on the straight line over log10 lr. Where that is no single interval, because the
curve dips in between, the width is that of all its parts together. A diverged point is no number to interpolate to:
there the plateau ends at the last sound point, so that its width is rather too small than too large.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

__all__ = ["TOLERANCE", "Plateau", "plateau"]

TOLERANCE = 0.01


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plateau:
    """Where a curve over lr stands within 1 % of its best point.

    Attributes:
        best: The best value at a grid point; NaN if every point diverged.
        lr: The learning rate there.
        threshold: The value that still counts.
        parts: Intervals of lr, ascending.
        open_below: The first point of the grid still counts: the plateau may go on below it.
        open_above: The last one does.
    """

    best: float
    lr: float
    threshold: float
    parts: tuple[tuple[float, float], ...]
    open_below: bool = False
    open_above: bool = False

    @property
    def decades(self) -> float:
        """The width of all parts together, in decades of lr."""
        return math.fsum(math.log10(high / low) for low, high in self.parts)


def plateau(
    rates: Sequence[float],
    scores: Sequence[float],
    *,
    better: Literal["higher", "lower"],
    tolerance: float = TOLERANCE,
    best: float | None = None,
) -> Plateau:
    """Return where `scores` stand within `tolerance` of the best one.

    Args:
        rates: Learning rates, ascending.
        scores: What each reached; NaN where it diverged.
        better: Which end is the good one.
        tolerance: A share of the best score.
        best: The score to stand within `tolerance` of, such as another optimizer's best; None: the best of `scores`.

    Example:
        >>> found = plateau([0.01, 0.1, 1.0, 10.0], [0.0, 1.0, 1.0, 0.0], better="higher")
        >>> print(round(found.decades, 4), found.lr)
        1.02 0.1
        >>> plateau([0.1, 1.0], [0.8, 1.0], better="higher", best=2.0).parts
        ()
        >>> plateau([0.1, 1.0], [2.0, float("nan")], better="lower").parts
        ((0.1, 0.1),)
    """
    sign = 1.0 if better == "higher" else -1.0
    goodness = [sign * score if math.isfinite(score) else -math.inf for score in scores]
    top = max(goodness, default=-math.inf)
    if top == -math.inf:
        return Plateau(best=math.nan, lr=math.nan, threshold=math.nan, parts=())
    mark = top if best is None else sign * best
    least = mark - tolerance * abs(mark)
    x = [math.log10(rate) for rate in rates]
    parts: list[list[float]] = []
    for i, value in enumerate(goodness):
        if value < least:
            continue
        low = _crossing(x, goodness, i, i - 1, least)
        high = _crossing(x, goodness, i, i + 1, least)
        if parts and low <= parts[-1][1]:
            parts[-1][1] = high
        else:
            parts.append([low, high])
    return Plateau(
        best=sign * top,
        lr=rates[goodness.index(top)],
        threshold=sign * least,
        parts=tuple((_power(low), _power(high)) for low, high in parts),
        open_below=goodness[0] >= least,
        open_above=goodness[-1] >= least,
    )


def _crossing(x: Sequence[float], goodness: Sequence[float], inside: int, outside: int, least: float) -> float:
    """Return where the line from a point that counts to its neighbour passes `least`: the neighbour, if it counts."""
    if not 0 <= outside < len(x) or goodness[outside] == -math.inf:
        return x[inside]
    if goodness[outside] >= least:
        return x[outside]
    share = (goodness[inside] - least) / (goodness[inside] - goodness[outside])
    return x[inside] + share * (x[outside] - x[inside])


def _power(exponent: float) -> float:
    # 10**log10(0.1) is 0.1 only after rounding away the last digit.
    return float(f"{10**exponent:.12g}")
