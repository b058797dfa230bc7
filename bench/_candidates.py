"""The candidates for a calmer RMSprop, and the optimizer of each: the library's step, and what a loop adds around it.

    warm-up          lr min(1, t / 100)
    lr / sqrt(t)     lr / sqrt(1 + t / 100)
    linear to 0      lr (1 - t / (steps + 1)): `rmsprop.recipes.warm_up_linear`
    update clipped   D <- D min(1, lr / rms(D)) per tensor: N. Shazeer and M. Stern, Adafactor, arXiv:1804.04235
    first gradient   mean_sq starts at the first gradient squared
    rho_t            v <- (1 - .9/t) v + .9/t g^2;  p <- p - lr g / (sqrt(t v) + 1e-8)
    SC-RMSprop       the same v;  p <- p - lr g / (t v + .1 exp(-.1 t v))

The last two are M. Mukkamala's and M. Hein's, arXiv:1706.05507, with their constants. A torch model is stepped through
NumPy views of its parameters, so every candidate runs on every task.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np

from rmsprop import Rule
from rmsprop._tree import flatten, leaves_like
from rmsprop.baselines import Adam
from rmsprop.numpy import RMSprop
from rmsprop.recipes import warm_up_linear

__all__ = ["ADAM", "ADAM_LINEAR", "CANDIDATES", "PLAIN", "STEADY", "Candidate", "stepper"]

HORIZON = 100
"""Steps: how long a warm-up lasts, and after how many lr / sqrt(t) begins to fall."""


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A rule and what a loop adds to it.

    Attributes:
        rule: The switches; None is Adam, for comparison.
        warm_up: Whether lr rises over the first HORIZON steps.
        decay: How lr falls after that.
        clip: Whether the root mean square of a tensor's update is held below lr.
        first: Whether mean_sq starts at the first gradient squared.
        gamma: Of rho_t = 1 - gamma / t; 0 leaves rho as it is.
        strong: The form for strongly convex objectives, SC-RMSprop; with `gamma` alone.
    """

    rule: Rule | None = dataclasses.field(default_factory=Rule)
    warm_up: bool = False
    decay: Literal["none", "sqrt", "linear"] = "none"
    clip: bool = False
    first: bool = False
    gamma: float = 0.0
    strong: bool = False

    def rate(self, lr: float, t: int, steps: int) -> float:
        """Return lr at step `t`, counted from 1, of `steps`."""
        if self.decay == "linear":
            return lr * warm_up_linear(steps, warm_up=HORIZON if self.warm_up else 0)(t - 1)
        if self.warm_up:
            lr *= min(1.0, t / HORIZON)
        return lr / math.sqrt(1.0 + t / HORIZON) if self.decay == "sqrt" else lr


def _with_correction(rho: float, **switches: Any) -> Rule:
    return Rule(rho=rho, bias_correction=True, **switches)


def _with_momentum(rho: float, momentum: float = 0.9, **switches: Any) -> Rule:
    return _with_correction(rho, buffer="unit", momentum=momentum, **switches)


