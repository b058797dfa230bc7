"""RMSprop for NumPy arrays and nested dicts, lists and tuples of them.

The formula is that of `rmsprop.rule`; this file gathers arrays and hands them to the compiled step, or to
`formula.step` where the package was installed without a compiler.
"""

from __future__ import annotations

import math
import numbers
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmsprop import _state, _step, formula
from rmsprop._tree import flatten, leaves_like, unflatten
from rmsprop.errors import InputError, InputTypeError, StateError
from rmsprop.rule import Rule
from rmsprop.select import check_option_names, select

__all__ = ["RMSprop"]

LearningRate = float | Callable[[int], float]


class RMSprop:
    """Update arrays in place by RMSprop, in any dialect.

    v <- rho v + (1 - rho) g^2;  p <- p - lr g / sqrt(v + eps), and what the switches of `rmsprop.Rule` add.

    Args:
        params: An array, or nested dicts, lists and tuples of arrays; float32 or float64, dense (C or Fortran order or
            any permutation of the axes), writable, none sharing memory with another. Written by every step.
        lr: Learning rate, at least 0: a number, or a function of the step's number, counted from 0. None, here and
            below: the dialect's own (0.01 where the dialect has no default).
        rho: Decay of the moving averages, in [0, 1]. Without a dialect 0.9.
        eps: Added to the denominator, at least 0; in units of grad**2 inside the root, else of grad. Without a dialect
            1e-8 inside the root.
        momentum: Decay of the momentum buffer, in [0, 1); it brings the dialect's kind of buffer. Without a dialect
            torch's: lr is applied after the buffer.
        centered: Divide by the standard deviation of the gradient instead of its root mean square.
        weight_decay: Strength, at least 0; where it acts is the dialect's. Without a dialect l2, as in torch.
        dialect: A name of `rmsprop.dialects` ("torch", "tensorflow1", ...) or a `Rule`. An option that the dialect does
            not have raises, and so does one that contradicts a `Rule`. Default: `Rule()`.
        max_norm: Scale the gradients down to this global norm where theirs is larger; in units of grad.
        check_finite: Refuse gradients with NaN or infinity before anything changes (costs one more read of them).
        threads: Threads of one step. Default: all cores from 65,536 elements on, else one. The bits are the same.

    Attributes:
        params: The tree that was passed.
        rule: The rule. Read only.
        dialect: Its name, read only: "rmsprop" without a dialect, "custom" for a `Rule`.
        lr: The learning rate or its function; assign to change it.
        steps: Steps done per leaf, int64; a leaf whose gradient was None has done fewer.
        buffers: The statistics, a list of arrays in leaf order for each name in `rule.buffers`.
        grad_norm: Global norm of the last gradients before clipping; NaN unless `max_norm` or `check_finite` asked.

    Raises:
        InputError: An array with gaps, read-only, or sharing memory; an empty tree; a number out of its domain; an
            option that contradicts a `Rule`.
        InputTypeError: A leaf that is no NumPy array, or of another dtype; an unknown option.
        RuleError: An unknown dialect, an option that it does not have, or a rule that cannot exist.

    Example:
        >>> import numpy as np, rmsprop
        >>> params = {"w": np.array([0.2, 0.4, 0.6]), "b": np.zeros(1)}
        >>> optimizer = rmsprop.RMSprop(params, lr=0.01)
        >>> optimizer.step({"w": np.array([-0.5, 0.3, 0.24]), "b": None})
        >>> print(params["w"])
        [0.23162277 0.36837724 0.56837725]

    Differs: torch.optim.RMSprop has rho 0.99 and eps outside the root; tf.keras has eps 1e-7; TensorFlow 1 starts
    mean_sq at one: `dialect="torch"`, `dialect="keras3"`, `dialect="tensorflow1"`.

    Source: G. Hinton, "Neural networks for machine learning", lecture 6e; the switches: `rmsprop.dialects`.
    """

    @check_option_names
    def __init__(
        self,
        params: Any,
        lr: LearningRate | None = None,
        rho: float | None = None,
        eps: float | None = None,
        momentum: float | None = None,
        centered: bool | None = None,
        weight_decay: float | None = None,
        *,
        dialect: str | Rule | None = None,
        max_norm: float | None = None,
        check_finite: bool = False,
        threads: int = 0,
    ) -> None:
        self.params = params
        options = {"rho": rho, "eps": eps, "momentum": momentum, "centered": centered, "weight_decay": weight_decay}
        selection = select(dialect, options)
        self._rule, self._dialect = selection.rule, selection.dialect
        self.lr = selection.lr if lr is None else lr  # type: ignore[assignment] # this front end has a default
        self.max_norm = _check_max_norm(max_norm)
        if not isinstance(check_finite, bool):
            raise InputTypeError(f"check_finite: {check_finite!r}, expected True or False")
        self.check_finite = check_finite
        self.threads = _check_threads(threads)
        self.grad_norm = math.nan
        self.lr_max = 0.0
        leaves, paths, self._structure = flatten(params)
        self._names = [path.removeprefix("params") for path in paths]
        if not leaves:
            raise InputError("params: no array in the tree, expected at least one")
        for leaf, path in zip(leaves, paths):
            _check_leaf(leaf, path)
        self._leaves: list[NDArray[Any]] = leaves
        self.steps = np.zeros(len(leaves), np.int64)
        self.buffers: dict[str, list[NDArray[Any]]] = {
            name: [np.zeros_like(leaf, subok=False) for leaf in leaves] for name in self.rule.buffers
        }
        self._buffer_lists = tuple(self.buffers.values())
        self._fill()
        self._args = _step.StepArgs()
        self._lock = threading.Lock()
        self._plan = self._new_plan()
        self._plan.check()

    rule = property(lambda self: self._rule)
    dialect = property(lambda self: self._dialect)

    def step(self, grads: Any, lr: float | None = None) -> None:
        """Do one step in place.

        Args:
            grads: A tree built like `params`, each leaf of its parameter's shape; None leaves a parameter and its
                statistics unchanged. Read. A leaf of its parameter's dtype and memory order is used without a copy. In
                another order, of another real dtype, or as a list of numbers it is copied.
            lr: This step's learning rate, in place of the one given at construction.

        Raises:
            InputError: Another structure or shape, shared memory, an lr out of its domain, or, with `check_finite`, a
                gradient that is not finite. Nothing has changed then.
            InputTypeError: A leaf that is not an array of real numbers, or a masked array. Nothing has changed then.
        """
        leaves = leaves_like(self._structure, grads)
        with self._lock:
            if lr is None:
                lr = self._lr(self._plan.calls) if callable(self._lr) else self._lr
            if type(lr) is not float:
                lr = _check_lr(lr)
            before = self.lr_max
            args = self._args
            args.lr, args.lr_max, args.max_norm = lr, max(lr, before), self.max_norm
            args.check_finite, args.threads = self.check_finite, self.threads
            self.lr_max = args.lr_max  # before the step: an interrupt after it must not lose it
            try:
                norm = _step.core.step(self._plan, leaves, args, False)
                if norm is None:
                    leaves = [_convert(*each) for each in zip(leaves, self._leaves, self._names)]
                    norm = _step.core.step(self._plan, leaves, args)
            except InputError:
                self.lr_max = before
                raise
            self.grad_norm = norm

    @property
    def step_count(self) -> int:
        """Calls of `step` so far: what a function `lr` is called with next."""
        return self._plan.calls

    def effective_lr(self) -> Any:
        """Return lr / denominator for every element, as a tree like `params`: the factor of the gradient in a step.

        The denominator is that of the last step (bias correction included); before the first step it is that of the
        rule's start. It is infinite where the denominator is 0, which a step treats as an update of 0.
        """
        lr = float(self.lr(max(self.step_count - 1, 0)) if callable(self.lr) else self.lr)
        leaves = [
            formula.effective_lr(self.rule, buffers, lr, step=int(steps))
            for buffers, steps in zip(self._per_leaf(), self.steps)
        ]
        return unflatten(self._structure, leaves)

    def mean_square(self) -> Any:
        """Return the moving average of grad**2 as a tree like `params`; from variance and mean where centered."""
        return unflatten(self._structure, [formula.mean_square(b).copy() for b in self._per_leaf()])

    def reset_state(self) -> None:
        """Forget all statistics and counts, as if no step had been done; parameters stay."""
        self._plan.calls = 0
        self.lr_max = 0.0
        self.steps[:] = 0
        self._fill()

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the state: what `load_state_dict` needs to go on with the same bits.

        Keys: "rule" (JSON), "count", "lr_max", "steps" (int64 array) and "buffers", which maps "mean_sq['layer']" and
        so on to arrays.
        """
        return {
            "rule": self.rule.to_json(),
            "count": self.step_count,
            "lr_max": self.lr_max,
            "steps": self.steps.copy(),
            "buffers": {key: array.copy(order="K") for key, array in self._name_buffers().items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state that `state_dict` returned.

        Raises:
            StateError: Another rule (the switches are named), other parameters, shapes or dtypes, missing entries.
                Nothing has changed then.
        """
        if not isinstance(state, Mapping):
            raise StateError(f"state: a {type(state).__name__}, expected what state_dict() returned")
        loaded = _state.check_state(state, rule=self.rule, buffers=self._name_buffers(), count=len(self._leaves))
        for key, array in self._name_buffers().items():
            array[...] = loaded.buffers[key]
        self.steps[:] = loaded.steps
        self._plan.calls = loaded.count
        self.lr_max = loaded.lr_max

    def save(self, path: str | Path) -> None:
        """Write parameters and state to a safetensors file, atomically.

        Raises:
            OSError: The disk is full or the folder cannot be written; an existing file keeps its old content.
        """
        params = {f"params{name}": leaf for name, leaf in zip(self._names, self._leaves)}
        _state.write(path, self.state_dict(), params)

    def load(self, path: str | Path) -> None:
        """Read parameters and state back, in place, from a file that `save` wrote.

        Raises:
            FileError: The file is truncated, corrupt or of another kind. Nothing has changed then.
            StateError: It belongs to other parameters or another rule. Nothing has changed then.
            FileNotFoundError: There is no such file.
        """
        state, params = _state.read(path)
        mine = {f"params{name}": leaf for name, leaf in zip(self._names, self._leaves)}
        _state.check_arrays(params, mine)
        self.load_state_dict(state)
        for key, leaf in mine.items():
            leaf[...] = params[key]

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in self.__dict__.items() if name not in ("_plan", "_lock")}
        return {**kept, "calls": self.step_count}

    def __setstate__(self, state: dict[str, Any]) -> None:
        calls = state.pop("calls")
        self.__dict__.update(state)
        self._lock = threading.Lock()
        self._plan = self._new_plan()
        self._plan.calls = calls

    def __repr__(self) -> str:
        elements = sum(leaf.size for leaf in self._leaves)
        lr = "a function" if callable(self.lr) else f"{self.lr:g}"
        size = f"{len(self._leaves)} arrays, {elements:,} elements"
        return f"RMSprop({size}, lr={lr}, dialect={self.dialect!r}, {self.rule!r})"

    def _new_plan(self) -> Any:
        return _step.core.Plan(_step.handle(self.rule), self._leaves, self._buffer_lists, self.steps, self._names)

    def _fill(self) -> None:
        for name, arrays in self.buffers.items():
            for array in arrays:
                array[...] = self.rule.init_value if name in ("mean_sq", "grad_var") else 0.0

    def _per_leaf(self) -> list[dict[str, NDArray[Any]]]:
        return [dict(zip(self.buffers, arrays)) for arrays in zip(*self._buffer_lists)]

    def _name_buffers(self) -> dict[str, NDArray[Any]]:
        return {f"{kind}{name}": a for kind, arrays in self.buffers.items() for name, a in zip(self._names, arrays)}

    @property
    def lr(self) -> LearningRate:
        return self._lr

    @lr.setter
    def lr(self, lr: LearningRate) -> None:
        self._lr = lr if callable(lr) else _check_lr(lr)


