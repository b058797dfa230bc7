"""What a step of rmsprop.minimize costs: of 2 numbers in microseconds beyond `fun` and `jac`, of 100,000 as a ratio.

The yardstick is a bare Python loop that calls `fun` and `jac` and, for the ratio, does the optimizer's step. Loop and
minimize() alternate in one process, many times and briefly, and the least time of each counts: on a machine that does
other work too, that is the time nearest to the code's own. Goals, with trace off: at most 10 microseconds beyond the
function for 2 numbers, at most 2x the loop for 100,000.

    python -m bench minimize [--quick]
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import rmsprop

GOAL_US, GOAL_RATIO = 10.0, 2.0


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


def run_calls(fun: Callable[..., Any], jac: Callable[..., Any], x: np.ndarray, steps: int) -> float:
    """Seconds that the calls alone take."""
    began = time.perf_counter()
    for _ in range(steps):
        fun(x)
        jac(x)
    return time.perf_counter() - began


def run_loop(fun: Callable[..., Any], jac: Callable[..., Any], x: np.ndarray, steps: int) -> float:
    """Seconds of the calls and RMSprop's steps."""
    x = x.copy()
    optimizer = rmsprop.RMSprop(x, lr=0.01)
    began = time.perf_counter()
    for _ in range(steps):
        fun(x)
        optimizer.step(jac(x))
    return time.perf_counter() - began


def run_minimize(fun: Callable[..., Any], jac: Callable[..., Any], x: np.ndarray, steps: int, **options: Any) -> float:
    """Seconds of a whole run."""
    began = time.perf_counter()
    run = rmsprop.minimize(fun, x, jac=jac, steps=steps, **options)
    seconds = time.perf_counter() - began
    assert run.nit == steps
    return seconds


def measure(name: str, *, rounds: int) -> dict[str, Any]:
    """Return microseconds per step, with and without minimize(), as a row of the table."""
    fun, jac, n, options = CASES[name]
    random = np.random.default_rng(0)
    x = random.normal(size=n)
    steps = 1000 if n <= 1000 else 300
    run_minimize(fun, jac, x, 1, **options)
    rows = []
    for _ in range(rounds):
        # A copy is twice as slow where two addresses have the same last 12 bits: every round has other ones.
        padding = [np.empty(random.integers(1, 8192), np.uint8) for _ in range(5)]
        rows.append(
            (
                run_calls(fun, jac, x, steps),
                run_loop(fun, jac, x, steps),
                run_minimize(fun, jac, x, steps, **options),
                # What a run costs once, its checks and its result, is measured apart and taken off.
                run_minimize(fun, jac, x, 0, **options),
            )
        )
        del padding
    calls, loop, run, setup = (1e6 * min(times) for times in zip(*rows))
    calls, loop, run = calls / steps, loop / steps, (run - setup) / steps
    row = {"case": name, "fun + jac, us": calls, "and RMSprop, us": loop, "minimize, us": run}
    return {**row, "added, us": run - calls, "ratio": run / loop, "once, us": setup}


def main(quick: bool = False) -> dict[str, Any]:
    """Measure every case, and say whether the goals are met."""
    rounds = 150 if quick else 1000
    rows = {}
    for name, (_, _, n, options) in CASES.items():
        slow = n > 1000 or options.keys() & {"trace", "optimizer"}
        rows[name] = measure(name, rounds=rounds // 10 if slow else rounds)
    added, ratio = rows["2 numbers"]["added, us"], rows["100,000 numbers"]["ratio"]
    goals = [
        {"goal": "2 numbers: microseconds beyond the function", "measured": added, "at most": GOAL_US},
        {"goal": "100,000 numbers: minimize / (function + RMSprop)", "measured": ratio, "at most": GOAL_RATIO},
    ]
    goals = [{**goal, "met": goal["measured"] <= goal["at most"]} for goal in goals]
    return {"per step": list(rows.values()), "goals": goals, "compiled": rmsprop.is_compiled()}
