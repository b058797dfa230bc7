"""How sensitive is an optimizer to its learning rate? The width of its plateau, measured.

Every optimizer trains on a grid of four rates per decade over five decades around the middle of the task's own grid,
with the race's seeds for tuning. A point's score is that by which the race chooses rates: the metric on the validation
examples over the last quarter of the epochs. The width is that of the mean over seeds; its spread is the standard
deviation of the widths of the single seeds' curves. If a plateau touches an end of the grid, that optimizer's grid
grows by a decade there, twice at most; if it still does, its width is a lower bound and the table says so.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterator
from typing import Any

from rmsprop.errors import StateError
from rmsprop.race import choice
from rmsprop.race.record import FIRST_TUNING_SEED, Job
from rmsprop.race.run import train
from rmsprop.race.task import Task
from rmsprop.tune._plateau import Plateau, plateau
from rmsprop.tune._points import Point, Sensitivity, Settings

__all__ = ["Point", "Row", "Sensitivity", "Settings", "curve", "measure", "rows"]

EXTENSIONS = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One optimizer's line.

    Attributes:
        optimizer: Its name.
        plateau: Of the mean over seeds.
        widths: The width of each seed's own curve, in decades.
        diverged: How many trials did, of how many.
        trials: Of how many.
    """

    optimizer: str
    plateau: Plateau
    widths: tuple[float, ...]
    diverged: int
    trials: int

    @property
    def label(self) -> str:
        """Its name for a reader."""
        return choice.get(self.optimizer).label

    @property
    def spread(self) -> float:
        """The sample standard deviation of `widths`; NaN of fewer than two."""
        return statistics.stdev(self.widths) if len(self.widths) > 1 else math.nan

    @property
    def open(self) -> bool:
        """Whether the plateau touches an end of the grid, so that its width is a lower bound."""
        return self.plateau.open_below or self.plateau.open_above

    @property
    def text(self) -> str:
        """Write width and spread: `≥ 1.52 ± 0.10`."""
        spread = "" if math.isnan(self.spread) else f" ± {self.spread:.2f}"
        return f"{'≥ ' if self.open else ''}{self.plateau.decades:.2f}{spread}"


def measure(
    task: Task,
    settings: Settings,
    *,
    earlier: Sensitivity | None = None,
    listener: Callable[[Sensitivity, Point | None, int], None] = lambda found, point, planned: None,
) -> Sensitivity:
    """Run every trial that `earlier` does not hold; Ctrl-C keeps what is done.

    Args:
        task: What to train.
        settings: Optimizers, grid, seeds, epochs.
        earlier: What to go on with; its optimizers and seeds are measured beside those of `settings`. Read.
        listener: Called at the start with None, and after each trial with it and the number of trials planned by then.

    Returns:
        Every point; `complete` says whether Ctrl-C came before the end.

    Raises:
        InputError: An optimizer that does not exist in the task's framework.
        StateError: `earlier` was measured by other rules or on other data.
        MissingDependency: The task's data are not at hand.

    Example:
        >>> from rmsprop.race import get
        >>> digits = get("digits")
        >>> found = measure(digits, Settings.of(digits, optimizers=("rmsprop",), seeds=1, epochs=1, quick=True))
        >>> rows(digits, found)[0].plateau.decades > 0
        True
    """
    for optimizer in settings.optimizers:
        choice.get(optimizer).build(task.framework)
    with task.session():
        data = task.load()
    if earlier is not None:
        _refuse_another(settings, earlier, data.fingerprint)
        settings = settings.joined(earlier.settings)
    found = Sensitivity(settings=settings, fingerprint=data.fingerprint)
    if earlier is not None:
        found.points.update(earlier.points)
    listener(found, None, _planned(task, found))
    try:
        with task.session():
            for optimizer, place, seed in _missing(task, found):
                job = Job(phase="tuning", optimizer=optimizer, lr=settings.rate(place), seed=FIRST_TUNING_SEED + seed)
                trial = train(task, data, job, epochs=settings.epochs)
                lost = trial.diverged
                point = Point(
                    optimizer=optimizer,
                    place=place,
                    seed=seed,
                    score=trial.late_score if lost is None else math.nan,
                    diverged="" if lost is None else f"step {lost.step}, {lost.tensor}",
                )
                found.points[optimizer, place, seed] = point
                listener(found, point, _planned(task, found))
        found.complete = True
    except KeyboardInterrupt:
        pass
    return found


