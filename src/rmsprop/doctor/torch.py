"""Watch torch.optim.RMSprop or rmsprop.torch.RMSprop: two hooks around `step`, which take a sample now and then.

A sample gathers at most 4096 elements of each tensor before and after the step; the whole gradient and the whole
parameter are read once, for NaN. The gradient is read after the step, because a closure computes it inside the step.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from rmsprop import _advice
from rmsprop.doctor.base import BaseWatch
from rmsprop.doctor.gather import gather, gather_statistics, get_local, is_finite
from rmsprop.doctor.grid import Grid, choose_grid
from rmsprop.doctor.measure import measure
from rmsprop.doctor.sample import Sample
from rmsprop.errors import InputTypeError
from rmsprop.rule import Rule
from rmsprop.torch.groups import TORCH_SWITCHES, rule_of

__all__ = ["Watch"]


@dataclasses.dataclass(frozen=True)
class _Before:
    """One tensor before a step."""

    name: str
    param: Tensor
    group: Mapping[str, Any]
    rule: Rule
    grid: Grid
    index: Tensor | None
    values: NDArray[Any]
    statistics: dict[str, NDArray[Any]]


class Watch(BaseWatch):
    """Take a sample of every tensor of an optimizer at regular steps; a context manager.

    Sampled are the first step, the one where momentum makes the first steps longest, and each multiple of `every`. Each
    finding is logged once, by the logger "rmsprop.doctor" (standard error, unless logging is configured).

    Args:
        optimizer: A torch.optim.RMSprop or rmsprop.torch.RMSprop. Read.
        every: Steps between samples, at least 1.
        to: A folder for lines of JSON (doctor.jsonl) and TensorBoard's event files; None: nothing is written.
        names: A module, or what its `named_parameters()` returns. Default: the names in the optimizer's groups, or
            positions.
        budget: The share of the time that samples may take; a sample that comes too early waits, except the first ones.
            None: samples are taken on time whatever they cost.
        seed: Of the choice of elements.
        tensorboard: Whether to write event files. Default: if the package is installed.

    Attributes:
        samples: The latest sample of each tensor, by its name.
        history: All findings, with how often each came.
        spent: Seconds that samples have taken.

    Raises:
        InputTypeError: Another optimizer, by its name.
        InputError: A number out of its domain.

    Example:
        >>> import torch
        >>> from rmsprop.doctor import watch
        >>> model = torch.nn.Linear(3, 2)
        >>> optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
        >>> watcher = watch(optimizer, names=model)
        >>> model(torch.ones(1, 3)).sum().backward()
        >>> _ = optimizer.step()
        >>> watcher.close()
        >>> sorted(watcher.samples), watcher.findings
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
        self._names = _read_names(names)
        super().__init__(every=every, to=to, budget=budget, tensorboard=tensorboard)
        self.first |= {_advice.measure_start(_rule_of(group)).at for group in optimizer.param_groups}
        self._optimizer, self._seed = optimizer, seed
        self._grids: dict[int, tuple[Grid, Tensor | None]] = {}
        self._before: list[_Before] = []
        self._hooks = [
            optimizer.register_step_pre_hook(self._run_before_step),
            optimizer.register_step_post_hook(self._run_after_step),
        ]

    def close(self) -> None:
        """Remove the hooks, and close the files."""
        for hook in self._hooks:
            hook.remove()
        super().close()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _run_before_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        self._before = []  # of a step that did not end: its closure raised
        if self._is_due() and not torch.compiler.is_compiling():
            with torch.no_grad(), self._measure_time():
                found_inf = getattr(optimizer, "found_inf", None)  # of mixed precision: the step will do nothing
                if found_inf is None or not float(found_inf):
                    self._before = list(self._gather_before())

    def _run_after_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if self._before:
            with torch.no_grad(), self._measure_time():
                samples = [self._measure_after(before) for before in self._before]
                self._add([sample for sample in samples if sample is not None])
                self._before = []

    def _gather_before(self) -> Iterator[_Before]:
        position = 0
        for group in self._optimizer.param_groups:
            rule, names = _rule_of(group), group.get("param_names")
            for i, param in enumerate(group["params"]):
                if (param.requires_grad or param.grad is not None) and param.numel():
                    name = self._names.get(id(param), names[i] if names else str(position))
                    grid, index = self._choose_grid(param)
                    values = gather(param, grid, index)
                    statistics = gather_statistics(self._optimizer.state.get(param) or {}, grid, index)
                    yield _Before(name, param, group, rule, grid, index, values, statistics)
                position += 1

    def _choose_grid(self, param: Tensor) -> tuple[Grid, Tensor | None]:
        if id(param) not in self._grids:
            local = get_local(param)
            grid = choose_grid((*local.shape, 2) if param.is_complex() else local.shape, seed=self._seed)
            index = None if grid.is_whole else torch.from_numpy(grid.flat()).to(local.device)
            self._grids[id(param)] = grid, index
        return self._grids[id(param)]

    def _measure_after(self, before: _Before) -> Sample | None:
        """Return the sample of a tensor, or None where the step left it out."""
        param, grid, index = before.param, before.grid, before.index
        state = self._optimizer.state.get(param) or {}
        statistics = gather_statistics(state, grid, index)
        if param.grad is None or not statistics:
            return None
        finite = {"the gradient": is_finite(param.grad), "the parameter": is_finite(param, grad=param.grad)}
        return measure(
            before.name,
            before.rule,
            statistics,
            shape=get_local(param).shape,
            dtype=str(param.dtype).removeprefix("torch."),
            step=int(state["step"]),
            lr=float(before.group["lr"]),
            param=before.values,
            change=gather(param, grid, index) - before.values,
            grad=gather(param.grad, grid, index),
            grad_scale=self._read_grad_scale(),
            before=before.statistics or None,
            is_nearest=before.group.get("param_rounding", "nearest") == "nearest",
            not_finite=[words for words, is_good in finite.items() if not is_good],
        )

    def _read_grad_scale(self) -> float:
        """Return what the step multiplied the gradients by: one over the loss scale, and the clipping."""
        scale = getattr(self._optimizer, "grad_scale", None)
        limit, norm = getattr(self._optimizer, "max_norm", 0.0), getattr(self._optimizer, "grad_norm", math.nan)
        return (limit / norm if limit and norm > limit else 1.0) / (1.0 if scale is None else float(scale))


def _rule_of(group: Mapping[str, Any]) -> Rule:
    return rule_of({"switches": TORCH_SWITCHES, **group})


def _read_names(names: Any) -> dict[int, str]:
    """Return {id of a parameter: its name}."""
    if isinstance(names, torch.nn.Module):
        names = names.named_parameters()
    pairs = names.items() if isinstance(names, Mapping) else names or ()
    try:
        named = [(str(name), param) for name, param in pairs]
    except (TypeError, ValueError):
        raise InputTypeError(f"names: a {type(names).__name__}, expected a module or its named_parameters()") from None
    for name, param in named:
        if not isinstance(param, Tensor):
            raise InputTypeError(f"names: {name!r} names a {type(param).__name__}, expected (name, parameter) pairs")
    return {id(param): name for name, param in named}
