"""What one step of rmsprop.minimize costs beyond the calls of `fun` and `jac`.

The yardstick is a bare Python loop that calls both and does nothing else. Loop and minimize() alternate in one process,
many times and briefly, and the least time of each counts: on a machine that does other work too, that is the time
nearest to the code's own. The promise: with trace off, at most 3 microseconds per step for a vector of 2 numbers.

    python bench/minimize.py [--quick]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import rmsprop

PROMISE_US = 3.0
RESULTS = Path(__file__).parent / "results" / "minimize.json"


def bowl(x: np.ndarray) -> float:
    return x[0] ** 2 + 10 * x[1] ** 2


def slope(x: np.ndarray) -> np.ndarray:
    return np.array([2 * x[0], 20 * x[1]])


def wide_bowl(x: np.ndarray) -> float:
    return x @ x


def wide_slope(x: np.ndarray) -> np.ndarray:
    return 2 * x


CASES: dict[str, tuple[Callable[..., Any], Callable[..., Any], int, dict[str, Any]]] = {
    "2 numbers": (bowl, slope, 2, {}),
    "2 numbers, lr falling": (bowl, slope, 2, {"lr": lambda step: 0.01}),
    "2 numbers, gtol set": (bowl, slope, 2, {"gtol": 0.0}),
    "2 numbers, trace on": (bowl, slope, 2, {"trace": True}),
    "2 numbers, Adam": (bowl, slope, 2, {"optimizer": "adam"}),
    "1,000 numbers": (wide_bowl, wide_slope, 1000, {}),
    "100,000 numbers": (wide_bowl, wide_slope, 100_000, {}),
}


def bare(fun: Callable[..., Any], jac: Callable[..., Any], x: np.ndarray, steps: int) -> float:
    """Seconds that the calls alone take."""
    began = time.perf_counter()
    for _ in range(steps):
        fun(x)
        jac(x)
    return time.perf_counter() - began


def whole(fun: Callable[..., Any], jac: Callable[..., Any], x: np.ndarray, steps: int, **options: Any) -> float:
    """Seconds of a whole run."""
    began = time.perf_counter()
    run = rmsprop.minimize(fun, x, jac=jac, steps=steps, **options)
    seconds = time.perf_counter() - began
    assert run.nit == steps
    return seconds


def measure(name: str, *, rounds: int) -> dict[str, float]:
    """Microseconds per step, with and without minimize()."""
    fun, jac, n, options = CASES[name]
    x = np.random.default_rng(0).normal(size=n)
    steps = 1000 if n <= 1000 else 50
    whole(fun, jac, x, 1, **options)
    # What a run costs once, its checks and its result, is measured apart and taken off.
    pairs = [
        (bare(fun, jac, x, steps), whole(fun, jac, x, steps, **options), whole(fun, jac, x, 0, **options))
        for _ in range(rounds)
    ]
    calls, run, setup = (min(times) for times in zip(*pairs))
    calls_us, run_us = 1e6 * calls / steps, 1e6 * (run - setup) / steps
    return {"calls_us": calls_us, "run_us": run_us, "added_us": run_us - calls_us, "setup_us": 1e6 * setup}


def main(quick: bool = False) -> dict[str, Any]:
    """Measure every case, print the table, write the JSON file, and return what it holds."""
    rounds = 150 if quick else 1000
    print(f"{'microseconds per step':26}{'fun + jac':>11}{'minimize':>11}{'added':>9}{'ratio':>8}")
    cases = {}
    for name in CASES:
        slow = CASES[name][2] > 1000 or CASES[name][3].keys() & {"trace", "optimizer"}
        cases[name] = row = measure(name, rounds=rounds // 10 if slow else rounds)
        ratio = row["run_us"] / row["calls_us"]
        print(f"{name:26}{row['calls_us']:11.2f}{row['run_us']:11.2f}{row['added_us']:9.2f}{ratio:8.2f}")
    added = cases["2 numbers"]["added_us"]
    kept = added <= PROMISE_US
    verdict = "kept" if kept else "BROKEN"
    print(f"2 numbers, trace off: {added:.2f} microseconds added, at most {PROMISE_US:.0f} promised: {verdict}")
    report = {"compiled": rmsprop.compiled(), "promise_us": PROMISE_US, "kept": kept, "cases": cases}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=2) + "\n")
    return report


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    main(parser.parse_args().quick)
