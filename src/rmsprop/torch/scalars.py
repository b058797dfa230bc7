"""The numbers of a step: learning rate, loss scale, overflow flag, norm. What is on a device stays there, unread."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from rmsprop import _step
from rmsprop.errors import InputError
from rmsprop.torch import layout
from rmsprop.torch.layout import KERNEL, is_plain

__all__ = [
    "CLIP_EPS", "check_devices", "copy_written", "find_clip_factor", "invert_scale", "is_on_device", "is_recorded",
    "measure_norm", "read_rates", "record_rate", "restore",
]  # fmt: skip

CLIP_EPS = 1e-6  # what torch.nn.utils.clip_grad_norm_ adds to the norm


def is_recorded(group: dict[str, Any]) -> bool:
    """Whether autograd or a CUDA graph records the step, so that it must consist of torch's own operations."""
    return bool(group["differentiable"] or group["capturable"])


def copy_written(optimizer: Any) -> list[tuple[Tensor, Tensor]]:
    """Return (tensor, its copy) of all that a step writes, for a step that turns out not to be one.

    The counts move to their parameters' devices, because only there they can depend on the flag without reading it.
    """
    params = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    for param in params:
        optimizer.state[param]["step"] = optimizer.state[param]["step"].to(param.device)
    tensors = [t for p in params for t in (p, *optimizer.state[p].values()) if torch.is_tensor(t)]
    return [(local, local.clone()) for local in (layout.get_local(t.detach()) for t in tensors)]


@torch.no_grad()
def restore(kept: list[tuple[Tensor, Tensor]], found_inf: Tensor) -> None:
    """Write the copies back if `found_inf` is not 0, without reading it."""
    for tensor, before in kept:
        tensor.copy_(torch.where(found_inf.to(tensor.device).reshape(()) == 0, tensor, before))


def is_on_device(value: Any) -> bool:
    """Whether a number is a tensor on another device than the CPU, where reading it would wait."""
    return isinstance(value, Tensor) and value.device.type != "cpu"


def check_devices(plan: Any, number: int, lr: Any) -> None:
    """Raise for a gradient or a learning rate on another device than its parameter.

    Raises:
        InputError: By name.
    """
    for i in plan.others:
        param = plan.params[i]
        place = f"param_groups[{number}]['params'][{i}]"
        if param.grad is not None and param.grad.device != param.device:
            raise InputError(f"{place}: a gradient on {param.grad.device}, expected {param.device}, as the parameter")
        if isinstance(lr, Tensor) and lr.device != param.device:
            raise InputError(
                f"param_groups[{number}]['lr']: a tensor on {lr.device}, but ['params'][{i}] is on {param.device}: "
                "use a number, or a group for each device with its own lr"
            )


def read_rates(group: dict[str, Any], number: int, *, on_device: bool = False) -> tuple[Any, Any]:
    """Return the learning rate of a group's step, and the largest so far if the rule reads it.

    A tensor stays one, unchecked, where the step is recorded, or if `on_device` and it is there; else it is read.
    """
    lr = group["lr"]
    follows_largest = _follows_largest(group)
    if type(lr) is not float and isinstance(lr, Tensor):
        if lr.numel() != 1:
            raise InputError(f"param_groups[{number}]['lr']: a tensor of {lr.numel()} elements, expected one")
        if is_recorded(group) or (on_device and is_on_device(lr)):
            lr = lr.reshape(())
            if follows_largest:
                before = torch.as_tensor(group.get("lr_max", 0.0), dtype=lr.dtype, device=lr.device)
                return lr, torch.maximum(before, lr.detach())
            return lr, lr
        lr = lr.detach()
    lr = float(lr)
    if not 0.0 <= lr < math.inf:
        raise InputError(f"param_groups[{number}]['lr']: {lr!r}, expected a finite number of at least 0")
    return lr, max(float(group.get("lr_max", 0.0)), lr) if follows_largest else lr


def record_rate(group: dict[str, Any], lr_max: Any) -> None:
    """Keep the largest learning rate. Before the kernel call, so that an interrupt cannot lose that of a step."""
    if _follows_largest(group):
        group["lr_max"] = lr_max


def _follows_largest(group: dict[str, Any]) -> bool:
    """Whether the weight decay of a group depends on the largest learning rate so far."""
    return group["switches"]["weight_decay_mode"] == "decoupled_corrected"


def measure_norm(params: list[Tensor], scale: Any) -> Any:
    """Return the global norm of the gradients of `params` times `scale`; a tensor if it is on a device.

    It is the kernel's own sum, in its order, if the kernel takes the gradients: grouping of parameters changes no bit.

    Raises:
        InputError: Finite gradients whose sum of squares overflows.
    """
    plain: list[Tensor] = []
    others: list[Tensor] = []
    for param in params:
        grad = param.grad
        if grad is None:
            continue
        grad = grad.detach() if grad.layout == torch.strided else grad.detach().coalesce().values()
        ordered = type(grad) is not Tensor or grad.shape != param.shape or grad.stride() == param.stride()
        if not ordered or layout.is_unresolved(grad):
            grad = torch.empty_like(param, dtype=grad.dtype).copy_(grad)
        (plain if KERNEL and is_plain(grad) else others).append(grad)
    norm = _step.core.global_norm(plain, torch.get_num_threads()) if plain else 0.0
    if others:
        rest = torch.nn.utils.get_total_norm(others)
        full = getattr(rest, "full_tensor", None)
        if is_on_device(rest):
            total = rest if full is None else full()
            return (torch.hypot(total, total.new_tensor(norm)) if plain else total) * abs(scale)
        norm = math.hypot(norm, float(rest if full is None else full()))
    if math.isinf(norm) and all(bool(g.isfinite().all()) for g in (*plain, *others)):
        raise InputError("grads: the sum of their squares overflows, so max_norm cannot scale them")
    return norm * abs(scale)


def find_clip_factor(norm: Any, max_norm: float) -> Any:
    """Return what gradients of this norm are multiplied by to keep to `max_norm`; NaN for a NaN."""
    least = max_norm / (norm + CLIP_EPS)
    if isinstance(least, Tensor):
        return least.clamp(max=1.0)
    return least if least < 1 else (norm if math.isnan(norm) else 1.0)


def invert_scale(grad_scale: Tensor | float) -> Any:
    """Return 1 / grad_scale: checked, or a tensor on the device of the scale."""
    if isinstance(grad_scale, Tensor) and is_on_device(grad_scale):
        return 1.0 / grad_scale.reshape(())
    scale = float(grad_scale)
    if not 0 < scale < math.inf:
        raise InputError(f"grad_scale: {scale!r}, expected a finite number above 0")
    return 1.0 / scale
