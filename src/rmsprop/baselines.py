"""The baselines: gradient descent, momentum, Nesterov, AdaGrad, Adadelta, Adam and AdamW.

One step, for one parameter p with gradient g (every operation is elementwise, in the parameter's dtype):

    GradientDescent  p <- p - lr g
    Momentum         b <- momentum b + g;  p <- p - lr b
    Nesterov         b <- momentum b + g;  p <- p - lr (g + momentum b)
    AdaGrad          s <- s + g^2;         p <- p - lr g / (sqrt(s) + eps)
    Adadelta         v <- rho v + (1 - rho) g^2;  u <- sqrt(a + eps) / sqrt(v + eps) g
                     a <- rho a + (1 - rho) u^2;  p <- p - lr u
    Adam             m <- m + (1 - beta1) (g - m);  v <- beta2 v + (1 - beta2) g^2
                     p <- p - lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
    AdamW            p <- (1 - lr weight_decay) p, then Adam

Each has the calling form of `rmsprop.RMSprop`: a tree of arrays updated in place, `step(grads, lr=None)`. They are
written to be read and compared, not for speed: plain NumPy, with temporaries.

Source: the formulas, their order of operations and every default are those of torch.optim (SGD, Adagrad, Adadelta,
Adam, AdamW), which follow B. Polyak (1964); Y. Nesterov (1983); J. Duchi et al., JMLR 12 (2011); M. Zeiler,
arXiv:1212.5701; D. Kingma and J. Ba, arXiv:1412.6980; I. Loshchilov and F. Hutter,
arXiv:1711.05101.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rmsprop._tree import flatten, leaves_like, unflatten
from rmsprop.errors import InputError, InputTypeError

__all__ = [
    "AdaGrad",
    "Adadelta",
    "Adam",
    "AdamW",
    "Baseline",
    "GradientDescent",
    "Momentum",
    "Nesterov",
    "get",
    "names",
]

Array = NDArray[Any]
LearningRate = float | Callable[[int], float]


class Baseline:
    """The calling form that all baselines share; a subclass adds the formula.

    Args:
        params: An ndarray, or nested dicts, lists and tuples of them; float32 or float64. Written by every step.
        lr: Learning rate: a number, at least 0, or a function of the step (0 for the first one).

    Attributes:
        buffers: The arrays kept beside the parameters, name -> list in leaf order, each of its parameter's shape.
        steps: Steps done per leaf, int64; a leaf whose gradient was None has done fewer.
        statistic: The name of the buffer that estimates the size of the gradient, or None.

    Raises:
        InputError: No array in `params`, a read-only array, an array that appears twice, or an invalid lr.
        InputTypeError: A leaf that is no float32 or float64 ndarray.
    """

    name: ClassVar[str] = ""
    buffer_names: ClassVar[tuple[str, ...]] = ()
    statistic: ClassVar[str | None] = None

    def __init__(self, params: Any, *, lr: LearningRate) -> None:
        self._leaves, self._paths, self._structure = flatten(params)
        if not self._leaves:
            raise InputError("params: no array in it, expected at least one")
        for leaf, path in zip(self._leaves, self._paths):
            _check_param(leaf, path)
        if len({id(leaf) for leaf in self._leaves}) < len(self._leaves):
            raise InputError("params: the same array appears twice and would be updated twice per step")
        self.lr = lr if callable(lr) else _number("lr", lr, 0.0)
        self.reset_state()

    def reset_state(self) -> None:
        """Forget every gradient seen: all buffers and step counts return to 0."""
        self.buffers: dict[str, list[Array]] = {n: [np.zeros_like(p) for p in self._leaves] for n in self.buffer_names}
        self.steps = np.zeros(len(self._leaves), dtype=np.int64)
        self._calls = 0
        self._last_lr = math.nan if callable(self.lr) else self.lr

    def step(self, grads: Any, lr: LearningRate | None = None) -> None:
        """Update the parameters in place, once.

        Args:
            grads: Built like `params`, the same shapes, float32 or float64; None leaves its parameter unchanged. Read.
            lr: For this step only. Default: the optimizer's lr.

        Raises:
            InputError: Another structure or shape, or an lr out of its domain; nothing has changed then.
            InputTypeError: A gradient that is no floating array.
        """
        leaves = leaves_like(self._structure, grads)
        rate = self.lr if lr is None else lr
        rate = _number("lr", rate(self._calls) if callable(rate) else rate, 0.0)
        pairs = [(i, _check_grad(g, self._leaves[i], self._paths[i])) for i, g in enumerate(leaves) if g is not None]
        for i, grad in pairs:
            self.steps[i] += 1
            self._update(self._leaves[i], grad, *self._buffers_of(i), lr=rate, t=int(self.steps[i]))
        self._calls += 1
        self._last_lr = rate

    def effective_lr(self) -> Any:
        """Return what the last step multiplied each gradient by, as a tree like `params`.

        For Momentum, Nesterov, Adam and AdamW that is the factor of the averaged gradient instead. NaN where no step
        was done.
        """
        factors = []
        for i, leaf in enumerate(self._leaves):
            factor = (
                self._factor(*self._buffers_of(i), lr=self._last_lr, t=int(self.steps[i]))
                if self.steps[i]
                else math.nan
            )
            factors.append(np.full_like(leaf, factor) if np.ndim(factor) == 0 else factor)
        return unflatten(self._structure, factors)

    def _buffers_of(self, i: int) -> list[Array]:
        return [self.buffers[name][i] for name in self.buffer_names]

    def _update(self, param: Array, grad: Array, *buffers: Array, lr: float, t: int) -> None:
        """Write `param` and `buffers` in place; `t` counts this parameter's steps from 1."""
        raise NotImplementedError

    def _factor(self, *buffers: Array, lr: float, t: int) -> Array | float:
        """The effective learning rate of step `t`, from the buffers that this step left."""
        return lr

    def __repr__(self) -> str:
        shown = [f"{k}={v!r}" for k, v in vars(self).items() if not k.startswith("_") and k not in ("buffers", "steps")]
        return f"{type(self).__name__}({', '.join(shown)})"


