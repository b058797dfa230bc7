"""The plateau of learning rates: how many decades of lr reach a score within 1 % of the best.

    higher is better   score >= best - 0.01 |best|
    lower is better    score <= best + 0.01 |best|

Between grid points the score is interpolated linearly over log10 lr. If the plateau has several parts, its width is
their sum. A diverged point has no score to interpolate to, so the plateau ends at the last point before it and its
width is a lower bound.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Literal

__all__ = ["Plateau", "find_plateau"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plateau:
    """Where a curve over lr is within 1 % of its best point; NaN if every point diverged."""

    best: float = math.nan  # the best score at a grid point
    lr: float = math.nan  # the learning rate there
    threshold: float = math.nan  # the worst score that counts
    parts: tuple[tuple[float, float], ...] = ()  # intervals of lr, ascending
    open_below: bool = False  # the first point of the grid counts, so the plateau may continue below it
    open_above: bool = False  # the last point counts

    @property
    def decades(self) -> float:
        """The width of all parts together, in decades of lr."""
        return math.fsum(math.log10(high / low) for low, high in self.parts)


def find_plateau(
    rates: Sequence[float],
    scores: Sequence[float],
    *,
    better: Literal["higher", "lower"],
    tolerance: float = 0.01,
    best: float | None = None,
) -> Plateau:
    """Return where `scores` are within `tolerance` of the best one.

    Args:
        rates: Learning rates, ascending.
        scores: The score at each rate; NaN if it diverged.
        better: "higher" or "lower".
        tolerance: Relative to the best score.
        best: The score to compare with, such as another optimizer's best; None: the best of `scores`.

    Example:
        >>> found = find_plateau([0.01, 0.1, 1.0, 10.0], [0.0, 1.0, 1.0, 0.0], better="higher")
        >>> print(round(found.decades, 4), found.lr)
        1.02 0.1
        >>> find_plateau([0.1, 1.0], [0.8, 1.0], better="higher", best=2.0).parts
        ()
        >>> find_plateau([0.1, 1.0], [2.0, float("nan")], better="lower").parts
        ((0.1, 0.1),)
    """
    sign = 1.0 if better == "higher" else -1.0
    values = [sign * score if math.isfinite(score) else -math.inf for score in scores]
    top = max(values, default=-math.inf)
    if top == -math.inf:
        return Plateau()
    reference = top if best is None else sign * best
    least = reference - tolerance * abs(reference)

    def interpolate(inside: int, outside: int) -> float:
        x = math.log10(rates[inside])
        if 0 <= outside < len(rates) and values[outside] > -math.inf:
            share = (values[inside] - least) / (values[inside] - values[outside])
            x += share * (math.log10(rates[outside]) - x)
        return float(f"{10**x:.12g}")  # 10**log10(0.1) is not 0.1

    groups = itertools.groupby(range(len(values)), key=lambda i: values[i] >= least)
    runs = [list(group) for is_inside, group in groups if is_inside]
    return Plateau(
        best=sign * top,
        lr=rates[values.index(top)],
        threshold=sign * least,
        parts=tuple((interpolate(run[0], run[0] - 1), interpolate(run[-1], run[-1] + 1)) for run in runs),
        open_below=values[0] >= least,
        open_above=values[-1] >= least,
    )
