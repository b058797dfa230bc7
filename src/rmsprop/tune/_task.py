"""A benchmark task as an objective, for one process or several.

A setting's value is the metric on the validation examples over the last quarter of the epochs, as a mean over the
task's tuning seeds: the score by which the benchmark chooses learning rates. Every setting trains with the same seeds,
so with the same initial weights and batches.
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
from rmsprop.race.record import FIRST_TUNING_SEED, average_last_quarter
from rmsprop.race.task import Data, Task
from rmsprop.race.trial import fit
from rmsprop.tune._search import raise_if_never_finite, search
from rmsprop.tune._space import Diverged, Setting, Space
from rmsprop.tune._storage import import_optuna, require_shared_storage
from rmsprop.tune._study import Options, TuneResult, check_integer
from rmsprop.tune._workers import run_workers

__all__ = ["TaskObjective", "build_space", "build_step", "prepare_task", "tune_task"]


def prepare_task(task: Task, *, quick: bool = False, device: str | None = None, threads: int | None = None) -> Task:
    """Return the task on a device, with part of its data if `quick`, where the task has these options."""
    if task.framework == "torch":
        return task.configure(device=device, threads=threads, short=quick or None)
    if device not in (None, "cpu"):
        raise InputError(f"device={device!r}: {task.name} runs in NumPy, on the CPU")
    return task


def build_space(task: Task) -> Space:
    """Return the space for a task: lr from a decade below the task's grid to its end, and its framework's own rule."""
    lr = (task.budget.grid[0] / 10, task.budget.grid[-1])
    if task.framework == "torch":
        from rmsprop.dialects import dialect

        return Space(lr=lr, base=dialect("torch"))
    return Space(lr=lr)


def build_step(framework: str, params: Any, *, setting: Setting) -> Callable[[Any], Any]:
    """Return a function of the gradients that updates `params` with the setting's optimizer."""
    if framework == "torch":
        from rmsprop.torch import RMSprop as TorchRMSprop

        optimizer = TorchRMSprop(params, lr=setting.lr, dialect=setting.rule)
        return lambda grads: optimizer.step()
    from rmsprop.numpy import RMSprop

    return RMSprop(params, lr=setting.lr, dialect=setting.rule).step


@dataclasses.dataclass
class TaskObjective:
    """The score that a setting reaches on a task; the task's session must be open during a call."""

    task: Task
    data: Data
    epochs: int  # per seed
    seeds: tuple[int, ...]  # each trains once
    build: Callable[..., Callable[[Any], Any]] = build_step  # builds the optimizer

    def __call__(self, setting: Setting) -> float:
        """Train, report the score of every epoch, and return the mean of the late scores.

        Raises:
            Diverged: A loss is not finite.
        """
        return statistics.fmean(self._train(setting, *turn) for turn in enumerate(self.seeds))

    def _train(self, setting: Setting, turn: int, seed: int) -> float:
        learner = self.task.learner(self.data, seed)
        course = fit(
            learner,
            self.build(self.task.framework, learner.params, setting=setting),
            split="valid",
            epochs=self.epochs,
            on_epoch=lambda epoch, score: setting.report(turn * self.epochs + epoch, score),
        )
        if course.diverged is not None:
            raise Diverged(f"the loss is not finite at step {course.diverged.step}, first in {course.diverged.tensor}")
        return average_last_quarter([score for score, _ in course.scores])


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
    listener: Callable[[TuneResult], None] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> TuneResult:
    """Search the RMSprop that reaches the best score on a task; arguments and errors as in `rmsprop.tune`.

    Args:
        task: What to train.
        trials: The number that the study shall have in all.
        study: The study's name.
        storage: With several workers, a URL.
        quick: Use the task's quick budget.
        workers: Processes at the same time, at most as many as trials and as CPU cores.
        seed: Seed of the sampler.
        pruner: As in `rmsprop.tune`.
        listener: Called with the result so far when a trial has ended.
        say: Called with a line for the user, about workers that were not started or that died.
    """
    check_integer("workers", workers, least=1)
    if workers > 1:
        require_shared_storage(storage, workers=workers)
    budget = task.quick if quick else task.budget
    seeds = tuple(FIRST_TUNING_SEED + i for i in range(budget.tuning_seeds))
    if pruner == "median":
        # A setting that is slow in the first epochs may still be the best in the last ones.
        warmup = math.ceil(budget.epochs / 3)
        pruner = import_optuna().pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=warmup)
    options = Options(
        trials=trials,
        study=study,
        storage=storage,
        direction="maximize" if task.metric.better == "higher" else "minimize",
        space=build_space(task),
        pruner=pruner,
        seed=seed,
        protocol={},
    )
    cores = os.cpu_count() or 1
    if workers > (most := min(trials, cores)):
        say(f"workers={workers}: only {most} started, for {trials} trials and {cores} CPU cores.")
        workers = most
    with task.session():
        data = task.load()
        protocol = {"task": task.name, "epochs": budget.epochs, "seeds": seeds, "device": task.device}
        options = dataclasses.replace(options, protocol={"data": data.fingerprint, **protocol})
        if workers == 1:
            result = search(TaskObjective(task, data, budget.epochs, seeds), options, listener=listener)
    if workers > 1:
        del data
        job = partial(search_task, prepare_task(task, threads=max(1, cores // workers)), budget.epochs, seeds)
        result = run_workers(job, workers, options, listener=listener, say=say)
    raise_if_never_finite(result, trials)
    return result


def search_task(task: Task, epochs: int, seeds: tuple[int, ...], options: Options, **callbacks: Any) -> TuneResult:
    """Load the task in this process and search."""
    with task.session():
        return search(TaskObjective(task, task.load(), epochs, seeds), options, **callbacks)
