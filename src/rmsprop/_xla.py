"""A step of one array by the stages of `rmsprop.formula`, in the form that XLA compiles without a temporary array."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rmsprop import formula
from rmsprop.formula import Numbers
from rmsprop.rule import Rule

__all__ = ["step"]

Array = Any


def step(
    param: Array, grad: Array, buffers: Mapping[str, Array], rule: Rule, n: Numbers, *, xp: Any
) -> tuple[Array, dict[str, Array]]:
    """Return what `formula.step_with` returns; all arrays of one dtype, float32 or float64.

    XLA on a CPU writes one array per loop. A value that two loops need is computed twice if it is a chain of operations
    with one array each, else it is written to fresh memory, which takes longer than the step. So:
    * gradients are cut by one clip, which keeps NaN; infinity reaches the statistics, as NaN, through g - g;
    * with `centered` the update reads the new variance from memory, and the mean waits for it (var - var), so that no
      donated array is overwritten while it is still needed.
    """
    grad = formula.scale_grad(param, grad, rule, n)
    infinite = grad - grad
    limit = formula.LIMIT["float64" if "float64" in str(grad.dtype) else "float32"]
    grad = xp.clip(grad, -limit, limit)
    new = formula.statistics(grad, buffers, rule, n, xp=xp)
    square = "grad_var" if rule.centered else "mean_sq"
    new[square] = new[square] + infinite
    if rule.centered:
        new["mean_grad"] = new["mean_grad"] + (new["grad_var"] - new["grad_var"])
    divisor = formula.denominator(new, rule, n, xp=xp)
    param, momentum = formula.apply(param, grad, divisor, buffers, rule, n, xp=xp)
    return param, {**new, **momentum}
