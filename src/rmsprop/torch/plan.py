"""What a step of one group needs beyond gradients and learning rate: built once, kept until state or group changes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from operator import is_
from typing import Any

import torch
from torch import Tensor

from rmsprop import _step
from rmsprop.errors import InputError, InputTypeError
from rmsprop.rule import Rule
from rmsprop.torch import groups
from rmsprop.torch import state as _state
from rmsprop.torch.general import PLAIN_TYPES, is_dense, is_plain
from rmsprop.torch.state import StateTable

__all__ = ["KERNEL", "Plan", "Rates", "check_apart", "rates"]

KERNEL = _step.accept_tensors(Tensor, torch.nn.Parameter)
"""Whether the compiled step takes tensors; without it, or with a torch before 2.10, all take the general path."""

_REFITTED = {"square_avg", "grad_var", "grad_avg", "momentum_buffer", "lost_bits", "square_avg_8bit", "grad_var_8bit"}

Rates = tuple[Any, Any]
"""(lr, the largest lr so far): floats, or tensors where a graph or autograd wants to see them."""


class _NoState(dict[str, Any]):
    def __missing__(self, key: str) -> None:
        return None


class _Absent:
    grad = None


_NO_STATE = _NoState()
_ABSENT: Any = _Absent()


class Plan:
    """A group's parameters by the path they take, with their state.

    Attributes:
        rule: The group's rule.
        handle: The same for the kernel.
        keys: The state's tensors that the kernel writes, in its order.
        wide_keys: The same for parameters that keep float32 or float64 statistics in a group with an 8-bit state.
        everything: All parameters of the group.
        params: Those the kernel takes as they are, each at its place in the group, `_ABSENT` at other places.
        states: Their state.
        others: Those for the general path.
        idle: Those without a gradient so far, so without state.
        singles: Those of `params` that have one element: their gradients may be contiguous and yet wait to be negated.
    """

    def __init__(self, group: dict[str, Any], table: StateTable, number: int, *, everything: bool = False) -> None:
        self.rule: Rule = groups.rule_of(group)
        self.handle = _step.handle(self.rule, rounding=group["param_rounding"]) if KERNEL else None
        self.keys = _state.keys_of(self.rule, group)
        self.wide_keys = _state.keys_of(self.rule, {**group, "state_dtype": "float32"})
        self.everything: list[Tensor] = list(group["params"])
        self.params: list[Tensor] = []
        self.states: list[dict[str, Any]] = []
        self.others: list[Tensor] = []
        self.idle: list[Tensor] = []
        self.singles: list[Tensor] = []
        self._signature = _signature(group)
        self._table = table
        self._fill(group, number, everything)
        self._version = table.version

    def _fill(self, group: dict[str, Any], number: int, everything: bool) -> None:
        recorded = group["differentiable"] or group["capturable"]
        for i, param in enumerate(self.everything):
            if param.grad is None and not everything and not self._table.get(param):
                self.idle.append(param)
                continue
            known = type(param) in PLAIN_TYPES or hasattr(param, "to_local")
            by_kernel = KERNEL and not recorded and param.device.type == "cpu" and known
            if not by_kernel:
                _refuse_narrow(param, group, f"param_groups[{number}]['params'][{i}]")
            if param.layout == torch.strided and any(s == 0 and n > 1 for s, n in zip(param.stride(), param.shape)):
                raise InputError(
                    f"param_groups[{number}]['params'][{i}]: strides {param.stride()} put several elements into one "
                    "memory location, expected memory of its own for each; pass a clone()"
                )
            state = self._table[param]
            _state.prepare(param, state, self.rule, group)
            _refit(param, state, self.rule, group)
            if by_kernel and is_plain(param) and self.keys[0] in state and self.keys[-1] in state:
                # Each keeps its place in the group, on which its random numbers depend, whoever else has a gradient.
                missing = i - len(self.params)
                self.params += [_ABSENT] * missing
                self.states += [_NO_STATE] * missing
                self.params.append(param)
                self.states.append(state)
                if param.numel() == 1:
                    self.singles.append(param)
            else:
                self.others.append(param)

    def holds(self, group: dict[str, Any], table: Any) -> bool:
        """Whether the plan is still the group's."""
        return (
            table is self._table
            and self._version == self._table.version
            and len(group["params"]) == len(self.everything)
            and all(map(is_, group["params"], self.everything))
            and self._signature == _signature(group)
            and not any(p.grad is not None for p in self.idle)
        )

    def takes_all(self) -> bool:
        """Whether one call of the kernel sees every gradient of the group."""
        return not self.others and all(
            p.grad is None or (type(p.grad) is Tensor and p.grad.layout == torch.strided and p.grad.dtype == p.dtype)
            for p in self.params
        )

    def position(self, param: Tensor) -> int:
        return next(i for i, p in enumerate(self.everything) if p is param)


def rates(group: dict[str, Any], number: int) -> Rates:
    """Return the learning rate of a group's step, checked, and the largest so far, kept where the rule reads it."""
    lr = group["lr"]
    if type(lr) is not float and isinstance(lr, Tensor):
        if lr.numel() != 1:
            raise InputError(f"param_groups[{number}]['lr']: a tensor of {lr.numel()} elements, expected one")
        if group["capturable"] or group["differentiable"]:
            return _recorded_rates(group, lr.reshape(()))
        lr = lr.detach()
    lr = float(lr)
    if not 0.0 <= lr < math.inf:
        raise InputError(f"param_groups[{number}]['lr']: {lr!r}, expected a finite number of at least 0")
    if group["switches"]["weight_decay_mode"] != "decoupled_corrected":
        return lr, lr
    group["lr_max"] = max(float(group.get("lr_max", 0.0)), lr)
    return lr, group["lr_max"]


def _recorded_rates(group: dict[str, Any], lr: Tensor) -> Rates:
    if group["switches"]["weight_decay_mode"] == "decoupled_corrected":
        before = torch.as_tensor(group.get("lr_max", 0.0), dtype=lr.dtype, device=lr.device)
        group["lr_max"] = torch.maximum(before, lr.detach())
        return lr, group["lr_max"]
    return lr, lr


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


def _refuse_narrow(param: Tensor, group: dict[str, Any], name: str) -> None:
    """Refuse what only the kernel does: a narrow state or rounding of its own, away from the CPU."""
    narrow = group["state_dtype"] != "float32" and _state.state_dtype(param, group) == torch.bfloat16
    rounded = group["param_rounding"] != "nearest" and param.dtype in (torch.bfloat16, torch.float16)
    if narrow or rounded:
        option = f"state_dtype={group['state_dtype']!r}" if narrow else f"param_rounding={group['param_rounding']!r}"
        raise InputTypeError(
            f"{name}: a {param.dtype} {type(param).__name__} on {param.device}, expected a plain CPU tensor without "
            f"`differentiable` and `capturable`: only the compiled step does {option}"
        )


def _refit(param: Tensor, state: dict[str, Any], rule: Rule, group: dict[str, Any]) -> None:
    """Bring state into the dtype, device and memory order that `param.data` may have been given: model.double(), ..."""
    if type(param) not in PLAIN_TYPES or not is_dense(param):
        return
    dtype = _state.state_dtype(param, group)
    if not torch.is_tensor(state["step"]):
        state["step"] = torch.tensor(float(state["step"]))
    for key in _REFITTED & state.keys():
        value = state[key]
        whole = key == "lost_bits" or key.endswith("_8bit")
        wanted = value.dtype if whole else dtype
        same = value.dtype == wanted and value.device == param.device and value.stride() == param.stride()
        if same or value.shape != param.shape:
            continue
        if key.endswith("_8bit"):  # blocks follow the memory order
            name = key.removesuffix("_8bit")
            square = _state.read_square(state, name, value)
            assert square is not None
            relaid = torch.empty_like(param, dtype=torch.float32, requires_grad=False).copy_(square)
            _state.forget(state, name)
            _state.write_square(state, name, param, relaid, rule, True, dtype)
        else:
            state[key] = _state.narrowed(value, param, wanted)


def _signature(group: dict[str, Any]) -> tuple[Any, ...]:
    kind = (group["param_rounding"], group["state_dtype"], group["differentiable"], group["capturable"])
    return (*groups.signature(group), *kind)
