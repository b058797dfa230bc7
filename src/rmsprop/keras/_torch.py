"""The compiled step for CPU variables of Keras's torch backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from rmsprop import _step
from rmsprop.rule import Rule

__all__ = ["is_plain", "kernel_step"]

_TYPES = (torch.Tensor, torch.nn.Parameter)
_DTYPES = frozenset({torch.float32, torch.float64, torch.bfloat16, torch.float16})
_READY = _step.accept_tensors(*_TYPES)


def is_plain(variable: Any, grad: Any, buffers: Sequence[Any]) -> bool:
    """Whether the kernel can take a variable as it is; a variable inside a stateless scope must not be written."""
    if not _READY or torch.compiler.is_compiling():
        return False
    tensors = [_tensor(v) for v in (variable, *buffers)]
    param = tensors[0]
    return (
        None not in [*map(id, tensors)]
        and all(t is not None and type(t) in _TYPES and t.device.type == "cpu" for t in tensors)
        and param.dtype in _DTYPES
        and type(grad) in _TYPES
        and grad.layout == torch.strided
        and (grad.device, grad.dtype, grad.shape) == (param.device, param.dtype, param.shape)
        and all(t.is_contiguous() for t in tensors)
    )


def kernel_step(
    rule: Rule,
    variables: Sequence[Any],
    grads: Sequence[Any],
    buffers: Sequence[Sequence[Any]],
    *,
    lr: Any,
    lr_max: float,
    step: int,
) -> None:
    """Do one step in place for variables that are plain; `buffers` holds the buffers of each variable."""
    params = [v.value for v in variables]
    lists = tuple([b.value for b in kind] for kind in zip(*buffers))
    counts = np.full(len(params), step - 1, np.int64)
    plan = _step.core.Plan(_step.handle(rule), params, lists, counts)
    _step.core.step(plan, [g.detach().contiguous() for g in grads], _step.StepArgs(float(lr), lr_max))
    # Autograd has not seen the write.
    torch.autograd.graph.increment_version([*params, *(b for kind in lists for b in kind)])


def _tensor(variable: Any) -> Any:
    """The tensor of a variable's own memory, or None inside a scope that replaces it."""
    value = variable.value
    return value if value is getattr(variable, "_value", None) else None
