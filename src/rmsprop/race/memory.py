"""What an optimizer costs in memory: what it keeps, and what one step takes besides.

Measured on a learner of its own after three ordinary steps, never inside a timed trial. "Takes" is what the framework's
allocator hands out during the step: the highest total at one moment in NumPy (tracemalloc) and on CUDA devices
(torch's peak), and the sum of all pieces on the CPU in torch, whose profiler counts allocations. Memory that compiled
code takes for itself, outside of the framework, is not seen; this library's kernels take none.
"""

from __future__ import annotations

import itertools
import os
from typing import Any

from rmsprop.race.record import Memory
from rmsprop.race.stepper import Stepper
from rmsprop.race.task import Data, Task
from rmsprop.race.trial import prepared

__all__ = ["measure"]

STEPS_BEFORE = 3


def measure(task: Task, data: Data, optimizer: str, *, lr: float, seed: int) -> Memory:
    """Train a few steps and look at the last of them.

    Args:
        task: What to train.
        data: What `task.load` returned.
        optimizer: The optimizer's name.
        lr: Its learning rate.
        seed: Of the weights and batches.

    Raises:
        InputError: The optimizer does not exist in the task's framework.
    """
    learner, step = prepared(task, data, optimizer, lr=lr, seed=seed)
    grads = None
    # A task with fewer batches in an epoch goes on with the next.
    feed = (batch for epoch in itertools.count(1) for batch in learner.batches(epoch))
    for batch in itertools.islice(feed, STEPS_BEFORE):
        _, grads = learner.gradients(batch)
        step(grads)
    _, grads = learner.gradients(next(feed))
    taken = _taken_numpy(step, grads) if task.framework == "numpy" else _taken_torch(step, learner.params)
    return Memory(parameters=_count(learner.params), state_bytes=step.state_bytes(), step_bytes=taken)


def _count(params: Any) -> int:
    if isinstance(params, dict):
        return sum(array.size for array in params.values())
    return sum(param.numel() for param in params)


def _taken_numpy(step: Stepper, grads: Any) -> int | None:
    import tracemalloc

    # Somebody else is tracing: their peak is not ours to reset.
    if tracemalloc.is_tracing():
        return None
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        step(grads)
        return max(0, tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()


def _taken_torch(step: Stepper, params: Any) -> int | None:
    import torch

    device = params[0].device
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step(None)
        return max(0, torch.cuda.max_memory_allocated(device) - before)
    if device.type != "cpu":
        return None
    # Below this level Kineto greets on standard error, once per profile.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with torch.autograd.profiler.profile(profile_memory=True, use_kineto=False) as profile:
        step(None)
    return sum(max(0, event.self_cpu_memory_usage) for event in profile.function_events)
