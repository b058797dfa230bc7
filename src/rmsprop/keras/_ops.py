"""What `rmsprop.formula` needs of an array namespace, in Keras's own operations, for all backends."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import keras

__all__ = ["OPS", "dense"]

_ops = keras.ops
OPS = SimpleNamespace(abs=_ops.abs, clip=_ops.clip, sign=_ops.sign, sqrt=_ops.sqrt, where=_ops.where)

if keras.backend.backend() == "tensorflow":
    tf: Any = importlib.import_module("tensorflow")

    def dense(grad: Any, variable: Any) -> Any:
        """Return a sparse gradient as a dense one, with repeated rows summed; others as they are."""
        if not isinstance(grad, tf.IndexedSlices):
            return grad
        rows = tf.math.unsorted_segment_sum(grad.values, grad.indices, variable.shape[0])
        return tf.ensure_shape(rows, variable.shape)

else:

    def dense(grad: Any, variable: Any) -> Any:
        """Return a gradient as it is: only TensorFlow has sparse gradients."""
        return grad