def _refuse_another(settings: Settings, earlier: Sensitivity, fingerprint: str) -> None:
    for name in ("task", "epochs", "per_decade", "first", "last", "device"):
        mine, theirs = getattr(settings, name), getattr(earlier.settings, name)
        if mine != theirs:
            raise StateError(
                f"the earlier measurement has {name}={theirs}, this one asks for {mine}: "
                "resume it without changing that, or measure into another --out"
            )
    if earlier.fingerprint != fingerprint:
        raise StateError(f"the earlier measurement used other data than {settings.task} has now: use another --out")


def _places(task: Task, found: Sensitivity, optimizer: str) -> range:
    """Return the places of an optimizer's grid, as far as its points so far demand."""
    settings = found.settings
    first, last = settings.first, settings.last
    for _ in range(EXTENSIONS):
        here = range(first, last + 1)
        if not _measured(found, optimizer, here):
            return here
        flat = _plateau_of(task, found, optimizer, here)
        if not (flat.open_below or flat.open_above):
            return here
        first -= settings.per_decade * flat.open_below
        last += settings.per_decade * flat.open_above
    return range(first, last + 1)


def _measured(found: Sensitivity, optimizer: str, places: range) -> bool:
    seeds = range(found.settings.seeds)
    return all((optimizer, place, seed) in found.points for place in places for seed in seeds)


def _missing(task: Task, found: Sensitivity) -> Iterator[tuple[str, int, int]]:
    """Yield what is to be run next until nothing is: seed by seed, all optimizers in turn."""
    settings = found.settings
    while True:
        wanted = [
            (optimizer, place, seed)
            for seed in range(settings.seeds)
            for optimizer in settings.optimizers
            for place in _places(task, found, optimizer)
        ]
        todo = [key for key in wanted if key not in found.points]
        if not todo:
            return
        yield from todo


def _planned(task: Task, found: Sensitivity) -> int:
    return sum(len(_places(task, found, optimizer)) for optimizer in found.settings.optimizers) * found.settings.seeds


def curve(
    task: Task, found: Sensitivity, optimizer: str, *, seed: int | None = None
) -> tuple[list[float], list[float]]:
    """Return rates and scores of one seed, or of the mean over seeds: NaN where one of them diverged or is missing."""
    return _curve(found, optimizer, _places(task, found, optimizer), seed)


def _curve(found: Sensitivity, optimizer: str, places: range, seed: int | None) -> tuple[list[float], list[float]]:
    seeds = range(found.settings.seeds) if seed is None else (seed,)
    scores = []
    for place in places:
        points = [found.points.get((optimizer, place, s)) for s in seeds]
        scores.append(statistics.fmean(math.nan if point is None else point.score for point in points))
    return [found.settings.rate(place) for place in places], scores


def _plateau_of(task: Task, found: Sensitivity, optimizer: str, places: range, seed: int | None = None) -> Plateau:
    rates, scores = _curve(found, optimizer, places, seed)
    return plateau(rates, scores, better=task.metric.better)


def rows(task: Task, found: Sensitivity) -> list[Row]:
    """Return a line per optimizer whose grid is measured, the widest plateau first."""
    table = []
    for optimizer in found.settings.optimizers:
        places = _places(task, found, optimizer)
        if not _measured(found, optimizer, places):
            continue
        points = [found.points[optimizer, place, seed] for place in places for seed in range(found.settings.seeds)]
        seeds = range(found.settings.seeds)
        table.append(
            Row(
                optimizer=optimizer,
                plateau=_plateau_of(task, found, optimizer, places),
                widths=tuple(_plateau_of(task, found, optimizer, places, seed).decades for seed in seeds),
                diverged=sum(math.isnan(point.score) for point in points),
                trials=len(points),
            )
        )
    return sorted(table, key=lambda row: -row.plateau.decades)


def facts(task: Task, found: Sensitivity) -> dict[str, Any]:
    """Return what follows from the points, for readers of sensitivity.json."""
    return {
        "metric": {"name": task.metric.name, "better": task.metric.better},
        "table": [
            {
                "optimizer": row.optimizer,
                "decades": row.plateau.decades,
                "spread": None if math.isnan(row.spread) else row.spread,
                "lower_bound": row.open,
                "parts": [list(part) for part in row.plateau.parts],
                "best": None if math.isnan(row.plateau.best) else row.plateau.best,
                "best_lr": None if math.isnan(row.plateau.lr) else row.plateau.lr,
                "diverged": row.diverged,
                "trials": row.trials,
            }
            for row in rows(task, found)
        ],
    }
