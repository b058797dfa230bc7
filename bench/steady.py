"""Is there a calmer RMSprop? The width of the lr plateau of candidate settings, chosen on half of the race's tasks.

For every task and candidate: the lr plateau as `rmsprop sensitivity` measures it (decades of lr within 1 % of the best
metric on validation examples, four rates per decade over five decades, mean over seeds), the best metric itself, and
the decades of lr that end no more than 1 % behind the best of plain rho 0.9. The candidates are in
`bench/_candidates.py`.

Chosen on one half of the tasks: the widest plateau, as a mean over them, among the candidates whose best metric lies no
more than 1 % behind plain rho 0.9's on any of them; one that is further behind drops out at once, and after three tasks
so does the half with the narrower plateaus. Reported on the other half, which no choice has seen, beside plain RMSprop
and Adam.

A rate that ends more than 5 % behind the best one with the first seed cannot be on the plateau: it is not tried with
the other seeds. Trainings run one per core, with one thread each; every one is written down as it ends, and what is
written is not trained again. About an hour and a half on two cores:

    python bench/steady.py                  everything
    python bench/steady.py --quick          two tasks, short data, a minute or two
    python -m bench steady                  the same, and its JSON
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import math
import multiprocessing
import os
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench._candidates import ADAM, ADAM_LINEAR, CANDIDATES, PLAIN, stepper
from rmsprop.race import get
from rmsprop.race.record import FIRST_TUNING_SEED
from rmsprop.tune import Setting
from rmsprop.tune._plateau import plateau
from rmsprop.tune._points import Settings
from rmsprop.tune._space import Diverged
from rmsprop.tune._task import TaskObjective, prepared

LOSS_ALLOWED = 0.01
HOPELESS = 0.05
HALVE_AFTER = 3
"""From this task on, the half of the candidates with the narrower plateaus drops out: successive halving."""
POINTS = Path("runs/steady/points.jsonl")


@dataclasses.dataclass(frozen=True)
class Effort:
    """What is spent on a task.

    Attributes:
        seeds: Trainings per candidate and rate.
        epochs: Per training; None: the task's own.
        short: A part of the data.
    """

    seeds: int = 2
    epochs: int | None = None
    short: bool = False


CHOOSING = {
    "digits": Effort(seeds=4),
    "diamonds": Effort(),
    "ratings": Effort(),
    "mnist": Effort(epochs=1),
    "speech": Effort(),
}
REPORTING = {
    "fashion": Effort(epochs=8, short=True),
    "cartpole": Effort(),
    "sentiment": Effort(epochs=2),
    "translate": Effort(epochs=3, short=True),
    "kjv": Effort(epochs=4, short=True),
}
QUICK = {"digits": Effort(epochs=8), "diamonds": Effort(short=True)}
COMPARED = (PLAIN, "plain, rho .99", ADAM, ADAM_LINEAR)

Key = tuple[str, str, int, int]


@functools.cache
def loaded(name: str, effort: Effort) -> tuple[Any, Any, int, int]:
    """Return a task, its data, the epochs and the steps of one training; its session stays open in this process."""
    task = prepared(get(name), quick=effort.short, threads=1)
    task.session().__enter__()
    data = task.load()
    epochs = effort.epochs or task.budget.epochs
    learner = task.learner(data, 0)
    return task, data, epochs, epochs * sum(1 for _ in learner.batches(1))


def train(key: Key, effort: Effort, lr: float) -> float:
    """Train once and return the score, NaN if it diverged."""
    name, label, _, seed = key
    task, data, epochs, steps = loaded(name, effort)

    def make(framework: str, params: Any, *, setting: Setting) -> Any:
        return stepper(CANDIDATES[label], steps, framework, params, lr=setting.lr)

    objective = TaskObjective(task, data, epochs=epochs, seeds=(FIRST_TUNING_SEED + seed,), make=make)
    try:
        return objective(Setting(lr=lr, rule=CANDIDATES[PLAIN].rule))
    except Diverged:
        return math.nan


class Points:
    """The trainings done so far, one JSON line each: a study that was stopped goes on where it stood.

    Args:
        path: The file; None keeps them in memory.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.scores: dict[Key, float] = {}
        if path is not None and path.exists():
            for line in path.read_text("utf-8").splitlines():
                name, label, place, seed, score = json.loads(line)
                self.scores[name, label, place, seed] = math.nan if score is None else score

    def add(self, key: Key, score: float) -> None:
        self.scores[key] = score
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([*key, score if math.isfinite(score) else None]) + "\n")


