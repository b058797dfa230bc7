"""Run a benchmark: tune the learning rate of each optimizer, then train with it; the same for every optimizer.

1. Tuning. Every optimizer trains once per learning rate of the grid and tuning seed, and is scored on the validation
   split. The rate with the best score over the last quarter of the epochs is chosen, as a mean over the tuning seeds
   (of equal scores the one with the lower loss). One epoch alone is too noisy to choose by.
2. Final. Every optimizer trains once per reported seed at that rate, and is scored on the test split. Nothing is
   chosen by these numbers: the last epoch counts, not the best one.

Within a seed all optimizers start from the same weights and see the same batches. They take turns, trial by trial, so
that a time when the machine is slow affects all of them. What is timed: `rmsprop.race.trial`.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator

from rmsprop import __version__, is_compiled
from rmsprop.errors import StateError
from rmsprop.race import choice
from rmsprop.race.memory import measure
from rmsprop.race.record import Job, Results, Settings, Trial, compare_environments
from rmsprop.race.task import Data, Learner, Task
from rmsprop.race.trial import Progress, train

__all__ = ["Event", "Listener", "RaceStarted", "RateChosen", "choose_rate", "is_complete", "race"]


@dataclasses.dataclass(frozen=True)
class RaceStarted:
    """A benchmark starts or is resumed."""

    settings: Settings
    trials: int  # in all
    done: int
    changes: tuple[str, ...] = ()  # of the environment, since the last trial


@dataclasses.dataclass(frozen=True)
class RateChosen:
    """The learning rate of an optimizer is chosen."""

    optimizer: str
    lr: float


Event = RaceStarted | Progress | RateChosen | Trial  # a trial: it has ended
Listener = Callable[[Event], None]


def race(
    task: Task,
    settings: Settings,
    *,
    earlier: Results | None = None,
    listener: Listener = lambda event: None,
    save: Callable[[Results], None] = lambda results: None,
) -> Results:
    """Run all trials that `earlier` does not hold.

    Args:
        task: What to train.
        settings: Optimizers, seeds, epochs, learning rates.
        earlier: A benchmark to resume. Read.
        listener: Called with each event, between trials, epochs and steps, never inside a timed step.
        save: Called after each trial.

    Returns:
        The results. If Ctrl-C interrupted it, those of the finished trials: see `is_complete`.

    Raises:
        InputError: An optimizer that does not exist in the task's framework, or an unknown device.
        StateError: `earlier` has other settings, other data, or another model.
        MissingDependency: The task's data are missing.

    Example:
        >>> from rmsprop.race import Settings, get, race
        >>> digits = get("digits")
        >>> results = race(digits, Settings.of(digits, optimizers=("rmsprop",), seeds=1, epochs=1, quick=True))
        >>> len(results.trials)
        5
    """
    for optimizer in settings.optimizers:
        choice.get(optimizer).build(task.framework)
    data = task.load()
    here = _describe_environment(task, data)
    results = Results(
        settings=settings,
        data={"fingerprint": data.fingerprint, "sizes": dict(data.sizes)},
        environment=dict(here),
        model=task.model,
    )
    if earlier is not None:
        _join(results, earlier)
    jobs = len(settings.grid) * len(settings.tuning_seeds) + len(settings.seeds)
    trials = jobs * len(settings.optimizers)
    done = sum(job.key in results.trials for job in _plan_jobs(task, results, lambda event: None))
    changes = compare_environments(results.environments[-1], here) if done < trials else []
    listener(RaceStarted(settings, trials, done, tuple(changes)))
    try:
        with task.session():
            for job in _plan_jobs(task, results, listener):
                if job.key in results.trials:
                    continue
                if job.phase == "final" and job.optimizer not in results.memory:
                    results.memory[job.optimizer] = measure(task, data, job.optimizer, lr=job.lr, seed=job.seed)
                on_end = functools.partial(_keep_sample, results, job)
                trial = train(task, data, job, epochs=settings.epochs, listener=listener, on_end=on_end)
                results.add(trial, here)
                save(results)
                listener(trial)
    except KeyboardInterrupt:
        # The trial that was running is lost, the finished ones are returned.
        pass
    return results


def _join(results: Results, earlier: Results) -> None:
    """Add the trials of `earlier` to an empty benchmark, after checking that they belong to it."""
    name = results.settings.task
    results.settings.check_joinable(earlier.settings, where="the folder")
    if earlier.data.get("fingerprint") != results.data["fingerprint"]:
        raise StateError(f"the earlier benchmark ran on other data than {name} has now: choose another --out")
    if earlier.model not in ("", results.model):
        raise StateError(
            f"the earlier benchmark trained another model, {earlier.model!r}; the model of {name} is now "
            f"{results.model!r}: choose another --out"
        )
    results.environment, results.later = dict(earlier.environment), [dict(e) for e in earlier.later]
    results.trials.update(earlier.trials)
    results.memory.update(earlier.memory)
    results.sample = earlier.sample


def _keep_sample(results: Results, job: Job, learner: Learner) -> None:
    """Keep what RMSprop's first reported model generates, if it generates something."""
    if job.phase == "final" and job.optimizer == "rmsprop" and not results.sample and hasattr(learner, "sample"):
        results.sample = str(learner.sample())


