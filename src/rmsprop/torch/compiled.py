"""The step inside torch.compile: one registered operator, no graph break, and no guard on the learning rate.

The compiler sees an operator that changes parameters and state and reads gradients. The numbers of the step (lr, alpha,
...) are looked up when the operator runs, so a scheduler that changes them recompiles nothing.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from itertools import chain, islice
from operator import is_
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rmsprop import _step
from rmsprop.torch import hooks
from rmsprop.torch.execute import factor, regular, step_list
from rmsprop.torch.plan import rates

if TYPE_CHECKING:
    from rmsprop.torch.optimizer import RMSprop

__all__ = ["Traced", "prepare", "step"]

_owners: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


class Traced:
    """What tracing sees of an optimizer: plain lists of tensors, filled before the trace reads them.

    Attributes:
        owner: The number by which the operator finds the optimizer again, as long as it lives.
        params: Parameters with a gradient, group by group.
        idle: Parameters without one; a gradient of theirs asks for a new trace.
        written: For each group, for each key of the state, the tensors of its parameters.
        counts: For each group, how many of `params` are its.
    """

    def __init__(self) -> None:
        self.owner = -1
        self.params: list[Tensor] = []
        self.idle: list[Tensor] = []
        self.written: list[Tensor] = []
        self.counts: list[int] = []


@torch.library.custom_op("rmsprop::step_", mutates_args=("params", "written"))
def _operator(params: list[Tensor], grads: list[Tensor], written: list[Tensor], owner: int) -> None:
    _run(_owners[owner], params, grads, written)


@_operator.register_fake
def _(params: list[Tensor], grads: list[Tensor], written: list[Tensor], owner: int) -> None:
    return None


def step(optimizer: RMSprop, closure: Callable[[], Any] | None, grad_scale: Any, found_inf: Any) -> Any:
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
def _eager(optimizer: RMSprop, closure: Callable[[], Any] | None, grad_scale: Any, found_inf: Any) -> Any:
    return optimizer.step(closure, grad_scale=grad_scale, found_inf=found_inf)


def prepare(optimizer: RMSprop) -> bool:
    """Create the state and list what one step touches; False: only an eager step can do it."""
    plans = [optimizer._plan(number, group) for number, group in enumerate(optimizer.param_groups)]
    if not all(plan.takes_all() for plan in plans):
        return False
    traced = optimizer._traced
    traced.params, traced.idle, traced.written, traced.counts = [], [], [], []
    for plan in plans:
        active = [(p, s) for p, s in zip(plan.params, plan.states) if p.grad is not None]
        traced.params += [p for p, _ in active]
        traced.idle += [p for p in plan.everything if p.grad is None]
        traced.counts.append(len(active))
        traced.written += [s[key] for key in (*plan.keys, "step") for _, s in active]
    _owners[id(optimizer)] = optimizer
    traced.owner = id(optimizer)
    return True


def _run(optimizer: RMSprop, params: list[Tensor], grads: list[Tensor], written: list[Tensor]) -> None:
    """Step the tensors that `prepare` listed, as the compiled graph hands them over."""
    optimizer.__dict__["_opt_called"] = True
    traced = optimizer._traced
    work = [(optimizer._plan(n, g), rates(g, n)) for n, g in enumerate(optimizer.param_groups)]
    now = _lists(optimizer, traced, [plan.keys for plan, _ in work])
    if not all(map(is_, chain(*now), traced.written)) or sum(map(len, now)) != len(traced.written):
        # The state was reset or replaced since the trace: step what is there now, and trace again at the next call.
        optimizer._traced = Traced()
        lists = iter(now)
    else:
        rest = iter(written)
        lists = iter([list(islice(rest, len(one))) for one in now])
    straight = regular(params, list(grads))[0]
    scale, max_norm = 1.0, optimizer.max_norm
    if max_norm and len(work) > 1:
        optimizer.grad_norm = _step.core.global_norm(straight, torch.get_num_threads())
        scale, max_norm = factor(optimizer.grad_norm, max_norm), 0.0
    first = begin = 0
    for (plan, rate), count in zip(work, traced.counts):
        end = begin + count
        buffers = tuple(islice(lists, len(plan.keys)))
        # Random numbers go by a parameter's place among all, and those without a gradient have one too.
        own = dict.fromkeys(map(id, traced.params[begin:end]))
        place = [id(p) in own for p in plan.params]
        spread_params, spread_grads = _spread(place, params[begin:end]), _spread(place, straight[begin:end])
        steps = _spread(place, next(lists))
        norm = step_list(
            plan, spread_params, spread_grads, tuple(_spread(place, one) for one in buffers), steps, rate,
            scale=scale, max_norm=max_norm, seed=optimizer.seed, first=first,
        )  # fmt: skip
        optimizer.grad_norm = norm if max_norm else optimizer.grad_norm
        first, begin = first + len(plan.everything), end


def _lists(optimizer: RMSprop, traced: Traced, keys: list[tuple[str, ...]]) -> list[list[Tensor]]:
    """Return the state's tensors of the traced parameters as they are now, a list for each key of each group."""
    lists = []
    begin = 0
    for names, count in zip(keys, traced.counts):
        states = [optimizer.state[p] for p in traced.params[begin : begin + count]]
        lists += [[state[name] for state in states] for name in (*names, "step")]
        begin += count
    return lists


def _spread(place: list[bool], items: Sequence[Tensor | None]) -> list[Any]:
    """Return items with None at the places that have none."""
    rest = iter(items)
    return [next(rest) if there else None for there in place]
