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
    python bench/steady.py --plot FILE      the picture of docs/why/steady.md
    python -m bench steady                  the same, and its JSON
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
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

from bench._candidates import ADAM, ADAM_LINEAR, CANDIDATES, PLAIN, STEADY, stepper
from rmsprop import recipe
from rmsprop.optimizers import TABLE
from rmsprop.race import get
from rmsprop.race.record import FIRST_TUNING_SEED
from rmsprop.tune import Setting
from rmsprop.tune._plateau import find_plateau
from rmsprop.tune._sensitivity import Settings
from rmsprop.tune._space import Diverged
from rmsprop.tune._task import TaskObjective, prepare_task

LOSS_ALLOWED = 0.01
HOPELESS = 0.05
HALVE_AFTER = 3
"""From this task on, the half of the candidates with the narrower plateaus drops out: successive halving."""
POINTS = Path("runs/steady/points.jsonl")
LR = recipe("steady").lr
LOOKS: dict[str, dict[str, Any]] = {
    PLAIN: {"label": "plain RMSprop", "color": TABLE["rmsprop"].light, "linestyle": (0, (4, 2)), "linewidth": 1.5},
    ADAM: {"label": "Adam", "color": TABLE["adam"].light, "linestyle": (0, (1, 1)), "linewidth": 2},
    STEADY: {"label": 'recipe("steady")', "color": TABLE["rmsprop"].light, "linewidth": 2.5},
}


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
def load_task(name: str, effort: Effort) -> tuple[Any, Any, int, int]:
    """Return a task, its data, the epochs and the steps of one training; its session stays open in this process."""
    task = prepare_task(get(name), quick=effort.short, threads=1)
    task.session().__enter__()
    data = task.load()
    epochs = effort.epochs or task.budget.epochs
    learner = task.learner(data, 0)
    return task, data, epochs, epochs * sum(1 for _ in learner.batches(1))


def train(key: Key, effort: Effort, lr: float) -> float:
    """Train once and return the score, NaN if it diverged."""
    name, label, _, seed = key
    task, data, epochs, steps = load_task(name, effort)

    def make(framework: str, params: Any, *, setting: Setting) -> Any:
        return stepper(CANDIDATES[label], steps, framework, params, lr=setting.lr)

    objective = TaskObjective(task, data, epochs=epochs, seeds=(FIRST_TUNING_SEED + seed,), build=make)
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


def grid(name: str, effort: Effort) -> tuple[range, list[float]]:
    """Return the places of a task's rates, as they are written down, and the rates."""
    settings = Settings.of(prepare_task(get(name), quick=effort.short), optimizers=("rmsprop",))
    places = range(settings.first, settings.last + 1)
    return places, [settings.get_rate(place) for place in places]


def curve(points: Points, name: str, label: str, places: range) -> list[float]:
    """Return the score of every rate: the mean over the seeds that were tried with it, NaN if one diverged."""
    found = []
    for place in places:
        seeds = itertools.takewhile(lambda seed: (name, label, place, seed) in points.scores, itertools.count())  # noqa: B023
        found.append(statistics.fmean(points.scores[name, label, place, seed] for seed in seeds))
    return found


def measure(name: str, effort: Effort, labels: tuple[str, ...], points: Points, pool: Any) -> list[dict[str, Any]]:
    """Return a row per candidate: its plateau on one task."""
    metric, (places, rates) = get(name).metric, grid(name, effort)

    def run(keys: list[Key]) -> None:
        missing = [key for key in keys if key not in points.scores]
        found = pool.map(train, missing, [effort] * len(missing), [rates[key[2] - places[0]] for key in missing])
        for key, score in zip(missing, found):
            points.add(key, score)

    run([(name, label, place, 0) for label in labels for place in places])
    again: list[Key] = []
    for label in labels:
        good = {place: metric.goodness(points.scores[name, label, place, 0]) for place in places}
        top = max(good.values())
        near = [place for place in places if good[place] >= top - HOPELESS * abs(top)]
        again += [(name, label, place, seed) for place in near for seed in range(1, effort.seeds)]
    run(again)
    plain = find_plateau(rates, curve(points, name, PLAIN, places), better=metric.better).best
    rows = []
    for label in labels:
        scores = curve(points, name, label, places)
        found = find_plateau(rates, scores, better=metric.better)
        rows.append(
            {
                "task": name,
                "candidate": label,
                "decades": found.decades,
                "as good as plain": find_plateau(rates, scores, better=metric.better, best=plain).decades,
                "best": found.best,
                "lr": found.lr,
                f"at lr {LR:g}": metric.goodness(scores[nearest(rates)]) * (1 if metric.better == "higher" else -1),
                "at the grid's edge": found.open_below or found.open_above,
            }
        )
        print(
            "{task:10} {candidate:30} {decades:5.2f} {as good as plain:5.2f} {best:8.4g} {lr:8.3g}".format(**rows[-1])
        )
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    """Return a table: a line per candidate, and per task its decades of lr, those as good as plain, and its best."""
    tasks = tuple(dict.fromkeys(row["task"] for row in rows))
    table = {(row["task"], row["candidate"]): row for row in rows}
    lines = [f"| | {' | '.join(tasks)} |", f"|---{'|---' * len(tasks)}|"]
    for label in dict.fromkeys(row["candidate"] for row in rows):
        cells = []
        for name in tasks:
            row = table.get((name, label))
            text = "" if row is None else get(name).metric.text(row["best"])
            cells.append("" if row is None else f"{row['decades']:.2f}, {row['as good as plain']:.2f}, {text}")
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def nearest(rates: list[float]) -> int:
    """Return the place of the rate nearest to the recipe's."""
    return min(range(len(rates)), key=lambda i: abs(math.log(rates[i] / LR)))


def draw(points: Points, tasks: dict[str, Effort], labels: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw how far behind its task's best each rate ends, a panel per task.

    Args:
        points: What was measured.
        tasks: Which tasks.
        labels: Candidate -> how its line is drawn.
        path: A PNG file. Written.
    """
    import matplotlib.pyplot as plt

    columns = 5
    figure, axes = plt.subplots(
        -(-len(tasks) // columns), columns, figsize=(15, 6), sharey=True, layout="constrained", squeeze=False
    )
    for ax, (name, effort) in zip(axes.flat, tasks.items()):
        metric, (places, rates) = get(name).metric, grid(name, effort)
        curves = {label: curve(points, name, label, places) for label in labels}
        best = max(metric.goodness(score) for scores in curves.values() for score in scores)
        ax.axhspan(0, 1, color="#e4e7ec", zorder=0)
        for label, look in labels.items():
            behind = [100 * (best - metric.goodness(score)) / abs(best) for score in curves[label]]
            ax.plot(rates, [min(value, 99) for value in behind], **look)
        ax.set(xscale="log", ylim=(10, -0.3), title=name, xlabel="lr")
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel("percent behind the best")
    figure.legend(handles=axes.flat[0].lines, loc="outside upper center", ncols=len(labels), frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def rank_candidates(rows: list[dict[str, Any]]) -> list[str]:
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
            left = rank_candidates(rows)
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
    parser.add_argument("--plot", type=Path, help="draw what the points say: plain RMSprop, Adam and the recipe")
    parser.add_argument("--points", type=Path, help=f"where the trainings are written down; default: {POINTS}")
    options = parser.parse_args()
    found = main(options.quick, options.points)
    for half in ("choosing", "reporting"):
        print(markdown(found[half]))
    if options.plot is not None:
        draw(Points(options.points or POINTS), {**CHOOSING, **REPORTING}, LOOKS, options.plot)
