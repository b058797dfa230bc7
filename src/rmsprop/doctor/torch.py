"""Watch torch.optim.RMSprop or rmsprop.torch.RMSprop: two hooks around `step`, and a look now and then.

A look gathers at most 4096 elements of each tensor before and after the step; the whole is read for NaN alone, once in
the gradient and once in the parameter. The gradient is read after the step, for a closure computes it within. What a
look costs is held against the time that has passed, and while that is over `budget` a look waits.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rmsprop import _advice
from rmsprop.doctor.gather import all_finite, local, square, taken
from rmsprop.doctor.look import Sample
from rmsprop.doctor.measure import measure
from rmsprop.doctor.sample import Grid, grid
from rmsprop.doctor.watching import Watching
from rmsprop.errors import InputTypeError
from rmsprop.rule import Rule
from rmsprop.torch.groups import TORCH_SWITCHES, rule_of

__all__ = ["Watch"]


@dataclasses.dataclass
class _Seen:
    """One tensor, before a step."""

    name: str
    param: Tensor
    group: Mapping[str, Any]
    rule: Rule
    grid: Grid
    index: Tensor | None
    start: NDArray[Any]
    before: NDArray[Any] | None


class Watch(Watching):
    """Look at every tensor of an optimizer every so many steps; a context manager.

    Looks at the first step, at the one where momentum makes the first steps longest, and at each multiple of `every`.
    What is found is told once, through the logger "rmsprop.doctor" (standard error, unless logging is set up).

    Args:
        optimizer: A torch.optim.RMSprop or rmsprop.torch.RMSprop. Read.
        every: Steps from look to look, at least 1.
        to: A folder for lines of JSON (doctor.jsonl) and TensorBoard's event files; None: nothing is written.
        names: A module, or what its `named_parameters()` returns. Default: the names in the optimizer's groups, or
            positions.
        budget: The share of the time that looks may take; a look that comes too early waits, except the first ones.
            None: looks come on time whatever they cost.
        seed: Of the choice of elements.
        tensorboard: Whether to write event files. Default: if the package is installed.

    Attributes:
        looks: The latest look of each tensor, by its name.
        history: All findings, with how often each came.
        spent: Seconds that looks have taken.

    Raises:
        InputTypeError: Another optimizer, by its name.
        InputError: A number out of its domain.

    Example:
        >>> import torch
        >>> from rmsprop.doctor import watch
        >>> model = torch.nn.Linear(3, 2)
        >>> optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
        >>> watching = watch(optimizer, names=model)
        >>> model(torch.ones(1, 3)).sum().backward()
        >>> _ = optimizer.step()
        >>> watching.close()
        >>> sorted(watching.looks), watching.findings
        (['bias', 'weight'], [])
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        every: int = 100,
        to: str | Path | None = None,
        names: Any = None,
        budget: float | None = 0.01,
        seed: int = 0,
        tensorboard: bool | None = None,
    ) -> None:
        if not isinstance(optimizer, torch.optim.RMSprop):
            raise InputTypeError(
                f"optimizer: {type(optimizer).__module__}.{type(optimizer).__qualname__}, expected torch.optim.RMSprop "
                "or rmsprop.torch.RMSprop"
            )
        first = {1, *(_advice.start(_rule(group)).at for group in optimizer.param_groups)}
        super().__init__(every=every, to=to, budget=budget, tensorboard=tensorboard, first=first)
        self._optimizer, self._seed = optimizer, seed
        self._names = _named(names)
        self._grids: dict[int, tuple[Grid, Tensor | None]] = {}
        self._seen: list[_Seen] | None = None
        self._hooks = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        ]

    def close(self) -> None:
        """Stop looking, and close the files."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        super().close()

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- the two hooks ---------------------------------------------------------------------------------------------

    def _before(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        self._seen = None  # of a step that did not end: its closure raised
        if self.due() and not torch.compiler.is_compiling():
            self.timed(self._look)

    def _after(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if self._seen is not None:
            self.timed(self._judge)

    @torch.no_grad()
    def _look(self) -> None:
        overflow = getattr(self._optimizer, "found_inf", None)  # of mixed precision: the step will do nothing
        if overflow is None or not float(overflow):
            self._seen = [self._see(*item) for item in self._tensors(self._optimizer)]

    @torch.no_grad()
    def _judge(self) -> None:
        seen, self._seen = self._seen or [], None
        samples = [self._sample(one, one.param.grad) for one in seen if one.param.grad is not None]
        self.take([measure(sample) for sample in samples if sample is not None])

    def _tensors(self, optimizer: Any) -> Iterable[tuple[str, Tensor, Mapping[str, Any], Rule]]:
        position = 0
        for group in optimizer.param_groups:
            rule, names = _rule(group), group.get("param_names")
            for i, param in enumerate(group["params"]):
                if (param.requires_grad or param.grad is not None) and param.numel():
                    own = names[i] if names else str(position)
                    yield self._names.get(id(param), own), param, group, rule
                position += 1

    def _see(self, name: str, param: Tensor, group: Mapping[str, Any], rule: Rule) -> _Seen:
        if id(param) not in self._grids:
            chosen = grid(local(param).shape if not param.is_complex() else (*param.shape, 2), seed=self._seed)
            index = None if chosen.whole else torch.from_numpy(chosen.flat()).to(local(param).device)
            self._grids[id(param)] = chosen, index
        chosen, index = self._grids[id(param)]
        return _Seen(
            name, param, group, rule, chosen, index,
            start=taken(param, chosen, index),
            before=square(self._optimizer.state.get(param) or {}, param, chosen, index),
        )  # fmt: skip

    def _factor(self) -> float:
        """Return what the step multiplies a gradient by: one over the loss scale, and the clipping."""
        scale = getattr(self._optimizer, "grad_scale", None)
        clip, norm = getattr(self._optimizer, "max_norm", 0.0), getattr(self._optimizer, "grad_norm", math.nan)
        return (1.0 if scale is None else 1.0 / float(scale)) * (clip / norm if clip and norm > clip else 1.0)

    def _sample(self, one: _Seen, gradient: Tensor) -> Sample | None:
        state, rule, param = self._optimizer.state.get(one.param) or {}, one.rule, one.param
        whole = square(state, param, one.grid, one.index)
        if whole is None:  # the optimizer left it out
            return None
        buffers = {"mean_sq": whole}
        if rule.centered:
            mean = taken(state["grad_avg"], one.grid, one.index)
            variance = square(state, param, one.grid, one.index, key="grad_var")  # torch's own keeps none
            buffers = {
                "mean_grad": mean,
                "grad_var": np.maximum(whole - mean * mean, 0.0) if variance is None else variance,
            }
        grad = taken(gradient, one.grid, one.index) * self._factor()
        if rule.maximize:
            grad = -grad
        if rule.weight_decay_mode == "l2":
            grad = grad + rule.weight_decay * one.start
        return Sample(
            tensor=one.name,
            shape=tuple(local(param).shape),
            dtype=str(param.dtype).removeprefix("torch."),
            step=int(state["step"]),
            lr=float(one.group["lr"]),
            rule=rule,
            buffers=buffers,
            param=one.start,
            update=taken(param, one.grid, one.index) - one.start,
            grad=grad,
            before=one.before,
            nearest=one.group.get("param_rounding", "nearest") == "nearest",
            finite=all_finite(gradient),
            not_finite=() if all_finite(param, stepped=gradient) else ("the parameter",),
        )


def _rule(group: Mapping[str, Any]) -> Rule:
    return rule_of({"switches": TORCH_SWITCHES, **group})


def _named(names: Any) -> dict[int, str]:
    """Return {id of a parameter: its name}."""
    if names is None:
        return {}
    if isinstance(names, torch.nn.Module):
        names = names.named_parameters()
    pairs = names.items() if isinstance(names, Mapping) else names
    try:
        named = [(str(name), param) for name, param in pairs]
    except (TypeError, ValueError):
        raise InputTypeError(f"names: a {type(names).__name__}, expected a module or its named_parameters()") from None
    for name, param in named:
        if not isinstance(param, Tensor):
            raise InputTypeError(f"names: {name!r} names a {type(param).__name__}, expected (name, parameter) pairs")
    return {id(param): name for name, param in named}
