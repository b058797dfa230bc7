"""The update on TensorFlow as one function compiled by XLA: one pass over memory in place of one per operation."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

__all__ = ["can_compile", "compile_update"]


def can_compile() -> bool:
    """Whether XLA may compile the update: not under a distribution strategy, nor on macOS (no XLA for its GPUs)."""
    return not tf.distribute.has_strategy() and sys.platform != "darwin"


def compile_update(update: Callable[..., None], variables: Sequence[Any]) -> Callable[..., None]:
    """Return a function of gradients and learning rate that calls `update(grad, variable, lr)` for all variables."""

    @tf.function(jit_compile=True)
    def update_all(grads: list[Any], lr: Any) -> None:
        for grad, variable in zip(grads, variables):
            update(grad, variable, lr)

    return lambda grads, lr: update_all([tf.convert_to_tensor(grad) for grad in grads], tf.convert_to_tensor(lr))
