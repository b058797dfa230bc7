"""An optimizer in a trial: it does the steps, and its state can be measured between them.

The effective learning rate of an entry is the factor that its gradient (for Adam: its averaged gradient) is multiplied
by:

    RMSprop   lr / (sqrt(mean_sq) + eps), or eps inside the root     AdaGrad  lr / (sqrt(sum_sq) + eps)
    Adadelta  lr sqrt(mean_sq_update + eps) / sqrt(mean_sq + eps)
    Adam      lr / (1 - beta1^t) / (sqrt(mean_sq / (1 - beta2^t)) + eps)

Gradient descent, with momentum or without, has the same factor for all entries: its effective rate is None.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["QUANTILES", "NumpyStepper", "Stepper", "TorchStepper", "measure_quantiles"]

QUANTILES = (0.1, 0.5, 0.9)
ENTRIES = 20_000
"""At most about twice as many entries, evenly spaced over all parameters, are measured: three digits of a quantile."""

Array = NDArray[Any]


class NumpyStepper:
    """Runs `rmsprop.numpy.RMSprop` or an optimizer of `rmsprop.baselines`."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer
        self._step = optimizer.step

    def __call__(self, grads: Any) -> None:
        """Do a step."""
        self._step(grads)

    def effective_lr(self) -> tuple[float, ...] | None:
        """Return the QUANTILES of the effective learning rate over the entries that have ever had a gradient."""
        from rmsprop._tree import flatten

        is_rmsprop = hasattr(self.optimizer, "mean_square")
        if not is_rmsprop and self.optimizer.statistic is None:
            return None
        factors = flatten(self.optimizer.effective_lr())[0]
        statistics = (
            flatten(self.optimizer.mean_square())[0] if is_rmsprop else self.optimizer.buffers[self.optimizer.statistic]
        )
        stride = _choose_stride(sum(array.size for array in factors))
        return measure_quantiles(
            [(f.reshape(-1)[::stride], s.reshape(-1)[::stride]) for f, s in zip(factors, statistics)]
        )

    def state_bytes(self) -> int:
        """Return the size of the optimizer's buffers."""
        return sum(array.nbytes for arrays in self.optimizer.buffers.values() for array in arrays)


class TorchStepper:
    """Runs a torch optimizer, which finds the gradients in `.grad`.

    `wait` is called after each step: it waits until an asynchronous device has finished, so that the step can be timed.
    """

    def __init__(self, optimizer: Any, *, wait: Callable[[], Any] | None = None) -> None:
        self.optimizer = optimizer
        self._step = optimizer.step
        self._wait = wait

    def __call__(self, grads: Any = None) -> None:
        """Do a step; `grads` is ignored."""
        self._step()
        if self._wait is not None:
            self._wait()

    def effective_lr(self) -> tuple[float, ...] | None:
        """Return the QUANTILES of the effective learning rate over the entries that have ever had a gradient."""
        groups = self.optimizer.param_groups
        stride = _choose_stride(sum(param.numel() for group in groups for param in group["params"]))
        pairs = [
            _compute_factors(group, self.optimizer.state.get(param, {}), stride)
            for group in groups
            for param in group["params"]
        ]
        known = [pair for pair in pairs if pair is not None]
        return measure_quantiles(known) if known else None

    def state_bytes(self) -> int:
        """Return the size of all tensors of the state."""
        return sum(
            tensor.numel() * tensor.element_size()
            for state in self.optimizer.state.values()
            for tensor in state.values()
            if hasattr(tensor, "element_size")
        )


Stepper = NumpyStepper | TorchStepper


def measure_quantiles(pairs: list[tuple[Array, Array]]) -> tuple[float, ...] | None:
    """Return the QUANTILES of the factors whose statistic is above 0, over all tensors together.

    `pairs` has for each tensor the factors and the statistic that they are computed from, flat, of the same length.
    """
    factors, statistic = (np.concatenate([pair[i] for pair in pairs]) for i in (0, 1))
    # An entry that never had a gradient has the factor lr / eps, which was only ever multiplied by 0.
    used = factors[(statistic > 0) & np.isfinite(factors)]
    return tuple(float(q) for q in np.quantile(used, QUANTILES)) if len(used) else None


def _choose_stride(entries: int) -> int:
    return max(1, entries // ENTRIES)


def _compute_factors(group: dict[str, Any], state: Any, stride: int) -> tuple[Array, Array] | None:
    """Return the effective learning rates of a parameter and their statistic, flat; None for optimizers without."""

    def flat(name: str) -> Array:
        return state[name].detach().reshape(-1)[::stride].double().cpu().numpy()

    lr, eps = float(group["lr"]), group.get("eps")
    if "exp_avg_sq" in state:
        (beta1, beta2), t, v = group["betas"], float(state["step"]), flat("exp_avg_sq")
        return lr / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + eps), v
    if "acc_delta" in state:
        v = flat("square_avg")
        return lr * np.sqrt((flat("acc_delta") + eps) / (v + eps)), v
    if "sum" in state or "square_avg" in state:
        v = flat("sum" if "sum" in state else "square_avg")
        return lr / (np.sqrt(v) + eps), v
    return None
