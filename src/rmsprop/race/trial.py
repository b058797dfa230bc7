"""Run one trial: one optimizer, one learning rate, one seed. `fit` is the training loop of benchmarks and of tuning.

Only the calls of `step` are timed as steps, with time.perf_counter. At steps 1, 2, 5, 10, 20, ... of a reported trial
the effective learning rate is measured. The time of that, of scoring and of the display counts neither as step nor as
training.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from rmsprop.race import choice
from rmsprop.race.record import Diverged, Job, Trial
from rmsprop.race.stepper import Stepper
from rmsprop.race.task import Data, Learner, Split, Task

__all__ = ["Progress", "Training", "fit", "prepare", "train"]

SECONDS_BETWEEN_EVENTS = 0.1


@dataclasses.dataclass(frozen=True)
class Progress:
    """A trial has done `steps` steps of epoch `epoch`, counted from 1; or has ended it with `score`."""

    job: Job
    epoch: int
    steps: int
    score: float | None = None


@dataclasses.dataclass
class Training:
    """What `fit` measured."""

    # Score and loss after each epoch; the mean over its batches, each before its step.
    scores: list[tuple[float, float]] = dataclasses.field(default_factory=list)
    train_loss: list[float] = dataclasses.field(default_factory=list)
    steps: int = 0
    step_seconds: float = 0.0  # all steps together
    excluded_seconds: float = 0.0  # scoring and the two callbacks
    diverged: Diverged | None = None  # why it ended early


def prepare(task: Task, data: Data, optimizer: str, *, lr: float, seed: int) -> tuple[Learner, Stepper]:
    """Build a learner and its optimizer; gradients are dense if the optimizer does not accept sparse ones."""
    learner = task.learner(data, seed)
    sparse = getattr(learner, "sparse", False)
    if sparse and choice.get(optimizer).build(task.framework).sparse is None:
        learner.make_dense()  # type: ignore[attr-defined]
        sparse = False
    return learner, choice.make_stepper(optimizer, task.framework, learner.params, lr=lr, sparse=sparse)


def fit(
    learner: Learner,
    step: Callable[[Any], Any],
    *,
    split: Split,
    epochs: int,
    on_step: Callable[[int, int, int], None] = lambda epoch, within, steps: None,
    on_epoch: Callable[[int, float], None] = lambda epoch, score: None,
) -> Training:
    """Train until the last epoch or until a loss is not finite, which is recorded and raises nothing.

    `step` is called with the gradients and updates the learner's parameters. `on_step` is called after each step with
    the epoch, the steps of this epoch and the steps in all; `on_epoch` after each epoch with the epoch and its score
    on `split`. Their exceptions pass through.
    """
    clock = time.perf_counter
    training = Training()
    # A diverging training overflows before its loss is NaN: that is a result here, and no warning is wanted.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for epoch in range(1, epochs + 1):
            losses: list[float] = []
            grads = None
            for batch in learner.batches(epoch):
                loss, grads = learner.gradients(batch)
                if not math.isfinite(loss):
                    training.diverged = Diverged(step=training.steps + 1, tensor=learner.find_nonfinite(grads))
                    return training
                losses.append(loss)
                before = clock()
                step(grads)
                after = clock()
                training.step_seconds += after - before
                training.steps += 1
                on_step(epoch, len(losses), training.steps)
                training.excluded_seconds += clock() - after
            before = clock()
            score = learner.score(split)
            if all(map(math.isfinite, score)):
                training.scores.append(score)
                training.train_loss.append(math.fsum(losses) / len(losses))
                on_epoch(epoch, score[0])
            else:
                training.diverged = Diverged(step=training.steps, tensor=learner.find_nonfinite(grads))
            training.excluded_seconds += clock() - before
            if training.diverged is not None:
                break
    return training


def train(
    task: Task,
    data: Data,
    job: Job,
    *,
    epochs: int,
    listener: Callable[[Any], None] = lambda event: None,
    on_end: Callable[[Learner], Any] = lambda learner: None,
) -> Trial:
    """Run one trial.

    `listener` is called with `Progress`, outside of timed steps, at the end of each epoch and in long epochs now and
    then; `on_end` with the trained learner, unless it diverged, and its time is not counted.
    """
    clock = time.perf_counter
    began = clock()
    learner, step = prepare(task, data, job.optimizer, lr=job.lr, seed=job.seed)
    untrained = learner.score(job.split)
    effective: list[tuple[float, ...]] = []
    last_event = clock()

    def on_step(epoch: int, within: int, steps: int) -> None:
        nonlocal last_event
        is_measured = job.phase == "final" and str(steps).rstrip("0") in ("1", "2", "5")
        if is_measured and (quantiles := step.effective_lr()) is not None:
            effective.append((steps, *quantiles))
        if (now := clock()) - last_event > SECONDS_BETWEEN_EVENTS:
            last_event = now
            listener(Progress(job, epoch, within))

    started = clock()
    training = fit(
        learner,
        step,
        split=job.split,
        epochs=epochs,
        on_step=on_step,
        on_epoch=lambda epoch, score: listener(Progress(job, epoch, 0, score)),
    )
    ended = clock()
    if training.diverged is None:
        on_end(learner)
    score, loss = zip(untrained, *training.scores)
    return Trial(
        **dataclasses.asdict(job),
        score=score,
        loss=loss,
        train_loss=tuple(training.train_loss),
        steps=training.steps,
        step_seconds=training.step_seconds,
        seconds=ended - began,
        train_seconds=ended - started - training.excluded_seconds,
        diverged=training.diverged,
        effective_lr=tuple(effective),
    )
