"""torch.optim.RMSprop's interface: arguments, groups, hooks and checkpoints. The step is in `rmsprop.torch.engine`."""

from __future__ import annotations

import inspect
import math
from collections import OrderedDict
from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from rmsprop.errors import InputTypeError
from rmsprop.rule import Rule
from rmsprop.select import check_option_names
from rmsprop.torch import groups, settings
from rmsprop.torch.engine import Engine
from rmsprop.torch.loading import read_state_dict
from rmsprop.torch.state import StateTable, export_state, prepare

__all__ = ["RMSprop"]


class RMSprop(torch.optim.RMSprop):
    """Replace torch.optim.RMSprop: the same arguments, defaults, errors, state names and checkpoints.

    v <- alpha v + (1 - alpha) g^2;  p <- p - lr g / (sqrt(v) + eps), and what the dialect's switches change.

    Args:
        params: Parameters or groups, as for any torch optimizer. The kernel steps CPU tensors of float32, float64,
            bfloat16 and float16; torch's own operations step all others, within rounding. Written by `step`.
        lr: Learning rate, at least 0: a number or a tensor of one element. None, here and below: the dialect's own
            (0.01 if the dialect has no default). Without a dialect these are torch's defaults.
        alpha: Decay of the moving averages, in [0, 1]. torch: 0.99.
        eps: Added to the denominator, at least 0; unit of grad (of grad**2 in dialects with eps inside the root).
        weight_decay: L2 strength per step, at least 0 (times lr in dialects that decouple it).
        momentum: Decay of the momentum buffer, in [0, 1).
        centered: Divide by the standard deviation of the gradient. Never NaN: the variance itself is averaged.
        capturable: Keep `step` on the parameter's device, for CUDA graphs. Not run on a GPU.
        foreach: Accepted for compatibility with torch; it has no effect.
        maximize: Ascend instead of descend.
        differentiable: Let autograd run through the step (by `formula.step`, not the kernel).
        dialect: A name ("tensorflow1", "keras3", "sb3", ...; `rmsprop dialects` lists them) or a `rmsprop.Rule`. It
            sets what is None above; a number that it has no option for raises. Default: "torch".
        max_norm: Clip the gradients of all groups to this global norm inside the step, as
            torch.nn.utils.clip_grad_norm_ does before it. None: no clipping. The norm is then `optimizer.grad_norm`.
        param_rounding: How 16-bit parameters are rounded from the float32 result: "nearest"; "stochastic", unbiased
            and the same for the same `seed` with any number of threads; "compensated" (bfloat16 only), which keeps the
            lost bits in one more 16-bit tensor, so that the weights follow a float32 master exactly.
        state_dtype: "float32", "bfloat16" or "8bit": of the statistics of parameters that are not float64 or complex.
            Narrow ones are rounded stochastically. "8bit" keeps square_avg in 1 byte, other statistics in bfloat16.
        lazy: Step only the rows that a sparse gradient contains. False: a sparse gradient acts like its dense equal.
        eager_state: Create the state now instead of at the first step; `share_memory()` needs it.
        seed: Seed of the stochastic rounding, a whole number of at least 0.

    Raises:
        ValueError: A number out of its domain (torch's messages).
        RuleError: A number that the dialect has no option for, or a rule that contradicts itself.
        InputError: A number that contradicts a `Rule`.
        InputTypeError: An unknown option; the message names the right one.

    Logs:
        Once, settings that are known to do harm, by the logger "rmsprop"; docs/use/doctor.md lists them.

    Example:
        >>> import torch
        >>> from rmsprop.torch import RMSprop
        >>> weight = torch.nn.Parameter(torch.tensor([0.2, 0.4, 0.6]))
        >>> optimizer = RMSprop([weight], lr=0.01)
        >>> (weight * torch.tensor([-0.5, 0.3, 0.24])).sum().backward()
        >>> optimizer.step()
        >>> weight.data
        tensor([0.3000, 0.3000, 0.5000])

    Differs: torch.optim.RMSprop accepts alpha above 1 and momentum from 1, here both raise. Here a centered run stays
    finite, statistics of 16-bit parameters are float32, and sparse gradients are accepted.

    Source: torch/optim/rmsprop.py of PyTorch 2.13; the dialects' sources: `rmsprop.dialects`.
    """

    @check_option_names
    def __init__(
        self,
        params: Any,
        lr: float | Tensor | None = None,
        alpha: float | None = None,
        eps: float | None = None,
        weight_decay: float | None = None,
        momentum: float | None = None,
        centered: bool | None = None,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool | None = None,
        differentiable: bool = False,
        *,
        dialect: str | Rule | None = None,
        max_norm: float | None = None,
        param_rounding: str = "nearest",
        state_dtype: str = "float32",
        lazy: bool = False,
        eager_state: bool = False,
        seed: int = 0,
    ) -> None:
        values = (lr, alpha, eps, momentum, centered, weight_decay, maximize)
        self._given = {word: value for word, value in zip(("lr", *groups.WORDS), values) if value is not None}
        self._dialect = dialect
        groups.check_numbers(self._given)
        defaults = groups.resolve({}, self._given, dialect)
        del defaults["switches"]
        name = defaults.pop("dialect")
        self._extra = {"param_rounding": param_rounding, "state_dtype": state_dtype, "lazy": lazy}
        settings.check_extras({**self._extra, "capturable": capturable, "differentiable": differentiable})
        settings.check_flag("eager_state", eager_state)
        self.max_norm = settings.parse_max_norm(max_norm)
        self.seed = settings.check_seed(seed)
        self._grad_norm: Any = math.nan
        self._engine = Engine()
        self.releases_gradients = False
        self._traced: Any = None  # a `compiled.Traced` from the first compiled step on
        super().__init__(params, **defaults, capturable=capturable, foreach=foreach, differentiable=differentiable)
        self.defaults["dialect"] = name
        self._shrink_groups()
        self.state: Any = StateTable(self.state)
        settings.log_advice(self.param_groups)
        if eager_state:
            self._create_state()

    @property
    def rule(self) -> Rule:
        """The rule of the first group, as its numbers are now."""
        return groups.rule_of(self.param_groups[0])

    @rule.setter
    def rule(self, _: object) -> None:
        raise InputTypeError(
            "rule: cannot be assigned; set a number in param_groups, or build another RMSprop(..., dialect=rule)"
        )

    @property
    def grad_norm(self) -> float:
        """The norm of the last step with `max_norm`, before clipping. Reading it waits for the parameters' device."""
        self._grad_norm = float(self._grad_norm)
        return self._grad_norm

    @grad_norm.setter
    def grad_norm(self, norm: Any) -> None:
        self._grad_norm = norm

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Whether GradScaler passes its scale to the step: to clip, or, if gradients are released, to raise."""
        return bool(self.max_norm) or self.releases_gradients

    def __repr__(self) -> str:
        lines = ["RMSprop ("]
        for number, group in enumerate(self.param_groups):
            shown = {
                key: value
                for key, value in sorted(groups.ParamGroup(group).complete().items())
                if key not in ("params", "switches", "dialect")
            }
            shown["rule"] = f"dialect {group['dialect']!r}, {groups.rule_of(group)!r}"
            lines += [f"Parameter Group {number}", *(f"    {key}: {value}" for key, value in shown.items()), ""]
        return "\n".join((*lines[:-1], ")"))

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
            found_inf: A tensor of one element; if it is not 0, gradients have overflowed and nothing is changed.

        Returns:
            What `closure` returned, or None.

        Raises:
            InputError: Parameters share memory, or a gradient does not fit its parameter. Nothing has changed then.
        """
        if torch.compiler.is_compiling():
            from rmsprop.torch import compiled  # loads the compiler

            return compiled.step(self, closure, grad_scale, found_inf)
        profiled = torch.autograd._profiler_enabled()
        if profiled or self._has_step_hooks():
            args = (self,) if closure is None else (self, closure)
            scaling = {"grad_scale": grad_scale, "found_inf": found_inf}
            kwargs = {name: value for name, value in scaling.items() if value is not None}
            return (_step_profiled if profiled else _step_with_hooks)(*args, **kwargs)
        return self._engine.step(self, closure, grad_scale, found_inf)

    # torch wraps `step` in a profiler record and two loops over hooks, which takes about 5 microseconds, and 100 right
    # after a backward pass. Here each is used only if there is a profiler or a hook.
    step.hooked = True  # type: ignore[attr-defined]
    # A learning-rate scheduler would replace `step` by a wrapper that torch.compile cannot trace, only to set
    # `_opt_called`; the engine sets it.
    step._wrapped_by_lr_sched = True  # type: ignore[attr-defined]

    def step_parameter(self, param: Tensor) -> None:
        """Step one parameter of this optimizer by its gradient, as `release_gradients` does inside backward."""
        self._engine.step_parameter(self, param)

    def _has_step_hooks(self) -> bool:
        return bool(
            _global_optimizer_pre_hooks
            or _global_optimizer_post_hooks
            or self._optimizer_step_pre_hooks
            or self._optimizer_step_post_hooks
        )

    def _prepare_trace(self) -> bool:
        from rmsprop.torch import compiled

        return compiled.prepare(self)

    # What torch.compiler.assume_constant_result sets; calling it loads the compiler.
    _prepare_trace._dynamo_marked_constant = True  # type: ignore[attr-defined]

    # ---- groups and state ------------------------------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; it may set its own numbers, `state_dtype`, `param_rounding`, `lazy` and `dialect`.

        The constructor's arguments hold for what it does not set. Its dialect decides which numbers it can have.
        """
        if isinstance(param_group, dict):
            if "switches" not in param_group:  # else it is a copy of another group
                param_group.update(groups.resolve(param_group, self._given, self._dialect))
            param_group.update({**self._extra, **param_group})
            settings.check_extras(param_group)
        _add_param_group(self, param_group)
        group = self.param_groups[-1]
        try:
            groups.rule_of(group)
            settings.check_rounding(group)
        except (ValueError, TypeError):
            self.param_groups.pop()
            raise
        self._shrink_groups()
        self._traced = None

    def _shrink_groups(self) -> None:
        """Keep torch's keys alone in groups without anything beyond torch, if that is what a new group would be too."""
        if self.defaults.get("dialect") == "torch":
            self.param_groups[:] = [groups.ParamGroup(group) for group in self.param_groups]

    def _create_state(self) -> None:
        self._engine.find_plans(self, everything=True)

    def reset_state(self) -> None:
        """Reset all statistics and counts in place, as if no step had been done; shared memory stays shared."""
        for group in self.param_groups:
            rule = groups.rule_of(group)
            group.pop("lr_max", None)
            for param in group["params"]:
                old = self.state.get(param)
                if not old:
                    continue
                fresh: dict[str, Any] = {}
                prepare(param, fresh, rule, group)
                for key, value in old.items():
                    if torch.is_tensor(value):  # entries of an option that has been switched off start from 0
                        value.copy_(fresh.get(key, torch.zeros((), dtype=value.dtype)))

    def share_memory(self) -> RMSprop:
        """Move the state to shared memory, for workers in other processes (Hogwild, A3C); create what is missing."""
        self._create_state()
        for state in self.state.values():
            for value in state.values():
                if torch.is_tensor(value):
                    value.share_memory_()
        return self

    def state_dict(self) -> dict[str, Any]:
        """Return the state as torch.optim.RMSprop would: the same names, readable by it (8-bit states are not)."""
        post_hooks: Any = self._optimizer_state_dict_post_hooks
        self._optimizer_state_dict_post_hooks: Any = OrderedDict()  # called below, with the exported state
        try:
            packed = super().state_dict()
        finally:
            self._optimizer_state_dict_post_hooks = post_hooks
        for key, value in packed["state"].items():
            packed["state"][key] = export_state(value) if isinstance(value, dict) else value
        for hook in post_hooks.values():
            changed = hook(self, packed)
            packed = packed if changed is None else changed
        return packed

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state of this class or of torch.optim.RMSprop, and its hyperparameters, as torch does.

        Raises:
            ValueError: Another number of groups or parameters. Nothing has changed then.
            StateError: Missing or misshapen entries, by name. Nothing has changed then.
        """
        state_dict = state_dict.copy()
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            state_dict = hook(self, state_dict) or state_dict
        table, param_groups = read_state_dict(self.param_groups, state_dict)
        self.__setstate__({"state": table, "param_groups": param_groups})
        for post_hook in self._optimizer_load_state_dict_post_hooks.values():
            post_hook(self)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), **{name: getattr(self, name) for name in _PICKLED}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, default in {**_PICKLED, "_grad_norm": math.nan, "releases_gradients": False}.items():
            self.__dict__.setdefault(name, state.get(name, default))
        self._engine = Engine()
        self._traced = None
        for group in state["param_groups"]:
            group.update({**self._extra, "switches": dict(groups.TORCH_SWITCHES), "dialect": "torch", **group})
        super().__setstate__(state)
        self._shrink_groups()
        if not isinstance(self.state, StateTable):
            self.state = StateTable(self.state)


def _step(
    optimizer: RMSprop,
    closure: Callable[[], Any] | None = None,
    *,
    grad_scale: Tensor | float | None = None,
    found_inf: Tensor | None = None,
) -> Any:
    return optimizer._engine.step(optimizer, closure, grad_scale, found_inf)


_add_param_group = inspect.unwrap(Optimizer.add_param_group)  # the wrapper loads the compiler
_step_profiled = Optimizer.profile_hook_step(_step)


def _step_with_hooks(*args: Any, **kwargs: Any) -> Any:
    """Step between the hooks, as `Optimizer.profile_hook_step` does, without its profiler record."""
    optimizer = args[0]
    for hook in chain(_global_optimizer_pre_hooks.values(), optimizer._optimizer_step_pre_hooks.values()):
        changed = hook(optimizer, args, kwargs)
        if changed is not None:
            if not isinstance(changed, tuple) or len(changed) != 2:
                raise RuntimeError(f"{hook} must return None or a tuple of (new_args, new_kwargs), but got {changed}.")
            args, kwargs = changed
    result = _step(*args, **kwargs)
    for hook in chain(optimizer._optimizer_step_post_hooks.values(), _global_optimizer_post_hooks.values()):
        hook(optimizer, args, kwargs)
    return result


_PICKLED = {
    "_extra": {"param_rounding": "nearest", "state_dtype": "float32", "lazy": False},
    "_given": {},
    "_dialect": None,
    "max_norm": 0.0,
    "seed": 0,
}
"""Attributes that are pickled, and their values in a pickle of torch.optim.RMSprop."""