def _check_lr(lr: Any) -> float:
    try:
        if isinstance(lr, (str, bytes, bool)):
            raise TypeError
        rate = float(lr)
    except (TypeError, ValueError):
        raise InputTypeError(f"lr: {lr!r}, expected a number or a function of the step") from None
    except OverflowError:
        rate = math.inf
    if not math.isfinite(rate) or rate < 0:
        raise InputError(f"lr: {rate:g}, expected a finite number of at least 0")
    return rate


def _convert(grad: Any, param: NDArray[Any], name: str) -> Any:
    """Copy a gradient into its parameter's dtype and memory order if it can be; the border explains what cannot."""
    if isinstance(grad, np.ma.MaskedArray):
        raise InputTypeError(f"grads{name}: a masked array, whose mask would be ignored; pass grad.filled(0)")
    try:
        array = np.asarray(grad)
    except ValueError:  # a ragged list
        return grad
    if grad is None or array.dtype.kind not in "fiu" or array.shape != param.shape:
        return grad if array.dtype.kind in "OSU" else array
    copy = np.empty_like(param, subok=False)
    with np.errstate(over="ignore"):
        copy[...] = array
    # A finite number stays finite, as in a step of it.
    np.copyto(copy, np.copysign(np.finfo(copy.dtype).max, copy), where=np.isinf(copy) & np.isfinite(array))
    return copy


def _check_leaf(leaf: object, path: str) -> None:
    if not isinstance(leaf, np.ndarray) or isinstance(leaf, np.ma.MaskedArray):
        raise InputTypeError(f"{path}: {type(leaf).__name__}, expected a NumPy array")
    if leaf.dtype not in (np.float32, np.float64):
        raise InputTypeError(f"{path}: {leaf.dtype}, expected float32 or float64")


def _check_max_norm(max_norm: float | None) -> float:
    if max_norm is None:
        return 0.0
    if isinstance(max_norm, bool) or not isinstance(max_norm, numbers.Real):
        raise InputTypeError(f"max_norm: {max_norm!r}, expected a number or None")
    try:
        norm = float(max_norm)
    except OverflowError:
        norm = math.inf
    if not math.isfinite(norm) or norm <= 0:
        raise InputError(f"max_norm: {norm}, expected a finite number above 0, or None for no clipping")
    return norm


def _check_threads(threads: int) -> int:
    if isinstance(threads, bool) or not isinstance(threads, numbers.Integral) or not 0 <= threads <= 1024:
        raise InputError(f"threads: {threads!r}, expected a whole number from 0 (the default) to 1024")
    return int(threads)
