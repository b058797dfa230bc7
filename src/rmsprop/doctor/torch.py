"""Watch torch.optim.RMSprop or rmsprop.torch.RMSprop: two hooks around `step`, and a look now and then.

A look gathers at most 4096 elements of each tensor before and after the step; the whole is read once only, for NaN in
the gradient. What a look costs is held against the time that has passed, and while that is over `budget` a look waits.
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
from rmsprop.doctor.measure import Sample, measure
from rmsprop.doctor.sample import Grid, grid
from rmsprop.doctor.watching import Watching
from rmsprop.errors import InputTypeError
from rmsprop.rule import Rule
from rmsprop.torch.groups import TORCH_SWITCHES, rule_of
from rmsprop.torch.state import read_square

__all__ = ["Watch"]

_HOST = {"mean_sq": "square_avg", "grad_var": "grad_var", "mean_grad": "grad_avg", "momentum_buf": "momentum_buffer"}


@dataclasses.dataclass
class _Seen:
    """One tensor, from before its step to after it."""

    name: str
    param: Tensor
    group: Mapping[str, Any]
    rule: Rule
    grid: Grid
    index: Tensor | None
    start: NDArray[Any]
    grad: NDArray[Any]
    finite: bool
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
        self.take([measure(self._sample(one)) for one in seen])

    def _tensors(self, optimizer: Any) -> Iterable[tuple[str, Tensor, Mapping[str, Any], Rule]]:
        position = 0
        for group in optimizer.param_groups:
            rule, names = _rule(group), group.get("param_names")
            for i, param in enumerate(group["params"]):
                if param.grad is not None and param.numel():
                    own = names[i] if names else str(position)
                    yield self._names.get(id(param), own), param, group, rule
                position += 1

    def _see(self, name: str, param: Tensor, group: Mapping[str, Any], rule: Rule) -> _Seen:
        if id(param) not in self._grids:
            chosen = grid(_local(param).shape if not param.is_complex() else (*param.shape, 2), seed=self._seed)
            index = None if chosen.whole else torch.from_numpy(chosen.flat()).to(_local(param).device)
            self._grids[id(param)] = chosen, index
        chosen, index = self._grids[id(param)]
        grad = param.grad
        assert grad is not None
        state = self._optimizer.state.get(param) or {}
        square = _square(state, param, rule)
        return _Seen(
            name, param, group, rule, chosen, index,
            start=_taken(param, chosen, index),
            grad=_taken(grad, chosen, index) * self._factor(),
            finite=bool(torch.isfinite(_values(grad).sum(dtype=_summed(grad)))),
            before=None if square is None else _taken(square, chosen, index),
        )  # fmt: skip

    def _factor(self) -> float:
        """Return what the step multiplies a gradient by, as far as is known before it: one over the loss scale."""
        scale = getattr(self._optimizer, "grad_scale", None)
        return 1.0 if scale is None else 1.0 / float(scale)

    def _sample(self, one: _Seen) -> Sample:
        state, rule, grad = self._optimizer.state[one.param], one.rule, one.grad
        clip, norm = getattr(self._optimizer, "max_norm", 0.0), getattr(self._optimizer, "grad_norm", math.nan)
        if clip and norm > clip:
            grad = grad * (clip / norm)
        if rule.weight_decay_mode == "l2":
            grad = grad + rule.weight_decay * one.start
        buffers = {}
        for name in rule.buffers:
            value = (
                read_square(state, _HOST[name], one.param) if name in ("mean_sq", "grad_var") else state[_HOST[name]]
            )
            if value is None:  # torch's own, centered: mean_sq and mean_grad
                whole, mean = (_taken(state[key], one.grid, one.index) for key in ("square_avg", "grad_avg"))
                buffers[name] = np.maximum(whole - mean * mean, 0.0)
            else:
                buffers[name] = _taken(value, one.grid, one.index)
        return Sample(
            tensor=one.name,
            shape=tuple(_local(one.param).shape),
            dtype=str(one.param.dtype).removeprefix("torch."),
            step=int(state["step"]),
            lr=float(one.group["lr"]),
            rule=rule,
            buffers=buffers,
            param=one.start,
            update=_taken(one.param, one.grid, one.index) - one.start,
            grad=grad,
            before=one.before,
            nearest=one.group.get("param_rounding", "nearest") == "nearest",
            finite=one.finite,
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
        return {id(param): str(name) for name, param in pairs}
    except (TypeError, ValueError):
        raise InputTypeError(f"names: a {type(names).__name__}, expected a module or its named_parameters()") from None


def _square(state: Mapping[str, Any], param: Tensor, rule: Rule) -> Tensor | None:
    """Return mean_sq of a parameter, or None before its first step."""
    if not rule.centered or "square_avg" in state:
        return read_square(state, "square_avg", param)
    variance = read_square(state, "grad_var", param)
    return None if variance is None else variance + state["grad_avg"].to(variance.dtype) ** 2


def _local(x: Tensor) -> Tensor:
    """Return what this rank holds of a distributed tensor."""
    to_local = getattr(x, "to_local", None)
    return x if to_local is None else to_local()


def _values(x: Tensor) -> Tensor:
    return _local(x).coalesce().values() if x.is_sparse else _local(x)


def _summed(x: Tensor) -> torch.dtype | None:
    return torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else None


def _taken(x: Tensor, chosen: Grid, index: Tensor | None) -> NDArray[Any]:
    """Return a copy of the elements that are looked at, as a matrix, float32 or float64."""
    x = _local(x)
    if x.is_sparse:
        x = x.to_dense()
    if x.is_complex():
        x = torch.view_as_real(x)
    if index is None:
        x = x.reshape(chosen.shape)
    elif x.is_contiguous():
        x = x.view(-1).index_select(0, index)
    else:  # the rows first: flattening would copy it all
        rows = torch.from_numpy(chosen.rows).to(x.device)
        x = (x.reshape(1, -1) if x.ndim < 2 else x.index_select(0, rows)).reshape(chosen.rows.size, -1)
        x = x.index_select(1, torch.from_numpy(chosen.columns).to(x.device))
    wide = x if x.dtype == torch.float64 else x.to(torch.float32)
    array: NDArray[Any] = wide.cpu().numpy().reshape(chosen.rows.size, chosen.columns.size)
    return array.copy() if index is None else array
