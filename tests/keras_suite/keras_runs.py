"""Variables, gradients and runs in float64, on any backend of Keras."""

from __future__ import annotations

import keras
import numpy as np
import pytest

BACKEND = keras.backend.backend()
SHAPES = ((7, 5), (5,), (3, 2, 4))
to_numpy = keras.ops.convert_to_numpy


def only_on(backend):
    """Mark a test of one backend."""
    return pytest.mark.skipif(backend != BACKEND, reason=f"the {backend} backend only")


def variables(dtype="float64"):
    rng = np.random.default_rng(99)
    return [keras.Variable(rng.normal(size=s), dtype=dtype, name=n) for s, n in zip(SHAPES, ("w", "bias", "kernel"))]


def gradients(steps, dtype="float64"):
    rng = np.random.default_rng(0)
    return [[keras.ops.convert_to_tensor(rng.normal(size=s), dtype) for s in SHAPES] for _ in range(steps)]


def lr_at(step):
    return 0.01 * (1 + 0.5 * np.sin(0.3 * step))


def run(optimizer, steps=100, dtype="float64", before=None):
    params = variables(dtype)
    if before is not None:
        before(optimizer, params)
    apply = compile_apply(optimizer, params) if BACKEND == "jax" else lambda grads: optimizer.apply(grads, params)
    for t, grads in enumerate(gradients(steps, dtype)):
        optimizer.learning_rate = lr_at(t)
        apply(grads)
    return [to_numpy(p) for p in params]


def compile_apply(optimizer, params):
    """What `fit` does on the JAX backend: one compiled step, the state handed in and out."""
    import jax

    optimizer.build(params)
    step = jax.jit(optimizer.stateless_apply)

    def apply(grads):
        holders = (optimizer.variables, params)
        state, values = ([v.value for v in holder] for holder in holders)
        values, state = step(state, grads, values)
        for holder, arrays in zip(holders, (state, values)):
            for variable, array in zip(holder, arrays):
                variable.assign(array)

    return apply


def assert_close(mine, theirs, rtol=1e-12):
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)