class GradientDescent(Baseline):
    """Walk down the gradient: p <- p - lr g.

    Example:
        >>> import numpy as np
        >>> from rmsprop import baselines
        >>> p = np.array([1.0, 2.0])
        >>> baselines.GradientDescent(p, lr=0.5).step(np.array([2.0, -2.0]))
        >>> print(p)
        [0. 3.]
    """

    name = "gradient_descent"

    def _update(self, param: Array, grad: Array, *buffers: Array, lr: float, t: int) -> None:
        param -= lr * grad


class Momentum(Baseline):
    """Walk down a decaying sum of gradients: b <- momentum b + g; p <- p - lr b.

    Args:
        params: See `Baseline`.
        lr: See `Baseline`.
        momentum: Decay of the sum, in [0, 1).
    """

    name = "momentum"
    buffer_names = ("momentum_buf",)

    def __init__(self, params: Any, *, lr: LearningRate, momentum: float = 0.9) -> None:
        self.momentum = _number("momentum", momentum, 0.0, 1.0)
        super().__init__(params, lr=lr)

    def _update(self, param: Array, grad: Array, *buffers: Array, lr: float, t: int) -> None:
        (buffer,) = buffers
        buffer[...] = self.momentum * buffer + grad
        param -= lr * self._direction(grad, buffer)

    def _direction(self, grad: Array, buffer: Array) -> Array:
        return buffer


class Nesterov(Momentum):
    """Momentum that looks one step ahead: b <- momentum b + g; p <- p - lr (g + momentum b)."""

    name = "nesterov"

    def _direction(self, grad: Array, buffer: Array) -> Array:
        return grad + self.momentum * buffer


class AdaGrad(Baseline):
    """Divide by the root of the sum of all squared gradients, which only grows: the steps shrink for ever.

    Args:
        params: See `Baseline`.
        lr: See `Baseline`.
        eps: Added to the root, at least 0, in units of grad.
    """

    name = "adagrad"
    buffer_names = ("sum_sq",)
    statistic = "sum_sq"

    def __init__(self, params: Any, *, lr: LearningRate, eps: float = 1e-10) -> None:
        self.eps = _number("eps", eps, 0.0)
        super().__init__(params, lr=lr)

    def _update(self, param: Array, grad: Array, *buffers: Array, lr: float, t: int) -> None:
        (sum_sq,) = buffers
        sum_sq += grad * grad
        param -= _quotient(lr * grad, np.sqrt(sum_sq) + self.eps)

    def _factor(self, *buffers: Array, lr: float, t: int) -> Array | float:
        return _quotient(np.full_like(buffers[0], lr), np.sqrt(buffers[0]) + self.eps)


class Adadelta(Baseline):
    """RMSprop whose learning rate is the root mean square of its own past updates.

    Args:
        params: See `Baseline`.
        lr: See `Baseline`; without a unit here, and 1 in the paper.
        rho: Decay of both averages, in [0, 1].
        eps: Inside both roots, above 0; of unit grad**2 in one and update**2 in the other; it sets the first step.
    """

    name = "adadelta"
    buffer_names = ("mean_sq", "mean_sq_update", "ratio")
    statistic = "mean_sq"

    def __init__(self, params: Any, *, lr: LearningRate = 1.0, rho: float = 0.9, eps: float = 1e-6) -> None:
        self.rho = _number("rho", rho, 0.0, 1.0, closed=True)
        self.eps = _number("eps", eps, 0.0)
        if self.eps == 0.0:
            raise InputError("eps=0.0, expected a number above 0: without it Adadelta never leaves its start")
        super().__init__(params, lr=lr)

    def _update(self, param: Array, grad: Array, *buffers: Array, lr: float, t: int) -> None:
        mean_sq, mean_sq_update, ratio = buffers
        fresh = 1.0 - self.rho
        mean_sq[...] = self.rho * mean_sq + fresh * grad * grad
        # Kept because the line after next overwrites what it was computed from, and effective_lr needs it.
        ratio[...] = np.sqrt(mean_sq_update + self.eps) / np.sqrt(mean_sq + self.eps)
        update = ratio * grad
        mean_sq_update[...] = self.rho * mean_sq_update + fresh * update * update
        param -= lr * update

    def _factor(self, *buffers: Array, lr: float, t: int) -> Array | float:
        return lr * buffers[2]


class Adam(Baseline):
    """Momentum and RMSprop together, both corrected for their start at zero.

    Args:
        params: See `Baseline`.
        lr: See `Baseline`.
        beta1: Decay of the mean of the gradient, in [0, 1).
        beta2: Decay of the mean of its square, in [0, 1).
        eps: Added to the root, at least 0, in units of grad.
    """

    name = "adam"
    buffer_names = ("mean_grad", "mean_sq")
    statistic = "mean_sq"

    def __init__(
        self, params: Any, *, lr: LearningRate, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8
    ) -> None:
        self.beta1 = _number("beta1", beta1, 0.0, 1.0)
        self.beta2 = _number("beta2", beta2, 0.0, 1.0)
        self.eps = _number("eps", eps, 0.0)
        super().__init__(params, lr=lr)

    def _update(self, param: Array, grad: Array, *buffers: Array, lr: float, t: int) -> None:
        mean_grad, mean_sq = buffers
        mean_grad += (1.0 - self.beta1) * (grad - mean_grad)
        mean_sq[...] = self.beta2 * mean_sq + (1.0 - self.beta2) * grad * grad
        param -= _quotient(lr / (1.0 - self.beta1**t) * mean_grad, self._denominator(mean_sq, t))

    def _denominator(self, mean_sq: Array, t: int) -> Array:
        denominator: Array = np.sqrt(mean_sq) / math.sqrt(1.0 - self.beta2**t) + self.eps
        return denominator

    def _factor(self, *buffers: Array, lr: float, t: int) -> Array | float:
        rate = np.full_like(buffers[1], lr / (1.0 - self.beta1**t))
        return _quotient(rate, self._denominator(buffers[1], t))


