"""The steps that are not one crossing of everything: odd gradients, odd parameters, clipping over several groups."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rmsprop import _step
from rmsprop.errors import InputError, InputTypeError
from rmsprop.torch.general import is_lazy, is_plain, pieces, rows, step_general
from rmsprop.torch.plan import KERNEL, Plan, Rates

__all__ = ["CLIP_EPS", "clip_factor", "factor", "regular", "step_list", "step_other"]

CLIP_EPS = 1e-6  # what torch.nn.utils.clip_grad_norm_ adds to the norm


def step_list(
    plan: Plan,
    params: Sequence[Tensor],
    grads: Sequence[Tensor | None],
    buffers: tuple[list[Tensor], ...],
    steps: list[Tensor],
    rate: Rates,
    *,
    scale: float,
    max_norm: float,
    seed: int,
    first: int,
) -> float:
    """Cross into the kernel once. `first`: position of params[0] among all parameters, for the random numbers."""
    return _step.core.step(
        plan.handle, list(params), list(grads), buffers, steps, *rate, scale, max_norm, CLIP_EPS, False,
        torch.get_num_threads(), seed, first,
    )  # fmt: skip


def regular(params: list[Tensor], grads: list[Tensor | None]) -> tuple[list[Tensor | None], list[Tensor]]:
    """Return the gradients in their parameters' memory order, and the parameters whose gradients need another path."""
    straight: list[Tensor | None] = []
    odd = []
    for param, grad in zip(params, grads):
        if grad is None:
            straight.append(None)
        elif type(grad) is not Tensor or grad.layout != torch.strided or grad.dtype != param.dtype:
            straight.append(None)
            odd.append(param)
        elif grad.shape == param.shape and (grad.stride() != param.stride() or is_lazy(grad)):
            straight.append(torch.empty_like(param, requires_grad=False).copy_(grad.detach()))
        else:
            straight.append(grad)
    return straight, odd


def step_other(
    plan: Plan, group: dict[str, Any], param: Tensor, state: dict[str, Any], rate: Rates, scale: float, seed: int,
    first: int,
) -> None:  # fmt: skip
    """Step one parameter that the kernel cannot take as it is, or whose gradient it cannot."""
    grad = param.grad
    assert grad is not None
    keys = plan.keys if plan.keys[0] in state and plan.keys[-1] in state else plan.wide_keys
    buffers = tuple([state[key] for key in keys])
    with torch.set_grad_enabled(bool(group["differentiable"])):
        recorded = group["differentiable"] or group["capturable"]
        if group["lazy"] and grad.layout == torch.sparse_coo and not recorded:
            _step_rows(plan, param, grad, state, keys, rate, scale, seed, first)
            return
        piece = None
        if KERNEL and not recorded:
            if grad.dtype != param.dtype and (
                group["param_rounding"] != "nearest" or group["state_dtype"] != "float32"
            ):
                grad = grad.to(param.dtype)
            piece = pieces(param, grad, buffers, state["step"])
        if piece is None:
            _refuse_inexact(plan, group, param, keys)
            step_general(param, grad, state, keys, plan.rule, lr=rate[0], lr_max=rate[1], grad_scale=scale)
            return
        step_list(
            plan, [piece.param], [piece.grad], tuple([b] for b in piece.buffers), [piece.step], rate,
            scale=scale, max_norm=0.0, seed=seed, first=first + plan.position(param),
        )  # fmt: skip
        if piece.copied:
            param.copy_(torch.view_as_complex(piece.param) if param.is_complex() else piece.param)
        else:
            torch.autograd.graph.increment_version(param)


def _refuse_inexact(plan: Plan, group: dict[str, Any], param: Tensor, keys: tuple[str, ...]) -> None:
    """Refuse a gradient that keeps a parameter from the kernel where only the kernel does what the group asks."""
    rounded = group["param_rounding"] != "nearest" and param.dtype in (torch.bfloat16, torch.float16)
    if rounded or (group["state_dtype"] != "float32" and keys == plan.keys and not param.is_complex()):
        raise InputTypeError(
            f"params[{plan.position(param)}]: a gradient of type {type(param.grad).__name__}, expected a plain tensor: "
            f"only the compiled step does param_rounding={group['param_rounding']!r} with "
            f"state_dtype={group['state_dtype']!r}"
        )


def _step_rows(
    plan: Plan, param: Tensor, grad: Tensor, state: dict[str, Any], keys: tuple[str, ...], rate: Rates, scale: float,
    seed: int, first: int,
) -> None:  # fmt: skip
    """Step the elements that a sparse gradient names, on copies that are written back."""
    whole = tuple(state[key] for key in keys)
    chosen, index = rows(param, grad, whole, state["step"])
    piece = pieces(chosen.param, chosen.grad, chosen.buffers, chosen.step) if KERNEL else None
    if piece is None:
        part = {**dict(zip(keys, chosen.buffers)), "step": chosen.step}
        step_general(chosen.param, chosen.grad, part, keys, plan.rule, lr=rate[0], lr_max=rate[1], grad_scale=scale)
    else:
        step_list(
            plan, [piece.param], [piece.grad], tuple([b] for b in piece.buffers), [piece.step], rate,
            scale=scale, max_norm=0.0, seed=seed, first=first + plan.position(param),
        )  # fmt: skip
    param.index_put_(index, chosen.param)
    for buffer, values in zip(whole, chosen.buffers):
        buffer.index_put_(index, values)


def clip_factor(params: list[Tensor], scale: float, max_norm: float) -> tuple[float, float]:
    """Return (norm of the gradients of `params` times `scale`, what they are multiplied by to keep to `max_norm`).

    The kernel's own sum, in its order, as far as it takes the gradients: how parameters are grouped changes no bit.

    Raises:
        InputError: Finite gradients whose sum of squares overflows.
    """
    dense = []
    for param in params:
        grad = param.grad
        if grad is None:
            continue
        grad = grad.detach() if grad.layout == torch.strided else grad.detach().coalesce().values()
        ordered = type(grad) is not Tensor or grad.shape != param.shape or grad.stride() == param.stride()
        dense.append(grad if ordered and not is_lazy(grad) else torch.empty_like(param, dtype=grad.dtype).copy_(grad))
    plain = [KERNEL and is_plain(g) for g in dense]
    norm = (
        _step.core.global_norm([g for g, p in zip(dense, plain) if p], torch.get_num_threads()) if any(plain) else 0.0
    )
    others = [g for g, p in zip(dense, plain) if not p]
    if others:
        rest = torch.nn.utils.get_total_norm(others)
        full = getattr(rest, "full_tensor", None)
        norm = math.hypot(norm, float(full() if full is not None else rest))
    if math.isinf(norm) and all(bool(g.isfinite().all()) for g in dense):
        raise InputError("grads: the sum of their squares overflows, so max_norm cannot scale them")
    norm *= abs(scale)
    return norm, factor(norm, max_norm)


def factor(norm: float, max_norm: float) -> float:
    """Return what gradients of this norm are multiplied by to keep to `max_norm`; NaN for a NaN."""
    least = max_norm / (norm + CLIP_EPS)
    return least if least < 1 else (norm if math.isnan(norm) else 1.0)
