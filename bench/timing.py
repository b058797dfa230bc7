"""Times that can be compared: all candidates in one run, a few calls each in turn."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

__all__ = ["time_interleaved"]


def time_interleaved(
    candidates: dict[str, Callable[[], Any]], *, per_round: int, seconds: float, rounds: int = 7
) -> dict[str, float]:
    """Return the median seconds of one call of each candidate.

    Every round calls each candidate `per_round` times in a row, in turn, so that whatever else the machine does hits
    all of them. One more call before those is not timed: the candidate before has left its own arrays in the caches,
    and nobody is to pay for another's. Runs for about `seconds` and at least `rounds` rounds.
    """
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    collecting = gc.isenabled()
    gc.disable()
    try:
        end = time.perf_counter() + seconds
        done = 0
        while done < rounds or time.perf_counter() < end:
            for name, call in candidates.items():
                call()
                begin = time.perf_counter()
                for _ in range(per_round):
                    call()
                samples[name].append((time.perf_counter() - begin) / per_round)
            done += 1
    finally:
        if collecting:
            gc.enable()
    return {name: statistics.median(times) for name, times in samples.items()}
