"""How sensitive an optimizer is to its learning rate: the width of its plateau, measured on a benchmark task.

Every optimizer trains on a grid of four rates per decade over five decades around the middle of the task's own grid,
with the benchmark's tuning seeds and its score for choosing rates: the metric on the validation examples over the last
quarter of the epochs. The width is that of the mean over seeds; its spread is the standard deviation of the widths of
the seeds' own curves. If a plateau touches an end of the grid, that optimizer's grid grows by a decade there, at most
twice; if it still touches the end, its width is a lower bound.
"""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Callable, Iterator
from typing import Any

from rmsprop.errors import FileError, InputError, StateError
from rmsprop.race import choice
from rmsprop.race.record import FIRST_TUNING_SEED, Job, rename_old_keys
from rmsprop.race.task import Task
from rmsprop.race.trial import train
from rmsprop.tune._plateau import Plateau, find_plateau

__all__ = ["Point", "Row", "Sensitivity", "Settings", "measure"]

FORMAT = 1
DECADES = 5
EXTENSIONS = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure."""

    task: str
    optimizers: tuple[str, ...]
    seeds: int  # trials per optimizer and rate
    epochs: int  # per trial
    first: int  # the first rate of the grid is 10^(first / per_decade)
    last: int
    per_decade: int = 4
    device: str = "cpu"

    @classmethod
    def of(
        cls,
        task: Task,
        *,
        optimizers: tuple[str, ...] | None = None,
        seeds: int | None = None,
        epochs: int | None = None,
        quick: bool = False,
    ) -> Settings:
        """Return the settings for a task, with defaults in place of None.

        `quick` means two rates per decade, two seeds and the task's quick epochs.

        Raises:
            InputError: Less than one seed or epoch.
        """
        budget, per_decade = (task.quick, 2) if quick else (task.budget, 4)
        seeds = (2 if quick else 3) if seeds is None else seeds
        epochs = budget.epochs if epochs is None else epochs
        for name, value in (("seeds", seeds), ("epochs", epochs)):
            if value < 1:
                raise InputError(f"{name}={value}, expected at least 1")
        middle = round(per_decade * (math.log10(task.budget.grid[0]) + math.log10(task.budget.grid[-1])) / 2)
        first = middle - per_decade * DECADES // 2
        return cls(
            task=task.name, optimizers=optimizers or choice.DEFAULT, seeds=seeds, epochs=epochs, first=first,
            last=first + per_decade * DECADES, per_decade=per_decade, device=task.device,
        )  # fmt: skip

    def extend(self, earlier: Settings) -> Settings:
        """Return these settings with the optimizers and seeds of an earlier measurement added.

        Example:
            >>> new = Settings(task="", optimizers=("a",), seeds=2, epochs=1, first=0, last=4)
            >>> new.extend(dataclasses.replace(new, optimizers=("b",))).optimizers
            ('b', 'a')
        """
        optimizers = tuple(dict.fromkeys(earlier.optimizers + self.optimizers))
        return dataclasses.replace(self, optimizers=optimizers, seeds=max(self.seeds, earlier.seeds))

    def get_rate(self, place: int) -> float:
        """Return the learning rate at a place of the grid.

        Example:
            >>> Settings(task="", optimizers=(), seeds=1, epochs=1, first=-4, last=0).get_rate(-2)
            0.3162
        """
        return float(f"{10 ** (place / self.per_decade):.4g}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """A trial: its late validation score, NaN if it diverged, and where it diverged."""

    optimizer: str
    place: int
    seed: int
    score: float
    diverged: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """The result of an optimizer."""

    optimizer: str
    plateau: Plateau  # of the mean over seeds
    widths: tuple[float, ...]  # of each seed's own curve, in decades
    diverged: int  # trials
    trials: int

    @property
    def label(self) -> str:
        """The optimizer's name for a reader."""
        return choice.get(self.optimizer).label

    @property
    def spread(self) -> float:
        """The sample standard deviation of `widths`; NaN if there are fewer than two."""
        return statistics.stdev(self.widths) if len(self.widths) > 1 else math.nan

    @property
    def is_lower_bound(self) -> bool:
        """Whether the plateau touches an end of the grid."""
        return self.plateau.open_below or self.plateau.open_above

    @property
    def text(self) -> str:
        """Width and spread: `≥ 1.52 ± 0.10`."""
        spread = "" if math.isnan(self.spread) else f" ± {self.spread:.2f}"
        return f"{'≥ ' if self.is_lower_bound else ''}{self.plateau.decades:.2f}{spread}"

    def to_dict(self) -> dict[str, Any]:
        """Return the row for readers of sensitivity.json."""
        plateau = self.plateau
        return {
            "optimizer": self.optimizer, "decades": plateau.decades, "spread": _mask_nan(self.spread),
            "lower_bound": self.is_lower_bound, "parts": plateau.parts, "best": _mask_nan(plateau.best),
            "best_lr": _mask_nan(plateau.lr), "diverged": self.diverged, "trials": self.trials,
        }  # fmt: skip


@dataclasses.dataclass(kw_only=True)
class Sensitivity:
    """The trials measured so far, and what follows from them."""

    settings: Settings
    fingerprint: str  # of the data
    metric: dict[str, Any]  # its "name", and whether "higher" or "lower" is "better"
    points: dict[tuple[str, int, int], Point] = dataclasses.field(default_factory=dict)  # (optimizer, place, seed)
    complete: bool = False  # no trial is missing

    def compute_curve(
        self, optimizer: str, *, seed: int | None = None, places: range | None = None
    ) -> tuple[list[float], list[float]]:
        """Return rates and scores of a seed, or of the mean over seeds; NaN where a trial diverged or is missing."""
        places = self.list_places(optimizer) if places is None else places
        seeds = range(self.settings.seeds) if seed is None else (seed,)
        scores = []
        for place in places:
            points = [self.points.get((optimizer, place, s)) for s in seeds]
            scores.append(statistics.fmean(math.nan if point is None else point.score for point in points))
        return [self.settings.get_rate(place) for place in places], scores

    def list_places(self, optimizer: str) -> range:
        """Return the places of an optimizer's grid, extended where its plateau touches an end."""
        first, last = self.settings.first, self.settings.last
        for _ in range(EXTENSIONS):
            places = range(first, last + 1)
            if not self._is_measured(optimizer, places):
                break
            plateau = self._find_plateau(optimizer, places)
            first -= self.settings.per_decade * plateau.open_below
            last += self.settings.per_decade * plateau.open_above
        return range(first, last + 1)

    def list_rows(self) -> list[Row]:
        """Return a row per optimizer whose grid is measured, the widest plateau first."""
        table = []
        for optimizer in self.settings.optimizers:
            places, seeds = self.list_places(optimizer), range(self.settings.seeds)
            if self._is_measured(optimizer, places):
                scores = [self.points[optimizer, place, seed].score for place in places for seed in seeds]
                row = Row(
                    optimizer=optimizer,
                    plateau=self._find_plateau(optimizer, places),
                    widths=tuple(self._find_plateau(optimizer, places, seed).decades for seed in seeds),
                    diverged=sum(map(math.isnan, scores)),
                    trials=len(scores),
                )
                table.append(row)
        return sorted(table, key=lambda row: -row.plateau.decades)

    def list_trials(self) -> list[tuple[str, int, int]]:
        """Return the trials of the grids as far as they are known now, seed by seed, all optimizers in turn."""
        grids = {optimizer: self.list_places(optimizer) for optimizer in self.settings.optimizers}
        return [
            (name, p, seed) for seed in range(self.settings.seeds) for name, places in grids.items() for p in places
        ]

    def _is_measured(self, optimizer: str, places: range) -> bool:
        return all((optimizer, place, s) in self.points for place in places for s in range(self.settings.seeds))

    def _find_plateau(self, optimizer: str, places: range, seed: int | None = None) -> Plateau:
        return find_plateau(*self.compute_curve(optimizer, seed=seed, places=places), better=self.metric["better"])

    def to_json(self) -> str:
        """Return everything as JSON; the table is for readers only, as it follows from the points."""
        document = {
            "format": FORMAT,
            "settings": dataclasses.asdict(self.settings),
            "fingerprint": self.fingerprint,
            "complete": self.complete,
            "metric": self.metric,
            "table": [row.to_dict() for row in self.list_rows()],
            "points": [
                {**dataclasses.asdict(point), "score": _mask_nan(point.score)} for point in self.points.values()
            ],
        }
        return json.dumps(document, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, *, where: object) -> Sensitivity:
        """Read what `to_json` wrote.

        Raises:
            FileError: Truncated, corrupt, or something else.
        """
        try:
            document = json.loads(text, object_hook=rename_old_keys)
            if document["format"] != FORMAT:
                raise ValueError(f"format {document['format']!r}, expected {FORMAT}")
            fields: dict[str, Any] = {
                key: tuple(v) if isinstance(v, list) else v for key, v in document["settings"].items()
            }
            if not isinstance(fields["optimizers"], tuple) or not isinstance(fields["seeds"], int):
                raise ValueError("settings without a list of optimizers and a number of seeds")
            metric = {key: document["metric"][key] for key in ("name", "better")}
            result = cls(settings=Settings(**fields), fingerprint=str(document["fingerprint"]), metric=metric)
            for entry in document["points"]:
                point = Point(**{**entry, "score": math.nan if entry["score"] is None else float(entry["score"])})
                result.points[choice.get(point.optimizer).short, int(point.place), int(point.seed)] = point
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
            raise FileError(
                f"{where} is not a measured sensitivity ({reason}): measure without --resume, "
                "which keeps it under another name"
            ) from error
        return result


def measure(
    task: Task,
    settings: Settings,
    *,
    earlier: Sensitivity | None = None,
    listener: Callable[[Sensitivity, Point | None, int], None] = lambda result, point, planned: None,
) -> Sensitivity:
    """Run every trial that `earlier` does not have; Ctrl-C keeps the finished ones.

    Args:
        task: What to train.
        settings: Optimizers, grid, seeds, epochs.
        earlier: A measurement to continue; `settings.extend` adds its optimizers and seeds. Read.
        listener: Called at the start with None, and after each trial with it and the number of trials planned.

    Returns:
        Every point; `complete` says whether all trials were run.

    Raises:
        InputError: An optimizer that does not exist in the task's framework.
        StateError: `earlier` was measured with other settings or on other data.
        MissingDependency: The task's data are missing.

    Example:
        >>> from rmsprop.race import get
        >>> digits = get("digits")
        >>> settings = Settings.of(digits, optimizers=("rmsprop",), seeds=1, epochs=1, quick=True)
        >>> measure(digits, settings).list_rows()[0].plateau.decades > 0
        True
    """
    for optimizer in settings.optimizers:
        choice.get(optimizer).build(task.framework)
    with task.session():
        data = task.load()
        metric = {"name": task.metric.name, "better": task.metric.better}
        result = Sensitivity(settings=settings, fingerprint=data.fingerprint, metric=metric)
        if earlier is not None:
            _check_earlier(result, earlier)
            result.points.update(earlier.points)
        listener(result, None, len(result.list_trials()))
        try:
            for key in _iterate_missing(result):
                optimizer, place, seed = key
                lr = settings.get_rate(place)
                job = Job(phase="tuning", optimizer=optimizer, lr=lr, seed=FIRST_TUNING_SEED + seed)
                trial = train(task, data, job, epochs=settings.epochs)
                score, diverged = trial.late_score, ""
                if trial.diverged is not None:
                    score, diverged = math.nan, f"step {trial.diverged.step}, {trial.diverged.tensor}"
                point = Point(optimizer=optimizer, place=place, seed=seed, score=score, diverged=diverged)
                result.points[key] = point
                listener(result, point, len(result.list_trials()))
            result.complete = True
        except KeyboardInterrupt:
            pass
    return result


def _iterate_missing(result: Sensitivity) -> Iterator[tuple[str, int, int]]:
    while missing := [key for key in result.list_trials() if key not in result.points]:
        yield from missing


def _check_earlier(result: Sensitivity, earlier: Sensitivity) -> None:
    for name in ("task", "epochs", "per_decade", "first", "last", "device"):
        new, old = getattr(result.settings, name), getattr(earlier.settings, name)
        if new != old:
            raise StateError(
                f"the earlier measurement has {name}={old}, this one has {name}={new}: "
                "resume it with the same value, or choose another --out"
            )
    if earlier.fingerprint != result.fingerprint:
        task = result.settings.task
        raise StateError(f"the earlier measurement used other data than {task} has now: choose another --out")


def _mask_nan(value: float) -> float | None:
    return value if math.isfinite(value) else None
