"""What an optimizer costs in memory: what it keeps, and what one step takes besides.

Measured on a learner of its own after three ordinary steps, never inside a timed trial. "Takes" is what the framework's
allocator hands out during the step: the highest total at one moment in NumPy (tracemalloc) and on CUDA devices
(torch's peak), and the sum of all pieces on the CPU in torch, whose profiler counts allocations. Memory that compiled
code takes for itself, outside of the framework, is not seen; this library's kernels take none.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from typing import Any

from rmsprop.race.stepper import Stepper
from rmsprop.race.task import Data, Task

__all__ = ["Memory", "measure"]

STEPS_BEFORE = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
    """One optimizer's memory.

    Attributes:
        parameters: How many numbers it updates.
        state_bytes: What it keeps from step to step.
        step_bytes: What one step takes besides; None where that cannot be measured.
    """

    parameters: int
    state_bytes: int
    step_bytes: int | None

    @property
    def state_per_parameter(self) -> float:
        """Bytes kept per parameter."""
        return self.state_bytes / max(self.parameters, 1)

    @property
    def step_per_parameter(self) -> float | None:
        """Bytes taken in a step per parameter."""
        return None if self.step_bytes is None else self.step_bytes / max(self.parameters, 1)


def measure(task: Task, data: Data, rival: str, *, lr: float, seed: int) -> Memory:
    """Train a few steps and look at the last of them.

    Args:
        task: What to train.
        data: What `task.load` returned.
        rival: The optimizer's name.
        lr: Its learning rate.
        seed: Of the weights and batches.

    Raises:
        InputError: The optimizer does not exist in the task's framework.
    """
    # record.py, which trial.py imports, knows Memory.
    from rmsprop.race.trial import prepared

    learner, step = prepared(task, data, rival, lr=lr, seed=seed)
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
