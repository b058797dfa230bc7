"""What the transformation keeps."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rmsprop.errors import InputTypeError

__all__ = ["FIELDS", "RMSpropState", "state_dtype"]

Array = Any
Tree = Any


class RMSpropState(NamedTuple):
    """What the transformation keeps; the trees are built like the parameters, and None where the rule needs none.

    The averages have optax's names, so that `optax.tree.get(state, "nu")` finds the mean square.

    Attributes:
        count: Steps done, int32.
        nu: Moving average of grad**2 (for complex parameters of |grad|**2), float32 or float64. With bias correction it
            is the corrected one, which optax computes at every step.
        mu: Moving average of grad; centered rules only.
        grad_var: Moving variance of grad; centered rules only, in place of nu.
        momentum_buf: Momentum buffer; the sign of a step down.
        lr_max: The largest lr so far; weight decay of the mode "decoupled_corrected" only.
    """

    count: Array
    nu: Tree = None
    mu: Tree = None
    grad_var: Tree = None
    momentum_buf: Tree = None
    lr_max: Array = None

    def mean_square(self) -> Tree:
        """Return the moving average of grad**2, which a centered rule keeps as variance and mean."""
        if self.nu is not None:
            return self.nu
        return jax.tree.map(lambda s, m: s + m * m, self.grad_var, self.mu)


FIELDS = {"mean_sq": "nu", "mean_grad": "mu", "grad_var": "grad_var", "momentum_buf": "momentum_buf"}
"""The formula's name of an array -> its field in `RMSpropState`."""


def state_dtype(param: Array, buffer: str = "mean_sq") -> Any:
    """The dtype of a statistic: float64 for float64 parameters, else float32; complex where it sums up gradients."""
    dtype = jnp.result_type(param)
    if not jnp.issubdtype(dtype, jnp.inexact):
        raise InputTypeError(f"params: {dtype}, expected a floating or complex dtype; mask other leaves (optax.masked)")
    wide = dtype in (jnp.float64, jnp.complex128)
    if jnp.issubdtype(dtype, jnp.complexfloating) and buffer in ("momentum_buf", "mean_grad"):
        return jnp.complex128 if wide else jnp.complex64
    return jnp.float64 if wide else jnp.float32
