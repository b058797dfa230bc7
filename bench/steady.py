"""Is there a calmer RMSprop? The width of the lr plateau of candidate rules, chosen on half of the tasks.

For every task and candidate: the lr plateau as `rmsprop sensitivity` measures it (decades of lr within 1 % of the best
metric, four rates per decade over five decades, mean over seeds), and the best metric itself. A candidate is chosen on
the first half of the tasks: the widest plateau, as a mean over them, among those whose best metric lies no more than
1 % behind plain rho 0.9's on any of them. What is reported of it was measured on the other half.

The candidates are switches that exist, and three things that a user's loop can add: lr that warms up over the first
steps, an update clipped by its root mean square (N. Shazeer and M. Stern, Adafactor, arXiv:1804.04235), and the
schedule rho_t = 1 - gamma / t of M. Mukkamala and M. Hein (arXiv:1706.05507), in their RMSprop, whose lr falls as
1 / sqrt(t), and in SC-RMSprop, whose lr falls as 1 / t and which takes no root. On torch tasks the last two do not run.

    python -m bench steady [--quick]
    python bench/steady.py --tasks digits,mnist,fashion,diamonds --seeds 3
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import statistics
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from rmsprop import Rule
from rmsprop._tree import flatten, leaves_like
from rmsprop.errors import RMSpropWarning
from rmsprop.race import get
from rmsprop.race.task import Task
from rmsprop.tune import Setting
from rmsprop.tune._plateau import plateau
from rmsprop.tune._points import Settings
from rmsprop.tune._space import Diverged
from rmsprop.tune._task import TaskObjective, prepared

TASKS = ("digits", "diamonds", "mnist", "fashion")
LOSS_ALLOWED = 0.01
WARM_UP = 100


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A rule and what a loop adds to it.

    Attributes:
        rule: The switches.
        warm_up: Steps over which lr rises to its value.
        clip: Greatest root mean square of a tensor's update, in units of lr; 0 does not clip.
        gamma: Of rho_t = 1 - gamma / t; 0 leaves rho as it is.
        strong: The form for strongly convex objectives, SC-RMSprop; with `gamma` alone.
    """

    rule: Rule
    warm_up: int = 0
    clip: float = 0.0
    gamma: float = 0.0
    strong: bool = False


PLAIN = Candidate(Rule(rho=0.9))
CANDIDATES: dict[str, Candidate] = {
    "plain, rho .9": PLAIN,
    "plain, rho .99": Candidate(Rule(rho=0.99)),
    "bias correction, rho .9": Candidate(Rule(rho=0.9, bias_correction=True)),
    "bias correction, rho .99": Candidate(Rule(rho=0.99, bias_correction=True)),
    "bias correction, rho .999": Candidate(Rule(rho=0.999, bias_correction=True)),
    "mean_sq from 1, rho .99": Candidate(Rule(rho=0.99, init="ones")),
    "floor 1e-6, rho .99": Candidate(Rule(rho=0.99, bias_correction=True, var_floor=1e-6)),
    "floor 1e-4, rho .99": Candidate(Rule(rho=0.99, bias_correction=True, var_floor=1e-4)),
    "momentum .9, rho .99": Candidate(Rule(rho=0.99, bias_correction=True, buffer="unit", momentum=0.9)),
    "warm-up, rho .99": Candidate(Rule(rho=0.99, bias_correction=True), warm_up=WARM_UP),
    "update clipped, rho .99": Candidate(Rule(rho=0.99, bias_correction=True), clip=1.0),
    "rho_t = 1 - .9/t": Candidate(Rule(), gamma=0.9),
    "SC-RMSprop, gamma .9": Candidate(Rule(), gamma=0.9, strong=True),
}


def stepper(candidate: Candidate, framework: str, params: Any, *, setting: Setting) -> Callable[[Any], Any]:
    """Make what updates `params`; called with the gradients, as `rmsprop.tune` does it."""
    if framework == "torch":
        return torch_stepper(candidate, params, lr=setting.lr)
    from rmsprop.numpy import RMSprop

    optimizer = RMSprop(params, lr=setting.lr, rule=candidate.rule)
    leaves, _, structure = flatten(params)
    done = 0

    def step(grads: Any) -> None:
        nonlocal done
        done += 1
        lr = setting.lr * min(1.0, done / candidate.warm_up if candidate.warm_up else 1.0)
        if candidate.gamma:
            step_sc(leaves, leaves_like(structure, grads), done, lr)
            return
        before = [leaf.copy() for leaf in leaves] if candidate.clip else []
        optimizer.step(grads, lr)
        for leaf, old in zip(leaves, before):
            size = float(np.sqrt(np.mean((leaf - old) ** 2)))
            if size > candidate.clip * lr:
                leaf[...] = old + (leaf - old) * leaf.dtype.type(candidate.clip * lr / size)

    mean_sq = [np.zeros_like(leaf) for leaf in leaves]

    def step_sc(params: list[Any], grads: Any, t: int, lr: float) -> None:
        """v <- (1 - gamma/t) v + gamma/t g^2;  p <- p - lr g / d.

        d = sqrt(t v) + 1e-8, or, in the strongly convex form, t v + 0.1 exp(-0.1 t v): the constants are the authors'.
        """
        for p, g, v in zip(params, grads, mean_sq):
            v[...] += (candidate.gamma / t * (g * g - v)).astype(v.dtype)
            total = t * v
            d = total + 0.1 * np.exp(-0.1 * total) if candidate.strong else np.sqrt(total) + 1e-8
            p[...] -= (lr * g / d).astype(p.dtype)

    return step


