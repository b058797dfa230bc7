"""Run a race: tune, then race; every optimizer alike.

1. Tuning. Every optimizer trains once per learning rate of the grid and tuning seed, and is scored on the validation
   split. It goes on with the rate whose score over the last quarter of the epochs is best, as a mean over the tuning
   seeds (a tie: the lower loss). One epoch alone is too noisy to choose by.
2. Final. Every optimizer trains once per reported seed at that rate, and is scored on the test split. Nothing is
   chosen by these numbers: the last epoch counts, not the best one.

Within a seed all optimizers start from the same weights and see the same batches. They take turns trial by trial, so
that a slow minute of the machine falls on all of them. `step` alone is timed, with time.perf_counter around each call.
"""

from __future__ import annotations

import dataclasses
import math
import os
import platform
import time
from collections.abc import Callable, Iterator

import numpy as np

from rmsprop import __version__, compiled
from rmsprop.errors import StateError
from rmsprop.race import contestant
from rmsprop.race.record import Diverged, Job, Results, Settings, Trial
from rmsprop.race.task import Data, Task

__all__ = ["Began", "Chosen", "Ended", "Epoch", "Event", "Listener", "best_rate", "finished", "race", "train"]


@dataclasses.dataclass(frozen=True)
class Began:
    """The race begins or goes on: trials in all, and those already done."""

    settings: Settings
    trials: int
    done: int


@dataclasses.dataclass(frozen=True)
class Epoch:
    """A trial has ended an epoch, counted from 1."""

    job: Job
    epoch: int
    score: float
    train_loss: float


@dataclasses.dataclass(frozen=True)
class Ended:
    """A trial has ended."""

    trial: Trial


@dataclasses.dataclass(frozen=True)
class Chosen:
    """An optimizer's learning rate is chosen."""

    rival: str
    lr: float


Event = Began | Epoch | Ended | Chosen
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
        listener: Called with each event, between trials and epochs, never inside a timed step.
        save: Called after each trial.

    Returns:
        The results; of a race that was broken off with Ctrl-C those that were finished: see `finished`.

    Raises:
        StateError: `earlier` ran by other rules or on other data.
        MissingDependency: The task's data are not at hand.

    Example:
        >>> from rmsprop.race import Settings, get, race
        >>> digits = get("digits")
        >>> results = race(digits, Settings.of(digits, rivals=("rmsprop",), seeds=1, epochs=1, quick=True))
        >>> len(results.trials)
        5
    """
    data = task.load()
    results = Results(
        settings=settings,
        data={"fingerprint": data.fingerprint, "sizes": dict(data.sizes)},
        environment=_environment(data),
    )
    if earlier is not None:
        settings.refuse_another_protocol(earlier.settings, where="the folder")
        if earlier.data.get("fingerprint") != data.fingerprint:
            raise StateError(f"the earlier race ran on other data than {task.name} has now: race into another --out")
        results.trials.update(earlier.trials)
    per_rival = len(settings.grid) * len(settings.tuning_seeds) + len(settings.seeds)
    done = sum(job.key in results.trials for job in _jobs(task, settings, results, listener=None))
    listener(Began(settings, per_rival * len(settings.rivals), done))
    try:
        with task.session():
            for job in _jobs(task, settings, results, listener=listener):
                if job.key not in results.trials:
                    trial = train(task, data, job, epochs=settings.epochs, listener=listener)
                    results.add(trial)
                    save(results)
                    listener(Ended(trial))
    except KeyboardInterrupt:
        # The trial that was running is lost; those before it are whole.
        pass
    return results


def train(task: Task, data: Data, job: Job, *, epochs: int, listener: Listener = lambda event: None) -> Trial:
    """Run one trial; a loss that is not finite ends it and is recorded, not raised."""
    clock = time.perf_counter
    began = clock()
    learner = task.learner(data, job.seed)
    step = contestant.get(job.rival).stepper(task.framework, learner.params, lr=job.lr)
    curve = [learner.score(job.split)]
    train_loss: list[float] = []
    steps, step_seconds = 0, 0.0
    diverged = None
    # A diverging trial overflows before it is noticed; that is a result here, not a warning.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for epoch in range(1, epochs + 1):
            losses = []
            for batch in learner.batches(epoch):
                loss, grads = learner.gradients(batch)
                if not math.isfinite(loss):
                    diverged = Diverged(step=steps + 1, tensor=learner.culprit(grads))
                    break
                losses.append(loss)
                before = clock()
                step(grads)
                step_seconds += clock() - before
                steps += 1
            point = learner.score(job.split)
            if diverged is None and not all(map(math.isfinite, point)):
                diverged = Diverged(step=steps, tensor=learner.culprit(grads))
            if diverged is not None:
                break
            curve.append(point)
            train_loss.append(math.fsum(losses) / len(losses))
            listener(Epoch(job, epoch, point[0], train_loss[-1]))
    return Trial(
        job=job,
        score=tuple(point[0] for point in curve),
        loss=tuple(point[1] for point in curve),
        train_loss=tuple(train_loss),
        steps=steps,
        step_seconds=step_seconds,
        seconds=clock() - began,
        diverged=diverged,
    )


def best_rate(task: Task, results: Results, rival: str) -> float | None:
    """Return the learning rate that tuning chose for `rival`, or None while tuning is unfinished."""
    ranked = []
    for lr in results.settings.grid:
        keys = [("tuning", rival, lr, seed) for seed in results.settings.tuning_seeds]
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
    rates = {rival: best_rate(task, results, rival) for rival in results.settings.rivals}
    return all(
        lr is not None and ("final", rival, lr, seed) in results.trials
        for rival, lr in rates.items()
        for seed in results.settings.seeds
    )


def _jobs(task: Task, settings: Settings, results: Results, *, listener: Listener | None) -> Iterator[Job]:
    """Yield every job whose rate is known by then; with a listener, each choice is announced."""
    for seed in settings.tuning_seeds:
        for lr in settings.grid:
            for rival in settings.rivals:
                yield Job(phase="tuning", rival=rival, lr=lr, seed=seed)
    rates = {rival: best_rate(task, results, rival) for rival in settings.rivals}
    chosen = {rival: lr for rival, lr in rates.items() if lr is not None}
    if listener is not None:
        for rival, lr in chosen.items():
            listener(Chosen(rival, lr))
    for turn, seed in enumerate(settings.seeds):
        # Another one goes first each time: whatever the first trial of a round pays, all pay in turn.
        order = list(chosen)[turn % len(chosen) :] + list(chosen)[: turn % len(chosen)] if chosen else []
        for rival in order:
            yield Job(phase="final", rival=rival, lr=chosen[rival], seed=seed)


def _environment(data: Data) -> dict[str, str]:
    """Versions and machine, for the report; nothing that names a person or a host."""
    return {
        "rmsprop": __version__,
        "kernel": "compiled" if compiled() else "plain: the compiled module is not in use",
        **data.versions,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": str(os.cpu_count()),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }
