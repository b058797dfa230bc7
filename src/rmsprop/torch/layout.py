"""Parameters that the kernel cannot take as they are: brought into a form it can, or stepped by `formula.step`.

Complex tensors become pairs of real ones, distributed tensors their local shards, sparse gradients dense ones or rows,
gradients in another memory order a copy, and parameters in memory with gaps a copy that is written back. What is left
(another device, a tensor subclass, `differentiable`, `capturable`) is stepped by `formula.step` with torch's own
operations: the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rmsprop import formula
from rmsprop.errors import InputError
from rmsprop.rule import Rule

__all__ = [
    "PLAIN_TYPES",
    "Piece",
    "align_grads",
    "check_apart",
    "is_dense",
    "is_plain",
    "pieces",
    "rows",
    "step_general",
]

MOST_DIMS = 8
"""Axes that the kernel's border looks at; dense memory has the same bits as one axis."""
KERNEL_DTYPES = frozenset({torch.float32, torch.float64, torch.bfloat16, torch.float16})
PLAIN_TYPES = (Tensor, torch.nn.Parameter)


class Piece(NamedTuple):
    """Tensors of one parameter as the kernel takes them; `param` is a copy where the parameter has gaps."""

    param: Tensor
    grad: Tensor
    buffers: tuple[Tensor, ...]
    step: Tensor
    copied: bool = False


def is_plain(param: Tensor) -> bool:
    """Whether the kernel can take a parameter itself: its own dense memory on the CPU, a dtype with a kernel."""
    return (
        type(param) in PLAIN_TYPES
        and param.device.type == "cpu"
        and param.layout == torch.strided
        and param.dtype in KERNEL_DTYPES
        and param.dim() <= MOST_DIMS
        and is_dense(param)
    )


def pieces(param: Tensor, grad: Tensor, buffers: tuple[Tensor, ...], step: Tensor) -> Piece | None:
    """Return the tensors in a form that the kernel takes, sharing the memory that is written; None: there is none."""
    param, grad, *rest = (_local(t) for t in (param, _laid_out(grad, param), *buffers))
    shape = param.shape
    if param.is_complex():
        if param.is_conj() or not grad.is_complex():
            return None
        param, grad = torch.view_as_real(param), torch.view_as_real(_dense(grad).resolve_conj())
        rest = [torch.view_as_real(b) if b.is_complex() else b for b in rest]
    if type(param) is not Tensor:
        param = param.detach()
    if type(param) is not Tensor or param.device.type != "cpu" or param.dtype not in KERNEL_DTYPES:
        return None
    copied = not is_dense(param)
    if copied:
        param = param.clone()
    grad = _dense(grad).detach()
    if type(grad) is not Tensor or grad.device.type != "cpu" or grad.dtype != param.dtype or grad.shape != param.shape:
        return None
    if grad.stride() != param.stride() or is_lazy(grad):
        grad = torch.empty_like(param).copy_(grad)
    whole = [b.shape in (param.shape, shape) for b in rest]
    if any(b.stride() != param.stride() for b, one in zip(rest, whole) if one):
        return None
    if param.dim() > MOST_DIMS:
        rest = [_flat(b) if one else b for b, one in zip(rest, whole)]
        if copied:
            return None
        param, grad = _flat(param), _flat(grad)
    return Piece(param, grad, tuple(rest), step, copied)


def rows(param: Tensor, grad: Tensor, buffers: tuple[Tensor, ...], step: Tensor) -> tuple[Piece, tuple[Tensor, ...]]:
    """Return copies of the elements that a sparse gradient names, and their indices, for a lazy step."""
    grad = grad.coalesce()
    index = tuple(grad.indices())
    return Piece(param.detach()[index], grad.values().contiguous(), tuple(b[index] for b in buffers), step, True), index


def is_regular(param: Tensor, grad: Tensor) -> bool:
    """Whether the kernel can take a gradient of a plain parameter, at most in another memory order."""
    return type(grad) is Tensor and grad.layout == torch.strided and grad.dtype == param.dtype


