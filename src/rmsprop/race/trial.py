"""Run one trial: one optimizer, one learning rate, one seed.

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

from rmsprop.race import contestant
from rmsprop.race.record import Diverged, Job, Trial
from rmsprop.race.stepper import Stepper, growing
from rmsprop.race.task import Data, Learner, Task

__all__ = ["Epoch", "Stepped", "prepared", "train"]

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


def prepared(task: Task, data: Data, rival: str, *, lr: float, seed: int) -> tuple[Learner, Stepper]:
    """Build a learner and the optimizer that updates it; gradients are dense where the optimizer wants them so."""
    learner = task.learner(data, seed)
    runner = contestant.get(rival)
    sparse = getattr(learner, "sparse", False)
    if sparse and runner.host(task.framework).sparse is None:
        learner.make_dense()  # type: ignore[attr-defined]
        sparse = False
    return learner, runner.stepper(task.framework, learner.params, lr=lr, sparse=sparse)


def train(
    task: Task,
    data: Data,
    job: Job,
    *,
    epochs: int,
    listener: Callable[[Any], None] = lambda event: None,
    look: Callable[[Learner], Any] | None = None,
) -> Trial:
    """Run one trial; a loss that is not finite ends it and is recorded, not raised.

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
    learner, step = prepared(task, data, job.rival, lr=job.lr, seed=job.seed)
    curve = [learner.score(job.split)]
    started = clock()
    train_loss: list[float] = []
    effective: list[tuple[float, ...]] = []
    looks = growing() if job.phase == "final" else iter(())
    next_look, signed = next(looks, 0), clock()
    steps, step_seconds, aside = 0, 0.0, 0.0
    diverged = None
    # A diverging trial overflows before it is noticed; that is a result here, not a warning.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for epoch in range(1, epochs + 1):
            losses: list[float] = []
            for batch in learner.batches(epoch):
                loss, grads = learner.gradients(batch)
                if not math.isfinite(loss):
                    diverged = Diverged(step=steps + 1, tensor=learner.culprit(grads))
                    break
                losses.append(loss)
                before = clock()
                step(grads)
                after = clock()
                step_seconds += after - before
                steps += 1
                if steps == next_look:
                    next_look = next(looks)
                    if (point := step.effective_lr()) is not None:
                        effective.append((steps, *point))
                if after - signed > SECONDS_BETWEEN_SIGNS:
                    signed = after
                    listener(Stepped(job, epoch, len(losses)))
                aside += clock() - after
            before = clock()
            scored = learner.score(job.split)
            aside += clock() - before
            if diverged is None and not all(map(math.isfinite, scored)):
                diverged = Diverged(step=steps, tensor=learner.culprit(grads))
            if diverged is not None:
                break
            curve.append(scored)
            train_loss.append(math.fsum(losses) / len(losses))
            before = clock()
            listener(Epoch(job, epoch, scored[0], train_loss[-1]))
            aside += clock() - before
    ended = clock()
    if look is not None and diverged is None:
        look(learner)
    return Trial(
        job=job,
        score=tuple(point[0] for point in curve),
        loss=tuple(point[1] for point in curve),
        train_loss=tuple(train_loss),
        steps=steps,
        step_seconds=step_seconds,
        seconds=ended - began,
        train_seconds=ended - started - aside,
        diverged=diverged,
        effective_lr=tuple(effective),
    )