def measure(name: str, effort: Effort, labels: tuple[str, ...], points: Points, pool: Any) -> list[dict[str, Any]]:
    """Return a row per candidate: its plateau on one task."""
    task = prepared(get(name), quick=effort.short)
    settings = Settings.of(task, rivals=("rmsprop",))
    places = range(settings.first, settings.last + 1)

    def run(keys: list[Key]) -> None:
        missing = [key for key in keys if key not in points.scores]
        found = pool.map(train, missing, [effort] * len(missing), [settings.rate(key[2]) for key in missing])
        for key, score in zip(missing, found):
            points.add(key, score)

    run([(name, label, place, 0) for label in labels for place in places])
    rows = []
    more: dict[str, list[int]] = {}
    for label in labels:
        first = {place: points.scores[name, label, place, 0] for place in places}
        sound = {place: task.metric.goodness(score) for place, score in first.items() if math.isfinite(score)}
        top = max(sound.values(), default=math.nan)
        more[label] = [place for place, good in sound.items() if good >= top - HOPELESS * abs(top)]
    run([(name, label, place, seed) for label in labels for place in more[label] for seed in range(1, effort.seeds)])
    rates, plain = [settings.rate(place) for place in places], math.nan
    for label in sorted(labels, key=lambda label: label != PLAIN):
        scores = []
        for place in places:
            seeds = range(effort.seeds if place in more[label] else 1)
            scores.append(statistics.fmean(points.scores[name, label, place, seed] for seed in seeds))
        found = plateau(rates, scores, better=task.metric.better)
        if label == PLAIN:
            plain = found.best
        rows.append(
            {
                "task": name,
                "candidate": label,
                "decades": found.decades,
                "as good as plain": plateau(rates, scores, better=task.metric.better, best=plain).decades,
                "best": found.best,
                "lr": found.lr,
                "at the grid's edge": found.open_below or found.open_above,
            }
        )
        print(
            "{task:10} {candidate:30} {decades:5.2f} {as good as plain:5.2f} {best:8.4g} {lr:8.3g}".format(**rows[-1])
        )
    return rows


def standing(rows: list[dict[str, Any]]) -> list[str]:
    """Return the candidates that nowhere lost the best metric, the widest mean plateau first; without Adam."""
    table = {(row["task"], row["candidate"]): row for row in rows}
    tasks = tuple(dict.fromkeys(row["task"] for row in rows))

    def sound(label: str) -> bool:
        for name in tasks:
            metric = get(name).metric
            best, plain = table.get((name, label), {"best": math.nan})["best"], table[name, PLAIN]["best"]
            if not metric.goodness(best) >= metric.goodness(plain) - LOSS_ALLOWED * abs(plain):
                return False
        return True

    own = [label for label in CANDIDATES if label not in (ADAM, ADAM_LINEAR) and sound(label)]
    return sorted(own, key=lambda label: -statistics.fmean(table[name, label]["decades"] for name in tasks))


def main(quick: bool = False, path: Path | None = None) -> dict[str, Any]:
    """Choose on one half of the tasks and measure the other half."""
    path = path or (None if quick else POINTS)
    points = Points(path)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool:
        rows: list[dict[str, Any]] = []
        labels = tuple(CANDIDATES)
        for place, (name, effort) in enumerate((QUICK if quick else CHOOSING).items(), start=1):
            rows += measure(name, effort, labels, points, pool)
            left = standing(rows)
            if place >= HALVE_AFTER:
                left = left[: max(2, len(left) // 2)]
            labels = tuple(dict.fromkeys((PLAIN, *left, ADAM, ADAM_LINEAR)))
        chosen = left[0]
        print(f"chosen: {chosen}")
        reported = []
        for name, effort in ({} if quick else REPORTING).items():
            reported += measure(name, effort, tuple(dict.fromkeys((chosen, *COMPARED))), points, pool)
    return {"chosen": chosen, "choosing": rows, "reporting": reported}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two tasks, short data")
    parser.add_argument("--points", type=Path, help=f"where the trainings are written down; default: {POINTS}")
    options = parser.parse_args()
    main(options.quick, options.points)
