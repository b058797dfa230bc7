"""The update in plain array code: the specification that the kernel is held to, bit for bit.

    g     <- grad * grad_scale, and what maximize and l2 weight decay change     scale_grad, limit_grad
    v     <- rho v + (1 - rho) g^2                                               statistics
    d     <- sqrt(v) + eps  |  sqrt(v + eps)  |  max(sqrt(v), eps)               denominator
    param <- param - lr g / d, with momentum and weight decay                    apply

`step` is the composition of these, and no other Python code computes any part of the update. Where a caller needs the
stages apart (XLA without temporaries, |g|^2 of complex numbers, effective learning rates, many rules at once), it calls
the stages. The formula with every switch is at the top of `rmsprop.rule`. Each line below is one IEEE
operation in the state's dtype (float32 or float64; 16-bit arrays are widened first), so NumPy gives the kernel's bits;
a framework that fuses or contracts operations, as XLA does, gives the same numbers to a few units in the last place.

Four guards keep training finite and stable, and change nothing that other implementations compute correctly:

* a finite gradient beyond 2**62 (float64: 2**510) is cut to that size, so that its square is finite;
* a denominator of 0 gives an update of 0;
* a centered variance is at least u g^2, u the unit roundoff of the arithmetic (2**-24, float64: 2**-53). Below that it
  is rounding noise: under a constant gradient it fades to 0, and dividing by eps alone would make a step of 10^8 lr.
  So a step is at most lr |g| / (sqrt(u) |g| + eps), less than 4096 lr (float64: 10^8 lr);
* the mean of a centered rule that is too near to the gradient to move goes one unit in the last place towards it.
  Otherwise it would stop up to 1 / (2 (1 - rho)) units away, and that gap would count as variance for ever. So the mean
  is never further than 1 / (1 - rho) units from the one in exact arithmetic, and the standard deviation neither.

NaN and infinite gradients are not hidden: the parameter becomes NaN.
"""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from rmsprop.rule import Rule

__all__ = [
    "Numbers",
    "apply",
    "bias_divisor",
    "bounded_square",
    "decay",
    "denominator",
    "effective_lr",
    "limit_grad",
    "mean_square",
    "numbers_of",
    "scale_grad",
    "statistics",
    "steady_length",
    "step",
    "step_lengths",
    "step_with",
]

Array = Any
"""An array of any namespace that follows the array API standard; JAX tracers and torch tensors work too."""

LIMIT = {"float32": 2.0**62, "float64": 2.0**510}
"""The largest gradient whose square is finite with room to spare."""
LEAST_EPS = 2.0**-126
"""From this eps on, the smallest normal float32, no denominator is 0."""
_NUDGE = {"float32": 0.75 * 2.0**-23, "float64": 0.75 * 2.0**-52}
"""Times x: between 3/4 and 3/2 of the unit in the last place of x, which added to x is rounded to one unit."""
_ROUNDOFF = {"float32": 2.0**-24, "float64": 2.0**-53}


class Numbers(NamedTuple):
    """The numbers of one step, each a float or an array that broadcasts against the parameter (traced, or one per run).

    Attributes:
        lr: Learning rate.
        lr_max: The largest lr so far; only weight decay of the mode "decoupled_corrected" reads it.
        grad_scale: What the gradient is multiplied by first.
        rho: This step's decay of the averages, bias correction included.
        one_minus_rho: 1 - rho, computed in double precision and rounded once.
        is_first: Whether this is the first step; only a centered rule with bias correction reads it.
        eps: In units of grad, or of grad**2 inside the root.
        momentum: Decay of the momentum buffer.
        weight_decay: Strength of the weight decay.
    """

    lr: Any
    lr_max: Any
    grad_scale: Any
    rho: Any
    one_minus_rho: Any
    is_first: Any
    eps: Any
    momentum: Any
    weight_decay: Any


def numbers_of(
    rule: Rule, *, lr: Any, step: Any = 1, lr_max: Any = None, grad_scale: Any = 1.0, **changes: Any
) -> Numbers:
    """Return the numbers of one step of a rule.

    Args:
        rule: The rule.
        lr: Learning rate.
        step: The number of this step, counted from 1; may be a traced array. Only bias correction reads it.
        lr_max: The largest lr so far. Default: `lr`.
        grad_scale: What the gradient is multiplied by first: a clipping factor, or one over a loss scale.
        **changes: rho, eps or momentum in place of the rule's, for traced numbers and many rules at once.

    Example:
        >>> from rmsprop import Rule
        >>> numbers_of(Rule(rho=0.75, bias_correction=True), lr=0.1, step=2).one_minus_rho
        0.5714285714285714
    """
    # A NumPy float64 would widen float32 arrays, a Python float does not.
    lr = float(lr) if isinstance(lr, numbers.Real) else lr
    lr_max = lr if lr_max is None else float(lr_max) if isinstance(lr_max, numbers.Real) else lr_max
    grad_scale = float(grad_scale) if isinstance(grad_scale, numbers.Real) else grad_scale
    step = int(step) if isinstance(step, numbers.Integral) else step
    rho, one_minus_rho = decay(changes.get("rho", rule.rho), step if rule.bias_correction else None)
    return Numbers(
        lr=lr,
        lr_max=lr_max,
        grad_scale=grad_scale,
        rho=rho,
        one_minus_rho=one_minus_rho,
        is_first=step == 1,
        eps=changes.get("eps", rule.eps),
        momentum=changes.get("momentum", rule.momentum),
        weight_decay=rule.weight_decay,
    )


def decay(rho: Any, step: Any = None) -> tuple[Any, Any]:
    """Return (rho_t, 1 - rho_t) of step `step`, counted from 1, with bias correction; without a step (rho, 1 - rho)."""
    one_minus_rho = 1.0 - rho
    if step is None:
        return rho, one_minus_rho
    one_minus_rho = one_minus_rho / bias_divisor(rho, step)
    return 1.0 - one_minus_rho, one_minus_rho


def bias_divisor(rho: Any, step: Any) -> Any:
    """Return 1 - rho**step, by which the literature divides an average that started at 0."""
    return 1.0 - rho**step


def step(
    param: Array,
    grad: Array,
    buffers: Mapping[str, Array],
    rule: Rule,
    *,
    lr: Any,
    step: Any = 1,
    lr_max: Any = None,
    grad_scale: Any = 1.0,
    xp: Any = None,
) -> tuple[Array, dict[str, Array]]:
    """Return the parameter and buffers after one step; nothing is written in place.

    Args:
        param: Any shape, a floating dtype. Read.
        grad: The shape of `param`, a floating dtype. Read.
        buffers: The arrays that `rule.buffers` names, of `param`'s shape and one dtype, float32 or float64: the dtype
            of the arithmetic. Read.
        rule: The variant of RMSprop.
        lr: Learning rate of this step, in units of param (times grad, for buffers of kind "unit", nothing else).
        step: The number of this step for this parameter, counted from 1; only bias correction reads it.
        lr_max: The largest lr so far; only weight decay of the mode "decoupled_corrected" reads it. Default: `lr`.
        grad_scale: What the gradient is multiplied by first: a clipping factor, or one over a loss scale.
        xp: The array namespace. Default: the one `param` names by the array API standard.

    Returns:
        The new parameter, in the dtype of `param`, and the new buffers under the same names.

    Example:
        >>> import numpy as np
        >>> from rmsprop import Rule, formula
        >>> theta, grad = np.array([0.2, 0.4, 0.6]), np.array([-0.5, 0.3, 0.24])
        >>> theta, state = formula.step(theta, grad, {"mean_sq": np.zeros(3)}, Rule(), lr=0.01)
        >>> print(theta)
        [0.23162277 0.36837724 0.56837725]

    Source: section "The rule" of docs/reference/rule.md; the order of operations is that of `rmsprop.rule`.
    """
    xp = param.__array_namespace__() if xp is None else xp
    n = numbers_of(rule, lr=lr, step=step, lr_max=lr_max, grad_scale=grad_scale)
    dtype = buffers[rule.buffers[0]].dtype
    p = param if param.dtype == dtype else xp.astype(param, dtype)
    g = grad if grad.dtype == dtype else xp.astype(grad, dtype)
    p, new = step_with(p, g, buffers, rule, n, xp=xp)
    return (p if param.dtype == dtype else xp.astype(p, param.dtype)), new


def step_with(
    param: Array, grad: Array, buffers: Mapping[str, Array], rule: Rule, n: Numbers, *, xp: Any
) -> tuple[Array, dict[str, Array]]:
    """Return what `step` returns, for arrays of one dtype and numbers that may be arrays: many rules at once."""
    g = limit_grad(scale_grad(param, grad, rule, n), xp=xp)
    new = statistics(g, buffers, rule, n, xp=xp)
    param, momentum = apply(param, g, denominator(new, rule, n, xp=xp), buffers, rule, n, xp=xp)
    return param, {**new, **momentum}


def scale_grad(param: Array, grad: Array, rule: Rule, n: Numbers) -> Array:
    """Return the gradient that the statistics see: scaled, negated to maximize, with l2 weight decay."""
    g = grad * (-n.grad_scale if rule.maximize else n.grad_scale)
    return g + n.weight_decay * param if rule.weight_decay_mode == "l2" else g


def limit_grad(grad: Array, *, xp: Any) -> Array:
    """Cut finite gradients whose square would overflow; leave NaN and infinity to be seen."""
    limit = _of(LIMIT, grad.dtype)
    beyond = (xp.abs(grad) > limit) & xp.isfinite(grad)
    return xp.where(beyond, limit * xp.sign(grad), grad)


def statistics(
    grad: Array, buffers: Mapping[str, Array], rule: Rule, n: Numbers, *, xp: Any, nudge: bool = True
) -> dict[str, Array]:
    """Return the new averages: mean_sq, or mean_grad and grad_var where centered.

    Args:
        grad: What `scale_grad` and `limit_grad` made of the gradient.
        buffers: The averages before the step. Read.
        rule: The variant of RMSprop.
        n: The numbers of this step.
        xp: The array namespace.
        nudge: Whether a mean that is too near to the gradient to move goes one unit (the last guard above).
    """
    if not rule.centered:
        return {"mean_sq": n.rho * buffers["mean_sq"] + n.one_minus_rho * (grad * grad)}
    before = buffers["mean_grad"]
    deviation = grad - before
    move = n.one_minus_rho * deviation
    mean = before + move
    if nudge:
        nudged = before + _of(_NUDGE, before.dtype) * xp.abs(before) * xp.sign(move)
        mean = xp.where((mean == before) & (move != 0), nudged, mean)
    variance = n.rho * (buffers["grad_var"] + move * deviation)
    least = _of(_ROUNDOFF, variance.dtype) * (grad * grad)
    return {"mean_grad": mean, "grad_var": xp.where(variance < least, least, variance)}


def mean_square(buffers: Mapping[str, Array]) -> Array:
    """Return the moving average of grad**2: mean_sq itself, or grad_var + mean_grad**2 where the rule keeps those."""
    if "grad_var" in buffers:
        return buffers["grad_var"] + buffers["mean_grad"] * buffers["mean_grad"]
    return buffers["mean_sq"]


def bounded_square(buffers: Mapping[str, Array], rule: Rule, n: Numbers, *, xp: Any) -> Array:
    """Return the mean square, or the variance where centered, as the denominator sees it: never below its floors."""
    if rule.centered:
        square = buffers["grad_var"]
        if rule.bias_correction:
            # The first corrected variance is only its floor, whatever the gradient: that step uses the mean square.
            square = _choose(n.is_first, mean_square(buffers), square, xp)
    else:
        square = buffers["mean_sq"]
    return xp.where(square < rule.var_floor, rule.var_floor, square) if rule.var_floor else square


def denominator(buffers: Mapping[str, Array], rule: Rule, n: Numbers, *, xp: Any) -> Array:
    """Return what a step divides the gradient by.

    Args:
        buffers: The averages after the step. Read.
        rule: The variant of RMSprop.
        n: The numbers of this step.
        xp: The array namespace.
    """
    square = bounded_square(buffers, rule, n, xp=xp)
    if rule.eps_mode == "outside":
        return xp.sqrt(square) + n.eps
    if rule.eps_mode == "inside":
        return xp.sqrt(square + n.eps)
    root = xp.sqrt(square)
    return xp.where(root < n.eps, n.eps, root)


def apply(
    param: Array, grad: Array, divisor: Array, buffers: Mapping[str, Array], rule: Rule, n: Numbers, *, xp: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the new parameter and the new momentum buffer, if the rule keeps one.

    Args:
        param: The parameter, in the dtype of the arithmetic. Read.
        grad: What `scale_grad` and `limit_grad` made of the gradient. Read.
        divisor: What `denominator` returned. Read.
        buffers: The momentum buffer before the step, under "momentum_buf", if there is one. Read.
        rule: The variant of RMSprop.
        n: The numbers of this step.
        xp: The array namespace.
    """
    if isinstance(n.eps, float) and n.eps >= LEAST_EPS:
        unit = grad / divisor
    else:
        vanished = divisor == 0
        unit = xp.where(vanished, 0.0, grad) / xp.where(vanished, 1.0, divisor)
    if rule.weight_decay_mode == "in_buffer":
        unit = unit + n.weight_decay * param

    new: dict[str, Array] = {}
    if rule.buffer == "none":
        move = n.lr * unit
    else:
        # lr is applied inside the buffer or outside it; the other factor is exactly 1.
        inside = n.lr * unit if rule.buffer == "lr" else unit
        buffer = new["momentum_buf"] = n.momentum * buffers["momentum_buf"] + inside
        move = inside + n.momentum * buffer if rule.nesterov == "post" else buffer
        move = n.lr * move if rule.buffer == "unit" else move

    if rule.weight_decay_mode == "decoupled":
        param = (1.0 - n.lr * n.weight_decay) * param
    elif rule.weight_decay_mode == "decoupled_corrected":
        param = (1.0 - _lr_squared_over_max(n.lr, n.lr_max, xp) * n.weight_decay) * param
    return param - move, new


def effective_lr(rule: Rule, buffers: Mapping[str, Array], lr: float, *, step: Any = 0) -> Array:
    """Return lr / denominator after `step` steps: what multiplied the gradient in the last one. NumPy arrays."""
    n = numbers_of(rule, lr=lr)._replace(is_first=step == 1)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return lr / denominator(buffers, rule, n, xp=np)


def step_lengths(rule: Rule, *, grad: float = 1.0, steps: int = 1) -> list[float]:
    """Return how far the first steps move a parameter of 0 (so without weight decay), in units of lr.

    Args:
        rule: The variant of RMSprop.
        grad: The gradient of every step, above 0.
        steps: How many steps at most. It ends before that with a step that is no longer than the one before it.

    Example:
        >>> from rmsprop import Rule
        >>> [round(length, 2) for length in step_lengths(Rule(rho=0.99, buffer="unit", momentum=0.9), steps=3)]
        [10.0, 16.09, 20.28]
    """
    buffers = {name: np.zeros(()) for name in rule.buffers}
    buffers["grad_var" if rule.centered else "mean_sq"] += rule.init_value
    lengths: list[float] = []
    for t in range(1, steps + 1):
        param, buffers = step(np.zeros(()), np.asarray(grad), buffers, rule, lr=1.0, step=t, xp=np)
        lengths.append(abs(float(param)))
        if t > 1 and lengths[-1] <= lengths[-2] * (1 + 1e-6):
            break
    return lengths


def steady_length(rule: Rule, *, grad: float = 1.0) -> float:
    """Return how far every step goes in the end, in units of lr, if the gradient never changes.

    Where centered, what the rounding of float32 leaves of the variance decides.

    Args:
        rule: The variant of RMSprop.
        grad: That gradient, above 0.

    Example:
        >>> from rmsprop import Rule
        >>> round(steady_length(Rule(buffer="unit", momentum=0.9)), 2)
        10.0
        >>> round(steady_length(Rule(eps=0.0, centered=True)))
        4096
    """
    square = rule.init_value if rule.rho == 1.0 else grad * grad  # at rho 1 the averages keep their start
    if rule.centered and rule.rho < 1.0:
        square *= _ROUNDOFF["float32"]
    n = numbers_of(rule, lr=1.0)._replace(is_first=False)
    divisor = denominator({"mean_sq": square, "grad_var": square, "mean_grad": grad}, rule, n, xp=np)
    return float(grad / divisor) / (1.0 - rule.momentum) if divisor else 0.0


def _lr_squared_over_max(lr: Any, lr_max: Any, xp: Any) -> Any:
    """Return lr**2 / lr_max, or 0 as long as no lr was above 0."""
    if isinstance(lr_max, float):
        return lr * lr / lr_max if lr_max else 0.0 * lr
    return lr * lr / xp.where(lr_max == 0, 1.0, lr_max)


def _choose(condition: Any, then: Array, otherwise: Array, xp: Any) -> Array:
    """`xp.where` for a condition that may be a bool, which not every namespace takes."""
    if isinstance(condition, bool):
        return then if condition else otherwise
    return xp.where(condition, then, otherwise)


def _of(table: Mapping[str, float], dtype: Any) -> float:
    """Return a dtype's entry, whatever the namespace calls it: float32, torch.float32, <dtype: 'float32'>."""
    return table["float64" if "float64" in str(dtype) else "float32"]
