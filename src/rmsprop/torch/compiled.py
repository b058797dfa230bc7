"""The step inside torch.compile: one registered operator, no graph break, and no guard on the learning rate.

The compiler sees an operator that changes parameters and state and reads gradients. The numbers of the step (lr, alpha,
...) are looked up when the operator runs, so a scheduler that changes them causes no recompilation.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable, Iterable
from itertools import islice
from operator import is_
from typing import Any

import torch
from torch import Tensor

from rmsprop import _step
from rmsprop.torch.layout import align_grads
from rmsprop.torch.scalars import CLIP_EPS, find_clip_factor, read_rates, record_rate

__all__ = ["Traced", "prepare", "step"]

_optimizers: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


@dataclasses.dataclass(eq=False)
class Traced:
    """What tracing sees of an optimizer: plain lists of tensors, filled before the trace reads them.

    Attributes:
        number: The number by which the operator finds the optimizer.
        params: Parameters with a gradient, group by group.
        idle: Parameters without a gradient; if one gets a gradient, the step is traced again.
        state: For each group, for each key of the state, the tensors of its parameters.
        places: For each group, the places of its `params` in the group.
    """

    number: int
    params: list[Tensor] = dataclasses.field(default_factory=list)
    idle: list[Tensor] = dataclasses.field(default_factory=list)
    state: list[Tensor] = dataclasses.field(default_factory=list)
    places: list[list[int]] = dataclasses.field(default_factory=list)


@torch.library.custom_op("rmsprop::step_", mutates_args=("params", "state"))
def _operator(params: list[Tensor], grads: list[Tensor], state: list[Tensor], number: int) -> None:
    _run(_optimizers[number], params, grads, state)


@_operator.register_fake
def _(params: list[Tensor], grads: list[Tensor], state: list[Tensor], number: int) -> None:
    return None


def step(optimizer: Any, closure: Callable[[], Any] | None, grad_scale: Any, found_inf: Any) -> Any:
    """Trace one step. Hooks, GradScaler and parameters that the kernel cannot take break the graph."""
    scaled = grad_scale is not None or found_inf is not None or hasattr(optimizer, "found_inf")
    if scaled or optimizer._has_step_hooks():
        return _step_eagerly(optimizer, closure, grad_scale, found_inf)
    loss = None
    if closure is not None:
        with torch.enable_grad():
            loss = closure()
    if not optimizer._prepare_trace():
        _step_eagerly(optimizer, None, None, None)
        return loss
    traced = optimizer._traced
    for param in traced.idle:
        if param.grad is not None:  # read for the guard that it sets
            raise RuntimeError("a gradient that is made and used inside one compiled function; call step outside of it")
    torch.ops.rmsprop.step_(traced.params, [p.grad for p in traced.params], traced.state, traced.number)
    return loss


@torch.compiler.disable
def _step_eagerly(optimizer: Any, closure: Callable[[], Any] | None, grad_scale: Any, found_inf: Any) -> Any:
    return optimizer.step(closure, grad_scale=grad_scale, found_inf=found_inf)


def prepare(optimizer: Any) -> bool:
    """Create the state and list the tensors of one step; False if only an eager step can do it."""
    plans = [plan for plan, _, _ in optimizer._engine.find_plans(optimizer)]
    if not all(plan.takes_all() for plan in plans):
        return False
    traced = optimizer._traced = Traced(number=id(optimizer))
    for plan in plans:
        traced.places.append([i for i, p in enumerate(plan.params) if p.grad is not None])
        active = [plan.params[i] for i in traced.places[-1]]
        traced.params += active
        traced.idle += [p for p in plan.params if p.grad is None]
        traced.state += _list_state(optimizer, plan, active)
    _optimizers[traced.number] = optimizer
    return True


def _list_state(optimizer: Any, plan: Any, params: Iterable[Tensor]) -> list[Tensor]:
    """Return the state's tensors of some parameters of a group as they are now, key by key."""
    states = [optimizer.state[p] for p in params]
    return [state[key] for key in (*plan.keys, "step") for state in states]


def _run(optimizer: Any, params: list[Tensor], grads: list[Tensor], state: list[Tensor]) -> None:
    """Step the tensors that `prepare` listed, as the compiled graph passes them."""
    optimizer.__dict__["_opt_called"] = True
    traced = optimizer._traced
    work = [(plan, group, read_rates(group, number)) for plan, number, group in optimizer._engine.find_plans(optimizer)]
    rest = iter(traced.params)
    now = []
    for (plan, _, _), places in zip(work, traced.places):
        now += _list_state(optimizer, plan, islice(rest, len(places)))
    if len(now) != len(state) or not all(map(is_, now, traced.state)):
        # The state was reset or replaced since the trace: step what is there now, and trace again at the next call.
        optimizer._traced = None
        state = now
    aligned = align_grads(params, grads)[0]
    threads = torch.get_num_threads()
    args = _step.StepArgs(max_norm=optimizer.max_norm, norm_eps=CLIP_EPS, seed=optimizer.seed, threads=threads)
    if args.max_norm and len(work) > 1:
        optimizer.grad_norm = _step.core.global_norm(aligned, threads)
        args.scale, args.max_norm = find_clip_factor(optimizer.grad_norm, args.max_norm), 0.0
    params_left, grads_left, state_left = iter(params), iter(aligned), iter(state)
    for (plan, group, (args.lr, args.lr_max)), places in zip(work, traced.places):
        record_rate(group, args.lr_max)

        def take(source: Iterable[Tensor | None], plan: Any = plan, places: list[int] = places) -> list[Any]:
            """Take a group's tensors; None for parameters without a gradient, which count for the random numbers."""
            taken: list[Any] = [None] * len(plan.params)
            for i, tensor in zip(places, source):
                taken[i] = tensor
            return taken

        group_params, buffers = take(params_left), tuple(take(state_left) for _ in plan.keys)
        kernel = _step.core.Plan(plan.handle, group_params, buffers, take(state_left), None, plan.first)
        norm = _step.core.step(kernel, take(grads_left), args)
        optimizer.grad_norm = norm if args.max_norm else optimizer.grad_norm
