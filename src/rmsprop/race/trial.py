"""Run one trial: one optimizer, one learning rate, one seed. `fit` is the one training loop of races and of tuning.

`step` alone is timed, with time.perf_counter around each call. Between steps the state is looked at: at steps 1, 2, 5,
10, 20, ... of a reported trial, for the effective learning rate. That look, the scoring and the display count neither
as step nor as training.
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
from rmsprop.race.stepper import Stepper, growing
from rmsprop.race.task import Data, Learner, Split, Task

__all__ = ["Course", "Epoch", "Stepped", "fit", "prepared", "train"]

SECONDS_BETWEEN_SIGNS = 0.1
"""How often a long epoch says that it is alive."""


@dataclasses.dataclass(frozen=True)
class Stepped:
    """A trial is within epoch `epoch`, counted from 1, and has done `steps` steps of it."""

    job: Job
    epoch: int
    steps: int


@dataclasses.dataclass(frozen=True)
class Epoch:
    """A trial has ended an epoch, counted from 1."""

    job: Job
    epoch: int
    score: float
    train_loss: float


@dataclasses.dataclass
class Course:
    """How a training went.

    Attributes:
        scores: Score and loss after each epoch.
        train_loss: The mean over each epoch's batches, before their steps.
        steps: Done in all.
        step_seconds: Spent in them.
        aside_seconds: Spent in scoring and in the two callbacks.
        diverged: What ended it early.
    """

    scores: list[tuple[float, float]] = dataclasses.field(default_factory=list)
    train_loss: list[float] = dataclasses.field(default_factory=list)
    steps: int = 0
    step_seconds: float = 0.0
    aside_seconds: float = 0.0
    diverged: Diverged | None = None


def prepared(task: Task, data: Data, optimizer: str, *, lr: float, seed: int) -> tuple[Learner, Stepper]:
    """Build a learner and the optimizer that updates it; gradients are dense where the optimizer wants them so."""
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
    stepped: Callable[[int, int, int], None] = lambda epoch, within, steps: None,
    scored: Callable[[int, float, float], None] = lambda epoch, score, train_loss: None,
) -> Course:
    """Train; a loss that is not finite ends it and is recorded, not raised.

    Args:
        learner: Model and batches. Written by every step.
        step: Updates the learner's parameters; called with the gradients.
        split: What is scored after each epoch.
        epochs: How many.
        stepped: Called after each step with the epoch, the steps of this epoch and the steps in all.
        scored: Called after each epoch with its score and mean training loss. What either raises ends the training.

    Returns:
        Scores, losses and times, up to where it ended.
    """
    clock = time.perf_counter
    course = Course()
    # A diverging training overflows before it is noticed; that is a result here, not a warning.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for epoch in range(1, epochs + 1):
            losses: list[float] = []
            grads = None
            for batch in learner.batches(epoch):
                loss, grads = learner.gradients(batch)
                if not math.isfinite(loss):
                    course.diverged = Diverged(step=course.steps + 1, tensor=learner.find_nonfinite(grads))
                    return course
                losses.append(loss)
                before = clock()
                step(grads)
                after = clock()
                course.step_seconds += after - before
                course.steps += 1
                stepped(epoch, len(losses), course.steps)
                course.aside_seconds += clock() - after
            before = clock()
            score = learner.score(split)
            if not all(map(math.isfinite, score)):
                course.diverged = Diverged(step=course.steps, tensor=learner.find_nonfinite(grads))
                course.aside_seconds += clock() - before
                return course
            course.scores.append(score)
            course.train_loss.append(math.fsum(losses) / len(losses))
            scored(epoch, score[0], course.train_loss[-1])
            course.aside_seconds += clock() - before
    return course


def train(
    task: Task,
    data: Data,
    job: Job,
    *,
    epochs: int,
    listener: Callable[[Any], None] = lambda event: None,
    look: Callable[[Learner], Any] | None = None,
) -> Trial:
    """Run one trial.

    Args:
        task: What to train.
        data: What `task.load` returned.
        job: Optimizer, learning rate, seed, and what it is scored on.
        epochs: How many.
        listener: Called between steps and epochs.
        look: Called with the learner at the end, unless it diverged; its time counts nowhere.
    """
    clock = time.perf_counter
    began = clock()
    learner, step = prepared(task, data, job.optimizer, lr=job.lr, seed=job.seed)
    untrained = learner.score(job.split)
    effective: list[tuple[float, ...]] = []
    looks = growing() if job.phase == "final" else iter(())
    next_look, signed = next(looks, 0), clock()

    def stepped(epoch: int, within: int, steps: int) -> None:
        nonlocal next_look, signed
        if steps == next_look:
            next_look = next(looks)
            if (point := step.effective_lr()) is not None:
                effective.append((steps, *point))
        if (now := clock()) - signed > SECONDS_BETWEEN_SIGNS:
            signed = now
            listener(Stepped(job, epoch, within))

    def scored(epoch: int, score: float, train_loss: float) -> None:
        listener(Epoch(job, epoch, score, train_loss))

    started = clock()
    course = fit(learner, step, split=job.split, epochs=epochs, stepped=stepped, scored=scored)
    ended = clock()
    if look is not None and course.diverged is None:
        look(learner)
    curve = [untrained, *course.scores]
    return Trial(
        job=job,
        score=tuple(point[0] for point in curve),
        loss=tuple(point[1] for point in curve),
        train_loss=tuple(course.train_loss),
        steps=course.steps,
        step_seconds=course.step_seconds,
        seconds=ended - began,
        train_seconds=ended - started - course.aside_seconds,
        diverged=course.diverged,
        effective_lr=tuple(effective),
    )
