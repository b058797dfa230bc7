"""What is known of a benchmark: its settings, its trials, where they ran, and how it ended.

`results.json` holds all of it, so that the report can be drawn again and an interrupted benchmark can be resumed. The
table and the verdict in that file follow from the trials and are there for readers only.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import statistics
from collections.abc import Sequence
from typing import Any, Literal

from rmsprop.errors import FileError, InputError, MissingDependency, StateError
from rmsprop.race import choice
from rmsprop.race.task import Split, Task

__all__ = [
    "FIRST_TUNING_SEED", "Diverged", "Job", "Memory", "Outcome", "Results", "Settings", "Trial", "average_last_quarter",
    "compare_environments", "rename_old_keys",
]  # fmt: skip

FORMAT = 1
FIRST_TUNING_SEED = 1000

Phase = Literal["tuning", "final"]
Key = tuple[str, str, float, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What was asked for. Two benchmarks may be joined if only `optimizers` and `seeds` differ."""

    task: str  # its name
    optimizers: tuple[str, ...]  # in the order asked for
    seeds: tuple[int, ...]  # of the reported trials
    tuning_seeds: tuple[int, ...]  # of the trials that choose the learning rate; none of `seeds`
    epochs: int  # per trial
    grid: tuple[float, ...]  # the learning rates tried, ascending
    device: str = "cpu"  # results and times differ between devices
    short: bool = False  # trained on a part of the data
    threads: int | None = None  # CPU threads asked for; None is the task's own number

    def __post_init__(self) -> None:
        if not self.seeds or not self.tuning_seeds or not self.optimizers or not self.grid:
            raise InputError("expected at least one optimizer, one seed, one tuning seed and one learning rate")
        if set(self.seeds) & set(self.tuning_seeds):
            raise InputError(f"seeds={self.seeds} and tuning_seeds={self.tuning_seeds}, expected no common seed")
        if self.epochs < 1:
            raise InputError(f"epochs={self.epochs}, expected at least 1")

    @classmethod
    def of(
        cls,
        task: Task,
        *,
        optimizers: tuple[str, ...] | None = None,
        seeds: int | None = None,
        epochs: int | None = None,
        grid: tuple[float, ...] | None = None,
        quick: bool = False,
    ) -> Settings:
        """Return settings with the task's own budget for each argument that is None.

        Raises:
            InputError: No seed, no epoch, no learning rate, or more seeds than there are below the tuning seeds.
        """
        budget = task.quick if quick else task.budget
        count = budget.seeds if seeds is None else seeds
        if not 1 <= count <= FIRST_TUNING_SEED:
            raise InputError(f"seeds={count}, expected 1 to {FIRST_TUNING_SEED}")
        return cls(
            task=task.name,
            optimizers=choice.DEFAULT if optimizers is None else optimizers,
            seeds=tuple(range(count)),
            tuning_seeds=tuple(FIRST_TUNING_SEED + i for i in range(budget.tuning_seeds)),
            epochs=budget.epochs if epochs is None else epochs,
            grid=budget.grid if grid is None else grid,
            device=task.device,
            short=task.short,
            threads=task.asked_threads,
        )

    def check_joinable(self, earlier: Settings, *, where: object) -> None:
        """Raise StateError if the trials of `earlier`, found in `where`, cannot be joined to a benchmark with these."""
        for name in ("task", "epochs", "grid", "tuning_seeds", "device", "short", "threads"):
            asked, found = getattr(self, name), getattr(earlier, name)
            if asked != found:
                raise StateError(
                    f"{where} holds a benchmark with {name}={found}, but {name}={asked} was asked for: "
                    "resume it with the same value, or choose another --out"
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """A trial to be run."""

    phase: Phase
    optimizer: str
    lr: float
    seed: int

    @property
    def key(self) -> Key:
        """Identifies the trial within the benchmark."""
        return (self.phase, self.optimizer, self.lr, self.seed)

    @property
    def split(self) -> Split:
        """The examples it is scored on: validation while tuning, test for the reported numbers."""
        return "valid" if self.phase == "tuning" else "test"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diverged:
    """Where a loss became NaN or infinite."""

    step: int  # counted from 1
    tensor: str  # the tensor or layer where it was found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial(Job):
    """A trial that was run. The curves `score` and `loss` start before the first epoch, `train_loss` with it."""

    score: tuple[float, ...]  # the metric on `split` after each epoch
    loss: tuple[float, ...]  # the mean loss on that split
    train_loss: tuple[float, ...]  # the mean over the epoch's batches, each before its step
    steps: int
    step_seconds: float  # time in the optimizer's step, all steps together
    seconds: float  # data, model, steps and scoring
    diverged: Diverged | None = None
    train_seconds: float | None = None  # batches, gradients and steps; None in files that lack it
    effective_lr: tuple[tuple[float, ...], ...] = ()  # steps, each with `rmsprop.race.stepper.QUANTILES` after it

    def __post_init__(self) -> None:
        numbers = [self.lr, self.step_seconds, self.seconds, self.train_seconds or 0.0]
        numbers += itertools.chain(self.score, self.loss, self.train_loss, *self.effective_lr)
        if not self.score or not len(self.score) == len(self.loss) == len(self.train_loss) + 1:
            raise ValueError("curves of different lengths")
        if not all(isinstance(value, (int, float)) and math.isfinite(value) for value in numbers):
            raise ValueError("a number is not finite")

    @property
    def late_score(self) -> float:
        """The mean score over the last quarter of the epochs, which chooses the learning rate."""
        return average_last_quarter(self.score[1:] or self.score)

    @property
    def late_loss(self) -> float:
        """The mean loss over the last quarter of the epochs."""
        return average_last_quarter(self.loss[1:] or self.loss)

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists and numbers."""
        return {"split": self.split, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Trial:
        """Read what `to_dict` wrote."""
        fields = {name: _freeze(value) for name, value in fields.items() if name != "split"}
        if fields["phase"] not in ("tuning", "final"):
            raise ValueError(f"unknown phase {fields['phase']!r}")
        diverged = fields["diverged"] and Diverged(**fields["diverged"])
        return cls(**{**fields, "diverged": diverged, "optimizer": choice.get(fields["optimizer"]).short})


def _freeze(value: Any) -> Any:
    return tuple(map(_freeze, value)) if isinstance(value, list) else value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
    """Memory that an optimizer uses."""

    parameters: int  # how many numbers it updates
    state_bytes: int  # between steps
    step_bytes: int | None  # in addition during a step; None where that cannot be measured

    @property
    def state_per_parameter(self) -> float:
        """Bytes of state per parameter."""
        return self.state_bytes / max(self.parameters, 1)

    @property
    def step_per_parameter(self) -> float | None:
        """Additional bytes during a step, per parameter."""
        return None if self.step_bytes is None else self.step_bytes / max(self.parameters, 1)


def compare_environments(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """List what differs between two environments, apart from the date; a key that one of them lacks is ignored."""
    shared = [name for name in before if name in now and name not in ("date", "until")]
    return [f"{name} {before[name]} before, {now[name]} now" for name in shared if before[name] != now[name]]


def rename_old_keys(fields: dict[str, Any]) -> dict[str, Any]:
    """Return an object of a file of an earlier version with the present keys."""
    return {{"rival": "optimizer", "rivals": "optimizers"}.get(key, key): value for key, value in fields.items()}


def average_last_quarter(curve: Sequence[float]) -> float:
    """Return the mean of the last quarter of a curve over epochs: of its last point if it has fewer than eight."""
    return statistics.fmean(curve[-max(1, len(curve) // 4) :])


@dataclasses.dataclass(kw_only=True, repr=False)
class Results:
    """A benchmark so far; trials are added as they end. A notebook shows the verdict, the table and the curves."""

    settings: Settings
    data: dict[str, Any]  # "fingerprint" and "sizes" of `rmsprop.race.task.Data`
    environment: dict[str, str]  # versions and machine of the first trials
    trials: dict[Key, Trial] = dataclasses.field(default_factory=dict)
    memory: dict[str, Memory] = dataclasses.field(default_factory=dict)  # by optimizer
    sample: str = ""  # what RMSprop's first reported model generated, for tasks that generate something
    model: str = ""  # what was trained, in the task's words; empty if the file does not say
    later: list[dict[str, str]] = dataclasses.field(default_factory=list)  # environments of trials that were added

    def __repr__(self) -> str:
        from rmsprop.race import report

        return report.write_text(self)

    def _repr_html_(self) -> str | None:
        from rmsprop.race import report

        return report.write_html(self)

    @property
    def environments(self) -> list[dict[str, str]]:
        """All environments that trials ran in, in order."""
        return [self.environment, *self.later]

    def list_trials(self, phase: Phase, optimizer: str, lr: float) -> list[Trial | None]:
        """Return the trials of an optimizer at a learning rate in the order of the seeds; None for a missing one."""
        seeds = self.settings.tuning_seeds if phase == "tuning" else self.settings.seeds
        return [self.trials.get((phase, optimizer, lr, seed)) for seed in seeds]

    def add(self, trial: Trial, environment: dict[str, str]) -> None:
        """Add a finished trial, and where it ran."""
        self.trials[trial.key] = trial
        last = self.environments[-1]
        if compare_environments(last, environment):
            self.later.append(dict(environment))
        elif environment.get("date", "") != last.get("date", ""):
            last["until"] = environment["date"]

    def to_dataframe(self) -> Any:
        """Return a pandas DataFrame with a row per trial: what was run, late score and loss, steps, seconds.

        `score` is the task's metric and `loss` the mean loss over the last quarter of the epochs, on the split that
        `phase` names: validation while "tuning", test for "final". `diverged` is True where a loss was not finite.

        Raises:
            MissingDependency: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingDependency("pandas is needed for to_dataframe: pip install pandas") from error
        columns = ("phase", "optimizer", "lr", "seed", "steps", "seconds")
        rows = [
            {name: getattr(trial, name) for name in columns}
            | {"score": trial.late_score, "loss": trial.late_loss, "diverged": trial.diverged is not None}
            for trial in self.trials.values()
        ]
        return pd.DataFrame(rows)

    def to_json(self, extra: dict[str, Any]) -> str:
        """Return the document; `extra` (what follows from the trials) comes before the long curves."""
        document = {
            "format": FORMAT,
            # Without the settings that are None, earlier versions of this library can read the file.
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
        """Read what `to_json` wrote; `where` is its file, for the message.

        Raises:
            FileError: Truncated, corrupt, or not the results of a benchmark.
        """
        try:
            document = json.loads(text, object_hook=rename_old_keys)
            if document["format"] != FORMAT:
                raise ValueError(f"format {document['format']!r}, expected {FORMAT}")
            trials = map(Trial.from_dict, document["trials"])
            # Files of earlier versions lack what is read with `get`.
            return cls(
                settings=Settings(**{name: _freeze(value) for name, value in document["settings"].items()}),
                data=dict(document["data"]),
                environment=dict(document["environment"]),
                trials={trial.key: trial for trial in trials},
                memory={optimizer: Memory(**fields) for optimizer, fields in document.get("memory", {}).items()},
                sample=str(document.get("sample", "")),
                model=str(document.get("task", {}).get("model", "")),
                later=[dict(environment) for environment in document.get("later_environments", [])],
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
            raise FileError(
                f"{where}: not the results of a benchmark ({reason}); without --resume a new one starts, "
                "which keeps this file under another name"
            ) from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """How the benchmark of a task ended."""

    task: Task  # with its device, threads and length
    results: Results | None  # None if it could not begin
    status: Literal["complete", "interrupted", "absent", "failed"]  # "absent": its data or a package are missing
    reason: str = ""  # why it could not begin
