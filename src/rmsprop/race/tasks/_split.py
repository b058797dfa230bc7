"""How examples are dealt out to training, validation and test, always alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["split_at_random", "split_evenly"]


def split_evenly(labels: NDArray[Any], shares: tuple[float, ...], *, seed: int) -> list[NDArray[np.intp]]:
    """Return sorted positions for each share, every label in proportion.

    Args:
        labels: Shape (n,), integers. Read.
        shares: Fractions that add up to 1.
        seed: Of the draw.

    Example:
        >>> [len(part) for part in split_evenly(np.repeat([0, 1], 10), (0.6, 0.2, 0.2), seed=0)]
        [12, 4, 4]
    """
    rng = np.random.default_rng(seed)
    parts: list[list[NDArray[np.intp]]] = [[] for _ in shares]
    for label in np.unique(labels):
        where = rng.permutation(np.flatnonzero(labels == label))
        for part, piece in zip(parts, np.split(where, _cuts(shares, len(where))), strict=True):
            part.append(piece)
    return [np.sort(np.concatenate(part)) for part in parts]


def split_at_random(
    count: int, shares: tuple[float, ...], *, seed: int, keep: int | None = None
) -> list[NDArray[np.intp]]:
    """Return positions for each share, in the order drawn.

    Args:
        count: How many examples there are.
        shares: Fractions that add up to 1.
        seed: Of the draw.
        keep: Deal out so many of them only.

    Example:
        >>> [len(part) for part in split_at_random(20, (0.6, 0.2, 0.2), seed=0, keep=10)]
        [6, 2, 2]
    """
    order = np.random.default_rng(seed).permutation(count)[:keep]
    return np.split(order, _cuts(shares, len(order)))


def _cuts(shares: tuple[float, ...], count: int) -> NDArray[np.intp]:
    cuts: NDArray[np.intp] = np.rint(np.cumsum(shares)[:-1] * count).astype(np.intp)
    return cuts
