"""What a race leaves behind.

`results.json` holds the settings, the versions and every curve of every trial, so that the report can be redrawn and a
broken-off race can go on. Everything else in it (the chosen rates, the table, the verdict) follows from the trials and
is written for readers only.
"""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Sequence
from typing import Any, Literal

from rmsprop.errors import FileError
from rmsprop.race import choice
from rmsprop.race.settings import FIRST_TUNING_SEED, Settings
from rmsprop.race.task import Split, Task

__all__ = [
    "FIRST_TUNING_SEED",
    "Diverged",
    "Job",
    "Memory",
    "Outcome",
    "Phase",
    "Results",
    "Settings",
    "Trial",
    "changes",
    "late",
    "rename_old_keys",
]

FORMAT = 1

Phase = Literal["tuning", "final"]
Key = tuple[str, str, float, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One trial to be run."""

    phase: Phase
    optimizer: str
    lr: float
    seed: int

    @property
    def key(self) -> Key:
        """What tells it from every other trial of the race."""
        return (self.phase, self.optimizer, self.lr, self.seed)

    @property
    def split(self) -> Split:
        """What it is scored on: rates are chosen on the validation examples, reported numbers come from the test."""
        return "valid" if self.phase == "tuning" else "test"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diverged:
    """Where a loss stopped being a number: the step, counted from 1, and the tensor or layer where that was seen."""

    step: int
    tensor: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial that was run.

    Attributes:
        job: Which one.
        score: The metric on the job's split, before the first epoch and after each.
        loss: The mean loss on that split, likewise.
        train_loss: The mean over each epoch's batches, each before its step.
        steps: How many steps were taken.
        step_seconds: Time within `step` alone, all steps together.
        seconds: The whole trial: data, model, steps and scoring.
        diverged: None if every loss was finite.
        train_seconds: Batches, gradients and steps alone; None in results written before that was measured.
        effective_lr: Of a reported trial: a step, counted from 1, and the QUANTILES of `rmsprop.race.stepper` after it.
    """

    job: Job
    score: tuple[float, ...]
    loss: tuple[float, ...]
    train_loss: tuple[float, ...]
    steps: int
    step_seconds: float
    seconds: float
    diverged: Diverged | None = None
    train_seconds: float | None = None
    effective_lr: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        curves = [*self.score, *self.loss, *self.train_loss, self.step_seconds, self.seconds]
        curves += [value for point in self.effective_lr for value in point]
        curves += [] if self.train_seconds is None else [self.train_seconds]
        if not self.score or not len(self.score) == len(self.loss) == len(self.train_loss) + 1:
            raise ValueError("curves of different lengths")
        if not all(isinstance(value, (int, float)) and math.isfinite(value) for value in curves):
            raise ValueError("a number that is not finite")

    @property
    def late_score(self) -> float:
        """The mean score over the last quarter of the epochs, by which rates are chosen: one epoch alone is noisy."""
        return late(self.score[1:] or self.score)

    @property
    def late_loss(self) -> float:
        """The mean loss over the last quarter of the epochs."""
        return late(self.loss[1:] or self.loss)

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists and numbers, the job's fields first."""
        fields = {**dataclasses.asdict(self.job), "split": self.job.split, **dataclasses.asdict(self)}
        del fields["job"]
        return fields

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Trial:
        """Read what `to_dict` wrote."""
        if fields["phase"] not in ("tuning", "final"):
            raise ValueError(f"unknown phase {fields['phase']!r}")
        job = Job(
            phase=fields["phase"],
            optimizer=choice.get(fields["optimizer"]).short,
            lr=float(fields["lr"]),
            seed=int(fields["seed"]),
        )
        return cls(
            job=job,
            score=tuple(fields["score"]),
            loss=tuple(fields["loss"]),
            train_loss=tuple(fields["train_loss"]),
            steps=int(fields["steps"]),
            step_seconds=fields["step_seconds"],
            seconds=fields["seconds"],
            diverged=Diverged(**fields["diverged"]) if fields["diverged"] else None,
            train_seconds=fields.get("train_seconds"),
            effective_lr=tuple(tuple(point) for point in fields.get("effective_lr", ())),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
    """One optimizer's memory.

    Attributes:
        parameters: How many numbers it updates.
        state_bytes: What it keeps from step to step.
        step_bytes: What one step takes besides; None where that cannot be measured.
    """

    parameters: int
    state_bytes: int
    step_bytes: int | None

    @property
    def state_per_parameter(self) -> float:
        """Bytes kept per parameter."""
        return self.state_bytes / max(self.parameters, 1)

    @property
    def step_per_parameter(self) -> float | None:
        """Bytes taken in a step per parameter."""
        return None if self.step_bytes is None else self.step_bytes / max(self.parameters, 1)


def changes(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """Say what differs between two environments, but for the day; what one of them does not know is no difference.

    Example:
        >>> changes({"torch": "2.12", "date": "Monday"}, {"torch": "2.13", "date": "Tuesday", "threads": "1"})
        ['torch 2.12 before, 2.13 now']
    """
    shared = [name for name in before if name in now and name not in ("date", "until")]
    return [f"{name} {before[name]} before, {now[name]} now" for name in shared if before[name] != now[name]]


def rename_old_keys(fields: dict[str, Any]) -> dict[str, Any]:
    """Give an object of an earlier version's file its present keys."""
    return {{"rival": "optimizer", "rivals": "optimizers"}.get(key, key): value for key, value in fields.items()}


def late(curve: Sequence[float]) -> float:
    """Return the mean of the last quarter of a curve, or of its last point where it has fewer than four.

    Args:
        curve: A number for each epoch.

    Example:
        >>> late([0.5, 0.7, 0.8, 0.8, 0.9, 0.8, 0.7, 0.9])
        0.8
    """
    return statistics.fmean(curve[-max(1, len(curve) // 4) :])


@dataclasses.dataclass(kw_only=True)
class Results:
    """Everything known of one race so far; trials are added as they end.

    Attributes:
        settings: What was asked for.
        data: "fingerprint" and "sizes" of `rmsprop.race.task.Data`.
        environment: Versions and machine of the first trials, name -> text.
        trials: Key -> trial.
        memory: Optimizer -> what it keeps and takes.
        sample: What RMSprop's first reported model made, where a task makes something to read; else empty.
        model: What was trained, in the task's words; empty where that is not known.
        later: The environments of trials that were added elsewhere, or with other versions.
    """

    settings: Settings
    data: dict[str, Any]
    environment: dict[str, str]
    trials: dict[Key, Trial] = dataclasses.field(default_factory=dict)
    memory: dict[str, Memory] = dataclasses.field(default_factory=dict)
    sample: str = ""
    model: str = ""
    later: list[dict[str, str]] = dataclasses.field(default_factory=list)

    @property
    def environments(self) -> list[dict[str, str]]:
        """Every environment that trials ran in, in order."""
        return [self.environment, *self.later]

    def ran_in(self, environment: dict[str, str]) -> None:
        """Note where the last trials ran: in the last environment on another day, or in another one."""
        last = self.environments[-1]
        if changes(last, environment):
            self.later.append(dict(environment))
        elif environment.get("date", "") != last.get("date", ""):
            last["until"] = environment["date"]

    def add(self, trial: Trial) -> None:
        """Keep a finished trial."""
        self.trials[trial.job.key] = trial

    def to_json(self, extra: dict[str, Any]) -> str:
        """Write everything, `extra` (what follows from the trials) before the long curves."""
        document = {
            "format": FORMAT,
            # Earlier versions refuse a setting that they do not know.
            "settings": {name: value for name, value in dataclasses.asdict(self.settings).items() if value is not None},
            "data": self.data,
            "environment": self.environment,
            **({"later_environments": self.later} if self.later else {}),
            **extra,
            "memory": {optimizer: dataclasses.asdict(memory) for optimizer, memory in self.memory.items()},
            "sample": self.sample,
            "trials": [trial.to_dict() for trial in self.trials.values()],
        }
        return json.dumps(document, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, *, where: object) -> Results:
        """Read what `to_json` wrote.

        Args:
            text: The document.
            where: Its file, for the message.

        Raises:
            FileError: Truncated, corrupt, or something else than a race.
        """
        try:
            document = json.loads(text, object_hook=rename_old_keys)
            if document["format"] != FORMAT:
                raise ValueError(f"format {document['format']!r}, expected {FORMAT}")
            fields: dict[str, Any] = {
                k: tuple(v) if isinstance(v, list) else v for k, v in document["settings"].items()
            }
            results = cls(
                settings=Settings(**fields), data=dict(document["data"]), environment=dict(document["environment"])
            )
            # Files of earlier versions lack these.
            results.memory = {optimizer: Memory(**fields) for optimizer, fields in document.get("memory", {}).items()}
            results.sample = str(document.get("sample", ""))
            results.model = str(document.get("task", {}).get("model", ""))
            results.later = [dict(environment) for environment in document.get("later_environments", [])]
            for trial in document["trials"]:
                results.add(Trial.from_dict(trial))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
            raise FileError(
                f"{where} is not a race's results ({reason}): race without --resume, which keeps it under another name"
            ) from error
        return results


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a task's race ended.

    Attributes:
        task: As it was raced.
        results: None if it could not begin.
        complete: Every trial was run.
        reason: Why it could not, or not to its end.
        absent: The reason is that its data or a package is not here.
        interrupted: Ctrl-C ended it.
    """

    task: Task
    results: Results | None
    complete: bool
    reason: str = ""
    absent: bool = False
    interrupted: bool = False
