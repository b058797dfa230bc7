"""The course of every implementation: a start, gradients over ten decades, a learning rate that changes every step.

Every number is exact in float32, so every implementation sees the same numbers, whatever it rounds.
The numbers come from `random.Random`, whose sequence Python promises, so a recording needs to name no more than SEED.
"""

from __future__ import annotations

import hashlib
import random

import numpy as np

SEED = 20121004
STEPS = 100
SIZE = 24
"""Whole vectors of 8 lanes and a remainder for 16; short enough for a readable file."""

KEPT = (1, 99, 100)
"""The steps that a recording keeps: the first, and the last with the one before it, so that it can be repeated."""


def _course() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = random.Random(SEED)
    start = np.array([0.0 if i % 2 else draw.randrange(-511, 512, 2) / 256 for i in range(SIZE)])
    grads = np.empty((STEPS, SIZE))
    for i in range(SIZE):
        scale = 2.0 ** (-20 + 32 * i // (SIZE - 1))
        grads[:, i] = [scale * draw.randrange(-255, 256, 2) / 128 for _ in range(STEPS)]
    grads[[t for t in range(STEPS) if draw.random() < 0.9], 5] = 0.0
    grads[:, 6] = 0.0
    grads[:, 8] = np.abs(grads[:, 8])
    # The first is the largest: what timm calls the largest lr is the one that its optimizer was made with.
    lrs = np.array([2.0**-5] + [draw.randrange(1, 128) / 4096 for _ in range(STEPS - 1)])
    return start, grads, lrs


START, GRADS, LRS = _course()
"""Parameters before the first step, half of them 0; gradients, a row per step: some mostly 0, always 0, never below 0;
learning rates, between 1/4096 and 1/32."""


def digest() -> str:
    """Return a hash of the course."""
    return hashlib.sha256(b"".join(x.astype("<f8").tobytes() for x in (START, GRADS, LRS))).hexdigest()[:16]