PLAIN, STEADY = "plain, rho .9", "linear to 0, warm-up, rho .9"
ADAM, ADAM_LINEAR = "Adam", "Adam, linear to 0"
CANDIDATES: dict[str, Candidate] = {
    PLAIN: Candidate(Rule(rho=0.9)),
    "plain, rho .99": Candidate(Rule(rho=0.99)),
    "bias correction, rho .9": Candidate(_with_correction(0.9)),
    "bias correction, rho .99": Candidate(_with_correction(0.99)),
    "bias correction, rho .999": Candidate(_with_correction(0.999)),
    "first gradient, rho .99": Candidate(Rule(rho=0.99), first=True),
    "mean_sq from 1, rho .99": Candidate(Rule(rho=0.99, init="ones")),
    "variance floor 1e-6, rho .99": Candidate(_with_correction(0.99, var_floor=1e-6)),
    "variance floor 1e-4, rho .99": Candidate(_with_correction(0.99, var_floor=1e-4)),
    "warm-up, rho .99": Candidate(_with_correction(0.99), warm_up=True),
    "update clipped, rho .99": Candidate(_with_correction(0.99), clip=True),
    "rho_t = 1 - .9/t": Candidate(gamma=0.9),
    "SC-RMSprop": Candidate(gamma=0.9, strong=True),
    "lr / sqrt(t), rho .9": Candidate(Rule(rho=0.9), decay="sqrt"),
    "linear to 0, rho .9": Candidate(Rule(rho=0.9), decay="linear"),
    "linear to 0, rho .99": Candidate(Rule(rho=0.99), decay="linear"),
    STEADY: Candidate(_with_correction(0.9), warm_up=True, decay="linear"),
    "linear to 0, warm-up, rho .99": Candidate(_with_correction(0.99), warm_up=True, decay="linear"),
    "linear to 0, momentum .5": Candidate(_with_momentum(0.9, 0.5), decay="linear"),
    "momentum .9, rho .9": Candidate(_with_momentum(0.9)),
    "momentum .9, rho .99": Candidate(_with_momentum(0.99)),
    "momentum .9, rho .999": Candidate(_with_momentum(0.999)),
    "momentum .95, rho .99": Candidate(_with_momentum(0.99, 0.95)),
    "Nesterov .9, rho .99": Candidate(_with_momentum(0.99, nesterov="post")),
    "momentum .9, floor 1e-6": Candidate(_with_momentum(0.99, var_floor=1e-6)),
    "momentum .9, warm-up": Candidate(_with_momentum(0.99), warm_up=True),
    "momentum .9, clipped": Candidate(_with_momentum(0.99), clip=True),
    "momentum .9, lr / sqrt(t)": Candidate(_with_momentum(0.99), warm_up=True, decay="sqrt"),
    "momentum .9, linear to 0": Candidate(_with_momentum(0.99), warm_up=True, decay="linear"),
    ADAM: Candidate(None),
    ADAM_LINEAR: Candidate(None, decay="linear"),
}


def stepper(candidate: Candidate, steps: int, framework: str, params: Any, *, lr: float) -> Callable[[Any], None]:
    """Make what updates `params`; called with the gradients, as a race's learner gives them.

    Args:
        candidate: How.
        steps: Of the whole training.
        framework: "numpy" or "torch".
        params: The learner's. Written by every call.
        lr: Learning rate.
    """
    if framework == "numpy":
        leaves, _, structure = flatten(params)
        return _Loop(candidate, steps, leaves, lr, lambda grads: leaves_like(structure, grads))
    tensors = list(params)
    return _Loop(candidate, steps, [p.detach().numpy() for p in tensors], lr, lambda _: _torch_grads(tensors))


class _Loop:
    """One optimizer at work, around it what the candidate adds."""

    def __init__(
        self, candidate: Candidate, steps: int, leaves: list[Any], lr: float, read: Callable[[Any], Iterable[Any]]
    ) -> None:
        self.candidate, self.steps, self.leaves, self.lr, self.read = candidate, steps, leaves, lr, read
        self.done = 0
        if candidate.rule is None:
            self.optimizer: Any = Adam(leaves, lr=lr)
        else:
            self.optimizer = RMSprop(leaves, lr=lr, dialect=candidate.rule, threads=1)
        self.mean_sq = [np.zeros_like(leaf) for leaf in leaves] if candidate.gamma else []

    def __call__(self, given: Any) -> None:
        self.done += 1
        grads = list(self.read(given))
        lr = self.candidate.rate(self.lr, self.done, self.steps)
        if self.candidate.gamma:
            self._step_falling(grads, lr)
            return
        if self.candidate.first and self.done == 1:
            for v, g in zip(self.optimizer.buffers["mean_sq"], grads):
                if g is not None:
                    np.multiply(g, g, out=v)
        before = [leaf.copy() for leaf in self.leaves] if self.candidate.clip else []
        self.optimizer.step(grads, lr)
        for leaf, old in zip(self.leaves, before):
            size = float(np.sqrt(np.mean((leaf - old) ** 2)))
            if size > lr:
                leaf[...] = old + (leaf - old) * leaf.dtype.type(lr / size)

    def _step_falling(self, grads: list[Any], lr: float) -> None:
        t = self.done
        for p, g, v in zip(self.leaves, grads, self.mean_sq):
            if g is None:
                continue
            v[...] += (self.candidate.gamma / t * (g * g - v)).astype(v.dtype)
            total = t * v
            d = total + 0.1 * np.exp(-0.1 * total) if self.candidate.strong else np.sqrt(total) + 1e-8
            p[...] -= (lr * g / d).astype(p.dtype)


def _torch_grads(tensors: list[Any]) -> list[Any]:
    """Return the gradients as arrays, dense; None where there is none."""
    found = []
    for tensor in tensors:
        grad = tensor.grad
        if grad is not None:
            grad = (grad.to_dense() if grad.is_sparse else grad.contiguous()).numpy()
        found.append(grad)
    return found
