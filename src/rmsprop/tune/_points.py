"""What a measured sensitivity is made of: the settings, the points, and the file they are kept in."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

from rmsprop.errors import FileError, InputError
from rmsprop.race import choice
from rmsprop.race.record import rename_old_keys
from rmsprop.race.task import Task

__all__ = ["Point", "Sensitivity", "Settings"]

FORMAT = 1
PER_DECADE = 4
DECADES = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What was asked for.

    Attributes:
        task: Its name.
        optimizers: The optimizers.
        seeds: How many trials per optimizer and rate.
        epochs: Per trial.
        first: The grid's first rate is 10^(first / per_decade).
        last: Its last one, likewise.
        per_decade: Rates per decade.
        device: Where it trains.
    """

    task: str
    optimizers: tuple[str, ...]
    seeds: int
    epochs: int
    first: int
    last: int
    per_decade: int = PER_DECADE
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
        """Fill in what is None; `quick` is two rates per decade, two seeds and the task's quick epochs.

        Raises:
            InputError: No seed or no epoch.
        """
        budget = task.quick if quick else task.budget
        per_decade = 2 if quick else PER_DECADE
        count = (2 if quick else 3) if seeds is None else seeds
        rounds = budget.epochs if epochs is None else epochs
        for name, value in (("seeds", count), ("epochs", rounds)):
            if value < 1:
                raise InputError(f"{name}={value}, expected at least 1")
        grid = task.budget.grid
        middle = round(per_decade * (math.log10(grid[0]) + math.log10(grid[-1])) / 2)
        half = per_decade * DECADES // 2
        return cls(
            task=task.name,
            optimizers=choice.DEFAULT if optimizers is None else optimizers,
            seeds=count,
            epochs=rounds,
            first=middle - half,
            last=middle - half + per_decade * DECADES,
            per_decade=per_decade,
            device=getattr(task, "device", "cpu"),
        )

    def joined(self, earlier: Settings) -> Settings:
        """Return these settings with the optimizers and seeds that an earlier measurement has and these leave out.

        So what was measured stays in the table, and what it lacks is measured too.

        Example:
            >>> mine = Settings(task="", optimizers=("a",), seeds=2, epochs=1, first=0, last=4)
            >>> theirs = dataclasses.replace(mine, optimizers=("b",))
            >>> mine.joined(theirs).optimizers
            ('b', 'a')
        """
        added = tuple(optimizer for optimizer in self.optimizers if optimizer not in earlier.optimizers)
        return dataclasses.replace(self, optimizers=earlier.optimizers + added, seeds=max(self.seeds, earlier.seeds))

    def rate(self, place: int) -> float:
        """Return the learning rate at a place of the grid.

        Example:
            >>> Settings(task="", optimizers=(), seeds=1, epochs=1, first=-4, last=0).rate(-2)
            0.3162
        """
        return float(f"{10 ** (place / self.per_decade):.4g}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """One trial: the late validation score, NaN if it diverged, and then where."""

    optimizer: str
    place: int
    seed: int
    score: float
    diverged: str = ""


@dataclasses.dataclass(kw_only=True)
class Sensitivity:
    """Everything measured so far.

    Attributes:
        settings: What was asked for.
        fingerprint: Of the data.
        points: (optimizer, place, seed) -> trial.
        complete: Whether nothing is missing.
    """

    settings: Settings
    fingerprint: str
    points: dict[tuple[str, int, int], Point] = dataclasses.field(default_factory=dict)
    complete: bool = False

    def to_json(self, extra: dict[str, Any]) -> str:
        """Write everything; `extra` follows from the points and is for readers only."""
        document = {
            "format": FORMAT,
            "settings": dataclasses.asdict(self.settings),
            "fingerprint": self.fingerprint,
            "complete": self.complete,
            **extra,
            "points": [
                {**dataclasses.asdict(point), "score": point.score if math.isfinite(point.score) else None}
                for point in self.points.values()
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
                k: tuple(v) if isinstance(v, list) else v for k, v in document["settings"].items()
            }
            if not isinstance(fields["optimizers"], tuple) or not isinstance(fields["seeds"], int):
                raise ValueError("settings without a list of optimizers and a number of seeds")
            found = cls(settings=Settings(**fields), fingerprint=str(document["fingerprint"]))
            for entry in document["points"]:
                score = math.nan if entry["score"] is None else float(entry["score"])
                point = Point(**{**entry, "score": score})
                found.points[choice.get(point.optimizer).short, int(point.place), int(point.seed)] = point
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
            raise FileError(
                f"{where} is not a measured sensitivity ({reason}): measure without --resume, "
                "which keeps it under another name"
            ) from error
        return found
