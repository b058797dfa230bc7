"""What a race task is, and where the tasks are found.

A task is one small file of `tasks/`: where its data come from, the model, the loss, the metric and the budget. It
says nothing about optimizers, seeds, tuning, timing or reports: `rmsprop.race.run` does those for every task alike.
A round of a task is called an epoch here, whether it is a pass over images or a block of played games.

    load() -> Data                       once per race
    learner(data, seed) -> Learner       once per trial: fresh weights from the seed
        batches(epoch)                   what one epoch feeds in: the same for every optimizer with the same seed
        gradients(batch)                 one forward and backward pass
        score(split)                     the metric and the loss on examples that no gradient ever saw
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import math
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol, cast

from rmsprop.errors import InputError

__all__ = ["Budget", "Data", "Framework", "Learner", "Metric", "Split", "Task", "get", "names", "nearest"]

Framework = Literal["numpy", "torch"]
Split = Literal["valid", "test"]

# A name is that of a module with a `TASK`, cheap to import: its data and framework are imported by `load`.
_TASKS = {
    name: f"rmsprop.race.tasks.{name.replace('-', '_')}"
    for name in (
        "digits",
        "fashion",
        "mnist",
        "kjv",
        "sentiment",
        "translate",
        "speech",
        "digits-speech",
        "diamonds",
        "ratings",
        "cartpole",
        "finetune",
    )
}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """What a task is judged by.

    Attributes:
        name: The field's word for it, such as "accuracy".
        better: Which end is the good one.
        percent: Kept as a fraction and shown in percent.
        target: What RMSprop is expected to reach with the default budget, as a mean over seeds.

    Example:
        >>> Metric(name="accuracy", better="higher", percent=True, target=0.96).text(0.9737)
        '97.37 %'
    """

    name: str
    better: Literal["higher", "lower"]
    percent: bool
    target: float

    def text(self, value: float) -> str:
        """Write a value for a reader."""
        return f"{100 * value:.2f} %" if self.percent else f"{value:.4g}"

    def gap_text(self, value: float) -> str:
        """Write a difference of two values: percentage points are not percent."""
        return f"{100 * value:.2f} points" if self.percent else f"{value:.3g}"

    def goodness(self, value: float) -> float:
        """Return the value, turned so that larger is better; NaN becomes the worst of all."""
        if math.isnan(value):
            return float("-inf")
        return value if self.better == "higher" else -value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
    """What every optimizer may spend: the same number of epochs, rates and seeds for each.

    Attributes:
        epochs: Per trial.
        seeds: Reported trials per optimizer.
        tuning_seeds: Trials per optimizer and rate, on other seeds, judged on the validation split.
        grid: The learning rates tried, ascending.
    """

    epochs: int
    seeds: int
    tuning_seeds: int
    grid: tuple[float, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """What `Task.load` brings.

    Attributes:
        content: What the task's own learner reads; nobody else looks inside.
        sizes: Split -> number of examples.
        versions: Package -> version, of what the data and the model depend on.
        fingerprint: A digest of the examples and their split: another one is another race.
    """

    content: Any
    sizes: Mapping[str, int]
    versions: Mapping[str, str]
    fingerprint: str


class Learner(Protocol):
    """One model being trained, from one seed."""

    @property
    def params(self) -> Any:
        """What an optimizer of the task's framework takes, and updates in place."""

    def batches(self, epoch: int) -> Iterable[Any]:
        """Yield what epoch `epoch` (counted from 1) feeds in; it depends on the seed and the epoch alone."""

    def gradients(self, batch: Any) -> tuple[float, Any]:
        """Return the batch's loss and what `step` is called with."""

    def score(self, split: Split) -> tuple[float, float]:
        """Return the metric and the mean loss on a split."""

    def culprit(self, grads: Any) -> str:
        """Name the tensor or the layer where it began that the loss is not finite, as far as that can be seen."""


class Task(Protocol):
    """One file of `tasks/`.

    A task whose data are not inside an installed package also has `needs`, names of sources in `rmsprop.race.data`.
    A torch task has `device`; a learner that makes something to look at (a sentence, a game) has `sample() -> str`.
    """

    name: str
    title: str
    model: str
    source: str
    licence: str
    notes: tuple[str, ...]
    framework: Framework
    metric: Metric
    budget: Budget
    quick: Budget

    def load(self) -> Data:
        """Bring the data, or raise MissingDependency naming the package and how to get it."""

    def learner(self, data: Data, seed: int) -> Learner:
        """Build the model with the weights of `seed`."""

    def session(self) -> AbstractContextManager[Any]:
        """Stay open while trials run: thread limits, switches for reproducible arithmetic."""


def names() -> tuple[str, ...]:
    """Return the tasks' names."""
    return tuple(_TASKS)


def get(name: str) -> Task:
    """Return the task called `name`.

    Raises:
        InputError: No such task; the message suggests the nearest name.

    Example:
        >>> get("digits").metric.name
        'accuracy'
        >>> get("digit")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        rmsprop.errors.InputError: unknown task 'digit': did you mean 'digits'? known: digits, ...
    """
    if name not in _TASKS:
        raise InputError(f"unknown task {name!r}{nearest(name, names())}")
    return cast(Task, importlib.import_module(_TASKS[name]).TASK)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return how a message about an unknown name goes on: the nearest known one, and the list."""
    known = list(known)
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.4)
    return f"{f': did you mean {close[0]!r}?' if close else ';'} known: {', '.join(known)}"
