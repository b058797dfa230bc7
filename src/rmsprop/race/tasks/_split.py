"""How examples are split into training, validation and test, always in the same way."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["split_at_random", "split_evenly"]

NAMES = ("train", "valid", "test")
Parts = dict[str, NDArray[np.intp]]


def split_evenly(labels: NDArray[Any], shares: tuple[float, ...], *, seed: int) -> Parts:
    """Return sorted positions for each split, every label in proportion.

    `shares` are fractions that add up to 1: of "train", "valid" and, if there is a third, "test".

    Example:
        >>> [len(part) for part in split_evenly(np.repeat([0, 1], 10), (0.6, 0.2, 0.2), seed=0).values()]
        [12, 4, 4]
    """
    rng = np.random.default_rng(seed)
    pieces = [_cut(rng.permutation(np.flatnonzero(labels == label)), shares) for label in np.unique(labels)]
    return dict(zip(NAMES, (np.sort(np.concatenate(parts)) for parts in zip(*pieces, strict=True))))


def split_at_random(count: int, shares: tuple[float, ...], *, seed: int, keep: int | None = None) -> Parts:
    """Return positions among `count` examples for each split, in random order; `keep` uses only so many of them.

    Example:
        >>> [len(part) for part in split_at_random(20, (0.6, 0.2, 0.2), seed=0, keep=10).values()]
        [6, 2, 2]
    """
    return dict(zip(NAMES, _cut(np.random.default_rng(seed).permutation(count)[:keep], shares)))


def _cut(positions: NDArray[np.intp], shares: tuple[float, ...]) -> list[NDArray[np.intp]]:
    return np.split(positions, np.rint(np.cumsum(shares)[:-1] * len(positions)).astype(np.intp))
