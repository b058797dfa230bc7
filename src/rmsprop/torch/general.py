"""Parameters that the kernel cannot take as they are: brought into a form it can, or stepped by the reference.

Complex tensors become pairs of real ones, distributed tensors their local shards, sparse gradients dense ones or rows,
gradients in another memory order a copy. What is left (another device, a tensor subclass, `differentiable`,
`capturable`, memory with gaps) is stepped by `reference.step` with torch's own operations: the same numbers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from rmsprop import reference
from rmsprop.errors import InputError
from rmsprop.rule import Rule

__all__ = ["Piece", "is_plain", "pieces", "rows", "step_general"]

KERNEL_DTYPES = frozenset({torch.float32, torch.float64, torch.bfloat16, torch.float16})
_PLAIN_TYPES = (Tensor, torch.nn.Parameter)


class Piece(NamedTuple):
    """Tensors of one parameter as the kernel takes them."""

    param: Tensor
    grad: Tensor
    buffers: tuple[Tensor, ...]
    step: Tensor


def is_plain(param: Tensor) -> bool:
    """Whether the kernel can take a parameter itself: its own dense memory on the CPU, a dtype with a kernel."""
    return (
        type(param) in _PLAIN_TYPES
        and param.device.type == "cpu"
        and param.layout == torch.strided
        and param.dtype in KERNEL_DTYPES
        and _is_dense(param)
    )


def pieces(param: Tensor, grad: Tensor, buffers: tuple[Tensor, ...], step: Tensor) -> Piece | None:
    """Return the tensors in a form that the kernel takes, sharing the memory that is written; None: there is none."""
    param, grad, *rest = (_local(t) for t in (param, _laid_out(grad, param), *buffers))
    if param.is_complex():
        if param.is_conj() or not grad.is_complex():
            return None
        param, grad = torch.view_as_real(param), torch.view_as_real(grad.resolve_conj())
        rest = [torch.view_as_real(b) if b.is_complex() else b for b in rest]
    if type(param) is not Tensor:
        param = param.detach()
    if not is_plain(param):
        return None
    if grad.layout != torch.strided:
        grad = grad.coalesce().to_dense() if grad.layout == torch.sparse_coo else grad.to_dense()
    grad = grad.detach()
    if type(grad) is not Tensor or grad.device.type != "cpu" or grad.dtype != param.dtype or grad.shape != param.shape:
        return None
    if grad.stride() != param.stride() or grad.is_neg():
        grad = torch.empty_like(param).copy_(grad)
    if any(b.stride() != param.stride() for b in rest if b.shape == param.shape):
        return None
    return Piece(param, grad, tuple(rest), step)


def rows(param: Tensor, grad: Tensor, buffers: tuple[Tensor, ...], step: Tensor) -> tuple[Piece, Tensor]:
    """Return copies of the rows that a sparse gradient names, and their indices, for a lazy step."""
    grad = grad.coalesce()
    if grad.sparse_dim() != 1:
        raise InputError(f"lazy=True: a gradient with {grad.sparse_dim()} sparse dimensions, expected 1 (rows)")
    index = grad.indices()[0]
    chosen = (param.detach().index_select(0, index), *(b.index_select(0, index) for b in buffers))
    return Piece(chosen[0], grad.values().contiguous(), chosen[1:], step), index


class _Namespace:
    """torch under the names of the array API standard, as far as `reference.step` uses them."""

    abs = staticmethod(torch.abs)
    isfinite = staticmethod(torch.isfinite)
    sign = staticmethod(torch.sign)
    sqrt = staticmethod(torch.sqrt)

    @staticmethod
    def astype(x: Tensor, dtype: torch.dtype) -> Tensor:
        return x.to(dtype)

    @staticmethod
    def where(condition: Tensor, a: Any, b: Any) -> Tensor:
        return torch.where(condition, a, b)


def step_general(
    param: Tensor,
    grad: Tensor,
    state: dict[str, Any],
    names: tuple[str, ...],
    rule: Rule,
    *,
    lr: Any,
    lr_max: Any,
    grad_scale: Any,
) -> None:
    """Step one parameter by the reference. `names`: the state's keys in the order of `rule.buffers`. In place."""
    state["step"] += 1
    step: Any = state["step"]
    if not rule.bias_correction:
        step = 1
    elif step.device.type == "cpu":
        step = int(step)
    if grad.layout == torch.sparse_coo:
        grad = grad.coalesce().to_dense()
    buffers = [state[name] for name in names]
    narrow = buffers[0].dtype
    work = torch.float32 if narrow in (torch.bfloat16, torch.float16) else narrow
    complex_ = param.is_complex()
    real = torch.view_as_real if complex_ else _same
    given = {name: real(b).to(work) if not complex_ else real(b) for name, b in zip(rule.buffers, buffers)}
    new_param, new = reference.step(
        real(param),
        real(grad.resolve_conj() if complex_ else grad),
        given,
        rule,
        lr=lr,
        step=step,
        lr_max=lr_max,
        grad_scale=grad_scale,
        xp=_Namespace,
    )
    param.copy_(torch.view_as_complex(new_param.contiguous()) if complex_ else new_param)
    for buffer, value in zip(buffers, new.values()):
        buffer.copy_(torch.view_as_complex(value.contiguous()) if complex_ else value)


def _same(x: Tensor) -> Tensor:
    return x


def _local(tensor: Tensor) -> Tensor:
    """Return the local shard of a distributed tensor, which shares its memory; other tensors themselves."""
    to_local = getattr(tensor, "to_local", None)
    return to_local() if to_local is not None else tensor


def _laid_out(grad: Tensor, param: Tensor) -> Tensor:
    """Return the gradient of a distributed parameter summed over the ranks and sharded as the parameter is."""
    placements = getattr(param, "placements", None)
    if placements is None or getattr(grad, "placements", placements) == placements:
        return grad
    redistributed: Tensor = grad.redistribute(placements=placements)  # type: ignore[attr-defined]
    return redistributed


def _is_dense(tensor: Tensor) -> bool:
    """Whether the elements fill their memory without gaps or overlap, whatever the order of the axes."""
    if tensor.is_contiguous():
        return True
    expected = 1
    for stride, n in sorted((s, n) for s, n in zip(tensor.stride(), tensor.shape) if n != 1):
        if stride != expected:
            return False
        expected *= n
    return True