def align_grads(params: Sequence[Tensor], grads: Sequence[Tensor | None]) -> tuple[list[Tensor | None], list[int]]:
    """Return the gradients in their parameters' memory order, and the places of those that need another path."""
    aligned: list[Tensor | None] = []
    odd = []
    for i, (param, grad) in enumerate(zip(params, grads)):
        if grad is not None and not is_regular(param, grad):
            odd.append(i)
            grad = None  # noqa: PLW2901
        elif grad is not None and grad.shape == param.shape and (grad.stride() != param.stride() or is_lazy(grad)):
            grad = torch.empty_like(param, requires_grad=False).copy_(grad.detach())  # noqa: PLW2901
        aligned.append(grad)
    return aligned, odd


def check_apart(param_groups: Iterable[dict[str, Any]]) -> None:
    """Refuse parameters that share memory; within a group the kernel looks again at every step.

    Raises:
        InputError: By name: `param_groups[1]['params'][0]: shares memory with param_groups[0]['params'][2]`.
    """
    spans = []
    for number, group in enumerate(param_groups):
        for i, param in enumerate(group["params"]):
            plain = type(param) in PLAIN_TYPES and param.device.type != "meta"
            if plain and param.grad is not None and param.numel() and is_dense(param):
                begin = param.data_ptr()
                spans.append((str(param.device), begin, begin + param.numel() * param.element_size(), (number, i)))
    spans.sort()
    for (device, _, end, one), (next_device, begin, _, other) in pairwise(spans):
        if device == next_device and begin < end:
            second, first = (f"param_groups[{n}]['params'][{i}]" for n, i in sorted((one, other), reverse=True))
            raise InputError(f"{second}: shares memory with {first}, expected memory of its own")


def is_lazy(tensor: Tensor) -> bool:
    """Whether the memory does not hold the values: a negation still to be done, or zeros without memory."""
    return tensor.is_neg() or tensor._is_zerotensor()


class _Namespace:
    """torch under the names of the array API standard, as far as `rmsprop.formula` uses them."""

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
    """Step one parameter by `formula.step`. `names`: the state's keys in the order of `rule.buffers`. In place."""
    step: Any = 1
    if rule.bias_correction:
        step = state["step"] + 1
        step = int(step) if step.device.type == "cpu" else step
    grad = _dense(grad)
    buffers = [state[name] for name in names]
    narrow = buffers[0].dtype
    work = torch.float32 if narrow in (torch.bfloat16, torch.float16) else narrow
    complex_ = param.is_complex()
    real = torch.view_as_real if complex_ else _same
    given = {name: real(b).to(work) if not complex_ else real(b) for name, b in zip(rule.buffers, buffers)}
    before = real(param)
    if torch.is_grad_enabled():  # autograd keeps what it read, and that is overwritten below
        before = before.clone()
        given = {name: value.clone() for name, value in given.items()}
    new_param, new = formula.step(
        before,
        real(grad.resolve_conj() if complex_ else grad),
        given,
        rule,
        lr=lr,
        step=step,
        lr_max=lr_max,
        grad_scale=grad_scale,
        xp=_Namespace,
    )
    state["step"] += 1
    param.copy_(torch.view_as_complex(new_param.contiguous()) if complex_ else new_param)
    for buffer, value in zip(buffers, new.values()):
        buffer.copy_(torch.view_as_complex(value.contiguous()) if complex_ else value)


def _dense(grad: Tensor) -> Tensor:
    """Return a sparse gradient as its dense equal, rows that occur twice added up."""
    if grad.layout == torch.strided:
        return grad
    return grad.coalesce().to_dense() if grad.layout == torch.sparse_coo else grad.to_dense()


def _flat(x: Tensor) -> Tensor:
    """Return dense memory as one axis."""
    return x.as_strided((x.numel(),), (1,))


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
    redistributed: Tensor = grad.redistribute(placements=placements)
    return redistributed


def is_dense(tensor: Tensor) -> bool:
    """Whether the elements fill their memory without gaps or overlap, whatever the order of the axes."""
    if tensor.is_contiguous():
        return True
    expected = 1
    for stride, n in sorted((s, n) for s, n in zip(tensor.stride(), tensor.shape) if n != 1):
        if stride != expected:
            return False
        expected *= n
    return True
