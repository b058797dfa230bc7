"""Which method finds the global minimum, and for how many evaluations: many starts of RMSprop against global searches.

Rastrigin, Ackley and Himmelblau in 2 and 10 dimensions. Every method gets the same number of evaluations and the same
seeds; it succeeds when any point it evaluated lies within 1e-3 of the least value. What converges before the budget is
spent starts again from elsewhere. A gradient is charged twice over: as one evaluation, which is about what an analytic
one costs, and as n, which is what differences cost. The minimum is moved to a random place of the box for each seed,
since a method that likes the middle of the box would otherwise be praised for it; Himmelblau's four stay in place.

The particle swarm is pymoo's (extra `bench`). Writes docs/why/local-minima.md when it is not quick.

    python -m bench local_minima [--quick]
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import statistics
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize
from threadpoolctl import threadpool_limits

import rmsprop
from rmsprop import Rule

Array = NDArray[np.float64]
PAGE = Path(__file__).parent.parent / "docs" / "why" / "local-minima.md"
BEGIN, END = "<!-- figures: python -m bench local_minima -->", "<!-- end of figures -->"
CLOSE = 1e-3
SEEDS, QUICK_SEEDS = 20, 4
BUDGETS = {2: (500, 2_000, 5_000), 10: (2_000, 5_000, 20_000)}
QUICK_BUDGETS = {2: (500, 2_000), 10: (2_000, 5_000)}
STARTS, STEPS, FALL = 10, 200, 1e-5
"""Of RMSprop: starts at once, steps of each, and by how much lr falls until the last one."""
LR = 0.05
"""The first lr, as a part of half the box's width. Chosen on other seeds, from .01, .02, .05, .1, .2, for all six."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """A function of points (..., n), its gradient, and half the width of the box [-half, half]^n."""

    name: str
    n: int
    half: float
    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    moved: bool = True

    def shift(self, rng: np.random.Generator) -> Array:
        return rng.uniform(-0.4, 0.4, self.n) * self.half * self.moved


def rastrigin(x: Array) -> Array:
    return 10 * x.shape[-1] + (x * x - 10 * np.cos(2 * np.pi * x)).sum(axis=-1)


def rastrigin_slope(x: Array) -> Array:
    return 2 * x + 20 * np.pi * np.sin(2 * np.pi * x)


def ackley(x: Array) -> Array:
    mean, waves = (x * x).mean(axis=-1), np.cos(2 * np.pi * x).mean(axis=-1)
    return 20 + np.e - 20 * np.exp(-0.2 * np.sqrt(mean)) - np.exp(waves)


def ackley_slope(x: Array) -> Array:
    n = x.shape[-1]
    root = np.sqrt((x * x).mean(axis=-1, keepdims=True))
    waves = np.cos(2 * np.pi * x).mean(axis=-1, keepdims=True)
    # At the tip the first term has no slope; 0 is as good as any.
    funnel = 4 * np.exp(-0.2 * root) * x / (n * np.maximum(root, 1e-300))
    return funnel + np.exp(waves) * 2 * np.pi * np.sin(2 * np.pi * x) / n


def himmelblau(x: Array) -> Array:
    a, b = x[..., 0::2], x[..., 1::2]
    return ((a * a + b - 11) ** 2 + (a + b * b - 7) ** 2).sum(axis=-1)


def himmelblau_slope(x: Array) -> Array:
    a, b = x[..., 0::2], x[..., 1::2]
    u, v = a * a + b - 11, a + b * b - 7
    slope = np.empty_like(x)
    slope[..., 0::2], slope[..., 1::2] = 4 * a * u + 2 * v, 2 * u + 4 * b * v
    return slope


PROBLEMS = tuple(
    Problem(name, n, half, value, slope, moved)
    for n in (2, 10)
    for name, half, value, slope, moved in (
        ("Rastrigin", 5.12, rastrigin, rastrigin_slope, True),
        ("Ackley", 32.768, ackley, ackley_slope, True),
        ("Himmelblau", 5.0, himmelblau, himmelblau_slope, False),
    )
)


class Enough(Exception):
    """The budget is spent, or the minimum is found."""


class Meter:
    """Counts the evaluations of a moved problem and notes when the minimum was first met."""

    def __init__(self, problem: Problem, seed: int, budget: int) -> None:
        self.problem, self.budget = problem, budget
        self.rng = np.random.default_rng([seed, problem.n])
        self.shift = problem.shift(self.rng)
        self.values = self.gradients = 0
        self.hit: tuple[int, int] | None = None

    @property
    def spent(self) -> int:
        return self.values + self.gradients

    def many(self, x: Array) -> Array:
        """k points at once; k evaluations."""
        values = self.problem.value(x - self.shift)
        self.values += len(x)
        if (values < CLOSE).any():
            self.hit = (self.values, self.gradients)
            raise Enough
        if self.spent >= self.budget:
            raise Enough
        return values

    def value(self, x: Array) -> float:
        return float(self.many(np.asarray(x)[None])[0])

    def slopes(self, x: Array) -> Array:
        """k gradients, each charged as one here; `Outcome` charges them as n as well."""
        self.gradients += len(x)
        return self.problem.slope(x - self.shift)

    def slope(self, x: Array) -> Array:
        return self.slopes(np.asarray(x)[None])[0]

    @property
    def bounds(self) -> list[tuple[float, float]]:
        return [(-self.problem.half, self.problem.half)] * self.problem.n

    def start(self, count: int) -> Array:
        return self.rng.uniform(-self.problem.half, self.problem.half, (count, self.problem.n))


