"""An optimizer at work in a trial: one call per step, and a look at its state between steps.

The effective learning rate is the factor that an entry's gradient (for Adam: its averaged gradient) is multiplied by:

    RMSprop   lr / (sqrt(mean_sq) + eps), or eps inside the root     AdaGrad  lr / (sqrt(sum_sq) + eps)
    Adadelta  lr sqrt(mean_sq_update + eps) / sqrt(mean_sq + eps)
    Adam      lr / (1 - beta1^t) / (sqrt(mean_sq / (1 - beta2^t)) + eps)

Gradient descent and its momentum forms have one number for all entries, which is no picture: they answer None.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["QUANTILES", "NumpyStepper", "Stepper", "TorchStepper", "growing", "quantiles"]

QUANTILES = (0.1, 0.5, 0.9)
ENTRIES = 20_000
"""How many entries of all parameters together are looked at, evenly spaced: enough for quantiles to three digits."""

Array = NDArray[Any]


class Stepper(Protocol):
    """What a trial calls."""

    def __call__(self, grads: Any) -> Any:
        """Update the parameters that the optimizer was made for."""

    def effective_lr(self) -> tuple[float, ...] | None:
        """Return the QUANTILES of the effective learning rate after the last step, or None if it has none."""

    def state_bytes(self) -> int:
        """Return the bytes that the optimizer keeps beside the parameters."""


class NumpyStepper:
    """A stepper around `rmsprop.numpy.RMSprop` or one of `rmsprop.baselines`.

    Args:
        optimizer: The optimizer.
    """

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer
        self._step = optimizer.step

    def __call__(self, grads: Any) -> None:
        """Do the step."""
        self._step(grads)

    def effective_lr(self) -> tuple[float, ...] | None:
        """Return the quantiles over the entries that have ever had a gradient."""
        from rmsprop._tree import flatten

        own = hasattr(self.optimizer, "mean_square")
        if not own and self.optimizer.statistic is None:
            return None
        statistics = (
            flatten(self.optimizer.mean_square())[0] if own else self.optimizer.buffers[self.optimizer.statistic]
        )
        factors = flatten(self.optimizer.effective_lr())[0]
        every = _stride(sum(array.size for array in factors))
        return quantiles([(f.reshape(-1)[::every], s.reshape(-1)[::every]) for f, s in zip(factors, statistics)])

    def state_bytes(self) -> int:
        """Return the size of the buffers."""
        return sum(array.nbytes for arrays in self.optimizer.buffers.values() for array in arrays)


class TorchStepper:
    """A stepper around a torch optimizer; it ignores its argument, as the gradients are in `.grad`.

    Args:
        optimizer: The optimizer.
        wait: Called after each step, for devices that only take note of the work: without it nothing would be timed.
    """

    def __init__(self, optimizer: Any, *, wait: Callable[[], Any] | None = None) -> None:
        self.optimizer = optimizer
        self._step = optimizer.step
        self._wait = wait

    def __call__(self, grads: Any = None) -> None:
        """Do the step."""
        self._step()
        if self._wait is not None:
            self._wait()

    def effective_lr(self) -> tuple[float, ...] | None:
        """Return the quantiles over the entries that have ever had a gradient."""
        pairs = []
        every = _stride(sum(param.numel() for group in self.optimizer.param_groups for param in group["params"]))
        for group in self.optimizer.param_groups:
            for param in group["params"]:
                found = _torch_factor(group, self.optimizer.state.get(param, {}), every)
                if found is not None:
                    pairs.append(found)
        return quantiles(pairs) if pairs else None

    def state_bytes(self) -> int:
        """Return the size of every tensor of the state."""
        return sum(
            tensor.numel() * tensor.element_size()
            for state in self.optimizer.state.values()
            for tensor in state.values()
            if hasattr(tensor, "element_size")
        )


def quantiles(pairs: list[tuple[Array, Array]]) -> tuple[float, ...] | None:
    """Return the QUANTILES of the factors whose statistic is above 0, over all tensors together.

    Args:
        pairs: Per tensor the factors and the statistic they came from, flat, of the same length.

    Example:
        >>> factors, mean_sq = np.array([5.0, 1.0, 2.0, 3.0]), np.array([0.0, 1.0, 1.0, 1.0])
        >>> print(tuple(map(float, quantiles([(factors, mean_sq)]))))
        (1.2, 2.0, 2.8)
    """
    factors, statistic = (np.concatenate([pair[i] for pair in pairs]) for i in (0, 1))
    # An entry that never saw a gradient has a factor, lr / eps, that never multiplied anything but zero.
    seen = factors[(statistic > 0) & np.isfinite(factors)]
    return tuple(float(q) for q in np.quantile(seen, QUANTILES)) if len(seen) else None


def _stride(entries: int) -> int:
    return max(1, entries // ENTRIES)


def _torch_factor(group: dict[str, Any], state: Any, every: int) -> tuple[Array, Array] | None:
    """Return what a parameter's gradient was multiplied by, and the statistic, flat; None for optimizers without."""
    lr = float(group["lr"])
    if "exp_avg_sq" in state:
        beta1, beta2 = group["betas"]
        t = float(state["step"])
        v = _flat(state["exp_avg_sq"], every)
        return lr / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + group["eps"]), v
    if "acc_delta" in state:
        v = _flat(state["square_avg"], every)
        return lr * np.sqrt((_flat(state["acc_delta"], every) + group["eps"]) / (v + group["eps"])), v
    if "sum" in state or "square_avg" in state:
        v = _flat(state["sum"] if "sum" in state else state["square_avg"], every)
        return lr / (np.sqrt(v) + group["eps"]), v
    return None


def _flat(tensor: Any, every: int) -> Array:
    array: Array = tensor.detach().reshape(-1)[::every].double().cpu().numpy()
    return array


def growing() -> Iterator[int]:
    """Yield 1, 2, 5, 10, 20, 50, ...: when to look, for an axis of steps that is logarithmic.

    Example:
        >>> import itertools
        >>> list(itertools.islice(growing(), 7))
        [1, 2, 5, 10, 20, 50, 100]
    """
    for exponent in itertools.count():
        for digit in (1, 2, 5):
            yield digit * 10**exponent
