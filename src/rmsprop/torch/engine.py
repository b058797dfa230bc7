"""A step of torch tensors: the plan that is kept between steps, the kernel, and the other paths.

    optimizer.step -> Engine.step -> border -> kernel

A plan splits a group's parameters by kind. Those that the kernel takes as they are go there in one call. Complex,
distributed, sparse and strided tensors go in pieces (`rmsprop.torch.layout`). Tensors on a device without a kernel go
in lists through `rmsprop.torch.foreach`; their lr, scales, norm and `found_inf` stay on the device. All others go
through `formula.step` in torch's operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import is_not, itemgetter
from typing import Any

import torch
from torch import Tensor

from rmsprop import _step
from rmsprop.errors import InputTypeError
from rmsprop.rule import Rule
from rmsprop.torch import foreach, groups, layout
from rmsprop.torch import state as _state
from rmsprop.torch.layout import KERNEL, PLAIN_TYPES, is_plain
from rmsprop.torch.scalars import (
    CLIP_EPS,
    check_devices,
    copy_written,
    find_clip_factor,
    invert_scale,
    is_on_device,
    is_recorded,
    measure_norm,
    read_rates,
    record_rate,
    restore,
)  # fmt: skip
from rmsprop.torch.state import StateTable

__all__ = ["Engine", "Plan"]

_get_numbers = itemgetter(
    "alpha", "eps", "momentum", "centered", "weight_decay", "maximize",
    "param_rounding", "state_dtype", "differentiable", "capturable",
)  # fmt: skip


class Plan:
    """A group's parameters by the path they take; kept until state or group changes.

    Attributes:
        rule: The group's rule; `handle` is the same for the kernel.
        first: Place of the first parameter among all of the optimizer, for the random numbers.
        keys: The state's tensors that the kernel writes, in its order.
        wide_keys: The same for parameters that keep float32 or float64 statistics in a group with an 8-bit state.
        params: The group's own list.
        kernel: The border's plan of those that the kernel takes as they are; None if there are none.
        others: Places of those for another path.
        idle: Those without a gradient so far, so without state.
        singles: Places of those with one element: their gradients may be contiguous and yet wait to be negated.
    """

    def __init__(
        self, group: dict[str, Any], table: StateTable, number: int, first: int, *, everything: bool = False
    ) -> None:
        self.rule: Rule = groups.rule_of(group)
        self.first = first
        self.handle = _step.handle(self.rule, rounding=group["param_rounding"]) if KERNEL else None
        self.keys = _state.list_keys(self.rule, group)
        self.wide_keys = _state.list_keys(self.rule, groups.ParamGroup({**group, "state_dtype": "float32"}))
        self.params: list[Tensor] = group["params"]
        self.others: list[int] = []
        self.idle: list[Tensor] = []
        self.singles: list[int] = []
        self._table = table
        self._in_inference_mode = torch.is_inference_mode_enabled()
        self._made_for = _get_numbers(group), dict(group["switches"]), list(self.params)
        recorded = is_recorded(group)
        states: list[dict[str, Any] | None] = []
        for i, param in enumerate(self.params):
            states.append(None)
            if param.grad is None and not everything and not table.get(param):
                self.idle.append(param)
                continue
            known = type(param) in PLAIN_TYPES or hasattr(param, "to_local")
            by_kernel = KERNEL and not recorded and param.device.type == "cpu" and known
            option = _find_kernel_option(group, param)
            if option and not by_kernel:
                raise InputTypeError(
                    f"param_groups[{number}]['params'][{i}]: a {param.dtype} {type(param).__name__} on {param.device}, "
                    "expected a plain CPU tensor without `differentiable` and `capturable`: only the compiled step "
                    f"does {option}"
                )
            layout.check_memory(param, f"param_groups[{number}]['params'][{i}]")
            state = table[param]
            _state.prepare(param, state, self.rule, group)
            _state.refit(param, state, self.rule, group)
            if by_kernel and is_plain(param) and self.keys[0] in state and self.keys[-1] in state:
                states[i] = state
                if param.numel() == 1:
                    self.singles.append(i)
            else:
                self.others.append(i)
        self.kernel = None
        if KERNEL and not recorded and len(self.others) < len(self.params):
            self.kernel = _step.core.Plan(self.handle, self.params, states, (*self.keys, "step"), None, first)
        self._version = table.version

    def fits(self, group: dict[str, Any], table: Any, first: int) -> bool:
        """Whether the plan is still the group's, as far as the border does not check it."""
        numbers, switches, params = self._made_for
        return (
            table is self._table
            and self._version == table.version
            and torch.is_inference_mode_enabled() == self._in_inference_mode
            and group["params"] is self.params
            and first == self.first
            and _get_numbers(group) == numbers
            and group["switches"] == switches
            and len(self.params) == len(params)
            and (not self.others or all(self.params[i] is params[i] for i in self.others))
            and (not self.idle or all(p.grad is None for p in self.idle))
        )

    def takes_all(self) -> bool:
        """Whether one call of the kernel takes every gradient of the group."""
        return not self.others and all(p.grad is None or layout.is_regular(p, p.grad) for p in self.params)

    def collect_grads(self) -> list[Tensor | None]:
        """Return the gradients for the kernel, in order."""
        grads = [p.grad for p in self.params]
        for i in self.others:
            grads[i] = None
        return grads


class Engine:
    """The plans of an optimizer's groups, and the numbers of its step."""

    def __init__(self) -> None:
        self.plans: dict[int, Plan] = {}
        self.args = _step.StepArgs(norm_eps=CLIP_EPS)

    def step(self, optimizer: Any, closure: Callable[[], Any] | None, grad_scale: Any, found_inf: Any) -> Any:
        """Do what `RMSprop.step` documents."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        attributes = optimizer.__dict__  # GradScaler puts its tensors here for the time of the step
        attributes["_opt_called"] = True
        grad_scale = attributes.get("grad_scale") if grad_scale is None else grad_scale
        found_inf = attributes.get("found_inf") if found_inf is None else found_inf
        overflow_on_device = found_inf is not None and is_on_device(found_inf)
        if found_inf is not None and not overflow_on_device and float(found_inf) != 0:
            return loss
        args = self.args
        args.scale = 1.0 if grad_scale is None else invert_scale(grad_scale)
        args.max_norm, args.seed = optimizer.max_norm, optimizer.seed
        args.threads = torch.get_num_threads()
        # All plans and rates first, because they may raise.
        work = [
            (number, plan, group, read_rates(group, number, on_device=plan.kernel is None))
            for plan, number, group in self.find_plans(optimizer)
        ]
        for number, plan, _, (lr, _) in work:
            check_devices(plan, number, lr)
        kept: list[tuple[Tensor, Tensor]] = []
        if overflow_on_device:
            if any(plan.kernel is not None for _, plan, _, _ in work):
                if float(found_inf) != 0:
                    return loss
            else:
                kept = copy_written(optimizer)
        if args.max_norm and (len(work) > 1 or not work[0][1].takes_all()):
            self._clip(optimizer)
        self._read_scale()
        for number, plan, group, (args.lr, args.lr_max) in work:
            record_rate(group, args.lr_max)
            others = plan.others
            if plan.kernel is not None:
                params, grads, norm = plan.params, plan.collect_grads(), None
                if not plan.singles or not any((g := grads[i]) is not None and g.is_neg() for i in plan.singles):
                    norm = _step.core.step(plan.kernel, grads, args, False)
                if norm is None:
                    plan, others, grads, norm = self._step_again(optimizer, number, plan, grads)  # noqa: PLW2901
                if plan.kernel is None or plan.kernel.stepped != len(params):
                    params = [p for p, grad in zip(params, grads) if grad is not None]
                torch.autograd.graph.increment_version(params)
                if args.max_norm:
                    optimizer.grad_norm = norm
            if others:
                step_others(plan, group, others, optimizer.state, args)
        if kept:
            restore(kept, found_inf)
        return loss

    def _step_again(
        self, optimizer: Any, number: int, plan: Plan, grads: list[Tensor | None]
    ) -> tuple[Plan, list[int], list[Tensor | None], float]:
        """Step a group where an array differs from the plan: copy gradients if that is enough, else renew the plan.

        Returns:
            The plan, the places still to be stepped, the gradients used, and the norm.
        """
        aligned, odd = layout.align_grads(plan.params, grads)
        if any(map(is_not, aligned, grads)):
            norm = _step.core.step(plan.kernel, aligned, self.args, False)
            if norm is not None:
                return plan, odd + plan.others, aligned, norm
        plan = self._renew_plan(optimizer, number, plan.first)
        aligned, odd = layout.align_grads(plan.params, plan.collect_grads())
        others = odd + plan.others
        if self.args.max_norm and others:
            self._clip(optimizer)
            self._read_scale()
        norm = math.nan if plan.kernel is None else _step.core.step(plan.kernel, aligned, self.args)
        return plan, others, aligned, norm

    def step_parameter(self, optimizer: Any, param: Tensor) -> None:
        """Step one parameter by its gradient."""
        for plan, number, group in self.find_plans(optimizer):
            for i, own in enumerate(plan.params):
                if own is param:
                    args = _step.StepArgs(
                        *read_rates(group, number, on_device=plan.kernel is None),
                        seed=optimizer.seed,
                        threads=torch.get_num_threads(),
                    )
                    check_devices(plan, number, args.lr)
                    record_rate(group, args.lr_max)
                    step_others(plan, group, [i], optimizer.state, args)
                    return

    def find_plans(self, optimizer: Any, *, everything: bool = False) -> list[tuple[Plan, int, dict[str, Any]]]:
        """Return (plan, number, group) for each group; a plan that no longer fits is renewed."""
        found = []
        first = 0
        for number, group in enumerate(optimizer.param_groups):
            plan = self.plans.get(number)
            if everything or plan is None or not plan.fits(group, optimizer.state, first):
                plan = self._renew_plan(optimizer, number, first, everything=everything)
            found.append((plan, number, group))
            first += len(plan.params)
        return found

    def _renew_plan(self, optimizer: Any, number: int, first: int, *, everything: bool = False) -> Plan:
        """Make the plan of a group, with state for its parameters with a gradient, or for all."""
        if not isinstance(optimizer.state, StateTable):
            optimizer.state = StateTable(optimizer.state)  # the caller replaced it: a usual way to reset an optimizer
        layout.check_overlap(optimizer.param_groups)
        group = optimizer.param_groups[number]
        plan = self.plans[number] = Plan(group, optimizer.state, number, first, everything=everything)
        return plan

    def _clip(self, optimizer: Any) -> None:
        """Clip over all groups, before the kernel is called."""
        params = [param for group in optimizer.param_groups for param in group["params"]]
        norm = optimizer.grad_norm = measure_norm(params, self.args.scale)
        self.args.scale *= find_clip_factor(norm, self.args.max_norm)
        self.args.max_norm = 0.0

    def _read_scale(self) -> None:
        """Read a scale that is on a device, if a kernel on the CPU needs it."""
        if type(self.args.scale) is not float and any(plan.kernel is not None for plan in self.plans.values()):
            self.args.scale = float(self.args.scale)


def step_others(plan: Plan, group: dict[str, Any], places: list[int], states: StateTable, args: _step.StepArgs) -> None:
    """Step the parameters that the kernel cannot take as they are, or whose gradients it cannot."""
    pieces = []
    for i in places:
        param = plan.params[i]
        if param.grad is not None:
            piece = _step_other(plan, group, i, states[param], args)
            if piece is not None:
                pieces.append(piece)
    if pieces:
        _step_lists(pieces, plan.rule, args)


def _step_other(
    plan: Plan, group: dict[str, Any], place: int, state: dict[str, Any], args: _step.StepArgs
) -> foreach.Piece | None:
    """Step one parameter, or return it in the form in which it is stepped together with others."""
    param = plan.params[place]
    grad = param.grad
    assert grad is not None
    keys = plan.keys if plan.keys[0] in state and plan.keys[-1] in state else plan.wide_keys
    buffers = tuple([state[key] for key in keys])
    originals, index, piece = (param, *buffers), None, None
    recorded = is_recorded(group)
    with torch.set_grad_enabled(bool(group["differentiable"])):
        if group["lazy"] and grad.layout == torch.sparse_coo and not recorded:
            index, param, grad, buffers = layout.gather_rows(param, grad, buffers)
        narrow = group["param_rounding"] != "nearest" or group["state_dtype"] != "float32"
        grad = grad.to(param.dtype) if narrow and grad.dtype != param.dtype else grad
        plain = None if group["differentiable"] else layout.view_plain(param, grad, buffers)
        if KERNEL and not recorded and plain is not None:
            piece = layout.make_piece(*plain)
        if piece is None:
            if option := _find_kernel_option(group, param):
                raise InputTypeError(
                    f"params[{place}]: a gradient of type {type(grad).__name__}, expected a plain tensor: "
                    f"only the compiled step does {option}"
                )
            if plain is not None and foreach.takes(plan.rule, state["step"]):
                lists = foreach.Piece(*plain, state["step"])
                if index is None:
                    return lists
                _step_lists([lists], plan.rule, args)
            else:
                layout.step_general(
                    param, grad, buffers, state["step"], plan.rule, lr=args.lr, lr_max=args.lr_max, scale=args.scale
                )
        else:
            arrays = [piece.param], tuple([buffer] for buffer in piece.buffers), [state["step"]]
            kernel = _step.core.Plan(plan.handle, *arrays, None, plan.first + place)
            _step.core.step(kernel, [piece.grad], args)
            if piece.copied:
                param.copy_(torch.view_as_complex(piece.param) if param.is_complex() else piece.param)
            else:
                torch.autograd.graph.increment_version(param)
        if index is not None:
            for tensor, values in zip(originals, (param, *buffers)):
                tensor.index_put_(index, values)
    return None


@torch.no_grad()
def _step_lists(pieces: list[foreach.Piece], rule: Rule, args: _step.StepArgs) -> None:
    foreach.step(pieces, rule, lr=args.lr, lr_max=args.lr_max, scale=args.scale)


def _find_kernel_option(group: dict[str, Any], param: Tensor) -> str:
    """Return the option of the group that only the kernel implements and that applies to `param`; "" if none does."""
    if group["state_dtype"] != "float32" and _state.state_dtype(param, group) == torch.bfloat16:
        return f"state_dtype={group['state_dtype']!r}"
    if group["param_rounding"] != "nearest" and param.dtype in (torch.bfloat16, torch.float16):
        return f"param_rounding={group['param_rounding']!r}"
    return ""
