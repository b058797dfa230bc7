"""How far apart two means must lie before more than chance is seen in it: Games' and Howell's test of all pairs.

    margin(a, b) = q(k, f) sqrt((e_a + e_b) / 2),   e = s^2 / n of each optimizer's scores over its seeds
    f = (e_a + e_b)^2 / (e_a^2 / (n_a - 1) + e_b^2 / (n_b - 1))

q is the 95 % quantile of the studentized range of k optimizers with f degrees of freedom: were all k alike and their
scores normal, two of them would be told apart in about 5 % of the races (simulated: 4 to 7 %), whatever k and the
number of seeds are, and however erratic one of them is. With two optimizers it is Welch's t test. Tukey's test with one
pooled spread would be exact where all spread alike; they do not: beside one that is ten times as erratic it calls
equals different in 15 to 20 % of the races, and rarely tells the steady ones apart.

Source: P. Games and J. Howell, Pairwise multiple comparison procedures with unequal N's and/or variances, Journal of
Educational Statistics 1 (1976).
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Sequence

__all__ = ["LEVEL", "margin"]

LEVEL = 0.05
"""About the part of the races of equals in which two would be called different."""


def margin(first: Sequence[float], second: Sequence[float], *, optimizers: int) -> float:
    """Return how far apart the means of two optimizers must lie, in units of the metric; NaN with a score alone.

    Args:
        first: The scores of one, over its seeds. Read.
        second: Those of the other. Read.
        optimizers: How many optimizers are compared with each other, at least 2.

    Example:
        >>> round(margin((0.97, 0.98), (0.90, 0.91), optimizers=2), 4)
        0.0304
    """
    if len(first) < 2 or len(second) < 2:
        return math.nan
    errors = [statistics.variance(scores) / len(scores) for scores in (first, second)]
    total = math.fsum(errors)
    if not total:
        return 0.0
    # At least the smaller n - 1, which rounding must not pass.
    freedom = total**2 / math.fsum(e**2 / (len(scores) - 1) for e, scores in zip(errors, (first, second)))
    freedom = max(freedom, min(len(first), len(second)) - 1.0)
    return _quantile(optimizers, freedom) * math.sqrt(total / 2)


def _quantile(optimizers: int, freedom: float) -> float:
    """Return q: between whole degrees of freedom log q goes with 1 / f, which is right to 3 %, from 2 on to 0.5 %."""
    below, above = math.floor(freedom), math.ceil(freedom)
    if below == above:
        return _integrated(optimizers, below)
    share = (1 / freedom - 1 / above) / (1 / below - 1 / above)
    return _integrated(optimizers, below) ** share * _integrated(optimizers, above) ** (1 - share)


@functools.cache
def _integrated(optimizers: int, freedom: int) -> float:
    from scipy.stats import studentized_range

    # A tenth of a second and more.
    return float(studentized_range.ppf(1 - LEVEL, optimizers, freedom))
