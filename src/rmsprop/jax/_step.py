"""One step of one leaf, in the form that XLA compiles without a temporary array."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp

from rmsprop import reference
from rmsprop.rule import Rule

__all__ = ["complex_step", "live", "real_step"]

Array = Any


def live(rule: Rule, traced: Mapping[str, Array]) -> Rule:
    """The rule with traced numbers in their places; they were checked by nothing, as in optax."""
    if not traced:
        return rule
    changed = copy.copy(rule)
    for name, value in traced.items():
        object.__setattr__(changed, name, value)
    return changed


# The namespace of `reference.step` for gradients that `real_step` has cut: none is beyond the limit.
_CUT = SimpleNamespace(
    abs=jnp.abs,
    astype=lambda array, dtype: array.astype(dtype),
    isfinite=lambda array: False,
    sign=jnp.sign,
    sqrt=jnp.sqrt,
    where=jnp.where,
)


def real_step(
    grad: Array, param: Array | None, buffers: Mapping[str, Array], rule: Rule, numbers_: Mapping[str, Any]
) -> tuple[Array, dict[str, Array]]:
    """`reference.step`, as the difference of the parameter, in a form that XLA compiles without a temporary array.

    XLA on a CPU writes one array per loop. A value that two loops need is computed twice if it is a chain of operations
    with one array each, else it is written to fresh memory, which takes longer than the step. So:
    * gradients are cut by one clip, which keeps NaN; infinity reaches the statistics, as NaN, through g - g;
    * with `centered` the update reads the new variance from memory, and the mean waits for it (var - var), so that no
      donated array is overwritten while it is still needed.
    """
    square = rule.buffers[0] if not rule.centered else "grad_var"
    dtype = buffers[square].dtype
    start = jnp.zeros_like(grad, dtype=dtype) if param is None else param.astype(dtype)
    if rule.weight_decay_mode == "l2":  # the gradient to cut is known after the decay only
        new, out = reference.step(start, grad, buffers, rule, **numbers_, xp=jnp)
        return new - start, out
    grad = grad.astype(dtype)
    infinite = grad - grad
    limit = reference._SATURATION[str(dtype)]
    grad = jnp.clip(grad, -limit, limit)
    if not rule.centered or rule.bias_correction:
        fed = {**buffers, square: buffers[square] + infinite}
        new, out = reference.step(start, grad, fed, rule, **numbers_, xp=_CUT)
    else:
        _, out = reference.step(start, grad, buffers, rule, **numbers_, xp=_CUT)
        variance = out["grad_var"] + infinite
        mean = out["mean_grad"] + (variance - variance)
        # rho = 1: the statistic is given, and stays as it is.
        given = live(rule, {"rho": 1.0, "centered": False})
        new, out = reference.step(start, grad, {**buffers, "mean_sq": variance}, given, **numbers_, xp=_CUT)
        del out["mean_sq"]
        out = {"mean_grad": mean, "grad_var": variance, **out}
    return (new if param is None else new - start), out


def complex_step(
    grad: Array, param: Array | None, buffers: Mapping[str, Array], rule: Rule, numbers_: Mapping[str, Any]
) -> tuple[Array, dict[str, Array]]:
    """A step by |g|**2: the magnitude is preconditioned like a real gradient, then both parts share the result."""
    size = jnp.abs(grad).astype(buffers["mean_sq"].dtype)
    bare = live(rule, {"buffer": "none", "momentum": 0.0, "nesterov": "none", "weight_decay_mode": "none"})
    moved, out = real_step(size, None, {"mean_sq": buffers["mean_sq"]}, bare, {**numbers_, "lr": 1.0})
    unit = jnp.where(size == 0, 0.0, grad / jnp.where(size == 0, 1.0, size)) * -moved
    # What follows the division acts on each part alone: a rule whose denominator is 1.
    after = live(rule, {"rho": 1.0, "eps_mode": "max", "eps": 1.0, "var_floor": 0.0, "bias_correction": False})
    parts = []
    for part in (jnp.real, jnp.imag):
        kept = {"mean_sq": jnp.zeros_like(size)}
        if "momentum_buf" in buffers:
            kept["momentum_buf"] = part(buffers["momentum_buf"])
        parts.append(real_step(part(unit), None if param is None else part(param), kept, after, numbers_))
    (real, real_out), (imag, imag_out) = parts
    if "momentum_buf" in buffers:
        out["momentum_buf"] = jax.lax.complex(real_out["momentum_buf"], imag_out["momentum_buf"])
    return jax.lax.complex(real, imag), out
