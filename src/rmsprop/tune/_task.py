"""A race task as an objective, tried by one process or by several.

A setting's value is the metric on the validation examples, over the last quarter of the epochs, as a mean over the
task's tuning seeds: what the race chooses learning rates by. Every setting trains with the same seeds, so from the same
weights on the same batches. Worker processes share nothing but the storage: one that dies costs its trial and no more.
"""

from __future__ import annotations

import dataclasses
import math
import os
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

from rmsprop.errors import InputError
from rmsprop.race.record import FIRST_TUNING_SEED, late
from rmsprop.race.task import Data, Task
from rmsprop.race.trial import fit
from rmsprop.tune._found import Direction, Tuned
from rmsprop.tune._space import Diverged, Setting, Space
from rmsprop.tune._storage import open_study
from rmsprop.tune._tune import check, check_whole, refuse_never_finite, search
from rmsprop.tune._url import opened_storage, optuna_or_refuse, quietly, refuse_private
from rmsprop.tune._workers import supervise

__all__ = ["TaskObjective", "prepared", "space_of", "stepper", "tune_task"]


def prepared(task: Task, *, quick: bool = False, device: str | None = None, threads: int | None = None) -> Task:
    """Return the task on a device, with a part of its data if `quick`, where it has such switches."""
    changes: dict[str, Any] = {}
    if quick and hasattr(task, "short"):
        changes["short"] = True
    if device is not None and (device != "cpu" or hasattr(task, "device")):
        changes["device"] = device
    if threads is not None and hasattr(task, "threads"):
        changes["threads"] = threads
    if "device" in changes and not hasattr(task, "device"):
        raise InputError(f"device={device!r}: {task.name} runs in NumPy, on the CPU")
    return dataclasses.replace(task, **changes) if changes else task


def space_of(task: Task) -> Space:
    """Return what is searched for a task: rates from the ends of its grid, the other switches its framework's own."""
    low, high = task.budget.grid[0], task.budget.grid[-1]
    base = Space().base
    if task.framework == "torch":
        from rmsprop.dialects import dialect

        base = dialect("torch")
    return Space(lr=(low / 10, high), base=base)


def stepper(framework: str, params: Any, *, setting: Setting) -> Callable[[Any], Any]:
    """Make what updates `params` by the setting; it is called with the gradients.

    Args:
        framework: "numpy" or "torch".
        params: What an optimizer of the framework takes. Written by every step.
        setting: Learning rate and rule.
    """
    if framework == "torch":
        from rmsprop.torch import RMSprop as TorchRMSprop

        optimizer = TorchRMSprop(params, lr=setting.lr, dialect=setting.rule)
        return lambda grads: optimizer.step()
    from rmsprop.numpy import RMSprop

    return RMSprop(params, lr=setting.lr, dialect=setting.rule).step


class TaskObjective:
    """What a setting reaches on a task.

    Args:
        task: What to train; its session must be open while this is called.
        data: What `task.load` returned.
        epochs: Per seed.
        seeds: Each trains once.
        make: What makes the optimizer, called as `stepper` is.
    """

    def __init__(
        self, task: Task, data: Data, *, epochs: int, seeds: tuple[int, ...], make: Callable[..., Any] | None = None
    ) -> None:
        self.task, self.data, self.epochs, self.seeds = task, data, epochs, seeds
        self.make = stepper if make is None else make

    def __call__(self, setting: Setting) -> float:
        """Train, reporting the score of every epoch, and return the mean of the late scores.

        Raises:
            Diverged: A loss is not finite.
        """
        reached = []
        for turn, seed in enumerate(self.seeds):
            scores = self._train(setting, seed, before=turn * self.epochs)
            reached.append(late(scores))
        return statistics.fmean(reached)

    def _train(self, setting: Setting, seed: int, *, before: int) -> list[float]:
        learner = self.task.learner(self.data, seed)
        course = fit(
            learner,
            self.make(self.task.framework, learner.params, setting=setting),
            split="valid",
            epochs=self.epochs,
            scored=lambda epoch, score, train_loss: setting.report(before + epoch, score),
        )
        if (diverged := course.diverged) is not None:
            raise Diverged(f"the loss is not finite at step {diverged.step}, first in {diverged.tensor}")
        return [score for score, _ in course.scores]


def tune_task(
    task: Task,
    *,
    trials: int,
    study: str,
    storage: Any,
    quick: bool = False,
    workers: int = 1,
    seed: int = 0,
    pruner: Any = "median",
    space: Space | None = None,
    listener: Callable[[Tuned], None] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Tuned:
    """Search the RMSprop that serves a task best.

    Args:
        task: What to train.
        trials: How many the study shall have in all.
        study: Its name.
        storage: Where it is kept; with several workers a URL.
        quick: The task's quick budget.
        workers: Processes at work at the same time.
        seed: Of the sampler.
        pruner: As in `rmsprop.tune`.
        space: What is searched. Default: `space_of(task)`.
        listener: Called when a trial has ended.
        say: Called with a line about a worker that died.

    Raises:
        InputError: An argument out of its domain, or a loss that was finite in no trial.
        StateError: The study asks another question, or every worker died.
        MissingDependency: Optuna or the task's data are not at hand.
    """
    check_whole(workers=workers, least=1)
    if workers > 1:
        refuse_private(storage, workers=workers)
    direction: Direction = "maximize" if task.metric.better == "higher" else "minimize"
    check(trials=trials, seed=seed, direction=direction, study=study, pruner=pruner)
    space = space_of(task) if space is None else space
    with task.session():
        data = task.load()
    budget = task.quick if quick else task.budget
    seeds = tuple(FIRST_TUNING_SEED + i for i in range(budget.tuning_seeds))
    if pruner == "median":
        # A setting that is slow in the first epochs may still be the best in the last ones.
        pruner = optuna_or_refuse().pruners.MedianPruner(
            n_startup_trials=5, n_warmup_steps=math.ceil(budget.epochs / 3)
        )
    protocol = {
        "task": task.name,
        "data": data.fingerprint,
        "epochs": budget.epochs,
        "seeds": list(seeds),
        "device": getattr(task, "device", "cpu"),
    }
    options: dict[str, Any] = {
        "trials": trials, "study": study, "direction": direction, "space": space, "pruner": pruner, "seed": seed,
        "protocol": protocol,
    }  # fmt: skip
    if workers == 1:
        with task.session():
            objective = TaskObjective(task, data, epochs=budget.epochs, seeds=seeds)
            found = search(objective, storage=storage, listener=listener, **options)
    else:
        del data
        with quietly(), opened_storage(storage) as kept:
            opened, _ = open_study(kept, study, direction=direction, space=space, protocol=protocol)
            share = max(1, (os.cpu_count() or 1) // workers)
            make = partial(TaskObjective, epochs=budget.epochs, seeds=seeds)
            job = (prepared(task, threads=share), make, storage, options)
            found = supervise(opened, job, workers, listener=listener, say=say)
    refuse_never_finite(found, trials)
    return found
