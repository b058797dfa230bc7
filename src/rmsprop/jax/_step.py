"""One step of one leaf, real or complex."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp

from rmsprop import _xla, formula
from rmsprop.formula import Numbers
from rmsprop.rule import Rule

__all__ = ["complex_step", "real_step"]

Array = Any

_JAX = SimpleNamespace(abs=jnp.abs, clip=jnp.clip, sign=jnp.sign, sqrt=jnp.sqrt, where=jnp.where)


def real_step(
    grad: Array, param: Array | None, buffers: Mapping[str, Array], rule: Rule, n: Numbers
) -> tuple[Array, dict[str, Array]]:
    """Return the change of the parameter (None: of 0), and the new buffers."""
    dtype = buffers[rule.buffers[0]].dtype
    start = jnp.zeros_like(grad, dtype=dtype) if param is None else param.astype(dtype)
    moved, new = _xla.step(start, grad.astype(dtype), buffers, rule, n, xp=_JAX)
    return (moved if param is None else moved - start), new


def complex_step(
    grad: Array, param: Array | None, buffers: Mapping[str, Array], rule: Rule, n: Numbers
) -> tuple[Array, dict[str, Array]]:
    """Return what `real_step` does, by |g|**2: real and imaginary part share the denominator."""
    grad = grad * n.grad_scale
    size = jnp.abs(grad).astype(buffers["mean_sq"].dtype)
    limit = formula.LIMIT[str(size.dtype)]
    grad = jnp.where(size > limit, grad / jnp.where(size > limit, size, 1.0) * limit, grad)
    new = formula.statistics(jnp.clip(size, 0, limit), buffers, rule, n, xp=_JAX)
    divisor = formula.denominator(new, rule, n, xp=_JAX)
    start = jnp.zeros_like(grad) if param is None else param.astype(grad.dtype)
    parts = [
        formula.apply(
            part(start), part(grad), divisor, {name: part(array) for name, array in buffers.items()}, rule, n, xp=_JAX
        )
        for part in (jnp.real, jnp.imag)
    ]
    (real, real_momentum), (imag, imag_momentum) = parts
    moved = jax.lax.complex(real, imag)
    momentum = {name: jax.lax.complex(real_momentum[name], imag_momentum[name]) for name in real_momentum}
    return (moved if param is None else moved - start), {**new, **momentum}