def choose_rate(task: Task, results: Results, optimizer: str) -> float | None:
    """Return the learning rate that tuning chooses for `optimizer`, or None while tuning is incomplete."""
    ranked = []
    for lr in results.settings.grid:
        trials = [trial for trial in results.list_trials("tuning", optimizer, lr) if trial is not None]
        if len(trials) < len(results.settings.tuning_seeds):
            return None
        is_finite = not any(trial.diverged for trial in trials)
        score, loss = (statistics.fmean(values) for values in zip(*((t.late_score, t.late_loss) for t in trials)))
        ranked.append((is_finite, task.metric.goodness(score), -loss, -lr))
    return -max(ranked)[3]


def is_complete(task: Task, results: Results) -> bool:
    """Whether all trials of the settings were run."""
    rates = {optimizer: choose_rate(task, results, optimizer) for optimizer in results.settings.optimizers}
    return all(
        lr is not None and None not in results.list_trials("final", optimizer, lr) for optimizer, lr in rates.items()
    )


def _plan_jobs(task: Task, results: Results, listener: Listener) -> Iterator[Job]:
    """Yield the jobs in order: the final ones of the optimizers whose rate is known after the tuning jobs were run."""
    settings = results.settings
    for seed in settings.tuning_seeds:
        for lr in settings.grid:
            for optimizer in settings.optimizers:
                yield Job(phase="tuning", optimizer=optimizer, lr=lr, seed=seed)
    rates = {optimizer: choose_rate(task, results, optimizer) for optimizer in settings.optimizers}
    chosen = [(optimizer, lr) for optimizer, lr in rates.items() if lr is not None]
    for optimizer, lr in chosen:
        listener(RateChosen(optimizer, lr))
    for turn, seed in enumerate(settings.seeds):
        # Each seed starts with another optimizer, so that no optimizer always has the first, coldest trial.
        first = turn % max(len(chosen), 1)
        for optimizer, lr in chosen[first:] + chosen[:first]:
            yield Job(phase="final", optimizer=optimizer, lr=lr, seed=seed)


def _describe_environment(task: Task, data: Data) -> dict[str, str]:
    """Return versions and machine; nothing that identifies a person or a host."""
    return {
        "rmsprop": __version__,
        "kernel": "compiled" if is_compiled() else "plain: the compiled module is not in use",
        **data.versions,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": str(os.cpu_count()),
        **({"threads": str(task.used_threads)} if task.used_threads else {}),
        **({"device": task.device} if task.device != "cpu" else {}),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }
