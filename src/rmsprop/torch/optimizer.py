"""torch.optim.RMSprop's interface over the compiled step.

What a step does: look whether anything but the numbers changed since the last one (plan), gather gradients and state
into lists, cross into C++ once per group. No arithmetic happens here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from operator import is_
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from rmsprop import _step
from rmsprop.errors import InputError, InputTypeError, StateError
from rmsprop.rule import Rule
from rmsprop.torch import compiled, groups
from rmsprop.torch import state as _state
from rmsprop.torch.general import is_plain, pieces, rows, step_general
from rmsprop.torch.groups import Default
from rmsprop.torch.state import StateTable

__all__ = ["RMSprop"]

ROUNDINGS = ("nearest", "stochastic", "compensated")
_CLIP_EPS = 1e-6  # what torch.nn.utils.clip_grad_norm_ adds to the norm

if _step.compiled() and hasattr(Tensor, "__dlpack_c_exchange_api__"):
    for _type in (Tensor, torch.nn.Parameter):
        _step.core.register_tensor_type(_type, Tensor.__dlpack_c_exchange_api__)
    _KERNEL = True
else:
    _KERNEL = False  # without a compiled module, or with a torch before 2.10, everything takes the general path


class RMSprop(torch.optim.RMSprop):
    """Take torch.optim.RMSprop's place: its arguments, defaults, errors, state names and checkpoints.

    v <- alpha v + (1 - alpha) g^2;  p <- p - lr g / (sqrt(v) + eps), and what the dialect's switches change.

    Args:
        params: Parameters or groups, as for any torch optimizer. CPU tensors of float32, float64, bfloat16 and float16
            take the kernel, all others torch's own operations with the same results. Written by `step`.
        lr: Learning rate, at least 0: a number or a tensor of one element.
        alpha: Decay of the moving averages, in [0, 1].
        eps: Added to the denominator, at least 0; unit of grad (of grad**2 in dialects with eps inside the root).
        weight_decay: L2 strength per step, at least 0 (times lr in dialects that decouple it).
        momentum: Decay of the momentum buffer, in [0, 1).
        centered: Divide by the standard deviation of the gradient. Never NaN: the variance is kept, not a difference.
        capturable: Keep `step` on the parameter's device, for CUDA graphs. Not measured on a GPU.
        foreach: Accepted for torch's sake; there is one path per kind of parameter.
        maximize: Ascend instead of descend.
        differentiable: Let autograd run through the step (by the reference, not the kernel).
        dialect: A name ("tensorflow1", "keras3", "sb3", ...; `rmsprop dialects` lists them) or a `rmsprop.Rule`. Its
            numbers replace the defaults above that were not passed.
        max_norm: Clip the gradients of all groups to this global norm inside the step, as
            torch.nn.utils.clip_grad_norm_ would before it. None: no clipping. The norm is then `optimizer.grad_norm`.
        param_rounding: How 16-bit parameters are rounded from the float32 result: "nearest"; "stochastic", unbiased
            and the same for the same `seed` whatever the thread count; "compensated" (bfloat16 only), which keeps the
            lost bits in one more 16-bit tensor, so that the weights follow a float32 master exactly.
        state_dtype: "float32", "bfloat16" or "8bit": of the statistics of parameters that are not float64 or complex.
            Narrow ones are rounded stochastically. "8bit" keeps square_avg in 1 byte, other statistics in bfloat16.
        lazy: Let a sparse gradient touch only the rows it names; otherwise it acts like its dense equal.
        eager_state: Create the state now instead of at the first step; `share_memory()` needs it.
        seed: Of the stochastic rounding, a whole number of at least 0.

    Raises:
        ValueError: A number out of its domain (torch's messages), a rule that contradicts itself (RuleError).

    Example:
        >>> import torch
        >>> from rmsprop.torch import RMSprop
        >>> weight = torch.nn.Parameter(torch.tensor([0.2, 0.4, 0.6]))
        >>> optimizer = RMSprop([weight], lr=0.01)
        >>> (weight * torch.tensor([-0.5, 0.3, 0.24])).sum().backward()
        >>> optimizer.step()
        >>> weight.data
        tensor([0.3000, 0.3000, 0.5000])

    Differs: from torch.optim.RMSprop in what it accepts beyond [0, 1] for alpha and momentum (refused here), in a
    centered form that stays finite, in float32 statistics for 16-bit parameters, and in taking sparse gradients.

    Source: torch/optim/rmsprop.py of PyTorch 2.13; the dialects' sources: `rmsprop.dialects`.
    """

    _step_supports_amp_scaling = True

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = Default(1e-2),
        alpha: float = Default(0.99),
        eps: float = Default(1e-8),
        weight_decay: float = Default(0),
        momentum: float = Default(0),
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        *,
        dialect: str | Rule = "torch",
        max_norm: float | None = None,
        param_rounding: str = "nearest",
        state_dtype: str = "float32",
        lazy: bool = False,
        eager_state: bool = False,
        seed: int = 0,
    ) -> None:
        given = {"alpha": alpha, "eps": eps, "momentum": momentum, "weight_decay": weight_decay}
        numbers, switches, own_lr = groups.resolve(dialect, {**given, "centered": centered, "maximize": maximize})
        if isinstance(lr, Default):
            lr = float(lr) if own_lr is None else own_lr
        self._extra = {
            "switches": switches,
            "param_rounding": _choice("param_rounding", param_rounding, ROUNDINGS),
            "state_dtype": _choice("state_dtype", state_dtype, _state.STATE_DTYPES),
            "lazy": bool(lazy),
        }
        self.max_norm = _max_norm(max_norm)
        self.seed = _seed(seed)
        self.grad_norm = math.nan
        self._plans: dict[int, _Plan] = {}
        self._traced = compiled.Traced()
        super().__init__(params, lr, **numbers, capturable=capturable, foreach=foreach, differentiable=differentiable)
        self.state: Any = StateTable(self.state)
        if eager_state:
            self._create_state()

    # ---- the step --------------------------------------------------------------------------------------------------

    def step(
        self,
        closure: Callable[[], Any] | None = None,
        *,
        grad_scale: Tensor | float | None = None,
        found_inf: Tensor | None = None,
    ) -> Any:
        """Do one step on every parameter that has a gradient.

        Args:
            closure: Evaluates the model again and returns the loss.
            grad_scale: Divide the gradients by this first: the loss scale of mixed precision.
            found_inf: A tensor of one element; not 0: an overflow was seen, nothing is changed.

        Returns:
            What `closure` returned, or None.

        Raises:
            InputError: Parameters share memory, or a gradient does not fit its parameter. Nothing has changed then.
        """
        if torch.compiler.is_compiling():
            return compiled.step(self, closure)
        if (
            _global_optimizer_pre_hooks
            or _global_optimizer_post_hooks
            or self._optimizer_step_pre_hooks
            or self._optimizer_step_post_hooks
            or torch.autograd._profiler_enabled()
        ):
            return self._hooked_step(closure, grad_scale=grad_scale, found_inf=found_inf)
        return self._bare_step(closure, grad_scale=grad_scale, found_inf=found_inf)

    # torch wraps `step` in a profiler record and two loops over hooks, some 5 microseconds. Here the wrapper is there
    # only when somebody listens.
    step.hooked = True  # type: ignore[attr-defined]

    def _bare_step(
        self, closure: Callable[[], Any] | None, *, grad_scale: Tensor | float | None, found_inf: Tensor | None
    ) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        attributes = self.__dict__  # GradScaler leaves its tensors here for the time of the step
        grad_scale = attributes.get("grad_scale") if grad_scale is None else grad_scale
        found_inf = attributes.get("found_inf") if found_inf is None else found_inf
        if found_inf is not None and float(found_inf) != 0:
            return loss
        scale = 1.0 if grad_scale is None else 1.0 / float(grad_scale)
        if self.max_norm and not self._one_plain_group():
            scale *= self._clip_factor(scale)
            self._step_groups(scale, 0.0)
        else:
            self._step_groups(scale, self.max_norm)
        return loss

    def _hooked_step(self, *args: Any, **kwargs: Any) -> Any:
        return _HOOKED(self, *args, **kwargs)

    def _step_groups(self, scale: float, max_norm: float) -> None:
        threads = torch.get_num_threads()
        first = 0
        for number, group in enumerate(self.param_groups):
            plan = self._plan(number, group)
            if plan.params:
                self._step_plain(plan, group, scale, max_norm, threads, first)
            for param in plan.others:
                if param.grad is not None:
                    self._step_other(plan, group, param, scale, threads, first)
            first += len(plan.everything)

    def _step_plain(
        self, plan: _Plan, group: dict[str, Any], scale: float, max_norm: float, threads: int, first: int
    ) -> None:
        lr, lr_max = _rates(group)
        states = plan.states
        grads = [p.grad for p in plan.params]
        buffers = tuple([[s[key] for s in states] for key in plan.keys])
        steps = [s["step"] for s in states]
        try:
            norm = _step.core.step(
                plan.handle, plan.params, grads, buffers, steps, lr, lr_max, scale, max_norm, _CLIP_EPS, False, threads,
                self.seed, first,
            )  # fmt: skip
        except InputError:
            regular = self._regular(plan, group, grads, scale, threads, first)
            if regular is None:
                raise
            norm = _step.core.step(
                plan.handle, plan.params, regular, buffers, steps, lr, lr_max, scale, max_norm, _CLIP_EPS, False,
                threads, self.seed, first,
            )  # fmt: skip
        torch.autograd.graph.increment_version(plan.params)
        if max_norm:
            self.grad_norm = norm

    def _regular(
        self, plan: _Plan, group: dict[str, Any], grads: list[Any], scale: float, threads: int, first: int
    ) -> list[Any] | None:
        """Return the gradients in their parameters' memory order, the odd ones stepped apart; None: no remedy."""
        regular: list[Any] = []
        for param, grad in zip(plan.params, grads):
            plain = grad is None or (type(grad) is Tensor and grad.layout == torch.strided)
            if grad is None or (plain and grad.stride() == param.stride()):
                regular.append(grad)
            elif plain and grad.shape == param.shape and grad.dtype == param.dtype:
                regular.append(torch.empty_like(param).copy_(grad))
            elif plain:
                return None
            else:
                self._step_other(plan, group, param, scale, threads, first)
                regular.append(None)
        return None if all(a is b for a, b in zip(grads, regular)) else regular

    def _step_other(
        self, plan: _Plan, group: dict[str, Any], param: Tensor, scale: float, threads: int, first: int
    ) -> None:
        state = self.state[param]
        lr, lr_max = _rates(group) if not torch.is_tensor(group["lr"]) else (group["lr"], None)
        grad = param.grad
        assert grad is not None
        buffers = tuple(state[key] for key in plan.keys)
        direct = not (group["differentiable"] or group["capturable"]) and _KERNEL
        with torch.set_grad_enabled(bool(group["differentiable"])):
            index = None
            piece = None
            if direct and group["lazy"] and grad.layout == torch.sparse_coo and "lost_bits" not in state:
                piece, index = rows(param, grad, buffers, state["step"])
            elif direct:
                piece = pieces(param, grad, buffers, state["step"])
            if piece is not None:
                _step.core.step(
                    plan.handle, [piece.param], [piece.grad], tuple([b] for b in piece.buffers), [piece.step],
                    float(lr), _rates(group)[1], scale, 0.0, 0.0, False, threads, self.seed,
                    first + plan.position(param),
                )  # fmt: skip
                if index is not None:
                    param.index_copy_(0, index, piece.param)
                    for buffer, chosen in zip(buffers, piece.buffers):
                        buffer.index_copy_(0, index, chosen)
                elif not isinstance(param, torch.nn.parameter.UninitializedTensorMixin):
                    torch.autograd.graph.increment_version(param)
                return
            if group["param_rounding"] != "nearest" or group["state_dtype"] == "8bit":
                raise InputTypeError(
                    f"params[{first + plan.position(param)}]: {param.dtype} {type(param).__name__} on {param.device}: "
                    'param_rounding other than "nearest" and state_dtype="8bit" need dense CPU tensors'
                )
            step_general(param, grad, state, plan.keys, plan.rule, lr=lr, lr_max=lr_max, grad_scale=scale)

    def _plan(self, number: int, group: dict[str, Any]) -> _Plan:
        plan = self._plans.get(number)
        if (
            plan is None
            or self.state is not plan.table
            or plan.version != plan.table.version
            or len(group["params"]) != len(plan.everything)
            or not all(map(is_, group["params"], plan.everything))
            or plan.signature != _signature(group)
            or any(p.grad is not None for p in plan.idle)
        ):
            plan = self._plans[number] = self._new_plan(group)
        return plan

    def _new_plan(self, group: dict[str, Any], *, everything: bool = False) -> _Plan:
        if not isinstance(self.state, StateTable):
            self.state = StateTable(self.state)  # somebody replaced it: the usual way to reset an optimizer
        rule = groups.rule_of(group)
        plan = _Plan(rule, group, self.state)
        for param in group["params"]:
            if param.grad is None and not everything and not self.state.get(param):
                plan.idle.append(param)
                continue
            state = self.state[param]
            _state.prepare(param, state, rule, group)
            if _KERNEL and is_plain(param) and not (group["differentiable"] or group["capturable"]):
                plan.params.append(param)
                plan.states.append(state)
            else:
                plan.others.append(param)
        plan.version = self.state.version
        return plan

    def _one_plain_group(self) -> bool:
        """Whether one call of the kernel sees every gradient, so that it can clip by itself."""
        if len(self.param_groups) != 1:
            return False
        plan = self._plan(0, self.param_groups[0])
        return not plan.others and all(p.grad is None or p.grad.layout == torch.strided for p in plan.params)

    def _clip_factor(self, scale: float) -> float:
        """Return what the gradients of all groups are multiplied by to keep to `max_norm`."""
        grads = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        dense = [g.coalesce().values() if g.layout == torch.sparse_coo else g for g in grads]
        norm = torch.nn.utils.get_total_norm(dense)
        full = getattr(norm, "full_tensor", None)
        self.grad_norm = float(full() if full is not None else norm) * scale
        return min(1.0, self.max_norm / (self.grad_norm + _CLIP_EPS)) if self.grad_norm >= 0 else math.nan

    @torch._dynamo.assume_constant_result
    def _prepare_trace(self) -> int:
        """Create the state and list what one step touches, for torch.compile; -1: only an eager step can do it."""
        plans = [self._plan(number, group) for number, group in enumerate(self.param_groups)]
        if any(plan.others for plan in plans) or (self.max_norm and len(plans) > 1):
            return -1
        self._traced.params, self._traced.written = [], []
        for plan in plans:
            active = [(p, s) for p, s in zip(plan.params, plan.states) if p.grad is not None]
            self._traced.params += [p for p, _ in active]
            self._traced.written += [s[key] for key in (*plan.keys, "step") for _, s in active]
        return compiled.adopt(self)

    def _step_traced(self, params: list[Tensor], grads: list[Tensor], written: list[Tensor]) -> None:
        """Step the tensors that `_prepare_trace` listed, as the compiled graph hands them over."""
        first = 0
        for number, group in enumerate(self.param_groups):
            plan = self._plan(number, group)
            mine = [k for k, p in enumerate(plan.params) if any(p is q or p.data_ptr() == q.data_ptr() for q in params)]
            n = len(mine)
            own, params = params[:n], params[n:]
            given, grads = grads[:n], grads[n:]
            lists = [written[k * n : (k + 1) * n] for k in range(len(plan.keys) + 1)]
            written = written[n * (len(plan.keys) + 1) :]
            given = [g if g.stride() == p.stride() else torch.empty_like(p).copy_(g) for p, g in zip(own, given)]
            lr, lr_max = _rates(group)
            norm = _step.core.step(
                plan.handle, own, given, tuple(lists[:-1]), lists[-1], lr, lr_max, 1.0, self.max_norm, _CLIP_EPS,
                False, torch.get_num_threads(), self.seed, first,
            )  # fmt: skip
            self.grad_norm = norm if self.max_norm else self.grad_norm
            first += len(plan.everything)

    def step_parameter(self, param: Tensor) -> None:
        """Step one parameter of this optimizer by its gradient, as `release_gradients` does inside backward."""
        for number, group in enumerate(self.param_groups):
            plan = self._plan(number, group)
            for k, own in enumerate(plan.params):
                if own is param:
                    part = _Plan(plan.rule, group, plan.table, handle=plan.handle)
                    part.params, part.states = [param], [plan.states[k]]
                    self._step_plain(part, group, 1.0, 0.0, torch.get_num_threads(), self._offset(number, param))
                    return
            if any(own is param for own in plan.others):
                self._step_other(plan, group, param, 1.0, torch.get_num_threads(), self._offset(number, None))
                return

    def _offset(self, number: int, param: Tensor | None) -> int:
        before = sum(len(group["params"]) for group in self.param_groups[:number])
        if param is None:
            return before
        return before + next(i for i, p in enumerate(self.param_groups[number]["params"]) if p is param)

    # ---- groups and state ------------------------------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; it may set its own numbers, `state_dtype`, `param_rounding`, `lazy` and `dialect`."""
        if isinstance(param_group, dict):
            name = param_group.pop("dialect", None)
            if name is not None:
                numbers, switches, _ = groups.resolve(name, {w: param_group.get(w, False) for w in groups.HOST_WORDS})
                param_group.update(numbers, switches=switches)
            for key, value in self._extra.items():
                param_group.setdefault(key, dict(value) if isinstance(value, dict) else value)
            _choice("param_rounding", param_group["param_rounding"], ROUNDINGS)
            _choice("state_dtype", param_group["state_dtype"], _state.STATE_DTYPES)
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            groups.rule_of(group)
            _check_devices(group)
            _check_rounding(group)
        except (ValueError, TypeError):
            self.param_groups.pop()
            raise

    def _create_state(self) -> None:
        for number, group in enumerate(self.param_groups):
            self._plans[number] = self._new_plan(group, everything=True)

    def reset_state(self) -> None:
        """Forget all statistics and counts in place, as if no step had been done; shared memory stays shared."""
        for group in self.param_groups:
            rule = groups.rule_of(group)
            group.pop("lr_max", None)
            for param in group["params"]:
                old = self.state.get(param)
                if not old:
                    continue
                fresh: dict[str, Any] = {}
                _state.prepare(param, fresh, rule, group)
                for key, value in fresh.items():
                    if key in old and torch.is_tensor(old[key]):
                        old[key].copy_(value)

    def share_memory(self) -> RMSprop:
        """Move the state to shared memory, for workers in other processes (Hogwild, A3C), creating it where needed."""
        self._create_state()
        for state in self.state.values():
            for value in state.values():
                if torch.is_tensor(value):
                    value.share_memory_()
        return self

    def state_dict(self) -> dict[str, Any]:
        """Return the state as torch.optim.RMSprop would: the same names, readable by it (8-bit states are not)."""
        packed = super().state_dict()
        packed["state"] = {
            key: _state.leaving(value) if isinstance(value, dict) else value for key, value in packed["state"].items()
        }
        return packed

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the state of this class or of torch.optim.RMSprop; its hyperparameters too, as torch does.

        Raises:
            ValueError: Another number of groups or parameters. Nothing has changed then.
            StateError: Missing or misshapen entries, by name. Nothing has changed then.
        """
        state_dict = state_dict.copy()
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            state_dict = hook(self, state_dict) or state_dict
        loaded_groups = self._loaded_groups(state_dict["param_groups"])
        loaded = StateTable()
        owners: dict[Any, tuple[Tensor, dict[str, Any]]] = {}
        for group, saved in zip(loaded_groups, state_dict["param_groups"]):
            owners.update({key: (param, group) for key, param in zip(saved["params"], group["params"])})
        for key, value in state_dict["state"].items():
            if key not in owners:
                loaded[key] = value
                continue
            param, group = owners[key]
            loaded[param] = _state.entering(value, param, group, groups.rule_of(group), f"state[{key!r}]")
        self.__setstate__({"state": loaded, "param_groups": loaded_groups})
        for post_hook in self._optimizer_load_state_dict_post_hooks.values():
            post_hook(self)

    def _loaded_groups(self, saved_groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return saved groups with this optimizer's parameters, and its settings where the checkpoint has none."""
        if len(saved_groups) != len(self.param_groups):
            raise ValueError("loaded state dict has a different number of parameter groups")
        new = []
        for mine, saved in zip(self.param_groups, saved_groups):
            if len(mine["params"]) != len(saved["params"]):
                raise ValueError(
                    "loaded state dict contains a parameter group that doesn't match the size of optimizer's group"
                )
            copied = {key: _copied(value) for key, value in saved.items() if key != "params"}
            # How the state is stored belongs to the optimizer that loads, what the step does to the checkpoint.
            kept = {key: mine[key] for key in ("param_rounding", "state_dtype", "lazy")}
            group = {**{k: _copied(v) for k, v in mine.items() if k != "params"}, **copied, **kept}
            group["params"] = mine["params"]
            try:
                groups.rule_of(group)
            except (ValueError, TypeError, AttributeError) as error:
                raise StateError(f"param_groups: {error}") from error
            new.append(group)
        return new

    def __getstate__(self) -> dict[str, Any]:
        own = {key: getattr(self, key) for key in ("_extra", "max_norm", "seed")}
        return {**super().__getstate__(), **own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.setdefault("_extra", state.get("_extra") or _EXTRA)
        defaults: dict[str, Any] = {"max_norm": 0.0, "seed": 0, "grad_norm": math.nan}
        for name, value in defaults.items():
            self.__dict__.setdefault(name, value)
        self._plans = {}
        self._traced = compiled.Traced()
        for group in state["param_groups"]:
            for key, value in self._extra.items():
                group.setdefault(key, dict(value) if isinstance(value, dict) else value)
        super().__setstate__(state)
        if not isinstance(self.state, StateTable):
            self.state = StateTable(self.state)


class _Plan:
    """What a group's step needs beyond the gradients, valid until `state` or the group changes."""

    def __init__(self, rule: Rule, group: dict[str, Any], table: StateTable, handle: Any = None) -> None:
        self.rule = rule
        self.keys = _state.keys_of(rule, group)
        self.handle = handle or (_step.handle(rule, rounding=group["param_rounding"]) if _KERNEL else None)
        self.signature = _signature(group)
        self.table = table
        self.version = -1
        self.everything: list[Tensor] = list(group["params"])
        self.params: list[Tensor] = []  # the kernel takes these as they are
        self.states: list[dict[str, Any]] = []
        self.others: list[Tensor] = []
        self.idle: list[Tensor] = []  # no gradient so far, so no state

    def position(self, param: Tensor) -> int:
        return next(i for i, p in enumerate(self.everything) if p is param)


_EXTRA = {"switches": groups.TORCH_SWITCHES, "param_rounding": "nearest", "state_dtype": "float32", "lazy": False}
_HOOKED = Optimizer.profile_hook_step(RMSprop._bare_step)


def _signature(group: dict[str, Any]) -> tuple[Any, ...]:
    kind = (group["param_rounding"], group["state_dtype"], group["differentiable"], group["capturable"])
    return (*groups.signature(group), *kind)


def _rates(group: dict[str, Any]) -> tuple[float, float]:
    """Return (lr, largest lr so far); the latter is kept only where the rule reads it."""
    lr = float(group["lr"])
    if group["switches"]["weight_decay_mode"] != "decoupled_corrected":
        return lr, lr
    group["lr_max"] = max(group.get("lr_max", 0.0), lr)
    return lr, group["lr_max"]


def _copied(value: Any) -> Any:
    if torch.is_tensor(value):
        return value.clone()
    return dict(value) if isinstance(value, dict) else value


def _choice(name: str, value: Any, choices: Iterable[str]) -> str:
    if value not in choices:
        raise InputError(f"{name}={value!r}, expected one of {', '.join(map(repr, choices))}")
    return value


def _max_norm(value: float | None) -> float:
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise InputError(f"max_norm={value!r}, expected a number above 0, or None for no clipping")
    return 0.0 if math.isinf(value) else float(value)


def _seed(seed: int) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise InputError(f"seed={seed!r}, expected a whole number of at least 0")
    return seed


def _check_devices(group: dict[str, Any]) -> None:
    devices = sorted({str(p.device) for p in group["params"]})
    if len(devices) > 1:
        raise InputError(
            f"params: one group holds tensors on {' and '.join(devices)}; give each device a group of its own"
        )


def _check_rounding(group: dict[str, Any]) -> None:
    if group["param_rounding"] != "compensated":
        return
    for i, param in enumerate(group["params"]):
        if param.dtype != torch.bfloat16:
            raise InputTypeError(
                f'params[{i}]: {param.dtype}, expected torch.bfloat16: param_rounding="compensated" keeps the 16 bits '
                "that bfloat16 cuts off a float32"
            )
