"""Watch torch.optim.RMSprop or rmsprop.torch.RMSprop: two hooks around `step`, which take a sample now and then.

A sample gathers at most 4096 elements of each tensor before and after the step. Of an 8-bit state only these are
decoded, and a sparse gradient is not made dense: the cost does not grow with the tensor, except for the search for NaN,
which reads the whole gradient and the whole parameter once. The gradient is read after the step, because a closure
computes it inside the step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rmsprop import _advice
from rmsprop.doctor.base import BaseWatch
from rmsprop.doctor.measure import Grid, choose_grid, measure
from rmsprop.doctor.sample import Sample
from rmsprop.errors import InputTypeError
from rmsprop.rule import Rule
from rmsprop.torch import RMSprop
from rmsprop.torch import state as _state
from rmsprop.torch.groups import TORCH_SWITCHES, rule_of

__all__ = ["Watch", "gather", "gather_statistics", "is_finite"]

Array = NDArray[Any]


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
        self.first |= {_advice.measure_start(_rule_of(optimizer, group)).at for group in optimizer.param_groups}
        self._optimizer, self._seed = optimizer, seed
        self._grids: dict[int, tuple[Grid, Tensor | None]] = {}
        self._before: list[tuple[Tensor, dict[str, Any]]] = []
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
                samples = [self._measure_after(*before) for before in self._before]
                self._add([sample for sample in samples if sample is not None])
                self._before = []

    def _gather_before(self) -> Iterator[tuple[Tensor, dict[str, Any]]]:
        """Yield each parameter and what `measure` needs of it from before the step."""
        position = 0
        for group in self._optimizer.param_groups:
            rule, names = _rule_of(self._optimizer, group), group.get("param_names")
            for i, param in enumerate(group["params"]):
                if (param.requires_grad or param.grad is not None) and param.numel():
                    grid, index = self._choose_grid(param)
                    yield (
                        param,
                        {
                            "tensor": self._names.get(id(param), names[i] if names else str(position)),
                            "rule": rule,
                            "shape": _get_local(param).shape,
                            "dtype": str(param.dtype).removeprefix("torch."),
                            "lr": float(group["lr"]),
                            "is_nearest": group.get("param_rounding", "nearest") == "nearest",
                            "param": gather(param, grid, index),
                            "before": gather_statistics(self._optimizer.state.get(param) or {}, grid, index) or None,
                        },
                    )
                position += 1

    def _choose_grid(self, param: Tensor) -> tuple[Grid, Tensor | None]:
        if id(param) not in self._grids:
            local = _get_local(param)
            grid = choose_grid((*local.shape, 2) if param.is_complex() else local.shape, seed=self._seed)
            index = None if grid.is_whole else torch.from_numpy(grid.flat()).to(local.device)
            self._grids[id(param)] = grid, index
        return self._grids[id(param)]

    def _measure_after(self, param: Tensor, before: dict[str, Any]) -> Sample | None:
        """Return the sample of a parameter, or None where the step left it out."""
        grid, index = self._choose_grid(param)
        state = self._optimizer.state.get(param) or {}
        statistics = gather_statistics(state, grid, index)
        if param.grad is None or not statistics:
            return None
        finite = {"the gradient": is_finite(param.grad), "the parameter": is_finite(param, grad=param.grad)}
        return measure(
            statistics=statistics,
            step=int(state["step"]),
            change=gather(param, grid, index) - before["param"],
            grad=gather(param.grad, grid, index),
            grad_scale=self._read_grad_scale(),
            not_finite=[words for words, is_good in finite.items() if not is_good],
            **before,
        )

    def _read_grad_scale(self) -> float:
        """Return what the step multiplied the gradients by: one over the loss scale, and the clipping."""
        scale = getattr(self._optimizer, "grad_scale", None)
        limit, norm = getattr(self._optimizer, "max_norm", 0.0), getattr(self._optimizer, "grad_norm", math.nan)
        return (limit / norm if limit and norm > limit else 1.0) / (1.0 if scale is None else float(scale))


def _rule_of(optimizer: Any, group: dict[str, Any]) -> Rule:
    # The groups of torch.optim may hold the switches of a checkpoint of this library, which torch does not read.
    return rule_of(group if isinstance(optimizer, RMSprop) else {**group, "switches": TORCH_SWITCHES})


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


def _get_local(x: Tensor) -> Tensor:
    """Return what this rank holds of a distributed tensor."""
    to_local = getattr(x, "to_local", None)
    return x if to_local is None else to_local()


def is_finite(x: Tensor, *, grad: Tensor | None = None) -> bool:
    """Return whether no element is NaN or infinite; of a sparse tensor the values are read.

    Args:
        x: Any layout. Read.
        grad: The gradient of `x`: where it is sparse, only its rows are read, for the step changed no others.
    """
    x = _get_local(x)
    if grad is not None and _get_local(grad).is_sparse:
        x = x.index_select(0, _get_local(grad).coalesce().indices()[0])
    x = x.coalesce().values() if x.is_sparse else x
    is_narrow = x.dtype in (torch.float16, torch.bfloat16)
    # A sum is several times faster than isfinite, and they differ only where it overflows.
    if bool(torch.isfinite(x.sum(dtype=torch.float32 if is_narrow else None))):
        return True
    return bool(torch.isfinite(x).all())


def gather(x: Tensor, grid: Grid, index: Tensor | None) -> Array:
    """Return a copy of the sampled elements as a matrix, float32 or float64.

    Args:
        x: Any layout, dense or sparse, real or complex (whose components are elements). Read.
        grid: Rows and columns.
        index: `grid.flat()` on the device of `x`; None: every element is sampled.
    """
    x = _get_local(x)
    if x.is_complex():
        x = torch.view_as_real(x.to_dense() if x.is_sparse else x)
    if index is not None and not x.is_sparse and x.is_contiguous():
        x = x.view(-1).index_select(0, index)
    else:  # the first axis first: flattening would copy the whole tensor
        rows, columns = (torch.from_numpy(indices).to(x.device) for indices in (grid.rows, grid.columns))
        x = x.reshape(1) if x.ndim == 0 else x
        is_matrix = x.ndim > 1
        x = x.index_select(0, rows if is_matrix else columns)
        x = (x.to_dense() if x.is_sparse else x).reshape(rows.numel(), -1)
        x = x.index_select(1, columns) if is_matrix else x
    return _to_numpy(x).reshape(grid.rows.size, grid.columns.size)


def gather_statistics(state: Mapping[str, Any], grid: Grid, index: Tensor | None) -> dict[str, Array]:
    """Return the sampled elements of the averages in the state of one parameter; {}: it has none yet.

    A state of torch.optim that came from a checkpoint of this library may hold an old variance: square_avg goes first.
    """
    found = {}
    for key, name in (("square_avg", "mean_sq"), ("grad_var", "grad_var")):
        if torch.is_tensor(state.get(key)):
            found = {name: gather(state[key], grid, index)}
        elif key + "_8bit" in state:
            found = {name: _decode(_get_local(state[key + "_8bit"]), _get_local(state[key + "_scale"]), grid)}
        if found:
            break
    if found and torch.is_tensor(state.get("grad_avg")):
        found["mean_grad"] = gather(state["grad_avg"], grid, index)
    return found


def _to_numpy(x: Tensor) -> Array:
    array: Array = (x if x.dtype == torch.float64 else x.to(torch.float32)).cpu().numpy()
    return array


def _decode(codes: Tensor, scales: Tensor, grid: Grid) -> Array:
    """Return the values of the sampled 8-bit codes; blocks follow the order of memory."""
    where = np.unravel_index(grid.flat(), tuple(codes.shape)) if codes.ndim else ()
    places = sum((axis * stride for axis, stride in zip(where, codes.stride())), np.zeros(grid.flat().size, np.int64))
    index = torch.from_numpy(places).to(codes.device)
    flat = _state.flatten(codes).index_select(0, index)
    scale = scales.float().index_select(0, torch.div(index, _state.BLOCK, rounding_mode="floor"))
    return _to_numpy(_state.decode_codes(flat, scale)).reshape(grid.rows.size, grid.columns.size)
