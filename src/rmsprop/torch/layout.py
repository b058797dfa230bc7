"""Tensors that the kernel cannot take as they are: brought into a form that it can, or stepped by `formula.step`.

Complex tensors are viewed as pairs of real numbers, distributed tensors as their local shards. Sparse gradients are
made dense, or only their rows are stepped. Gradients in another memory order are copied; parameters in memory with gaps
are copied and written back. What no kernel and no list takes (a tensor subclass, `differentiable`, eps=0 without a
kernel) is stepped by `formula.step` with torch's own operations and the same results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rmsprop import _step, formula
from rmsprop.errors import InputError
from rmsprop.rule import Rule

__all__ = [
    "KERNEL",
    "PLAIN_TYPES",
    "Piece",
    "align_grads",
    "check_memory",
    "check_overlap",
    "gather_rows",
    "get_local",
    "is_dense",
    "is_plain",
    "is_regular",
    "is_unresolved",
    "make_piece",
    "step_general",
    "view_plain",
]

MOST_DIMS = 8
"""Most axes that the kernel accepts. Dense memory with more axes is passed as one axis: the results are the same."""
KERNEL_DTYPES = frozenset({torch.float32, torch.float64, torch.bfloat16, torch.float16})
PLAIN_TYPES = (Tensor, torch.nn.Parameter)
KERNEL = _step.accept_tensors(*PLAIN_TYPES)
"""Whether the compiled step takes tensors; without it, or with a torch before 2.10, all take the general path."""

_TORCH = SimpleNamespace(
    abs=torch.abs, astype=Tensor.to, isfinite=torch.isfinite, sign=torch.sign, sqrt=torch.sqrt, where=torch.where
)
"""torch under the names of the array API standard, as far as `rmsprop.formula` uses them."""


class Piece(NamedTuple):
    """Tensors of one parameter as the kernel takes them; `param` is a copy if `copied`."""

    param: Tensor
    grad: Tensor
    buffers: tuple[Tensor, ...]
    copied: bool


def is_plain(param: Tensor) -> bool:
    """Whether the kernel can take a parameter itself: a dtype with a kernel, dense memory of its own on the CPU."""
    return (
        type(param) in PLAIN_TYPES
        and param.device.type == "cpu"
        and param.layout == torch.strided
        and param.dtype in KERNEL_DTYPES
        and param.dim() <= MOST_DIMS
        and is_dense(param)
    )


def is_regular(param: Tensor, grad: Tensor) -> bool:
    """Whether the kernel can take a gradient of a plain parameter, perhaps after a copy into its memory order."""
    return type(grad) is Tensor and grad.layout == torch.strided and grad.dtype == param.dtype


def is_unresolved(tensor: Tensor) -> bool:
    """Whether the memory does not hold the values: a negation is still to be done, or the zeros have no memory."""
    return tensor.is_neg() or tensor._is_zerotensor()


def is_dense(tensor: Tensor) -> bool:
    """Whether the elements fill their memory without gaps or overlap, in any order of the axes."""
    if tensor.is_contiguous():
        return True
    expected = 1
    for stride, n in sorted((s, n) for s, n in zip(tensor.stride(), tensor.shape) if n != 1):
        if stride != expected:
            return False
        expected *= n
    return True


def get_local(tensor: Tensor) -> Tensor:
    """Return the local shard of a distributed tensor, which shares its memory; any other tensor itself."""
    to_local = getattr(tensor, "to_local", None)
    return tensor if to_local is None else to_local()


def view_plain(
    param: Tensor, grad: Tensor, buffers: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]] | None:
    """Return (param, grad, buffers) as real, local, plain tensors, sharing the memory that is written, or None."""
    param, grad, *rest = (get_local(t) for t in (param, _redistribute(grad, param), *buffers))
    if param.is_complex():
        if param.is_conj() or not grad.is_complex():
            return None
        param, grad = torch.view_as_real(param), torch.view_as_real(_to_dense(grad).resolve_conj())
        rest = [torch.view_as_real(b) if b.is_complex() else b for b in rest]
    grad = _to_dense(grad)
    if type(param) not in PLAIN_TYPES or type(grad) is not Tensor or param.dtype not in KERNEL_DTYPES:
        return None
    return param, grad, tuple(rest)


def make_piece(param: Tensor, grad: Tensor, buffers: tuple[Tensor, ...]) -> Piece | None:
    """Return tensors of `view_plain` in a form that the kernel takes, or None if there is none."""
    if param.device.type != "cpu":
        return None
    param, grad = param.detach(), grad.detach()
    copied = not is_dense(param)
    if copied:
        param = param.clone()
    if grad.device.type != "cpu" or not is_regular(param, grad) or grad.shape != param.shape:
        return None
    if grad.stride() != param.stride() or is_unresolved(grad):
        grad = torch.empty_like(param).copy_(grad)
    elementwise = [b.shape == param.shape for b in buffers]  # the others are maxima of blocks
    if any(b.stride() != param.stride() for b, same in zip(buffers, elementwise) if same):
        return None
    if param.dim() > MOST_DIMS:
        if copied:
            return None
        buffers = tuple(_flatten(b) if same else b for b, same in zip(buffers, elementwise))
        param, grad = _flatten(param), _flatten(grad)
    return Piece(param, grad, buffers, copied)


def gather_rows(
    param: Tensor, grad: Tensor, buffers: tuple[Tensor, ...]
) -> tuple[tuple[Tensor, ...], Tensor, Tensor, tuple[Tensor, ...]]:
    """Return (index, param, grad, buffers): the elements that a sparse gradient names, copied, for a lazy step."""
    grad = grad.coalesce()
    index = tuple(grad.indices())
    return index, param.detach()[index], grad.values().contiguous(), tuple(b[index] for b in buffers)


def align_grads(params: Sequence[Tensor], grads: Sequence[Tensor | None]) -> tuple[list[Tensor | None], list[int]]:
    """Return the gradients in their parameters' memory order, and the places of those that need another path."""
    aligned: list[Tensor | None] = []
    odd = []
    for i, (param, grad) in enumerate(zip(params, grads)):
        if grad is not None and not is_regular(param, grad):
            odd.append(i)
            grad = None  # noqa: PLW2901
        elif (
            grad is not None and grad.shape == param.shape and (grad.stride() != param.stride() or is_unresolved(grad))
        ):
            grad = torch.empty_like(param, requires_grad=False).copy_(grad.detach())  # noqa: PLW2901
        aligned.append(grad)
    return aligned, odd