class AdamW(Adam):
    """Adam whose weight decay is no part of the gradient: p <- (1 - lr weight_decay) p before Adam's step.

    Args:
        params: See `Baseline`.
        lr: See `Baseline`.
        beta1: See `Adam`.
        beta2: See `Adam`.
        eps: See `Adam`.
        weight_decay: At least 0; multiplied by the learning rate.
    """

    name = "adamw"

    def __init__(
        self,
        params: Any,
        *,
        lr: LearningRate,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        self.weight_decay = _number("weight_decay", weight_decay, 0.0)
        super().__init__(params, lr=lr, beta1=beta1, beta2=beta2, eps=eps)

    def _update(self, param: Array, grad: Array, *buffers: Array, lr: float, t: int) -> None:
        param *= 1.0 - lr * self.weight_decay
        super()._update(param, grad, *buffers, lr=lr, t=t)


_ALL: tuple[type[Baseline], ...] = (GradientDescent, Momentum, Nesterov, AdaGrad, Adadelta, Adam, AdamW)


def names() -> tuple[str, ...]:
    """Return the names that `get` knows.

    Example:
        >>> names()
        ('gradient_descent', 'momentum', 'nesterov', 'adagrad', 'adadelta', 'adam', 'adamw')
    """
    return tuple(baseline.name for baseline in _ALL)


def get(name: str) -> type[Baseline]:
    """Return the class of this name; case, spaces, hyphens and underscores do not matter.

    Raises:
        InputError: An unknown name; the message suggests the nearest known one.

    Example:
        >>> get("Adam")
        <class 'rmsprop.baselines.Adam'>
        >>> get("adagard")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        rmsprop.errors.InputError: unknown optimizer 'adagard': did you mean 'adagrad'? Known are gradient_descent, ...
    """
    known = {_plain(baseline.name): baseline for baseline in _ALL}
    key = _plain(str(name))
    if key in known:
        return known[key]
    import difflib

    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {known[near[0]].name!r}? " if near else ""
    raise InputError(f"unknown optimizer {name!r}: {hint}Known are {', '.join(names())}")


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")


def _quotient(a: Array, b: Array) -> Array:
    """Return a / b, and 0 where b is 0: with eps=0 a parameter that never had a gradient stays where it is."""
    if b.all():
        return a / b
    quotient: Array = np.divide(a, b, out=np.zeros_like(b), where=b != 0)
    return quotient


def _check_param(leaf: Any, path: str) -> None:
    if not isinstance(leaf, np.ndarray):
        raise InputTypeError(f"{path}: {type(leaf).__name__}, expected a NumPy array of float32 or float64")
    if leaf.dtype not in (np.float32, np.float64):
        raise InputTypeError(f"{path}: dtype {leaf.dtype}, expected float32 or float64")
    if not leaf.flags.writeable:
        raise InputError(f"{path}: read-only, expected an array that a step may write to; pass a copy")


def _check_grad(grad: Any, param: Array, path: str) -> Array:
    path = path.replace("params", "grads", 1)
    if not isinstance(grad, np.ndarray):
        raise InputTypeError(f"{path}: {type(grad).__name__}, expected a NumPy array of float32 or float64")
    if grad.dtype not in (np.float32, np.float64):
        raise InputTypeError(f"{path}: dtype {grad.dtype}, expected float32 or float64")
    if grad.shape != param.shape:
        raise InputError(
            f"{path}: shape {grad.shape}, expected {param.shape} like {path.replace('grads', 'params', 1)}"
        )
    # A copy where the caller hands the parameter itself, as the gradient of x^2 / 2 does.
    return grad.astype(param.dtype, copy=np.may_share_memory(grad, param))


def _number(name: str, value: object, lower: float, upper: float = math.inf, closed: bool = False) -> float:
    """Return `value` as a float in [lower, upper), or [lower, upper] if closed, or raise InputError."""
    domain = f"a finite number in [{lower:g}, {upper:g}{']' if closed else ')'}"
    if isinstance(value, bool) or not isinstance(value, (numbers.Real, np.floating, np.integer)):
        raise InputError(f"{name}={value!r}, expected {domain}")
    number = float(value)
    if not (math.isfinite(number) and (lower <= number < upper or (closed and number == upper))):
        raise InputError(f"{name}={number!r}, expected {domain}")
    return number