def torch_stepper(candidate: Candidate, params: Any, *, lr: float) -> Callable[[Any], Any]:
    """The same for torch, where the candidate needs no more than lr and the rule."""
    from rmsprop.torch import RMSprop

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RMSpropWarning)
        optimizer = RMSprop(params, lr=lr, dialect=candidate.rule)
    done = 0

    def step(grads: Any) -> None:
        nonlocal done
        done += 1
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, done / candidate.warm_up if candidate.warm_up else 1.0)
        optimizer.step()

    return step


def runs_on(candidate: Candidate, task: Task) -> bool:
    return task.framework == "numpy" or not (candidate.clip or candidate.gamma)


def measure(task: Task, data: Any, candidate: Candidate, settings: Settings) -> dict[str, float]:
    """The plateau of one candidate on one task."""
    rates = [settings.rate(place) for place in range(settings.first, settings.last + 1)]
    seeds = tuple(range(1000, 1000 + settings.seeds))
    objective = TaskObjective(task, data, epochs=settings.epochs, seeds=seeds, make=partial(stepper, candidate))
    scores = []
    for lr in rates:
        try:
            scores.append(objective(Setting(lr=lr, rule=candidate.rule)))
        except Diverged:
            scores.append(math.nan)
    found = plateau(rates, scores, better=task.metric.better)
    return {"decades": found.decades, "best": found.best, "lr": found.lr, "open": found.open_below or found.open_above}


def compare(names: tuple[str, ...], *, quick: bool, seeds: int | None) -> list[dict[str, Any]]:
    """A row per task and candidate."""
    rows = []
    for name in names:
        task = prepared(get(name), quick=quick)
        settings = Settings.of(task, rivals=("rmsprop",), seeds=seeds, quick=quick)
        with task.session():
            data = task.load()
            for label, candidate in CANDIDATES.items():
                if runs_on(candidate, task):
                    rows.append({"task": name, "candidate": label, **measure(task, data, candidate, settings)})
                    print(f"{name:12}{label:28}{rows[-1]['decades']:6.2f} decades, best {rows[-1]['best']:.4g}")
    return rows


def choose(rows: list[dict[str, Any]], names: tuple[str, ...]) -> dict[str, Any]:
    """Choose on the first half of the tasks, and report the other half."""
    half = (len(names) + 1) // 2
    table = {(row["task"], row["candidate"]): row for row in rows}

    def sound(label: str) -> bool:
        for name in names[:half]:
            row, plain = table.get((name, label)), table[name, "plain, rho .9"]
            if row is None or not row["best"] > -math.inf:
                return False
            sign = 1 if get(name).metric.better == "higher" else -1
            if sign * (plain["best"] - row["best"]) > LOSS_ALLOWED * abs(plain["best"]):
                return False
        return True

    allowed = [label for label in CANDIDATES if sound(label)]
    chosen = max(allowed, key=lambda label: statistics.fmean(table[name, label]["decades"] for name in names[:half]))
    report = []
    for place, name in enumerate(names):
        row, plain = table.get((name, chosen)), table[name, "plain, rho .9"]
        report.append(
            {
                "task": name,
                "used for": "choosing" if place < half else "reporting",
                "chosen": chosen,
                "its decades": None if row is None else row["decades"],
                "plain's decades": plain["decades"],
                "its best": None if row is None else row["best"],
                "plain's best": plain["best"],
            }
        )
    return {"report": report}


def main(quick: bool = False, names: tuple[str, ...] | None = None, seeds: int | None = None) -> dict[str, Any]:
    """Measure every candidate on every task and choose."""
    names = names or (("digits",) if quick else TASKS)
    rows = compare(names, quick=quick, seeds=seeds)
    return {"plateaus": rows, **choose(rows, names)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--seeds", type=int)
    options = parser.parse_args()
    for line in main(options.quick, tuple(options.tasks.split(",")), options.seeds)["report"]:
        print(line)
