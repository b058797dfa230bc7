"""The step inside torch.compile: one registered operator, no graph break, and no guard on the learning rate.

The compiler sees an operator that changes parameters and state and reads gradients. The numbers of the step (lr, alpha,
...) are looked up when the operator runs, so a scheduler that changes them recompiles nothing.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from itertools import islice
from operator import is_
from typing import Any

import torch
from torch import Tensor

from rmsprop import _step
from rmsprop.torch import hooks
from rmsprop.torch.engine import CLIP_EPS, factor, rates
from rmsprop.torch.layout import align_grads

__all__ = ["Traced", "prepare", "step"]

_owners: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


class Traced:
    """What tracing sees of an optimizer: plain lists of tensors, filled before the trace reads them.

    Attributes:
        owner: The number by which the operator finds the optimizer again, as long as it lives.
        params: Parameters with a gradient, group by group.
        idle: Parameters without one; a gradient of theirs asks for a new trace.
        written: For each group, for each key of the state, the tensors of its parameters.
        places: For each group, the places of its `params` in the group.
    """

    def __init__(self) -> None:
        self.owner = -1
        self.params: list[Tensor] = []
        self.idle: list[Tensor] = []
        self.written: list[Tensor] = []
        self.places: list[list[int]] = []


@torch.library.custom_op("rmsprop::step_", mutates_args=("params", "written"))
def _operator(params: list[Tensor], grads: list[Tensor], written: list[Tensor], owner: int) -> None:
    _run(_owners[owner], params, grads, written)


@_operator.register_fake
def _(params: list[Tensor], grads: list[Tensor], written: list[Tensor], owner: int) -> None:
    return None


def step(optimizer: Any, closure: Callable[[], Any] | None, grad_scale: Any, found_inf: Any) -> Any:
    """Trace one step; hooks, GradScaler, and parameters that the kernel cannot take break the graph."""
    scaled = grad_scale is not None or found_inf is not None or hasattr(optimizer, "found_inf")
    if scaled or hooks.heard(optimizer):
        return _eager(optimizer, closure, grad_scale, found_inf)
    loss = None
    if closure is not None:
        with torch.enable_grad():
            loss = closure()
    if not optimizer._prepare_trace():
        _eager(optimizer, None, None, None)
        return loss
    traced = optimizer._traced
    for param in traced.idle:
        if param.grad is not None:  # asked for the guard that it sets
            raise RuntimeError("a gradient that is made and used inside one compiled function; call step outside of it")
    torch.ops.rmsprop.step_(traced.params, [p.grad for p in traced.params], traced.written, traced.owner)
    return loss


@torch.compiler.disable
def _eager(optimizer: Any, closure: Callable[[], Any] | None, grad_scale: Any, found_inf: Any) -> Any:
    return optimizer.step(closure, grad_scale=grad_scale, found_inf=found_inf)


def prepare(optimizer: Any) -> bool:
    """Create the state and list what one step touches; False: only an eager step can do it."""
    plans = [plan for plan, _, _ in optimizer._engine.current(optimizer)]
    if not all(plan.takes_all() for plan in plans):
        return False
    traced = optimizer._traced
    traced.params, traced.idle, traced.written, traced.places = [], [], [], []
    for plan in plans:
        places = [i for i, p in enumerate(plan.params) if p.grad is not None]
        active = [plan.params[i] for i in places]
        traced.params += active
        traced.idle += [p for p in plan.params if p.grad is None]
        traced.places.append(places)
        traced.written += [optimizer.state[p][key] for key in (*plan.keys, "step") for p in active]
    _owners[id(optimizer)] = optimizer
    traced.owner = id(optimizer)
    return True


def _run(optimizer: Any, params: list[Tensor], grads: list[Tensor], written: list[Tensor]) -> None:
    """Step the tensors that `prepare` listed, as the compiled graph hands them over."""
    optimizer.__dict__["_opt_called"] = True
    traced = optimizer._traced
    work = [(plan, rates(group, number)) for plan, number, group in optimizer._engine.current(optimizer)]
    now = _written(optimizer, traced, [plan.keys for plan, _ in work])
    if len(now) != len(written) or not all(map(is_, now, traced.written)):
        # The state was reset or replaced since the trace: step what is there now, and trace again at the next call.
        optimizer._traced = Traced()
        written = now
    aligned = align_grads(params, grads)[0]
    threads = torch.get_num_threads()
    args = _step.StepArgs(max_norm=optimizer.max_norm, norm_eps=CLIP_EPS, seed=optimizer.seed, threads=threads)
    if args.max_norm and len(work) > 1:
        optimizer.grad_norm = _step.core.global_norm(aligned, threads)
        args.scale, args.max_norm = factor(optimizer.grad_norm, args.max_norm), 0.0
    one_each, of_state = iter(zip(params, aligned)), iter(written)
    for (plan, (args.lr, args.lr_max)), places in zip(work, traced.places):
        # Random numbers go by a parameter's place among all, and those without a gradient have one too.
        size = len(plan.params)
        used = list(islice(one_each, len(places)))
        buffers = [_spread(size, places, islice(of_state, len(places))) for _ in plan.keys]
        steps = _spread(size, places, islice(of_state, len(places)))
        kernel = _step.core.Plan(
            plan.handle, _spread(size, places, [p for p, _ in used]), tuple(buffers), steps, None, plan.first
        )
        norm = _step.core.step(kernel, _spread(size, places, [g for _, g in used]), args)
        optimizer.grad_norm = norm if args.max_norm else optimizer.grad_norm


def _written(optimizer: Any, traced: Traced, keys: list[tuple[str, ...]]) -> list[Tensor]:
    """Return the state's tensors of the traced parameters as they are now, by group and key."""
    now = []
    rest = iter(traced.params)
    for names, places in zip(keys, traced.places):
        states = [optimizer.state[p] for p in islice(rest, len(places))]
        now += [state[name] for name in (*names, "step") for state in states]
    return now


def _spread(size: int, places: list[int], items: Iterable[Tensor | None]) -> list[Any]:
    """Return `size` items with None at all other places."""
    spread: list[Any] = [None] * size
    for i, item in zip(places, items):
        spread[i] = item
    return spread