# ---- the methods: each runs until the meter raises Enough ------------------------------------------------------------


def rmsprop_starts(meter: Meter, *, rule: Rule, lr: float = LR) -> None:
    first = lr * meter.problem.half
    while True:
        rmsprop.minimize(
            meter.many, meter.start(STARTS), jac=meter.slopes, vectorized=True, steps=STEPS, dialect=rule,
            lr=lambda t: first * FALL ** (t / STEPS),
        )  # fmt: skip


def lbfgs_starts(meter: Meter) -> None:
    while True:
        optimize.minimize(meter.value, meter.start(1)[0], jac=meter.slope, method="L-BFGS-B", bounds=meter.bounds)


def dual_annealing(meter: Meter) -> None:
    while True:
        optimize.dual_annealing(meter.value, meter.bounds, rng=meter.rng, maxiter=10**6, maxfun=10**9)


def differential_evolution(meter: Meter) -> None:
    while True:
        optimize.differential_evolution(meter.value, meter.bounds, rng=meter.rng)


def particle_swarm(meter: Meter) -> None:
    from pymoo.algorithms.soo.nonconvex.pso import PSO
    from pymoo.core.problem import Problem as Task
    from pymoo.optimize import minimize

    class Swarmed(Task):
        def _evaluate(self, x: Array, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
            out["F"] = meter.many(x)

    half = meter.problem.half
    while True:
        task = Swarmed(n_var=meter.problem.n, n_obj=1, xl=-half, xu=half)
        minimize(task, PSO(), seed=int(meter.rng.integers(2**31)), verbose=False)


PLAIN = Rule()
MOMENTUM = Rule(buffer="unit", momentum=0.9)
METHODS: dict[str, Callable[[Meter], None]] = {
    "RMSprop, many starts": partial(rmsprop_starts, rule=PLAIN),
    "RMSprop, momentum 0.9, many starts": partial(rmsprop_starts, rule=MOMENTUM, lr=LR / 10),
    "L-BFGS-B, random starts": lbfgs_starts,
    "dual annealing": dual_annealing,
    "differential evolution": differential_evolution,
    "particle swarm": particle_swarm,
}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Evaluations until the minimum was met, or those of the whole budget, gradients charged as 1 and as n."""

    found: bool
    cheap: int
    dear: int
    gradients: bool


def outcome(method: str, problem: Problem, seed: int, budget: int) -> Outcome:
    meter = Meter(problem, seed, budget)
    with np.errstate(all="ignore"), contextlib.suppress(Enough):
        METHODS[method](meter)
    values, gradients = meter.hit or (meter.values, meter.gradients)
    return Outcome(
        meter.hit is not None, values + gradients, values + problem.n * gradients, gradients=meter.gradients > 0
    )


def compare(problem: Problem, method: str, budgets: tuple[int, ...], seeds: int) -> list[dict[str, Any]]:
    """A row per convention; a method without gradients of its own has one."""
    runs = [outcome(method, problem, seed, budgets[-1]) for seed in range(seeds)]
    rows = []
    for charge in ("1", "n") if runs[0].gradients else ("",):
        cost = [run.dear if charge == "n" else run.cheap for run in runs]
        # A seed that was not solved at the dear charge within the budget has spent the budget, no more.
        spent = [min(c, budgets[-1]) for c in cost]
        found = [run.found and c <= budgets[-1] for run, c in zip(runs, cost)]
        rows.append(
            {
                "function": f"{problem.name}-{problem.n}",
                "method": method,
                "a gradient counts": charge,
                **{
                    f"budget {place + 1}": sum(run.found and c <= budget for run, c in zip(runs, cost))
                    for place, budget in enumerate(budgets)
                },
                "seeds": seeds,
                "evaluations per success": round(sum(spent) / sum(found)) if any(found) else None,
            }
        )
    return rows


# ---- what makes one run of RMSprop leave a minimum -------------------------------------------------------------------


def lone(problem: Problem, kind: str, seed: int, steps: int = 2_000) -> bool:
    """Whether one start ends at the global minimum; lr stands still for half of the steps, then falls to nothing."""
    rng = np.random.default_rng([seed, 7])
    shift = problem.shift(rng)
    x = rng.uniform(-problem.half, problem.half, problem.n)
    small, large = 0.002 * problem.half, 0.2 * problem.half
    first = large if kind in ("large lr that falls", "large lr and noise that fall") else small
    rule = MOMENTUM if kind == "small lr, momentum 0.9" else PLAIN

    anywhere = problem.slope(rng.uniform(-problem.half, problem.half, (1000, problem.n)))
    # As large as the gradient is on average, so that it does not fade where the gradient does.
    noise = float(np.sqrt((anywhere**2).mean())) if "noise" in kind else 0.0

    last = 1e-6 * problem.half
    calls = itertools.count()

    def rate(t: int) -> float:
        return first * (last / first) ** max(0.0, 2 * t / steps - 1)

    def slope(x: Array) -> Array:
        # The noise falls as lr does: the division takes the size of a step out of it, but not its direction.
        return problem.slope(x - shift) + noise * rate(next(calls)) / first * rng.normal(size=x.shape)

    with np.errstate(all="ignore"):
        run = rmsprop.minimize(
            lambda x: float(problem.value(x - shift)), x, jac=slope, steps=steps, dialect=rule,
            lr=rate,
        )  # fmt: skip
    return bool(run.fun < CLOSE)


KINDS = (
    "small lr", "small lr, momentum 0.9", "small lr, noise that falls", "large lr that falls",
    "large lr and noise that fall",
)  # fmt: skip


def escapes(problem: Problem, seeds: int) -> dict[str, Any]:
    return {
        "function": f"{problem.name}-{problem.n}",
        **{kind: sum(lone(problem, kind, seed) for seed in range(seeds)) for kind in KINDS},
        "of": seeds,
    }


def tune_lr(seeds: int = 10) -> dict[float, float]:
    """The mean share of successes over the six problems for each first lr, on seeds that `main` does not use."""
    found = {}
    for lr in (0.01, 0.02, 0.05, 0.1, 0.2):
        shares = []
        for problem in PROBLEMS:
            hits = 0
            for seed in range(1000, 1000 + seeds):
                meter = Meter(problem, seed, BUDGETS[problem.n][1])
                with np.errstate(all="ignore"):
                    try:
                        rmsprop_starts(meter, rule=PLAIN, lr=lr)
                    except Enough:
                        hits += meter.hit is not None
            shares.append(hits / seeds)
        found[lr] = statistics.fmean(shares)
    return found


def main(quick: bool = False) -> dict[str, Any]:
    """Run every method on every problem, and return the tables."""
    budgets, seeds = (QUICK_BUDGETS, QUICK_SEEDS) if quick else (BUDGETS, SEEDS)
    jobs = [(problem, method, budgets[problem.n], seeds) for problem in PROBLEMS for method in METHODS]
    # Counts do not depend on the clock, so the work is shared out.
    with ProcessPoolExecutor(max_workers=2) as pool:
        table = [row for rows in pool.map(_compare, jobs) for row in rows]
        alone = list(pool.map(_escapes, [(problem, 2 * seeds) for problem in PROBLEMS]))
    report = {
        **{f"{n} dimensions": [row for row in table if row["function"].endswith(f"-{n}")] for n in (2, 10)},
        "one start of RMSprop": alone,
    }
    if not quick:
        write_page(report, budgets, seeds)
    return report


def write_page(report: dict[str, Any], budgets: dict[int, tuple[int, ...]], seeds: int) -> None:
    """Put the tables into the page, between its marks."""
    parts = []
    for n in (2, 10):
        names = [f"in {budget:,}" for budget in budgets[n]]
        parts += [
            f"**{n} dimensions**: successes of {seeds} seeds within each budget, and evaluations per success.",
            "",
            f"| function | method | a gradient counts | {' | '.join(names)} | evaluations per success |",
            "|---|---|---|" + "--:|" * (len(names) + 1),
        ]
        for row in report[f"{n} dimensions"]:
            hits = [str(row[f"budget {place + 1}"]) for place in range(len(names))]
            each = row["evaluations per success"]
            cells = [row["function"], row["method"], row["a gradient counts"], *hits, f"{each:,}" if each else "none"]
            parts.append("| " + " | ".join(cells) + " |")
        parts.append("")
    rows = report["one start of RMSprop"]
    parts += [
        f"**One start of RMSprop**, 2,000 steps: how many of {rows[0]['of']} end at the global minimum.",
        "",
        "| function | " + " | ".join(KINDS) + " |",
        "|---|" + "--:|" * len(KINDS),
        *("| " + " | ".join([row["function"], *(str(row[kind]) for kind in KINDS)]) + " |" for row in rows),
    ]
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + BEGIN + "\n" + "\n".join(parts) + "\n" + END + after, "utf-8")


def _compare(job: tuple[Any, ...]) -> list[dict[str, Any]]:
    # The linear algebra here is too small to share; idle threads would wait for it at full speed.
    with threadpool_limits(limits=1):
        rows = compare(*job)
    print(*rows, sep="\n", flush=True)
    return rows


def _escapes(job: tuple[Any, ...]) -> dict[str, Any]:
    with threadpool_limits(limits=1):
        return escapes(*job)


if __name__ == "__main__":
    print(tune_lr())