def check_memory(param: Tensor, label: str) -> None:
    """Raise `InputError` if two elements share memory, or torch forbids to write to the parameter."""
    if param.is_inference():
        try:
            with torch.no_grad():
                param.copy_(param)  # does nothing, where torch would step
        except RuntimeError as error:
            raise InputError(f"{label}: an inference tensor: step in torch.inference_mode(), or clone it") from error
    if param.layout == torch.strided and _has_inner_overlap(param.shape, param.stride()):
        raise InputError(
            f"{label}: strides {param.stride()} put several elements into one memory location, expected memory of its "
            "own for each; pass a clone()"
        )


def _has_inner_overlap(shape: Sequence[int], strides: Sequence[int]) -> bool:
    last = 0
    for stride, n in sorted((s, n) for s, n in zip(strides, shape) if n != 1):
        if stride <= last:  # axes that are not inside one another: only as_strided makes them
            places = torch.arange(1 + sum((n - 1) * s for n, s in zip(shape, strides))).as_strided(shape, strides)
            return places.unique().numel() < places.numel()
        last += stride * (n - 1)
    return False


def check_overlap(param_groups: Iterable[dict[str, Any]]) -> None:
    """Raise if two parameters share memory; within a group the kernel checks again at every step.

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
    for (device, _, end, place), (next_device, begin, _, next_place) in pairwise(spans):
        if device == next_device and begin < end:
            first, second = (f"param_groups[{n}]['params'][{i}]" for n, i in sorted((place, next_place)))
            raise InputError(
                f"{second}: shares memory with {first}, expected memory of its own: to tie weights, "
                "assign the Parameter itself (b.weight = a.weight, not b.weight.data = a.weight.data)"
            )


def step_general(
    param: Tensor,
    grad: Tensor,
    buffers: Sequence[Tensor],
    count: Tensor,
    rule: Rule,
    *,
    lr: Any,
    lr_max: Any,
    scale: Any,
) -> None:
    """Step one parameter by `formula.step`, in place. `buffers` are in the order of `rule.buffers`."""
    step: Any = 1
    if rule.bias_correction:
        step = count + 1
        step = int(step) if step.device.type == "cpu" else step
    real: Callable[[Tensor], Tensor] = torch.view_as_real if param.is_complex() else lambda x: x
    work = torch.promote_types(real(buffers[0]).dtype, torch.float32)
    given = {name: real(b).to(work) for name, b in zip(rule.buffers, buffers)}
    before = real(param)
    if torch.is_grad_enabled():  # autograd keeps what it has read, which is overwritten below
        before = before.clone()
        given = {name: value.clone() for name, value in given.items()}
    grad = real(_to_dense(grad).resolve_conj())
    new_param, new = formula.step(
        before, grad, given, rule, lr=lr, step=step, lr_max=lr_max, grad_scale=scale, xp=_TORCH
    )
    count += 1
    for tensor, value in zip((param, *buffers), (new_param, *new.values())):
        real(tensor).copy_(value)


def _to_dense(grad: Tensor) -> Tensor:
    """Return a sparse gradient as its dense equal; rows that occur twice are summed."""
    return grad.coalesce().to_dense() if grad.layout == torch.sparse_coo else grad


def _flatten(x: Tensor) -> Tensor:
    """Return dense memory as one axis."""
    return x.as_strided((x.numel(),), (1,))


def _redistribute(grad: Tensor, param: Tensor) -> Tensor:
    """Return the gradient of a distributed parameter summed over the ranks and sharded as the parameter is."""
    placements = getattr(param, "placements", None)
    if placements is None or getattr(grad, "placements", placements) == placements:
        return grad
    redistributed: Tensor = grad.redistribute(placements=placements)
    return redistributed
