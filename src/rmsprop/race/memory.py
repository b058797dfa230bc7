"""The memory of an optimizer: the size of its state, and what a step allocates in addition.

Measured on a learner of its own after three ordinary steps, never inside a timed trial. What a step allocates is the
peak during the step in NumPy (tracemalloc) and on CUDA devices (torch's peak), and the sum of all allocations on the
CPU in torch, whose profiler counts them. Memory that compiled code allocates outside of the framework is not seen;
this library's kernels allocate none.
"""

from __future__ import annotations

import itertools
import os
from typing import Any

from rmsprop.race.record import Memory
from rmsprop.race.stepper import Stepper
from rmsprop.race.task import Data, Task
from rmsprop.race.trial import prepare

__all__ = ["measure"]

STEPS_BEFORE = 3


def measure(task: Task, data: Data, optimizer: str, *, lr: float, seed: int) -> Memory:
    """Train for a few steps and measure the last."""
    learner, step = prepare(task, data, optimizer, lr=lr, seed=seed)
    batches = (batch for epoch in itertools.count(1) for batch in learner.batches(epoch))
    for batch in itertools.islice(batches, STEPS_BEFORE):
        step(learner.gradients(batch)[1])
    _, grads = learner.gradients(next(batches))
    params = learner.params
    if task.framework == "numpy":
        parameters, step_bytes = sum(array.size for array in params.values()), _measure_numpy(step, grads)
    else:
        parameters, step_bytes = sum(param.numel() for param in params), _measure_torch(step, params[0].device)
    return Memory(parameters=parameters, state_bytes=step.state_bytes(), step_bytes=step_bytes)


def _measure_numpy(step: Stepper, grads: Any) -> int | None:
    import tracemalloc

    # The caller traces allocations: resetting the peak would spoil that measurement.
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


def _measure_torch(step: Stepper, device: Any) -> int | None:
    import torch

    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step(None)
        return max(0, torch.cuda.max_memory_allocated(device) - before)
    if device.type != "cpu":
        return None
    # Below this level Kineto writes a line to standard error for each profile.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with torch.autograd.profiler.profile(profile_memory=True, use_kineto=False) as profile:
        step(None)
    return sum(max(0, event.self_cpu_memory_usage) for event in profile.function_events)
