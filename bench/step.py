"""The NumPy front end's step: against the memory limit, against NumPy as the tutorials write it, and what it adds.

    python -m bench step [--quick]

All candidates of a row run in one process, a few calls each in turn, so that a busy machine slows all of them; a
figure is the ratio of medians. Each row shows its target beside it where there is one. The memory limit is
`_core.move_bytes`: it reads and writes what a step reads and writes, and does two additions per element.
"""

from __future__ import annotations

import subprocess
import sys
from statistics import median
from typing import Any

import numpy as np

import rmsprop
from bench.timing import time_interleaved
from rmsprop import Rule, _step

SIZES = (10**3, 10**4, 10**5, 10**6, 10**7, 3 * 10**7)
QUICK_SIZES = (10**3, 10**5, 3 * 10**7)

LIMIT_TARGETS = {(10**5, 1): 1.6, (3 * 10**7, 2): 1.10}
"""(parameters, threads) -> at most this many times the memory limit."""
TUTORIAL_TARGETS = {(3 * 10**7, 2): 8.0}
"""... -> at least this many times as fast as the NumPy of the tutorials."""

# Two hidden layers of 64 for a policy and a value function: 12 arrays, 9,155 parameters.
NETWORK = [(64, 4), (64,), (64, 64), (64,), (64, 4), (64,), (64, 64), (64,), (2, 64), (2,), (1, 64), (1,)]
ADDED_US, IMPORT_MS, EXTRA_KIB = 12.0, 60.0, 1024.0


def tutorial(param: Any, grad: Any, cache: Any) -> None:
    """One step as the tutorials write it."""
    lr, decay_rate, eps = 0.01, 0.9, 1e-8
    cache[:] = decay_rate * cache + (1 - decay_rate) * grad**2
    param += -lr * grad / (np.sqrt(cache) + eps)


def arrays(n: int) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(0)
    return rng.random(n, "float32"), rng.random(n, "float32") * 1e-3, rng.random(n, "float32") * 1e-6


def against_limit(n: int, threads: int, seconds: float) -> dict[str, Any]:
    """Times of one step over one float32 array of n elements."""
    param, grad, square = arrays(n)
    plan = _step.core.Plan(_step.handle(Rule()), [param], ([square],), np.zeros(1, np.int64))
    args = _step.StepArgs(1e-6, threads=threads)
    used = threads if n >= 65536 else 1  # below, a step takes one thread whatever was asked
    candidates = {
        "step": lambda: _step.core.step(plan, [grad], args),
        "limit": lambda: _step.core.move_bytes([param], [grad], [square], used),
        "tutorial": lambda: tutorial(param, grad, square),
    }
    times = time_interleaved(candidates, per_round=max(1, 20_000 // n), seconds=seconds)
    row = {
        "parameters": n,
        "threads": threads,
        "step us": 1e6 * times["step"],
        "limit us": 1e6 * times["limit"],
        "/ limit": times["step"] / times["limit"],
        "at most": LIMIT_TARGETS.get((n, threads)),
        "NumPy / step": times["tutorial"] / times["step"],
        "at least": TUTORIAL_TARGETS.get((n, threads)),
    }
    verdicts = [row["/ limit"] <= row["at most"]] if row["at most"] else []
    verdicts += [row["NumPy / step"] >= row["at least"]] if row["at least"] else []
    return {**row, "kept": all(verdicts) if verdicts else None}


def speed(quick: bool) -> list[dict[str, Any]]:
    """Every size with one thread and with two."""
    sizes, seconds = (QUICK_SIZES, 2.0) if quick else (SIZES, 6.0)
    return [against_limit(n, threads, seconds) for n in sizes for threads in (1, 2)]


def small_arrays(quick: bool) -> list[dict[str, Any]]:
    """What `RMSprop.step` adds to the kernel's own time for 12 small arrays."""
    rng = np.random.default_rng(0)

    def like() -> dict[str, Any]:
        return {f"layer {i}": rng.standard_normal(shape).astype("float32") for i, shape in enumerate(NETWORK)}

    params, grads = like(), like()
    optimizer = rmsprop.RMSprop(params, lr=1e-4)
    param, grad, square = arrays(sum(array.size for array in params.values()))
    plan = _step.core.Plan(_step.handle(Rule()), [param], ([square],), np.zeros(1, np.int64))
    args = _step.StepArgs(1e-6)
    candidates = {
        "step": lambda: optimizer.step(grads),
        "kernel": lambda: _step.core.step(plan, [grad], args),  # the same elements in one array
        "tutorial": lambda: [tutorial(params[name], grads[name], cache[name]) for name in params],
    }
    cache = {name: np.ones_like(array) for name, array in params.items()}
    times = time_interleaved(candidates, per_round=20, seconds=2 if quick else 8)
    added = 1e6 * (times["step"] - times["kernel"])
    return [
        {
            "arrays": len(NETWORK),
            "parameters": param.size,
            "step us": 1e6 * times["step"],
            "kernel us": 1e6 * times["kernel"],
            "added us": added,
            "at most": ADDED_US,
            "NumPy / step": times["tutorial"] / times["step"],
            "kept": added <= ADDED_US,
        }
    ]


def fresh_process(script: str) -> float:
    return float(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)


IMPORT = """
import time, numpy
begin = time.process_time()  # of the processor: whatever else the machine does is not the import's
import rmsprop
print(1e3 * (time.process_time() - begin))
"""

PEAK = """
import resource, numpy as np, rmsprop
def highest(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
param, grad = np.ones(30_000_000, "float32"), np.ones(30_000_000, "float32")
optimizer = rmsprop.RMSprop(param, lr=0.01, max_norm=1.0)
optimizer.step(grad)
before = highest()
for _ in range(3): optimizer.step(grad)
print(highest() - before)
"""


def costs(quick: bool) -> list[dict[str, Any]]:
    """What is paid once: the import, and memory beyond parameters, gradients and state."""
    milliseconds = median(fresh_process(IMPORT) for _ in range(5 if quick else 15))
    kib = fresh_process(PEAK) if sys.platform == "linux" else None
    rows = [{"cost": "import rmsprop after numpy, ms", "measured": milliseconds, "at most": IMPORT_MS}]
    if kib is not None:
        rows.append({"cost": "peak memory of a step of 3e7 parameters, KiB", "measured": kib, "at most": EXTRA_KIB})
    return [{**row, "kept": row["measured"] <= row["at most"]} for row in rows]


def main(quick: bool = False) -> dict[str, Any]:
    """Measure everything; each value is a table, a list of rows."""
    if not rmsprop.is_compiled():
        raise SystemExit("bench/step.py measures the compiled step, which is not installed")
    return {
        "one array of float32": speed(quick),
        "12 small arrays": small_arrays(quick),
        "paid once": costs(quick),
    }
