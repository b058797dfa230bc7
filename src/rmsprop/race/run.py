"""Run a race: tune, then race; every optimizer alike.

1. Tuning. Every optimizer trains once per learning rate of the grid and tuning seed, and is scored on the validation
   split. It goes on with the rate whose score over the last quarter of the epochs is best, as a mean over the tuning
   seeds (a tie: the lower loss). One epoch alone is too noisy to choose by.
2. Final. Every optimizer trains once per reported seed at that rate, and is scored on the test split. Nothing is
   chosen by these numbers: the last epoch counts, not the best one.

Within a seed all optimizers start from the same weights and see the same batches. They take turns trial by trial, so
that a slow minute of the machine falls on all of them. What is timed: `rmsprop.race.trial`.
"""

from __future__ import annotations

import dataclasses
import math
import os
import platform
import time
from collections.abc import Callable, Iterator
from typing import Any

from rmsprop import __version__, compiled
from rmsprop.errors import StateError
from rmsprop.race import choice
from rmsprop.race.memory import measure
from rmsprop.race.record import Job, Results, Settings, Trial, changes
from rmsprop.race.task import Data, Learner, Task
from rmsprop.race.trial import Epoch, Stepped, train

__all__ = [
    "Began", "Chosen", "Ended", "Epoch", "Event", "Listener", "Stepped", "best_rate", "finished", "race", "train",
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Began:
    """The race begins or goes on: trials in all, those already done, and what is different since these were run."""

    settings: Settings
    trials: int
    done: int
    changes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Ended:
    """A trial has ended."""

    trial: Trial


@dataclasses.dataclass(frozen=True)
class Chosen:
    """An optimizer's learning rate is chosen."""

    optimizer: str
    lr: float


Event = Began | Stepped | Epoch | Ended | Chosen
Listener = Callable[[Event], None]


def race(
    task: Task,
    settings: Settings,
    *,
    earlier: Results | None = None,
    listener: Listener = lambda event: None,
    save: Callable[[Results], None] = lambda results: None,
) -> Results:
    """Run every trial that `earlier` does not hold yet.

    Args:
        task: What to train.
        settings: Optimizers, seeds, epochs, rates.
        earlier: A race to go on with. Read.
        listener: Called with each event, between trials, epochs and steps, never inside a timed step.
        save: Called after each trial.

    Returns:
        The results; of a race that was broken off with Ctrl-C those that were finished: see `finished`.

    Raises:
        InputError: An optimizer that does not exist in the task's framework, or an unknown device.
        StateError: `earlier` ran by other rules, on other data, or trained another model.
        MissingDependency: The task's data are not at hand.

    Example:
        >>> from rmsprop.race import Settings, get, race
        >>> digits = get("digits")
        >>> results = race(digits, Settings.of(digits, optimizers=("rmsprop",), seeds=1, epochs=1, quick=True))
        >>> len(results.trials)
        5
    """
    for optimizer in settings.optimizers:
        choice.get(optimizer).build(task.framework)
    # Everything that can be refused is refused before the data are read, which may take a while.
    with task.session():
        pass
    data = task.load()
    here = _environment(task, data)
    results = Results(
        settings=settings,
        data={"fingerprint": data.fingerprint, "sizes": dict(data.sizes)},
        environment=dict(here),
        model=task.model,
    )
    if earlier is not None:
        settings.refuse_another_protocol(earlier.settings, where="the folder")
        if earlier.data.get("fingerprint") != data.fingerprint:
            raise StateError(f"the earlier race ran on other data than {task.name} has now: race into another --out")
        if earlier.model not in ("", task.model):
            raise StateError(
                f"the earlier race trained another model, {earlier.model!r}; {task.name} has now {task.model!r}: race "
                "into another --out"
            )
        # The trials that are there ran where they ran, whoever goes on with them.
        results.environment, results.later = dict(earlier.environment), [dict(e) for e in earlier.later]
        results.trials.update(earlier.trials)
        results.memory.update(earlier.memory)
        results.sample = earlier.sample
    per_optimizer = len(settings.grid) * len(settings.tuning_seeds) + len(settings.seeds)
    planned = per_optimizer * len(settings.optimizers)
    done = sum(job.key in results.trials for job in _jobs(task, settings, results, listener=None))
    different = changes(results.environments[-1], here) if done < planned else []
    listener(Began(settings, planned, done, tuple(different)))
    try:
        with task.session():
            for job in _jobs(task, settings, results, listener=listener):
                if job.key not in results.trials:
                    if job.phase == "final" and job.optimizer not in results.memory:
                        results.memory[job.optimizer] = measure(task, data, job.optimizer, lr=job.lr, seed=job.seed)
                    look = _shown(results, job)
                    trial = train(task, data, job, epochs=settings.epochs, listener=listener, look=look)
                    results.add(trial)
                    results.ran_in(here)
                    save(results)
                    listener(Ended(trial))
    except KeyboardInterrupt:
        # The trial that was running is lost; those before it are whole.
        pass
    return results


def _shown(results: Results, job: Job) -> Callable[[Learner], Any] | None:
    """Return what keeps a sample of RMSprop's first reported model, where the task's learner makes samples."""
    if job.phase != "final" or job.optimizer != "rmsprop" or results.sample:
        return None

    def keep(learner: Learner) -> None:
        sample = getattr(learner, "sample", None)
        if sample is not None:
            results.sample = str(sample())

    return keep


def best_rate(task: Task, results: Results, optimizer: str) -> float | None:
    """Return the learning rate that tuning chose for `optimizer`, or None while tuning is unfinished."""
    ranked = []
    for lr in results.settings.grid:
        keys = [("tuning", optimizer, lr, seed) for seed in results.settings.tuning_seeds]
        if not all(key in results.trials for key in keys):
            return None
        trials = [results.trials[key] for key in keys]
        sound = not any(trial.diverged for trial in trials)
        score = math.fsum(trial.late_score for trial in trials) / len(trials)
        loss = math.fsum(trial.late_loss for trial in trials) / len(trials)
        ranked.append((sound, task.metric.goodness(score), -loss, -lr))
    return -max(ranked)[3]


def finished(task: Task, results: Results) -> bool:
    """Whether every trial of the settings was run."""
    rates = {optimizer: best_rate(task, results, optimizer) for optimizer in results.settings.optimizers}
    return all(
        lr is not None and ("final", optimizer, lr, seed) in results.trials
        for optimizer, lr in rates.items()
        for seed in results.settings.seeds
    )


def _jobs(task: Task, settings: Settings, results: Results, *, listener: Listener | None) -> Iterator[Job]:
    """Yield every job whose rate is known by then; with a listener, each choice is announced."""
    for seed in settings.tuning_seeds:
        for lr in settings.grid:
            for optimizer in settings.optimizers:
                yield Job(phase="tuning", optimizer=optimizer, lr=lr, seed=seed)
    rates = {optimizer: best_rate(task, results, optimizer) for optimizer in settings.optimizers}
    chosen = {optimizer: lr for optimizer, lr in rates.items() if lr is not None}
    if listener is not None:
        for optimizer, lr in chosen.items():
            listener(Chosen(optimizer, lr))
    for turn, seed in enumerate(settings.seeds):
        # Another one goes first each time: whatever the first trial of a round pays, all pay in turn.
        order = list(chosen)[turn % len(chosen) :] + list(chosen)[: turn % len(chosen)] if chosen else []
        for optimizer in order:
            yield Job(phase="final", optimizer=optimizer, lr=chosen[optimizer], seed=seed)


def _environment(task: Task, data: Data) -> dict[str, str]:
    """Versions and machine, for the report; nothing that names a person or a host."""
    device = getattr(task, "device", "cpu")
    return {
        "rmsprop": __version__,
        "kernel": "compiled" if compiled() else "plain: the compiled module is not in use",
        **data.versions,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": str(os.cpu_count()),
        **({"threads": str(task.used_threads)} if hasattr(task, "used_threads") else {}),
        **({"device": device} if device != "cpu" else {}),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }
