"""One step in plain array code: the specification that the kernel is held to, bit for bit.

The formula stands at the top of `rmsprop.rule`. Each line below is one IEEE operation in the state's dtype (float32 or
float64; 16-bit arrays are widened first), so NumPy gives the kernel's bits; a host that fuses or contracts
operations, as XLA does, gives the same numbers to a few units in the last place.

Three guards make finite gradients give finite parameters, and change nothing where the hosts are finite:
* a finite gradient beyond 2**62 (float64: 2**510) is cut to that size, so that its square is finite;
* a denominator of 0 gives an update of 0;
* the mean of a centered rule that is too near to the gradient to move goes one unit in the last place towards it.
  Otherwise it would stop up to 1 / (2 (1 - rho)) units away, and that gap would pass for variance for ever. So the mean
  is never further than 1 / (1 - rho) units from the one in exact arithmetic, and the standard deviation neither.
NaN and infinite gradients are not hidden: they arrive in the parameter as NaN.
"""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any

from rmsprop.rule import Rule

__all__ = ["step"]

Array = Any
"""An array of any namespace that follows the array API standard; JAX tracers and torch tensors work too."""

_SATURATION = {"float32": 2.0**62, "float64": 2.0**510}
_NUDGE = {"float32": 0.75 * 2.0**-23, "float64": 0.75 * 2.0**-52}
"""Times x: between 3/4 and 3/2 of the unit in the last place of x, which added to x is rounded to one unit."""


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
        rule: The member of the family.
        lr: Learning rate of this step, in units of param (times grad, for buffers of kind "unit", nothing else).
        step: The number of this step for this parameter, counted from 1; only bias correction reads it.
        lr_max: The largest lr so far; only weight decay of the mode "decoupled_corrected" reads it. Default: `lr`.
        grad_scale: What the gradient is multiplied by first: a clipping factor, or one over a loss scale.
        xp: The array namespace. Default: the one `param` names by the array API standard.

    Returns:
        The new parameter, in the dtype of `param`, and the new buffers under the same names.

    Example:
        >>> import numpy as np
        >>> from rmsprop import Rule, reference
        >>> theta, grad = np.array([0.2, 0.4, 0.6]), np.array([-0.5, 0.3, 0.24])
        >>> theta, state = reference.step(theta, grad, {"mean_sq": np.zeros(3)}, Rule(), lr=0.01)
        >>> print(theta)
        [0.23162277 0.36837724 0.56837725]

    Source: section "The rule" of docs/reference/rule.md; the order of operations is that of `rmsprop.rule`.
    """
    xp = param.__array_namespace__() if xp is None else xp
    # A NumPy float64 would widen float32 arrays, a Python float does not.
    lr = float(lr) if isinstance(lr, numbers.Real) else lr
    grad_scale = float(grad_scale) if isinstance(grad_scale, numbers.Real) else grad_scale
    step = int(step) if isinstance(step, numbers.Integral) else step
    dtype = buffers[rule.buffers[0]].dtype
    p = param if param.dtype == dtype else xp.astype(param, dtype)
    g = grad if grad.dtype == dtype else xp.astype(grad, dtype)
    rho, fresh = _decay(rule, step, xp)

    g = g * (-grad_scale if rule.maximize else grad_scale)
    if rule.weight_decay_mode == "l2":
        g = g + rule.weight_decay * p
    g = _saturate(g, xp)

    new: dict[str, Array] = {}
    if rule.centered:
        deviation = g - buffers["mean_grad"]
        move = fresh * deviation
        before = buffers["mean_grad"]
        mean = before + move
        nudged = before + _of(_NUDGE, dtype) * xp.abs(before) * xp.sign(move)
        mean = xp.where((mean == before) & (move != 0), nudged, mean)
        square = rho * (buffers["grad_var"] + move * deviation)
        new = {"mean_grad": mean, "grad_var": square}
        if rule.bias_correction:
            # The first corrected variance is exactly 0, whatever the gradient: that step uses the mean square.
            square = _at_first(step, square + mean * mean, square, xp)
    else:
        square = rho * buffers["mean_sq"] + fresh * (g * g)
        new = {"mean_sq": square}

    square = xp.where(square < rule.var_floor, rule.var_floor, square)
    if rule.eps_mode == "outside":
        denominator = xp.sqrt(square) + rule.eps
    elif rule.eps_mode == "inside":
        denominator = xp.sqrt(square + rule.eps)
    else:
        root = xp.sqrt(square)
        denominator = xp.where(root < rule.eps, rule.eps, root)

    vanished = denominator == 0
    unit = xp.where(vanished, 0.0, g) / xp.where(vanished, 1.0, denominator)
    if rule.weight_decay_mode == "in_buffer":
        unit = unit + rule.weight_decay * p

    if rule.buffer == "none":
        move = lr * unit
    else:
        # lr stands inside the buffer or outside it; the other place holds an exact 1.
        inside = lr * unit if rule.buffer == "lr" else unit
        buffer = rule.momentum * buffers["momentum_buf"] + inside
        new["momentum_buf"] = buffer
        move = inside + rule.momentum * buffer if rule.nesterov == "post" else buffer
        move = lr * move if rule.buffer == "unit" else move

    if rule.weight_decay_mode == "decoupled":
        p = (1.0 - lr * rule.weight_decay) * p
    elif rule.weight_decay_mode == "decoupled_corrected":
        p = (1.0 - _corrected(lr, lr if lr_max is None else lr_max, xp) * rule.weight_decay) * p
    p = p - move
    return (p if param.dtype == dtype else xp.astype(p, param.dtype)), new


def _decay(rule: Rule, step: Any, xp: Any) -> tuple[Any, Any]:
    """`Rule.decay`, for a step count that may be a traced array."""
    if not rule.bias_correction or isinstance(step, int):
        return rule.decay(step)
    fresh = (1.0 - rule.rho) / (1.0 - rule.rho**step)
    return 1.0 - fresh, fresh


def _corrected(lr: Any, lr_max: Any, xp: Any) -> Any:
    """lr**2 / lr_max, and 0 before any lr was above 0."""
    if isinstance(lr_max, numbers.Real):
        return lr * lr / float(lr_max) if lr_max else 0.0 * lr
    return lr * lr / xp.where(lr_max == 0, 1.0, lr_max)


def _at_first(step: Any, then: Array, otherwise: Array, xp: Any) -> Array:
    """Return `then` at the first step, else `otherwise`; the step may be a number or a traced array."""
    if isinstance(step, int):
        return then if step == 1 else otherwise
    return xp.where(step == 1, then, otherwise)


def _saturate(g: Array, xp: Any) -> Array:
    """Cut finite gradients whose square would overflow; leave NaN and infinity to be seen."""
    limit = _of(_SATURATION, g.dtype)
    beyond = (xp.abs(g) > limit) & xp.isfinite(g)
    return xp.where(beyond, limit * xp.sign(g), g)


def _of(table: Mapping[str, float], dtype: Any) -> float:
    """Return a dtype's entry, whatever the namespace calls it: float32, torch.float32, <dtype: 'float32'>."""
    return table["float64" if "float64" in str(dtype) else "float32"]
