"""The step inside torch.compile: one registered operator, no graph break, and no guard on the learning rate.

The compiler sees an operator that changes parameters and state and reads gradients. The numbers of the step (lr, alpha,
...) are looked up when the operator runs, so a scheduler that changes them recompiles nothing.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["Traced", "adopt", "step"]

_owners: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


class Traced:
    """What tracing sees of an optimizer: plain lists of tensors, filled before the trace reads them."""

    def __init__(self) -> None:
        self.params: list[Tensor] = []
        self.written: list[Tensor] = []


def adopt(optimizer: Any) -> int:
    """Return the number by which the operator finds an optimizer again, as long as it lives."""
    _owners[id(optimizer)] = optimizer
    return id(optimizer)


@torch.library.custom_op("rmsprop::step_", mutates_args=("params", "written"))
def _operator(params: list[Tensor], grads: list[Tensor], written: list[Tensor], owner: int) -> None:
    _owners[owner]._step_traced(params, grads, written)


@_operator.register_fake
def _(params: list[Tensor], grads: list[Tensor], written: list[Tensor], owner: int) -> None:
    return None


def step(optimizer: Any, closure: Callable[[], Any] | None) -> Any:
    """Trace one step; parameters that the kernel cannot take break the graph and step as usual."""
    loss = None
    if closure is not None:
        with torch.enable_grad():
            loss = closure()
    owner = optimizer._prepare_trace()
    if owner < 0:
        return _untraced(optimizer, loss)
    traced = optimizer._traced
    torch.ops.rmsprop.step_(traced.params, [p.grad for p in traced.params], traced.written, owner)
    return loss


@torch.compiler.disable
def _untraced(optimizer: Any, loss: Any) -> Any:
    optimizer._bare_step(None, grad_scale=None, found_inf=None)
    return loss
